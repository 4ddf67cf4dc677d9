//! What this edge holds, and the one way in which it changes.
//!
//! An Update, from a controller or from the journal → checked → the table, the set of held digests, and the Update as
//! it took effect, for the journal. Resources that cannot be used, and withdrawals that the guard holds, are refused
//! alone; an Update of another world, or one that would go back in time, is refused whole. Digests are stored and
//! echoed, never recomputed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use roadstead_proto::digest::{BucketHashes, Digest};
use roadstead_proto::resource::{ResourceKey, host_key};
use roadstead_proto::wire;
use roadstead_routing::guard::Units;
use roadstead_routing::id::{HostKey, PoolName};

use super::failing;
use super::guard::{Guard, Origin};
use crate::certificates::Certificates;
use crate::health::Millis;
use crate::last_good::journal::Replayed;
use crate::last_good::writer::Snapshot;
use crate::table::{CompiledHost, HostChange, TableWriter};
use crate::users::Users;

mod check;
mod contents;
mod positions;
mod refused;
mod snapshot;

pub use positions::{Positions, World, WorldError};
pub use refused::REFUSED_MAX;

use check::{Checked, key_of};
use positions::Older;
use refused::Refused;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use samples::{backend, host, position_of, world};

/// Hosts, backends and certificates together. More are refused.
pub const RESOURCES_MAX: usize = 1_000_000;

/// Everything held, and the right to change the table.
pub struct Holdings {
    pool: PoolName,
    table: TableWriter,
    certificates: Arc<Certificates>,
    users: Users,
    world: Option<World>,
    positions: Positions,
    held: BTreeMap<ResourceKey, HeldResource>,
    hashes: BucketHashes,
    refused: Refused,
    /// `None`: nothing is judged.
    guard: Option<Guard>,
    /// What Updates need not stand up to.
    off: Vec<Check>,
    /// Backends and certificates whose removal waits until no host names them.
    deferred: BTreeSet<ResourceKey>,
    /// Whether a whole first set was ever applied.
    complete: bool,
}

/// What an Update must stand up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// It is of the world that is held.
    World,
    /// It is not older than what is held.
    Positions,
    /// It does not withdraw too much at once.
    Guard,
}

/// What came of an Update.
#[derive(Debug, Default, PartialEq)]
pub struct Applied {
    pub refusals: Vec<wire::Refusal>,
    /// What took effect; `None` if nothing did.
    pub effective: Option<wire::Update>,
}

struct HeldResource {
    digest: Digest,
    /// As a wire::ResourceUpsert: the smallest form, and the one that the journal needs.
    encoded: Bytes,
}

/// What the hosts that an Update names are to become. `None`: the host goes.
type HostChanges = BTreeMap<HostKey, Option<Proposed>>;

/// A host that passed every check but the guard's.
struct Proposed {
    digest: Digest,
    compiled: Box<CompiledHost>,
    upsert: wire::ResourceUpsert,
}

/// What comes of the Update that is being applied.
struct Draft {
    effective: wire::Update,
    refusals: Vec<wire::Refusal>,
}

impl Holdings {
    pub fn new(pool: PoolName, table: TableWriter) -> Self {
        let guard = Some(Guard::new(pool.clone()));
        Self {
            pool,
            table,
            certificates: Arc::default(),
            users: Users::default(),
            world: None,
            positions: Positions::default(),
            held: BTreeMap::new(),
            hashes: BucketHashes::default(),
            refused: Refused::default(),
            guard,
            off: Vec::new(),
            deferred: BTreeSet::new(),
            complete: false,
        }
    }

    /// Holdings that take every Update, whatever it withdraws.
    pub fn unguarded(pool: PoolName, table: TableWriter) -> Self {
        Self::new(pool, table).without(Check::Guard)
    }

    /// Lets handshakes, if there are any, see the certificates that are held.
    #[must_use]
    pub fn showing(self, certificates: Option<Arc<Certificates>>) -> Self {
        Self { certificates: certificates.unwrap_or_default(), ..self }
    }

    /// Lets requests, if there are any, be authenticated by the users that are held.
    #[must_use]
    pub fn admitting(self, users: Users) -> Self {
        Self { users, ..self }
    }

