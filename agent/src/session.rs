//! One stream to a controller, as a state machine.
//!
//! `Hello` → `Welcome` with the hashes of what is known → the contents of buckets that differ → `Delta`s with the
//! differences → one `SyncComplete` per complete kind → live `Delta`s. The heart is `held`: what the controller will
//! know once it has processed everything sent on this stream. A change is sent if it differs from that, in its latest
//! state; beyond [`WINDOW`] unacknowledged Deltas, changes wait and coalesce.
//!
//! Messages and `now` in, messages out: no I/O, no clock. `now` is the time since the process started.

mod outbox;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use roadstead_proto::digest::{BucketHashes, Digest};
use roadstead_proto::object::{key_parse, key_text};
use roadstead_proto::{finding, wire};
use roadstead_routing::finding::Finding;
use roadstead_routing::id::{Kind, ObjectKey};
use wire::agent_message::Message as ToController;
use wire::controller_message::Message as FromController;

use crate::reduce::{Cause, Change, Reducer};
use outbox::Outbox;
pub use outbox::WINDOW;

/// Each way; also what the other side may take for granted.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// Without any message for this long, the stream is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(6);
/// Live deletions remembered while there is no stream. One forgotten is sent as inferred instead.
pub const TOMBSTONES_MAX: usize = 10_000;
/// Own findings are sent at most this often: each message is the complete list.
const FINDINGS_EVERY: Duration = Duration::from_secs(1);

/// Who this agent says it is. The certificate must agree.
#[derive(Clone, Debug, Default)]
pub struct Introduction {
    pub cluster: String,
    pub agent: String,
    pub cluster_uid: String,
    pub agent_version: String,
    pub kubernetes_version: String,
}

/// What arrived that is not the session's own business.
#[derive(Clone, PartialEq, Debug)]
pub enum Delivery {
    Policy(wire::AgentPolicy),
    Statuses(wire::DesiredStatuses),
    Findings(wire::Findings),
}

/// The controller broke the protocol; the stream is useless.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    #[error("the controller's Welcome has bucket hashes of {0} bytes, which no version writes")]
    Hashes(usize),
    #[error("the controller sent bucket contents that nobody asked for")]
    UnexpectedContents,
}

/// See the module's head.
pub struct Session {
    introduction: Introduction,
    /// The world this agent last spoke to.
    world: Option<wire::World>,
    phase: Phase,
    outbox: Outbox,
    /// Deleted live while nobody listened.
    tombstones: BTreeSet<ObjectKey>,
    last_heard: Duration,
    last_beat: Option<Duration>,
    beats: u64,
    /// Requests for buckets so far.
    requests: u64,
    findings: FindingsSent,
}

enum Phase {
    /// No stream.
    Down,
    /// Hello is sent.
    Greeted,
    /// Another agent serves this cluster; its place may become ours.
    StandingBy,
    /// Welcomed; the lists are not there yet.
    Listing {
        known: BucketHashes,
    },
    /// Waiting for the contents of differing buckets. Keys that are equal are in `held` already.
    Comparing {
        held: BTreeMap<ObjectKey, Digest>,
    },
    Synced,
}

#[derive(Default)]
struct FindingsSent {
    revision: Option<u64>,
    at: Option<Duration>,
}

impl Session {
    pub fn new(introduction: Introduction) -> Self {
        Self {
            introduction,
            world: None,
            phase: Phase::Down,
            outbox: Outbox::default(),
            tombstones: BTreeSet::new(),
            last_heard: Duration::ZERO,
            last_beat: None,
            beats: 0,
            requests: 0,
            findings: FindingsSent::default(),
        }
    }

    /// A stream is open. Returns the first message to send on it.
    pub fn connected(&mut self, now: Duration) -> wire::AgentMessage {
        self.phase = Phase::Greeted;
        self.outbox = Outbox::default();
        self.last_heard = now;
        self.last_beat = Some(now);
        self.findings = FindingsSent::default();
        let Introduction { cluster, agent, cluster_uid, agent_version, kubernetes_version } = self.introduction.clone();
        let world = self.world.clone();
        let hello = wire::Hello { cluster, agent, cluster_uid, agent_version, kubernetes_version, world, epoch: 0 };
        message(ToController::Hello(hello))
    }

