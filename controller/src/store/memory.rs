//! [`Store`] in memory, for tests of the core and for simulation. Behaves as Postgres does, including its refusals
//! (`\u0000` in what becomes jsonb or text), and can be told to be away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use roadstead_proto::digest::Digest;
use roadstead_routing::guard::WINDOW_MS;
use roadstead_routing::id::{ClusterId, HostKey, ObjectKey, PoolName, Position};
use uuid::Uuid;

use crate::guard::kept::{Keep, Kept, Key, Loss};
use crate::serve::core_task::now_ms as unix_ms;
use crate::store::document::document;
use crate::store::{
    Batch, ClusterRow, Gap, HostRevision, Loaded, NewPolicy, PolicyRow, Store, StoreError, StoredObject,
    TOMBSTONES_MAX, TakeOver, TakeOverAnswer, WorldId,
};

#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    world: Option<WorldId>,
    away: bool,
    clusters: BTreeMap<ClusterId, ClusterRow>,
    objects: BTreeMap<(ClusterId, ObjectKey), StoredObject>,
    tombstones: BTreeMap<(ClusterId, ObjectKey), Position>,
    policies: Vec<PolicyRow>,
    published: BTreeMap<(PoolName, HostKey), Digest>,
    revisions: Vec<HostRevision>,
    gaps: Vec<Gap>,
    keeps: BTreeMap<Key, Keep>,
    bodies: BTreeMap<Digest, Vec<u8>>,
    /// What was replaced, ever.
    losses: Vec<Loss>,
}

impl Memory {
    /// While away every call fails as if the database could not be reached.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    pub fn revisions(&self) -> Vec<HostRevision> {
        self.lock().revisions.clone()
    }

    pub fn gaps(&self) -> Vec<Gap> {
        self.lock().gaps.clone()
    }

    pub fn tombstones(&self) -> Vec<(ClusterId, ObjectKey, Position)> {
        let state = self.lock();
        state.tombstones.iter().map(|((cluster, key), at)| (cluster.clone(), key.clone(), *at)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        if state.away { Err(StoreError::Unavailable("it is away".to_owned())) } else { Ok(state) }
    }
}

impl Store for Memory {
    async fn load(&self) -> Result<Loaded, StoreError> {
        let mut state = self.reach()?;
        let world = *state.world.get_or_insert_with(|| WorldId { id: Uuid::new_v4(), incarnation: 1 });
        Ok(Loaded {
            world,
            clusters: state.clusters.clone(),
            objects: state.objects.iter().map(|((cluster, _), stored)| (cluster.clone(), stored.clone())).collect(),
            unreadable: Vec::new(),
            published: state.published.clone(),
        })
    }

    async fn load_kept(&self) -> Result<Kept, StoreError> {
        let state = self.reach()?;
        let mut kept = Kept::default();
        for keep in state.keeps.values().cloned() {
            match keep {
                Keep::Hold { hold, is_live: true } => kept.holds.push(*hold),
                Keep::Override(it) => kept.overrides.push(it),
                Keep::Backend(_, Some(encoded)) => kept.backends.push(encoded),
                Keep::Hold { .. } | Keep::Lift(_) | Keep::Backend(..) => {}
            }
        }
        let body = |digest| state.bodies.get(digest).cloned().unwrap_or_default();
        kept.published = state.published.iter().map(|(key, digest)| (key.clone(), body(digest))).collect();
        let window_begins_ms = unix_ms().saturating_sub(WINDOW_MS);
        kept.losses = state.losses.iter().filter(|loss| loss.at_ms > window_begins_ms).cloned().collect();
        Ok(kept)
    }

    async fn take_over(&self, request: &TakeOver) -> Result<TakeOverAnswer, StoreError> {
        let mut state = self.reach()?;
        let row = state.clusters.entry(request.cluster.clone()).or_insert_with(|| ClusterRow {
            uid: request.uid.clone(),
            epoch: 0,
            durable_seq: 0,
            digest_key: request.fresh_key,
        });
        if row.uid != request.uid {
            return Ok(TakeOverAnswer::OtherUid { pinned: row.uid.clone() });
        }
        row.epoch += 1;
        row.durable_seq = 0;
        Ok(TakeOverAnswer::Granted { epoch: row.epoch, digest_key: row.digest_key })
    }