    /// Leaves out a check.
    #[must_use]
    pub fn without(mut self, check: Check) -> Self {
        match check {
            Check::Guard => self.guard = None,
            Check::World | Check::Positions => self.off.push(check),
        }
        self
    }

    /// Applies what the journal held. Of what another build wrote, the content is used but its digests are forgotten:
    /// that build may have dropped fields which it did not know, so the controller must send it again.
    pub fn replay(&mut self, replayed: Replayed) {
        for mut update in replayed.updates {
            if !replayed.same_build {
                update.upserts.iter_mut().for_each(|upsert| upsert.digest = Digest::default().to_vec());
            }
            match self.admit(&update) {
                Ok(Ok(_)) => {
                    for refusal in self.change(update).refusals {
                        tracing::warn!(
                            key = refusal.key,
                            reason = refusal.reason,
                            "Part of the last good table is refused"
                        );
                    }
                }
                Ok(Err(older)) => tracing::warn!(%older, "Part of the last good table is refused"),
                Err(error) => {
                    tracing::error!(%error, "The last good table contradicts itself; what came before is used");
                    break;
                }
            }
        }
        if let Some(guard) = &mut self.guard {
            guard.replayed();
        }
    }

    /// How long before the start of this process the last good table was known to be current. To be called before the
    /// first Update; without it the edge counts as having been in step when it started.
    pub fn in_step_before_start(&mut self, ago: Duration) {
        if let Some(guard) = &mut self.guard {
            guard.in_step_before_start(ago);
        }
    }

    /// Applies an Update. `now` is since the start of this process, as all times here.
    ///
    /// # Errors
    /// If it belongs to another world than what is held: nothing is changed, and nothing more may be taken from
    /// whoever sent it.
    pub fn apply(&mut self, mut update: wire::Update, now: Duration) -> Result<Applied, WorldError> {
        // Holds for this stream only, so it must not get into the journal.
        let context = update.guard.take();
        let origin = match self.admit(&update)? {
            Ok(origin) => origin,
            Err(older) => {
                let mut refusals = refused::refuse_all(update, &older.to_string());
                refused::cut_reasons(&mut refusals);
                return Ok(Applied { refusals, effective: None });
            }
        };
        if let Some(guard) = &mut self.guard {
            guard.begin(context.as_ref(), origin, now);
        }
        let synced = update.synced;
        let Draft { effective, mut refusals } = self.change(update);
        if let Some(guard) = &mut self.guard {
            guard.end(synced);
        }
        refused::cut_reasons(&mut refusals);
        Ok(Applied { refusals, effective: Some(effective) })
    }

    /// Something other than an Update came from the controller.
    pub fn heard(&mut self, now: Duration) {
        if let Some(guard) = &mut self.guard {
            guard.heard(now);
        }
    }

    /// What is said next is said by another controller, or anew.
    pub fn stream_ended(&mut self) {
        // The next stream begins with what is held, and says anew what is to go.
        self.deferred.clear();
        if let Some(guard) = &mut self.guard {
            guard.stream_ended();
        }
    }

    pub fn world(&self) -> Option<&World> {
        self.world.as_ref()
    }

    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Hashes over the keys and digests of everything held, for a Hello.
    pub fn hashes(&self) -> &BucketHashes {
        &self.hashes
    }

