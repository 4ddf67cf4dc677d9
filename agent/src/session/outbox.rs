//! What is still to be sent on a synced stream: keys, never objects, so that the latest state is what goes out.
//!
//! Changed keys in → Deltas of at most [`DELTA_BYTES_MAX`] and SyncCompletes out. Within a drain nothing dangles:
//! EndpointSlices and Services come before the Ingresses that refer to them, removals last and the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;
use roadstead_proto::digest::Digest;
use roadstead_proto::{finding, object, wire};
use roadstead_routing::id::{Kind, ObjectKey};
use roadstead_routing::limit::MESSAGE_BYTES_MAX;
use wire::agent_message::Message as ToController;

use super::{message, sync_complete};
use crate::reduce::{Cause, Reducer, Report};

/// Deltas that may be unacknowledged before sending slows down to one every [`SLOW_EVERY`]. Acks come when something
/// is durable: a database that is down must not keep changes from being routed.
pub const WINDOW: u64 = 64;
pub(super) const SLOW_EVERY: Duration = Duration::from_millis(200);
/// Deletions remembered by cause until acknowledged. One forgotten is repeated as inferred after a reconnect.
const DELETIONS_MAX: usize = 10_000;
/// Bytes of one Delta's entries; the rest of a message is for what surrounds them.
pub(super) const DELTA_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1024;
/// Tag and length of one entry.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 8;

#[derive(Default)]
pub(super) struct Outbox {
    /// What the controller knows once it has processed everything sent.
    held: BTreeMap<ObjectKey, Digest>,
    upserts: BTreeSet<ObjectKey>,
    removals: BTreeMap<ObjectKey, Cause>,
    /// Deletions seen live before this stream was synced.
    tombstones: BTreeSet<ObjectKey>,
    /// Kinds whose full comparison is queued, so that later completions of the same stream do not repeat it.
    compared: BTreeSet<Kind>,
    /// Kinds that owe a SyncComplete once nothing of them is queued.
    owed: BTreeSet<Kind>,
    /// What is reported was not compared with `held` yet.
    fresh: bool,
    /// Reported in another form than held, perhaps an older one: another agent of the cluster may have said what is held,
    /// or that nothing is. Sent once their kind is listed and nothing else speaks against it.
    outdated: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    /// Deletions sent but not acknowledged, by Delta.
    in_flight: BTreeSet<(u64, ObjectKey)>,
    sent: u64,
    acked: u64,
    slow_since: Duration,
}

impl Outbox {
    /// Forgets everything but the numbering, which belongs to the stream.
    pub(super) fn restart(&mut self) {
        *self = Self { sent: self.sent, acked: self.acked, ..Self::default() };
    }

    /// The controller holds exactly `held`.
    pub(super) fn begin(&mut self, held: BTreeMap<ObjectKey, Digest>, tombstones: BTreeSet<ObjectKey>) {
        self.restart();
        self.held = held;
        self.tombstones = tombstones;
        self.fresh = true;
    }

    /// Live deletions that the controller may never have learned of.
    pub(super) fn unfinished_deletions(&mut self) -> BTreeSet<ObjectKey> {
        let queued = std::mem::take(&mut self.removals).into_iter().filter(|(_, cause)| *cause == Cause::Deleted);
        let in_flight = std::mem::take(&mut self.in_flight).into_iter().map(|(_, key)| key);
        let earlier = std::mem::take(&mut self.tombstones);
        queued.map(|(key, _)| key).chain(in_flight).chain(earlier).filter(|key| !self.upserts.contains(key)).collect()
    }

    pub(super) fn unacked(&self) -> u64 {
        self.sent - self.acked
    }