    async fn commit(&self, batch: &Batch) -> Result<BTreeSet<ClusterId>, StoreError> {
        let mut state = self.reach()?;
        refuse_nul(batch)?;
        Ok(state.commit(batch))
    }

    async fn compact(&self) -> Result<u64, StoreError> {
        let mut state = self.reach()?;
        let excess = state.tombstones.len().saturating_sub(TOMBSTONES_MAX as usize);
        for _ in 0..excess {
            state.tombstones.pop_first();
        }
        Ok(excess as u64)
    }

    async fn latest_policy(&self) -> Result<Option<PolicyRow>, StoreError> {
        Ok(self.reach()?.policies.last().cloned())
    }

    async fn accept_policy(&self, after: u64, policy: &NewPolicy) -> Result<Option<u64>, StoreError> {
        let mut state = self.reach()?;
        if state.policies.len() as u64 != after {
            return Ok(None);
        }
        let NewPolicy { digest, body, source } = policy.clone();
        state.policies.push(PolicyRow { rev: after + 1, digest, body, source });
        Ok(Some(after + 1))
    }
}

impl State {
    fn commit(&mut self, batch: &Batch) -> BTreeSet<ClusterId> {
        let mut lost = BTreeSet::new();
        for (cluster, part) in &batch.clusters {
            let Some(row) = self.clusters.get_mut(cluster).filter(|row| row.epoch == part.epoch) else {
                lost.insert(cluster.clone());
                continue;
            };
            row.durable_seq = row.durable_seq.max(part.durable_seq);
            for (key, stored) in &part.upserts {
                self.tombstones.remove(&(cluster.clone(), key.clone()));
                self.objects.insert((cluster.clone(), key.clone()), stored.clone());
            }
            for (key, position) in &part.removals {
                self.objects.remove(&(cluster.clone(), key.clone()));
                self.tombstones.insert((cluster.clone(), key.clone()), *position);
            }
        }
        for revision in &batch.revisions {
            self.publish(revision);
        }
        for (key, keep) in &batch.keeps {
            match keep {
                Keep::Lift(_) | Keep::Backend(_, None) => self.keeps.remove(key),
                Keep::Hold { .. } | Keep::Override(_) | Keep::Backend(..) => {
                    self.keeps.insert(key.clone(), keep.clone())
                }
            };
        }
        self.gaps.extend(batch.gap);
        lost
    }

    fn publish(&mut self, revision: &HostRevision) {
        let key = (revision.pool.clone(), revision.host.clone());
        let digest = revision.body.as_ref().map(|body| body.digest);
        if self.published.get(&key).copied() == digest {
            return;
        }
        if let Some(before) = self.published.get(&key).and_then(|digest| self.bodies.get(digest)).cloned() {
            let (pool, host) = key.clone();
            self.losses.push(Loss { at_ms: unix_ms(), pool, host, before });
        }
        if let Some(body) = &revision.body {
            self.bodies.insert(body.digest, body.encoded.clone());
        }
        match digest {
            Some(digest) => self.published.insert(key, digest),
            None => self.published.remove(&key),
        };
        self.revisions.push(revision.clone());
    }
}

fn refuse_nul(batch: &Batch) -> Result<(), StoreError> {
    let documents = batch.keeps.values().filter_map(|keep| match keep {
        Keep::Hold { hold, .. } => serde_json::to_string(hold).ok(),
        Keep::Override(it) => serde_json::to_string(it).ok(),
        Keep::Lift(_) | Keep::Backend(..) => None,
    });
    if documents.into_iter().any(|document| document.contains("\\u0000")) {
        return Err(StoreError::Rejected("unsupported Unicode escape sequence".to_owned()));
    }
    for (key, stored) in batch.clusters.values().flat_map(|part| &part.upserts) {
        let in_document = document(&stored.object).is_some_and(|it| it.to_string().contains("\\u0000"));
        if in_document || key.name.name.contains('\0') || key.name.namespace.contains('\0') {
            return Err(StoreError::Rejected("unsupported Unicode escape sequence".to_owned()));
        }
    }
    Ok(())
}