    /// Whether a whole first set was ever applied, by this process or by the one that wrote the journal.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub fn hosts(&self) -> usize {
        self.table.hosts()
    }

    pub fn backends(&self) -> usize {
        self.table.backends()
    }

    pub fn certificates(&self) -> usize {
        self.certificates.count()
    }

    /// Refused resources and why: for what they are, or held by the guard.
    pub fn refused(&self) -> impl Iterator<Item = (String, &str)> {
        let held = self.guard.iter().flat_map(Guard::held).map(|(host, reason)| (host_key(host), reason));
        self.refused.iter().map(|(key, reason)| (key.to_string(), reason)).chain(held)
    }

    /// Whether the stream has said everything it had to say when it began, so that its heartbeats say that the table is
    /// current. Unknown, and so never, without the guard.
    pub fn is_in_step(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_in_step)
    }

    /// Backends with endpoints that requests could not connect to lately.
    pub fn failing(&self, now: Millis) -> Vec<wire::FailingBackend> {
        failing::to_wire(self.table.failing(now))
    }

    /// Keys and digests of everything in these buckets, and the clusters of hosts, in messages of a bounded size.
    pub fn contents(&self, buckets: &[u32]) -> Vec<wire::HeldContents> {
        contents::of(&self.held, buckets)
    }

    /// Everything held, for a new journal.
    pub fn snapshot(&self) -> Snapshot {
        let encoded: Vec<Bytes> = self.held.values().map(|held| held.encoded.clone()).collect();
        let last = wire::Update {
            world: self.world.as_ref().map(World::to_wire),
            positions: Some(self.positions.to_wire()),
            synced: self.complete,
            ..wire::Update::default()
        };
        Box::new(snapshot::Updates::new(encoded, last))
    }

    /// Whether the Update may be taken, and what it continues. Its world and positions are held from then on.
    fn admit(&mut self, update: &wire::Update) -> Result<Result<Origin, Older>, WorldError> {
        let world = match self.off.contains(&Check::World) {
            true => World::offered(update.world.as_ref())?,
            false => World::accept(self.world.as_ref(), update.world.as_ref())?,
        };
        let offered = update.positions.clone().unwrap_or_default();
        let restored = self.world.as_ref().is_some_and(|held| *held != world);
        if !restored
            && !self.off.contains(&Check::Positions)
            && let Err(older) = self.positions.check(&offered, &world)
        {
            return Ok(Err(older));
        }
        if let Some(held) = self.world.as_ref().filter(|_| restored) {
            self.positions.begin_anew(held.is_same_world(&world));
        }
        self.positions.advance(&offered, &world);
        self.world = Some(world);
        Ok(Ok(match (self.complete, restored) {
            (false, _) => Origin::Nothing,
            (true, false) => Origin::Held,
            (true, true) => Origin::Restored,
        }))
    }

    /// Makes the changes of an Update that was admitted.
    fn change(&mut self, update: wire::Update) -> Draft {
        let effective = wire::Update { upserts: Vec::new(), removals: Vec::new(), ..update };
        let mut draft = Draft { effective, refusals: Vec::new() };
        let mut hosts = HostChanges::new();
        self.upsert(update.upserts, &mut hosts, &mut draft);
        self.remove(update.removals, &mut hosts, &mut draft);
        let hosts = self.withhold(hosts, &mut draft);
        self.change_hosts(hosts, &mut draft.effective);
        self.settle(&mut draft.effective);
        trace_applied(&draft.effective.upserts);
        if update.synced {
            self.complete = true;
            self.table.mark_complete();
        }
        draft
    }

    /// Puts backends and certificates; what becomes of hosts is collected.
    fn upsert(&mut self, upserts: Vec<wire::ResourceUpsert>, hosts: &mut HostChanges, draft: &mut Draft) {
        for upsert in upserts {
            let (key, digest) = (key_of(&upsert), upsert.digest.clone());
            let (parsed, digest, checked) = match self.check(&key, &upsert, hosts.len()) {
                Ok(passed) => passed,
                Err(reason) => {
                    self.refused.remember(&key, &digest, &reason);
                    draft.refusals.push(wire::Refusal { key, digest, reason, guarded: false });
                    continue;
                }
            };
            self.refused.forget(&parsed);
            match (parsed, checked) {
                (key @ (ResourceKey::Backend(_) | ResourceKey::Secret(_)), checked) => {
                    self.deferred.remove(&key);
                    match (&key, checked) {
                        (ResourceKey::Secret(id), Some(Checked::Certificate(it))) => {
                            self.users.put(id, None);
                            self.certificates.put(id.clone(), it);
                        }
                        (ResourceKey::Secret(id), Some(Checked::Users(it))) => self.users.put(id, Some(it)),
                        (_, Some(Checked::Backend(backend))) => self.table.put_backend(&backend),
                        _ => continue,
                    }
                    self.hold(key, digest, &upsert);
                    draft.effective.upserts.push(upsert);
                }
                (ResourceKey::Host(name), Some(Checked::Host(compiled))) => {
                    hosts.insert(name, Some(Proposed { digest, compiled, upsert }));
                }
                (ResourceKey::Host(name), _) => self.leave(&name, hosts),
            }
        }
    }

    /// The host is to be as it is held, whatever this Update said before.
    fn leave(&mut self, name: &HostKey, hosts: &mut HostChanges) {
        hosts.remove(name);
        if let Some(guard) = &mut self.guard {
            guard.settled(name);
        }
    }

    /// Backends and certificates go when no host names them any more; what becomes of hosts is collected.
    fn remove(&mut self, removals: Vec<String>, hosts: &mut HostChanges, draft: &mut Draft) {
        for key in removals {
            let Some(parsed) = ResourceKey::parse(&key) else {
                let reason = format!("`{key}` is not a resource key");
                draft.refusals.push(wire::Refusal { key, digest: Vec::new(), reason, guarded: false });
                continue;
            };
            self.refused.forget(&parsed);
            match parsed {
                ResourceKey::Host(name) if self.held.contains_key(&ResourceKey::Host(name.clone())) => {
                    hosts.insert(name, None);
                }
                ResourceKey::Host(name) => self.leave(&name, hosts),
                key @ (ResourceKey::Backend(_) | ResourceKey::Secret(_)) => {
                    if self.held.contains_key(&key) {
                        self.deferred.insert(key);
                    }
                }
            }
        }
    }

    /// What the guard lets through; the rest is refused, and those hosts stay as they are.
    fn withhold(&mut self, hosts: HostChanges, draft: &mut Draft) -> HostChanges {
        let Some(guard) = &mut self.guard else { return hosts };
        let reviewed = guard.review(hosts, |proposed| Units::of(proposed.compiled.host()));
        for (name, change, reason) in reviewed.held {
            let digest = change.map(|proposed| proposed.upsert.digest).unwrap_or_default();
            let refusal = wire::Refusal { key: host_key(&name), digest, reason: reason.to_string(), guarded: true };
            draft.refusals.push(refusal);
        }
        reviewed.flow
    }

    /// First what is put, then what goes: no request may find neither.
    fn change_hosts(&mut self, hosts: HostChanges, effective: &mut wire::Update) {
        let (mut puts, mut removes) = (Vec::new(), Vec::new());
        for (name, change) in hosts {
            let key = ResourceKey::Host(name.clone());
            match change {
                Some(Proposed { digest, compiled, upsert }) => {
                    self.hold(key, digest, &upsert);
                    self.certificates.show(&name, compiled.host().certificate.clone());
                    self.certificates.ask(&name, compiled.host().asks_for_certificates());
                    effective.upserts.push(upsert);
                    puts.push(HostChange::Put(compiled));
                }
                None => {
                    self.release(&key);
                    self.certificates.show(&name, None);
                    self.certificates.ask(&name, false);
                    effective.removals.push(key.to_string());
                    removes.push(HostChange::Remove(name));
                }
            }
        }
        self.table.change_hosts(puts);
        self.table.change_hosts(removes);
    }

    /// Removes the backends and certificates that are to be removed and that no host names any more.
    fn settle(&mut self, effective: &mut wire::Update) {
        let deferred = std::mem::take(&mut self.deferred);
        for key in deferred {
            let is_named = match &key {
                ResourceKey::Backend(id) => self.table.remove_backend(id).is_err(),
                ResourceKey::Secret(id) => self.certificates.remove(id).map(|()| self.users.put(id, None)).is_err(),
                ResourceKey::Host(_) => false,
            };
            if is_named {
                self.deferred.insert(key);
                continue;
            }
            self.release(&key);
            effective.removals.push(key.to_string());
        }
    }

    fn hold(&mut self, key: ResourceKey, digest: Digest, upsert: &wire::ResourceUpsert) {
        let text = key.to_string();
        let encoded = Bytes::from(upsert.encode_to_vec());
        let before = self.held.insert(key, HeldResource { digest, encoded });
        self.hashes.replace(&text, before.map(|held| held.digest).as_ref(), Some(&digest));
    }

    fn release(&mut self, key: &ResourceKey) {
        if let Some(held) = self.held.remove(key) {
            self.hashes.replace(&key.to_string(), Some(&held.digest), None);
        }
    }
}

/// Tells observers of single changes (the propagation benchmark) what requests see from now on. Free unless enabled.
fn trace_applied(upserts: &[wire::ResourceUpsert]) {
    if tracing::enabled!(target: "roadstead_edge::applied", tracing::Level::TRACE) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_nanos = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        for upsert in upserts {
            tracing::trace!(target: "roadstead_edge::applied", key = key_of(upsert), unix_nanos, "Applied");
        }
    }
}
