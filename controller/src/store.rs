//! Durability: what survives a restart of all controllers.
//!
//! **What do we store?** The last known objects of every cluster with their positions, recent removals, the accepted
//! policies, what each pool publishes and all its earlier versions, and what the guard holds with the decisions about it. Everything that cannot be had again while a member
//! cluster is down, or that a person will ask about later.
//!
//! **What not?** Nothing that compute derives (backends, findings), nothing about connections (who is live, what edges
//! hold), no endpoints in the history, no secret. And nothing waits for the store: routing uses an accepted change at
//! once, only the agent's acknowledgement waits until it is durable.
//!
//! Core → [`queue`] (coalesced) → [`writer`] (one serial task, group commits) → [`Store`] → Postgres or [`memory`].
//! Every commit is fenced by epoch in SQL: a writer that lost a cluster cannot write it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use roadstead_proto::digest::Digest;
use roadstead_routing::id::{ClusterId, HostKey, ObjectKey, PoolName, Position};
use roadstead_routing::object::Object;
use uuid::Uuid;

use crate::guard::kept::{self, Keep, Kept};

pub mod document;
pub mod memory;
pub mod postgres;
pub mod queue;
pub mod writer;

/// Length of a cluster's digest key.
pub const DIGEST_KEY_BYTES: usize = 32;
pub type DigestKey = [u8; DIGEST_KEY_BYTES];

/// One implementation for production and one for tests; `store_conformance.rs` runs the same suite against both.
pub trait Store: Send + Sync + 'static {
    /// Everything a start needs. Creates the world if this database has none.
    fn load(&self) -> impl Future<Output = Result<Loaded, StoreError>> + Send;

    /// What the guard needs to go on where an earlier process was.
    fn load_kept(&self) -> impl Future<Output = Result<Kept, StoreError>> + Send;

    /// Makes the caller the holder of a cluster: raises its epoch, so that nobody else can write it from now on.
    /// A cluster seen for the first time is created with `fresh_key`.
    fn take_over(&self, request: &TakeOver) -> impl Future<Output = Result<TakeOverAnswer, StoreError>> + Send;

    /// Writes the batch in one transaction, except the parts of clusters that another holder took over, which are
    /// dropped and returned. On an error nothing was written.
    fn commit(&self, batch: &Batch) -> impl Future<Output = Result<BTreeSet<ClusterId>, StoreError>> + Send;

    /// Forgets tombstones beyond [`TOMBSTONE_AGE_SECONDS_MAX`] and [`TOMBSTONES_MAX`], oldest first, and records per
    /// cluster up to which position. Returns how many.
    fn compact(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The policy in force, if one was ever accepted.
    fn latest_policy(&self) -> impl Future<Output = Result<Option<PolicyRow>, StoreError>> + Send;

    /// Compare-and-set: appends a policy after revision `after` (0: none yet). `None`: somebody else did first.
    fn accept_policy(
        &self,
        after: u64,
        policy: &NewPolicy,
    ) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;
}

/// Tombstones older than this are forgotten.
pub const TOMBSTONE_AGE_SECONDS_MAX: i64 = 24 * 3600;
/// Tombstones of all clusters; beyond, the oldest are forgotten first.
pub const TOMBSTONES_MAX: i64 = 1_000_000;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or asks to try again. Retrying is safe: every write is idempotent.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database refuses the data itself; the same batch will never be accepted.
    #[error("the database refuses the data: {0}")]
    Rejected(String),
    /// What is stored cannot be read: a person must act.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorldId {
    pub id: Uuid,
    pub incarnation: u64,
}

/// What a start finds.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    pub world: WorldId,
    pub clusters: BTreeMap<ClusterId, ClusterRow>,
    /// In no particular order.
    pub objects: Vec<(ClusterId, StoredObject)>,
    /// Rows that could not be decoded, with the reason. Not loaded; the agent will send them again.
    pub unreadable: Vec<(ClusterId, ObjectKey, String)>,
    pub published: BTreeMap<(PoolName, HostKey), Digest>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterRow {
    pub uid: String,
    pub epoch: u64,
    pub durable_seq: u64,
    pub digest_key: DigestKey,
}

#[derive(Clone, PartialEq, Debug)]
pub struct StoredObject {
    pub object: Object,
    /// As the agent made it.
    pub digest: Digest,
    pub position: Position,
    /// Encoded `wire::Object`: what is stored.
    pub packed: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakeOver {
    pub cluster: ClusterId,
    /// Of namespace kube-system, pinned at first contact.
    pub uid: String,
    /// Used if the cluster is new; drawn by the caller.
    pub fresh_key: DigestKey,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TakeOverAnswer {
    Granted {
        epoch: u64,
        digest_key: DigestKey,
    },
    /// The identity belongs to a cluster with this uid.
    OtherUid {
        pinned: String,
    },
}

/// One transaction.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch {
    pub clusters: BTreeMap<ClusterId, ClusterBatch>,
    /// At most one per host.
    pub revisions: Vec<HostRevision>,
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
    pub upserts: BTreeMap<ObjectKey, StoredObject>,
    pub removals: BTreeMap<ObjectKey, Position>,
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
    /// Found different when a controller started.
    Start,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Objects => "objects",
            Cause::Policy => "policy",
            Cause::Start => "start",
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

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPolicy {
    pub digest: Digest,
    pub body: String,
    pub source: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyRow {
    pub rev: u64,
    pub digest: Digest,
    pub body: String,
    pub source: String,
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
        let mut first = Batch { gap: self.gap.take(), ..Batch::default() };
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
                && let Some((key, position)) = part.removals.pop_first()
            {
                moved.removals.insert(key, position);
                wanted -= 1;
            }
            first.clusters.insert(cluster.clone(), moved);
        }
        first.revisions.extend(self.revisions.drain(..wanted.min(self.revisions.len())));
        (first, self)
    }
}