    /// An Ack covers every Delta up to its number.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        self.acked = self.acked.max(seq.min(self.sent));
        while self.in_flight.first().is_some_and(|(seq, _)| *seq <= self.acked) {
            self.in_flight.pop_first();
        }
    }

    pub(super) fn upsert(&mut self, key: ObjectKey) {
        self.removals.remove(&key);
        self.tombstones.remove(&key);
        self.upserts.insert(key);
    }

    pub(super) fn remove(&mut self, key: ObjectKey, cause: Cause) {
        self.upserts.remove(&key);
        if !self.held.contains_key(&key) {
            self.removals.remove(&key);
            return;
        }
        if cause == Cause::Inferred {
            self.owed.insert(key.kind);
        }
        self.removals.insert(key, cause);
    }

    /// Compares with what is reported: everything once, and what is absent as soon as its kind is complete.
    pub(super) fn compare(&mut self, reducer: &Reducer) {
        for kind in Kind::ALL {
            if reducer.complete(kind) && self.compared.insert(kind) {
                self.owed.insert(kind);
                self.remove_absent(kind, reducer);
            }
        }
        if std::mem::take(&mut self.fresh) {
            let differs = |(key, report): &(&ObjectKey, &Report)| self.held.get(*key) != Some(&report.digest);
            for (key, _) in reducer.reported().iter().filter(differs) {
                // What nobody can read now is not better known to anybody else.
                if reducer.is_unreadable(key) && !self.held.contains_key(key) {
                    self.upserts.insert(key.clone());
                } else {
                    self.outdated.entry(key.kind).or_default().insert(key.clone());
                }
            }
            self.outdated.values_mut().for_each(|keys| release_certain(keys, &mut self.upserts, reducer));
        }
        let current = self.outdated.iter_mut().filter(|(kind, keys)| !keys.is_empty() && reducer.is_current(**kind));
        current.for_each(|(_, keys)| release_certain(keys, &mut self.upserts, reducer));
    }

    fn remove_absent(&mut self, kind: Kind, reducer: &Reducer) {
        let reported = reducer.reported();
        let absent = |key: &&ObjectKey| key.kind == kind && reported.get(key).is_none() && !reported.retains(key);
        for key in self.held.keys().filter(absent).cloned().collect::<Vec<_>>() {
            let cause = if self.tombstones.remove(&key) { Cause::Deleted } else { Cause::Inferred };
            self.remove(key, cause);
        }
    }

    /// Sends as much as the window allows.
    pub(super) fn drain(&mut self, now: Duration, reducer: &Reducer) -> Vec<wire::AgentMessage> {
        let mut messages = Vec::new();
        while self.may_send(now) {
            let Some(delta) = self.next_delta(reducer) else { break };
            self.slow_since = now;
            messages.push(message(ToController::Delta(delta)));
        }
        let ready = |kind: &Kind| {
            let of_kind = |key: &ObjectKey| key.kind == *kind;
            let is_awaited = |key: &ObjectKey| !reducer.is_unreadable(key);
            reducer.complete(*kind)
                && !self.upserts.iter().any(of_kind)
                && !self.removals.keys().any(of_kind)
                && !self.outdated.get(kind).is_some_and(|keys| keys.iter().any(is_awaited))
        };
        for kind in self.owed.iter().copied().filter(ready).collect::<Vec<_>>() {
            self.owed.remove(&kind);
            messages.push(sync_complete(kind, self.held.keys().filter(|key| key.kind == kind).count()));
        }
        messages
    }

    fn may_send(&self, now: Duration) -> bool {
        self.unacked() < WINDOW || now.saturating_sub(self.slow_since) >= SLOW_EVERY
    }

    fn next_delta(&mut self, reducer: &Reducer) -> Option<wire::Delta> {
        let mut delta = wire::Delta::default();
        let mut bytes = 0;
        while let Some(key) = self.upserts.last().cloned() {
            let upsert = self.upsert_of(&key, reducer);
            let size = upsert.as_ref().map_or(0, |upsert| upsert.encoded_len() + ENTRY_OVERHEAD_BYTES);
            if bytes > 0 && bytes + size > DELTA_BYTES_MAX {
                return Some(self.number(delta));
            }
            bytes += size;
            self.upserts.remove(&key);
            if let (Some(upsert), Some(report)) = (upsert, reducer.reported().get(&key)) {
                self.held.insert(key, report.digest);
                delta.upserts.push(upsert);
            }
        }
        while let Some((key, cause)) = self.removals.first_key_value().map(|(key, cause)| (key.clone(), *cause)) {
            let removal = removal(&key, cause);
            let size = removal.encoded_len() + ENTRY_OVERHEAD_BYTES;
            if bytes > 0 && bytes + size > DELTA_BYTES_MAX {
                return Some(self.number(delta));
            }
            bytes += size;
            self.removals.remove(&key);
            if reducer.reported().get(&key).is_none() && self.held.remove(&key).is_some() {
                delta.removals.push(removal);
                self.note_deletion(key, cause);
            }
        }
        (bytes > 0 && !(delta.upserts.is_empty() && delta.removals.is_empty())).then(|| self.number(delta))
    }

    /// `None` if the controller holds this form, or there is none.
    fn upsert_of(&self, key: &ObjectKey, reducer: &Reducer) -> Option<wire::Upsert> {
        let report = reducer.reported().get(key)?;
        if self.held.get(key) == Some(&report.digest) {
            return None;
        }
        Some(wire::Upsert { object: Some(object::to_wire(&report.object)), digest: report.digest.to_vec() })
    }

    fn number(&mut self, delta: wire::Delta) -> wire::Delta {
        self.sent += 1;
        wire::Delta { seq: self.sent, ..delta }
    }

    fn note_deletion(&mut self, key: ObjectKey, cause: Cause) {
        if cause == Cause::Deleted && self.in_flight.len() < DELETIONS_MAX {
            // The Delta being filled gets the next number.
            self.in_flight.insert((self.sent + 1, key));
        }
    }
}

fn release_certain(keys: &mut BTreeSet<ObjectKey>, upserts: &mut BTreeSet<ObjectKey>, reducer: &Reducer) {
    let (outdated, certain) = std::mem::take(keys).into_iter().partition(|key| reducer.is_outdated(key));
    *keys = outdated;
    upserts.extend::<BTreeSet<ObjectKey>>(certain);
}

fn removal(key: &ObjectKey, cause: Cause) -> wire::Removal {
    let cause = match cause {
        Cause::Deleted => wire::RemovalCause::Deleted,
        Cause::Inferred => wire::RemovalCause::Inferred,
    };
    wire::Removal { object: Some(finding::key_to_wire(key)), cause: cause.into() }
}
