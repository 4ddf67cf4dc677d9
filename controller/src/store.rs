//! Durability: what survives a restart of all controllers.
//!
//! **What do we store?** The last known objects of every cluster with their positions, recent removals, the accepted
//! policies, what each pool publishes and all its earlier versions, and what the guard holds with the decisions about it. Everything that cannot be had again while a member
//! cluster is down, or that a person will ask about later.
//!
//! **What not?** Nothing that compute derives (backends, findings), nothing about connections (who is live, what edges
//! hold), no endpoints in the history, no Secret in the clear. And nothing waits for the store: routing uses an accepted change at
//! once, only the agent's acknowledgement waits until it is durable.
//!
//! Core → [`queue`] (coalesced) → [`writer`] (one serial task, group commits) → [`Store`] → Postgres or [`memory`].
//! Every commit is fenced by epoch in SQL: a writer that lost a cluster cannot write it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;

use roadstead_proto::digest::Digest;
use roadstead_routing::id::{ClusterId, HostKey, ObjectKey, PoolName, Position};
use roadstead_routing::membership::{Lifecycle, Membership};
use roadstead_routing::object::Object;
use uuid::Uuid;

use crate::clerk;
use crate::guard::hold::Hold;
use crate::guard::kept::Kept;
use crate::guard::overrides::Override;
use crate::world::lineage::Lineage;

pub mod batch;
pub mod beat;
pub mod document;
pub mod memory;
pub mod model;
pub mod poller;
pub mod postgres;
pub mod queue;
pub mod writer;

pub use batch::{Batch, Cause, ClusterBatch, Gap, HostBody, HostRevision, Removed};

/// Length of a cluster's digest key.
pub const DIGEST_KEY_BYTES: usize = 32;
pub type DigestKey = [u8; DIGEST_KEY_BYTES];

