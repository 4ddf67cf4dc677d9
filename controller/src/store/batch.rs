//! What is written: transactions with their parts, and versions of hosts.

use std::collections::BTreeMap;

use roadstead_proto::digest::Digest;
use roadstead_routing::id::{ClusterId, HostKey, ObjectKey, PoolName, Position};

use super::StoredObject;
use crate::guard::kept::{self, Keep};

/// One transaction.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch {
    pub clusters: BTreeMap<ClusterId, ClusterBatch>,
    /// At most one per host. Written only while `token` is that of the clerk's lease.
    pub revisions: Vec<HostRevision>,
    pub token: u64,
    /// What the guard keeps.
    pub keeps: BTreeMap<kept::Key, Keep>,
    /// The store was away before this batch.
    pub gap: Option<Gap>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct ClusterBatch {
    /// The holder's epoch: the fence.
    pub epoch: u64,
    /// Everything up to this sequence number is durable once the batch is; 0 leaves it as it is.
    pub durable_seq: u64,
    /// With this, the epoch's first synchronisation is complete; in which incarnation of the world.
    pub settled: Option<u64>,
    pub upserts: BTreeMap<ObjectKey, StoredObject>,
    pub removals: BTreeMap<ObjectKey, Removed>,
}

/// That an object is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removed {
    pub position: Position,
    /// Nobody saw it being deleted: a list lacked it.
    pub inferred: bool,
}

/// One version of one Host.
#[derive(Clone, PartialEq, Debug)]
pub struct HostRevision {
    pub pool: PoolName,
    pub host: HostKey,
    /// `None`: the pool no longer serves the host.
    pub body: Option<HostBody>,
    pub cause: Cause,
    /// Of the clusters that changed in the same step.
    pub positions: BTreeMap<ClusterId, Position>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostBody {
    pub digest: Digest,
    /// Encoded `wire::Host`.
    pub encoded: Vec<u8>,
}

/// Why a Host changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Objects,
    Policy,
    /// Found different when a controller started or became the clerk.
    Start,
    /// A step of an activation or drain, or staleness.
    Lifecycle,
    /// A person decided.
    Decision,
}

impl Cause {
    /// Changes that no object asked for go to one edge of each pool first.
    pub fn is_tried_first(self) -> bool {
        matches!(self, Cause::Policy | Cause::Start)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Objects => "objects",
            Cause::Policy => "policy",
            Cause::Start => "start",
            Cause::Lifecycle => "lifecycle",
            Cause::Decision => "decision",
        }
    }
}

/// A stretch in which the history may miss versions and its times are late.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gap {
    pub seconds: u64,
    /// Versions that were dropped because too many waited.
    pub dropped: u64,
}

impl Gap {
    pub fn describe(self) -> String {
        format!("gap: the store was away for {} s, {} versions dropped", self.seconds, self.dropped)
    }
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.revisions.is_empty() && self.keeps.is_empty() && self.gap.is_none()
    }

    /// Objects, revisions and what the guard keeps; durable marks and gaps cost nothing.
    pub fn items(&self) -> usize {
        let objects: usize = self.clusters.values().map(|part| part.upserts.len() + part.removals.len()).sum();
        objects + self.revisions.len() + self.keeps.len()
    }

    /// Splits the items in two. Durable marks go with the second half, which is written last.
    pub fn halves(mut self) -> (Batch, Batch) {
        let mut first = Batch { gap: self.gap.take(), token: self.token, ..Batch::default() };
        let mut wanted = self.items() / 2;
        while wanted > 0
            && let Some((key, keep)) = self.keeps.pop_first()
        {
            first.keeps.insert(key, keep);
            wanted -= 1;
        }
        for (cluster, part) in &mut self.clusters {
            let mut moved = ClusterBatch { epoch: part.epoch, ..ClusterBatch::default() };
            while wanted > 0
                && let Some((key, stored)) = part.upserts.pop_first()
            {
                moved.upserts.insert(key, stored);
                wanted -= 1;
            }
            while wanted > 0
                && let Some((key, removed)) = part.removals.pop_first()
            {
                moved.removals.insert(key, removed);
                wanted -= 1;
            }
            first.clusters.insert(cluster.clone(), moved);
        }
        first.revisions.extend(self.revisions.drain(..wanted.min(self.revisions.len())));
        (first, self)
    }
}
