//! What waits to be written, between the core and the writer. Coalesced by object key, latest state wins, so it grows
//! with the number of objects and never with the number of changes; revisions are bounded by [`REVISIONS_QUEUED_MAX`].
//!
//! The core pushes and never waits. Must not reorder: a takeover is done after everything pushed before it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use roadstead_routing::id::{ClusterId, ObjectKey, Position};
use tokio::sync::Notify;

use crate::guard::kept::{self, Keep};
use crate::store::{Batch, ClusterBatch, HostRevision, Removed, StoredObject, TakeOver};

/// Host versions that may wait. Beyond, the oldest are dropped and counted in a gap row.
pub const REVISIONS_QUEUED_MAX: usize = 200_000;
/// Objects and revisions of one transaction.
pub const BATCH_ITEMS_MAX: usize = 2_000;
/// Encoded bytes of one transaction, roughly.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the core asks of the store.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    Write(Write),
    /// The cluster's first synchronisation is complete with everything up to `position`.
    Settled {
        cluster: ClusterId,
        position: Position,
        incarnation: u64,
    },
    /// Written only while `token` is that of the clerk's lease.
    Revision {
        token: u64,
        revision: HostRevision,
    },
    Keep(Keep),
    /// Answered by [`crate::store::writer::Event::TakenOver`] with the same ticket. The writer draws the key.
    TakeOver {
        ticket: u64,
        request: TakeOver,
    },
    /// The stream of this epoch is lost.
    Release {
        cluster: ClusterId,
        epoch: u64,
    },
}

/// One accepted change of one cluster. Its objects all carry `position`.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    pub cluster: ClusterId,
    pub position: Position,
    pub upserts: Vec<StoredObject>,
    pub removals: Vec<ObjectKey>,
    /// Nobody saw the removals happen.
    pub inferred: bool,
}

impl Write {
    /// The position that it follows on: of an epoch, every one is the next.
    pub fn since(&self) -> Position {
        Position { seq: self.position.seq - 1, ..self.position }
    }

    /// Everything that it touches.
    pub fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        self.upserts.iter().map(|stored| stored.object.key()).chain(self.removals.iter().cloned())
    }
}

#[derive(Default)]
pub struct Queue {
    pending: Mutex<Pending>,
    wake: Notify,
}

/// Everything that was pushed since the last take.
#[derive(Default, Debug)]
pub struct Pending {
    clusters: BTreeMap<ClusterId, ClusterBatch>,
    revisions: VecDeque<HostRevision>,
    /// Of all revisions that wait: those of an older one would be dropped by the store.
    token: u64,
    keeps: BTreeMap<kept::Key, Keep>,
    /// Revisions that were dropped to stay within the limit.
    pub dropped: u64,
    pub take_overs: Vec<(u64, TakeOver)>,
    pub releases: Vec<(ClusterId, u64)>,
}

impl Queue {
    pub fn push(&self, request: Request) {
        self.lock().push(request);
        self.wake.notify_one();
    }

    /// Waits until there is something, then takes all of it.
    pub async fn take(&self) -> Pending {
        loop {
            let pending = std::mem::take(&mut *self.lock());
            if !pending.is_empty() {
                return pending;
            }
            self.wake.notified().await;
        }
    }

