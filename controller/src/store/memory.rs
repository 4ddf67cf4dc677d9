//! [`Store`] in memory: the [`Model`] behind a lock, with the real time. Can be told to be away.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use roadstead_routing::id::{ClusterId, HostKey, ObjectKey, PoolName, Position};
use uuid::Uuid;

use crate::guard::kept::Kept;
use crate::serve::core_task::now_ms;
use crate::store::model::Model;
use crate::store::{
    Batch, Beat, Gap, HostBody, HostRevision, LifecycleAnswer, LifecycleChange, Loaded, NewPolicy, News, PolicyRow,
    RevisionRow, Store, StoreError, TakeOver, TakeOverAnswer, WorldId,
};

#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    away: bool,
    model: Model,
}

impl Memory {
    /// While away every call fails as if the database could not be reached.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    pub fn revisions(&self) -> Vec<HostRevision> {
        self.lock().model.revisions()
    }

    pub fn gaps(&self) -> Vec<Gap> {
        self.lock().model.gaps()
    }

    pub fn tombstones(&self) -> Vec<(ClusterId, ObjectKey, Position)> {
        self.lock().model.tombstones()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach<T>(&self, work: impl FnOnce(&mut Model) -> T) -> Result<T, StoreError> {
        let mut state = self.lock();
        if state.away { Err(StoreError::Unavailable("it is away".to_owned())) } else { Ok(work(&mut state.model)) }
    }
}

impl Store for Memory {
    async fn load(&self) -> Result<Loaded, StoreError> {
        self.reach(Model::load)
    }

    async fn load_kept(&self) -> Result<Kept, StoreError> {
        self.reach(|model| model.load_kept(now_ms()))
    }

    async fn take_over(&self, request: &TakeOver) -> Result<TakeOverAnswer, StoreError> {
        self.reach(|model| model.take_over(request, now_ms()))
    }

    async fn release(&self, cluster: &ClusterId, epoch: u64) -> Result<(), StoreError> {
        self.reach(|model| model.release(cluster, epoch, now_ms()))
    }

    async fn commit(&self, batch: &Batch) -> Result<BTreeSet<ClusterId>, StoreError> {
        self.reach(|model| model.commit(batch, now_ms()))?.map(|committed| committed.lost)
    }

    async fn beat(&self, beat: &Beat) -> Result<News, StoreError> {
        self.reach(|model| model.beat(beat, now_ms()))
    }

    async fn leave(&self, replica: &str) -> Result<(), StoreError> {
        self.reach(|model| model.leave(replica))
    }

    async fn change_lifecycle(&self, change: &LifecycleChange) -> Result<LifecycleAnswer, StoreError> {
        self.reach(|model| model.change_lifecycle(change, now_ms()))
    }

    async fn readopt(&self, cluster: &ClusterId, uid: &str) -> Result<bool, StoreError> {
        self.reach(|model| model.readopt(cluster, uid))
    }

    async fn adopt_world(&self, other: Option<Uuid>) -> Result<WorldId, StoreError> {
        let adopted = self.reach(|model| model.adopt_world(other))?;
        adopted.ok_or_else(|| StoreError::Corrupt("the database has no world".to_owned()))
    }

    async fn host_revisions(
        &self,
        pool: &PoolName,
        host: &HostKey,
        limit: u32,
    ) -> Result<Vec<RevisionRow>, StoreError> {
        self.reach(|model| model.host_revisions(pool, host, limit))
    }

    async fn revision_body(&self, pool: &PoolName, host: &HostKey, id: i64) -> Result<Option<HostBody>, StoreError> {
        self.reach(|model| model.revision_body(pool, host, id))
    }

    async fn compact(&self) -> Result<u64, StoreError> {
        self.reach(|model| model.compact(now_ms()))
    }

    async fn latest_policy(&self) -> Result<Option<PolicyRow>, StoreError> {
        self.reach(|model| model.latest_policy())
    }

    async fn accept_policy(&self, after: u64, policy: &NewPolicy) -> Result<Option<u64>, StoreError> {
        self.reach(|model| model.accept_policy(after, policy))
    }
}