/// One implementation for production and one for tests; `store_conformance.rs` runs the same suite against both.
pub trait Store: Send + Sync + 'static {
    /// Everything a start needs. Creates the world if this database has none.
    fn load(&self) -> impl Future<Output = Result<Loaded, StoreError>> + Send;

    /// What the guard needs to go on where an earlier process was.
    fn load_kept(&self) -> impl Future<Output = Result<Kept, StoreError>> + Send;

    /// Makes the caller the holder of a cluster: raises its epoch, so that nobody else can write it from now on, and
    /// tells what is stored that the caller does not know. A cluster seen for the first time is created with
    /// `fresh_key`.
    fn take_over(&self, request: &TakeOver) -> impl Future<Output = Result<TakeOverAnswer, StoreError>> + Send;

    /// The caller holds the cluster's stream no more. Nothing, if another holder took over.
    fn release(&self, cluster: &ClusterId, epoch: u64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes the batch in one transaction, except the parts of clusters that another holder took over, which are
    /// dropped and returned. On an error nothing was written.
    fn commit(&self, batch: &Batch) -> impl Future<Output = Result<BTreeSet<ClusterId>, StoreError>> + Send;

    /// What every replica does once a second: says that it is there, becomes or stays the clerk if it can, and learns
    /// what others wrote.
    fn beat(&self, beat: &Beat) -> impl Future<Output = Result<News, StoreError>> + Send;

    /// Ends the caller's presence and its lease, so that others need not wait until these run out.
    fn leave(&self, replica: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Begins the next part of a cluster's life.
    fn change_lifecycle(
        &self,
        change: &LifecycleChange,
    ) -> impl Future<Output = Result<LifecycleAnswer, StoreError>> + Send;

    /// Pins another kube-system uid. Returns whether the cluster exists.
    fn readopt(&self, cluster: &ClusterId, uid: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Continues other worlds: the one named, or what an earlier incarnation of this one had before a backup was put
    /// back (`None`).
    fn adopt_world(&self, other: Option<Uuid>) -> impl Future<Output = Result<WorldId, StoreError>> + Send;

    /// Versions of a host, newest first.
    fn host_revisions(
        &self,
        pool: &PoolName,
        host: &HostKey,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<RevisionRow>, StoreError>> + Send;

    /// The body of one version of a host. `None`: there is none of this number, or the host was gone in it.
    fn revision_body(
        &self,
        pool: &PoolName,
        host: &HostKey,
        id: i64,
    ) -> impl Future<Output = Result<Option<HostBody>, StoreError>> + Send;

    /// Forgets tombstones beyond [`TOMBSTONE_AGE_SECONDS_MAX`] and [`TOMBSTONES_MAX`], oldest first, and records per
    /// cluster up to which position; and the objects of clusters removed [`REMOVED_SECONDS_MAX`] ago. Returns how many
    /// tombstones.
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
/// Objects of a removed cluster are kept for this long.
pub const REMOVED_SECONDS_MAX: i64 = 24 * 3600;
/// A replica that has not beaten for this long is gone.
pub const PRESENCE_MS: u64 = 6_000;
/// How long the clerk's lease lasts without being renewed.
pub const LEASE_MS: u64 = 10_000;
/// Worlds that one may continue.
pub const ADOPTED_MAX: usize = 16;

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

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WorldId {
    pub id: Uuid,
    pub incarnation: u64,
    /// Other worlds that this one continues.
    pub adopted: Vec<Uuid>,
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
    /// Secrets are not stored: positions pass over them, here and in all news.
    pub forgets_secrets: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterRow {
    pub uid: String,
    /// Of what is stored.
    pub lineage: Lineage,
    pub digest_key: DigestKey,
    pub live: Option<Live>,
    pub member: MemberRow,
}

/// Who holds a cluster's stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    pub replica: String,
    /// The process: what one held before it was restarted it holds no more.
    pub instance: String,
    pub agent: String,
}

/// Where a cluster stands, and where it is going. Times are milliseconds since the Unix epoch, by the database's clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberRow {
    pub membership: Membership,
    pub ramp: Option<Ramp>,
    /// When the stream was lost. Means nothing while somebody holds it.
    pub lost_ms: Option<u64>,
    pub changed_ms: u64,
    pub by: String,
    pub reason: String,
}

/// Steps of an activation (up to 100) or drain (down to 0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ramp {
    pub since_ms: u64,
    pub from: u8,
    pub seconds: u64,
}

#[derive(Clone, PartialEq)]
pub struct StoredObject {
    pub object: Object,
    /// As the agent made it.
    pub digest: Digest,
    pub position: Position,
    /// Encoded `wire::Object`: what is stored. Of a Secret only sealed.
    pub packed: Vec<u8>,
}

/// Without the bytes, which may be those of a Secret.
impl fmt::Debug for StoredObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, digest, position, packed } = self;
        write!(f, "StoredObject({object:?}, {digest}, {position}, {} bytes)", packed.len())
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakeOver {
    pub cluster: ClusterId,
    /// Of namespace kube-system, pinned at first contact.
    pub uid: String,
    /// Used if the cluster is new; drawn by the caller.
    pub fresh_key: DigestKey,
    pub by: Live,
    /// Up to where the caller knows what is stored of the cluster.
    pub known: Position,
    /// Where a new cluster begins.
    pub joins_as: Lifecycle,
    /// When, since the Unix epoch: the number of the new epoch, unless the last one is higher.
    pub at_ms: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub enum TakeOverAnswer {
    Granted {
        digest_key: DigestKey,
        /// What is stored that the caller lacks, as of the new epoch.
        stored: Box<ClusterNews>,
    },
    /// The identity belongs to a cluster with this uid.
    OtherUid { pinned: String },
    /// Another replica that is there holds the stream of another agent.
    Held { replica: String },
}

/// What is stored of one cluster and not known to who asks.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterNews {
    pub row: ClusterRow,
    /// `None`: nothing is new, or the asker knows more than is stored.
    pub changes: Option<Changes>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Changes {
    /// Everything after what the asker knows.
    Since { since: Position, objects: Vec<StoredObject>, removals: Vec<(ObjectKey, Removed)> },
    /// Everything there is: what the asker has besides is to go.
    Whole { objects: Vec<StoredObject> },
}

impl Changes {
    /// Whether something goes that nobody saw being deleted, as far as this says.
    pub fn is_inferred(&self) -> bool {
        match self {
            Changes::Since { removals, .. } => removals.iter().any(|(_, removed)| removed.inferred),
            Changes::Whole { .. } => true,
        }
    }
}

/// What a replica says once a second, and what it knows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Beat {
    pub replica: ReplicaRow,
    /// Where its copies of clusters are.
    pub known: BTreeMap<ClusterId, Position>,
    /// Clusters whose streams it holds: nobody else's news about them is of interest, but who holds them is.
    pub held: BTreeSet<ClusterId>,
    pub keeps_stamp: u64,
    pub policy_rev: u64,
    /// The token of its clerk's lease. 0: it is not the clerk.
    pub token: u64,
    /// What it needs as the clerk.
    pub terms: clerk::Terms,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplicaRow {
    pub id: String,
    /// Where peers reach it: HOST:PORT.
    pub address: String,
    pub version: String,
    /// Drawn by each process.
    pub instance: String,
}

#[derive(Clone, PartialEq, Debug)]
pub struct News {
    pub world: WorldId,
    /// All clusters.
    pub clusters: BTreeMap<ClusterId, ClusterNews>,
    pub clerk_rev: u64,
    /// If they changed.
    pub keeps: Option<KeepsNews>,
    /// If there is a newer one.
    pub policy: Option<PolicyRow>,
    /// Those that are there, without the asker.
    pub replicas: Vec<ReplicaRow>,
    pub clerk: Clerk,
}

/// All Holds that have an effect, and all overrides.
#[derive(Clone, PartialEq, Debug)]
pub struct KeepsNews {
    pub stamp: u64,
    pub holds: Vec<Hold>,
    pub overrides: Vec<Override>,
}

/// Whether the asker is the one that turns time into data and writes history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Clerk {
    /// Somebody else is.
    Other(String),
    /// It still is.
    Same,
    /// It is from now on. What is stored as published may not be what it publishes.
    New { token: u64, published: BTreeMap<(PoolName, HostKey), Digest> },
}

/// A step in a cluster's life that a person asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LifecycleChange {
    pub cluster: ClusterId,
    pub to: Lifecycle,
    /// How long an activation or drain takes. 0: at once.
    pub seconds: u64,
    pub by: String,
    pub reason: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LifecycleAnswer {
    Changed(MemberRow),
    NoCluster,
    /// Not from where the cluster stands.
    NotFrom(Lifecycle),
}

/// One version of a host, as history lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevisionRow {
    pub id: i64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `None`: the host is gone since then.
    pub digest: Option<Digest>,
    pub cause: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPolicy {
    pub digest: Digest,
    pub body: String,
    pub source: String,
}

impl Default for MemberRow {
    fn default() -> Self {
        let (by, reason) = (String::new(), String::new());
        Self { membership: Membership::default(), ramp: None, lost_ms: None, changed_ms: 0, by, reason }
    }
}

impl ClusterRow {
    /// A cluster at first contact, before its first epoch.
    pub fn fresh(request: &TakeOver, now_ms: u64) -> Self {
        let membership = Membership { lifecycle: request.joins_as, ..Membership::default() };
        Self {
            uid: request.uid.clone(),
            lineage: Lineage::default(),
            digest_key: request.fresh_key,
            live: None,
            member: MemberRow { membership, changed_ms: now_ms, ..MemberRow::default() },
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyRow {
    pub rev: u64,
    pub digest: Digest,
    pub body: String,
    pub source: String,
}