    /// The stream is gone.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Down;
        self.keep_deletions();
    }

    pub fn is_connected(&self) -> bool {
        !matches!(self.phase, Phase::Down)
    }

    pub fn is_standing_by(&self) -> bool {
        matches!(self.phase, Phase::StandingBy)
    }

    pub fn is_welcomed(&self) -> bool {
        !matches!(self.phase, Phase::Down | Phase::Greeted | Phase::StandingBy)
    }

    pub fn is_synced(&self) -> bool {
        matches!(self.phase, Phase::Synced)
    }

    /// Deltas that are not acknowledged yet.
    pub fn unacked(&self) -> u64 {
        self.outbox.unacked()
    }

    /// Whether the other side has been silent for too long.
    pub fn is_dead(&self, now: Duration) -> bool {
        self.is_connected() && now.saturating_sub(self.last_heard) > DEAD_AFTER
    }

    /// Takes one message.
    ///
    /// # Errors
    /// If it cannot be part of the protocol: the caller closes the stream.
    pub fn receive(
        &mut self,
        now: Duration,
        message: wire::ControllerMessage,
    ) -> Result<Option<Delivery>, ProtocolError> {
        self.last_heard = now;
        match message.message {
            Some(FromController::Welcome(welcome)) => self.welcome(welcome),
            Some(FromController::BucketContents(contents)) => self.contents(contents).map(|()| None),
            Some(FromController::Ack(ack)) => {
                self.outbox.acknowledge(ack.seq);
                Ok(None)
            }
            Some(FromController::DesiredStatuses(statuses)) => Ok(Some(Delivery::Statuses(statuses))),
            Some(FromController::Findings(findings)) => Ok(Some(Delivery::Findings(findings))),
            Some(FromController::Policy(policy)) => Ok(Some(Delivery::Policy(policy))),
            Some(FromController::Standby(_)) => {
                self.keep_deletions();
                self.phase = Phase::StandingBy;
                Ok(None)
            }
            // A newer controller may say more than this build understands.
            Some(FromController::Heartbeat(_)) | None => Ok(None),
        }
    }

    /// Notes what changed in what is reported.
    pub fn changed(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match (change, self.is_synced()) {
                (Change::Upsert(key), true) => self.outbox.upsert(key),
                (Change::Removal(key, cause), true) => self.outbox.remove(key, cause),
                (Change::Upsert(key), false) => {
                    self.tombstones.remove(&key);
                }
                (Change::Removal(key, Cause::Deleted), false) => {
                    if self.tombstones.len() < TOMBSTONES_MAX {
                        self.tombstones.insert(key);
                    }
                }
                (Change::Removal(_, Cause::Inferred), false) => {}
            }
        }
    }

    /// Everything that is to be sent now.
    pub fn poll(&mut self, now: Duration, reducer: &Reducer) -> Vec<wire::AgentMessage> {
        let mut messages = Vec::new();
        if !self.is_connected() {
            return messages;
        }
        messages.extend(self.compare(reducer));
        if self.is_synced() {
            self.outbox.compare(reducer);
            messages.extend(self.outbox.drain(now, reducer));
        }
        messages.extend(self.own_findings(now, reducer));
        messages.extend(self.heartbeat(now));
        messages
    }

    /// A second Welcome on one stream starts over, like the first.
    fn welcome(&mut self, welcome: wire::Welcome) -> Result<Option<Delivery>, ProtocolError> {
        let known = BucketHashes::from_bytes(&welcome.known).ok_or(ProtocolError::Hashes(welcome.known.len()))?;
        self.world = welcome.world.or(self.world.take());
        self.keep_deletions();
        self.outbox.restart();
        self.phase = Phase::Listing { known };
        Ok(welcome.policy.map(Delivery::Policy))
    }

    /// Live deletions that are not acknowledged keep their cause on the next comparison.
    fn keep_deletions(&mut self) {
        let unfinished = self.outbox.unfinished_deletions();
        let room = TOMBSTONES_MAX.saturating_sub(self.tombstones.len());
        self.tombstones.extend(unfinished.into_iter().take(room));
    }

    fn contents(&mut self, contents: wire::BucketContents) -> Result<(), ProtocolError> {
        if contents.number < self.requests {
            return Ok(());
        }
        let Phase::Comparing { held } = &mut self.phase else { return Err(ProtocolError::UnexpectedContents) };
        for pair in contents.buckets.into_iter().flat_map(|bucket| bucket.held) {
            // A key or digest of a form this build does not know belongs to a kind it does not report.
            if let (Some(key), Some(digest)) = (key_parse(&pair.key), Digest::from_slice(&pair.digest)) {
                held.insert(key, digest);
            }
        }
        if contents.last {
            let held = std::mem::take(held);
            self.phase = Phase::Synced;
            self.outbox.begin(held, std::mem::take(&mut self.tombstones));
        }
        Ok(())
    }

    /// Once every kind is listed or known to fail: asks for the buckets that differ.
    fn compare(&mut self, reducer: &Reducer) -> Option<wire::AgentMessage> {
        let Phase::Listing { known } = &self.phase else { return None };
        if !reducer.settled() {
            return None;
        }
        let mut mine = BucketHashes::default();
        for (key, report) in reducer.reported().iter() {
            mine.toggle(&key_text(key), &report.digest);
        }
        let differing = mine.differing(known);
        let equal = |key: &ObjectKey| {
            let bucket = roadstead_proto::digest::bucket_of(&key_text(key)) as u32;
            differing.binary_search(&bucket).is_err()
        };
        let reported = reducer.reported().iter().filter(|(key, _)| equal(key));
        let held = reported.map(|(key, report)| (key.clone(), report.digest)).collect();
        if differing.is_empty() {
            self.phase = Phase::Synced;
            self.outbox.begin(held, std::mem::take(&mut self.tombstones));
            return None;
        }
        self.phase = Phase::Comparing { held };
        self.requests += 1;
        let request = wire::BucketRequest { buckets: differing, number: self.requests };
        Some(message(ToController::BucketRequest(request)))
    }

    fn own_findings(&mut self, now: Duration, reducer: &Reducer) -> Option<wire::AgentMessage> {
        let revision = reducer.findings_revision();
        let recently = self.findings.at.is_some_and(|at| now.saturating_sub(at) < FINDINGS_EVERY);
        if !self.is_welcomed() || recently || self.findings.revision == Some(revision) {
            return None;
        }
        self.findings = FindingsSent { revision: Some(revision), at: Some(now) };
        let cluster = self.introduction.cluster.as_str().into();
        let findings: Vec<Finding> = reducer.findings(&cluster);
        Some(message(ToController::Findings(bounded(&findings))))
    }

    fn heartbeat(&mut self, now: Duration) -> Option<wire::AgentMessage> {
        if self.last_beat.is_some_and(|last| now.saturating_sub(last) < HEARTBEAT_EVERY) {
            return None;
        }
        self.last_beat = Some(now);
        self.beats += 1;
        Some(message(ToController::Heartbeat(wire::Heartbeat { seq: self.beats })))
    }
}

/// As many findings as fit into one message.
fn bounded(findings: &[Finding]) -> wire::AgentFindings {
    let mut bytes = 0;
    let fits = |finding: &wire::Finding| {
        bytes += prost::Message::encoded_len(finding) + outbox::ENTRY_OVERHEAD_BYTES;
        bytes <= outbox::DELTA_BYTES_MAX
    };
    wire::AgentFindings { findings: findings.iter().map(finding::to_wire).take_while(fits).collect() }
}

fn message(message: ToController) -> wire::AgentMessage {
    wire::AgentMessage { message: Some(message) }
}

fn sync_complete(kind: Kind, count: usize) -> wire::AgentMessage {
    let kind = finding::kind_to_wire(kind).into();
    message(ToController::SyncComplete(wire::SyncComplete { kind, count: count as u64 }))
}