    /// Objects and revisions that wait, for `/status`.
    pub fn len(&self) -> usize {
        let pending = self.lock();
        pending.clusters.values().map(|part| part.upserts.len() + part.removals.len()).sum::<usize>()
            + pending.revisions.len()
            + pending.keeps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    pub fn push(&mut self, request: Request) {
        match request {
            Request::Write(write) => self.write(write),
            Request::Settled { cluster, position, incarnation } => self.settled(cluster, position, incarnation),
            Request::Revision { token, revision } => {
                if token != self.token {
                    self.revisions.clear();
                    self.token = token;
                }
                if self.revisions.len() == REVISIONS_QUEUED_MAX {
                    self.revisions.pop_front();
                    self.dropped += 1;
                }
                self.revisions.push_back(revision);
            }
            Request::Keep(keep) => {
                self.keeps.insert(keep.key(), keep);
            }
            Request::TakeOver { ticket, request } => self.take_overs.push((ticket, request)),
            Request::Release { cluster, epoch } => self.releases.push((cluster, epoch)),
        }
    }

    pub fn is_empty(&self) -> bool {
        let writes_nothing = self.clusters.is_empty() && self.revisions.is_empty() && self.keeps.is_empty();
        writes_nothing && self.take_overs.is_empty() && self.releases.is_empty()
    }

    /// Cuts the writes into transactions within the limits. A cluster's durable mark is in the last one that has a
    /// part of it, and no transaction has two versions of one host.
    pub fn batches(&mut self) -> VecDeque<Batch> {
        let mut cut = Cut::default();
        cut.filling.token = self.token;
        // First, so that no removal is durable without the Hold that kept its host.
        for (key, keep) in std::mem::take(&mut self.keeps) {
            cut.room_for(0);
            cut.filling.keeps.insert(key, keep);
        }
        for (cluster, part) in std::mem::take(&mut self.clusters) {
            cut.cluster(&cluster, part);
        }
        for revision in self.revisions.drain(..) {
            cut.revision(revision);
        }
        cut.finish()
    }

    fn settled(&mut self, cluster: ClusterId, position: Position, incarnation: u64) {
        let part = self.part(cluster, position.epoch);
        if part.epoch == position.epoch {
            part.durable_seq = part.durable_seq.max(position.seq);
            part.settled = Some(incarnation);
        }
    }

    /// What waits of a cluster. What is left of an older epoch would be fenced off anyway.
    fn part(&mut self, cluster: ClusterId, epoch: u64) -> &mut ClusterBatch {
        let part = self.clusters.entry(cluster).or_default();
        if part.epoch < epoch {
            *part = ClusterBatch { epoch, ..ClusterBatch::default() };
        }
        part
    }

    fn write(&mut self, write: Write) {
        let part = self.part(write.cluster, write.position.epoch);
        part.durable_seq = write.position.seq;
        for stored in write.upserts {
            let key = stored.object.key();
            part.removals.remove(&key);
            part.upserts.insert(key, stored);
        }
        for key in write.removals {
            part.upserts.remove(&key);
            part.removals.insert(key, Removed { position: write.position, inferred: write.inferred });
        }
    }
}

/// Transactions being filled.
#[derive(Default)]
struct Cut {
    done: VecDeque<Batch>,
    filling: Batch,
    items: usize,
    bytes: usize,
    hosts: BTreeSet<(String, String)>,
}

impl Cut {
    fn cluster(&mut self, cluster: &ClusterId, part: ClusterBatch) {
        let epoch = part.epoch;
        for (key, stored) in part.upserts {
            self.room_for(stored.packed.len());
            self.part(cluster, epoch).upserts.insert(key, stored);
        }
        for (key, removed) in part.removals {
            self.room_for(0);
            self.part(cluster, epoch).removals.insert(key, removed);
        }
        let last = self.part(cluster, epoch);
        (last.durable_seq, last.settled) = (part.durable_seq, part.settled);
    }

    fn revision(&mut self, revision: HostRevision) {
        let host = (revision.pool.to_string(), revision.host.to_string());
        self.room_for(revision.body.as_ref().map_or(0, |body| body.encoded.len()));
        if self.hosts.contains(&host) {
            self.next();
        }
        self.hosts.insert(host);
        self.filling.revisions.push(revision);
    }

    fn part(&mut self, cluster: &ClusterId, epoch: u64) -> &mut ClusterBatch {
        let fresh = || ClusterBatch { epoch, ..ClusterBatch::default() };
        self.filling.clusters.entry(cluster.clone()).or_insert_with(fresh)
    }

    fn room_for(&mut self, bytes: usize) {
        if self.items + 1 > BATCH_ITEMS_MAX || (self.items > 0 && self.bytes + bytes > BATCH_BYTES_MAX) {
            self.next();
        }
        self.items += 1;
        self.bytes += bytes;
    }

    fn next(&mut self) {
        let next = Batch { token: self.filling.token, ..Batch::default() };
        self.done.push_back(std::mem::replace(&mut self.filling, next));
        (self.items, self.bytes) = (0, 0);
        self.hosts.clear();
    }

    fn finish(mut self) -> VecDeque<Batch> {
        if !self.filling.is_empty() {
            self.next();
        }
        self.done
    }
}
