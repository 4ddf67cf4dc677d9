//! The store as a value: what Postgres does with each request, in memory, with the time passed in. What [`super::memory`]
//! and the simulation use; one suite holds it and Postgres to the same behaviour.
//!
//! Behaves as the SQL does, including its refusals (`\u0000` in what becomes jsonb or text).

use std::collections::{BTreeMap, BTreeSet};

use roadstead_proto::digest::Digest;
use roadstead_routing::guard::WINDOW_MS;
use roadstead_routing::id::{ClusterId, HostKey, Kind, ObjectKey, PoolName, Position};
use roadstead_routing::membership::Lifecycle;
use uuid::Uuid;

use crate::clerk;
use crate::guard::kept::{Keep, Kept, Key, Loss};
use crate::store::beat::{Lack, is_present, lack, lease_until, next_epoch};
use crate::store::document::document;
use crate::store::{
    ADOPTED_MAX, Batch, Beat, Changes, Clerk, ClusterNews, ClusterRow, Gap, HostBody, HostRevision, KeepsNews,
    LifecycleAnswer, LifecycleChange, Live, Loaded, NewPolicy, News, PolicyRow, REMOVED_SECONDS_MAX, Removed,
    ReplicaRow, RevisionRow, StoreError, StoredObject, TOMBSTONES_MAX, TakeOver, TakeOverAnswer, WorldId,
};

#[derive(Clone, Default)]
pub struct Model {
    world: Option<WorldId>,
    clusters: BTreeMap<ClusterId, ClusterRow>,
    compacted: BTreeMap<ClusterId, Position>,
    objects: BTreeMap<(ClusterId, ObjectKey), StoredObject>,
    /// With when, in milliseconds.
    tombstones: BTreeMap<(ClusterId, ObjectKey), (Removed, u64)>,
    policies: Vec<PolicyRow>,
    published: BTreeMap<(PoolName, HostKey), Digest>,
    revisions: Vec<(u64, HostRevision)>,
    gaps: Vec<Gap>,
    keeps: BTreeMap<Key, Keep>,
    bodies: BTreeMap<Digest, Vec<u8>>,
    /// What was replaced, ever.
    losses: Vec<Loss>,
    replicas: BTreeMap<String, (ReplicaRow, u64)>,
    lease: Option<Lease>,
    keeps_stamp: u64,
    clerk_stamp: u64,
    /// As Postgres without a key: Secrets are not stored.
    pub forgets_secrets: bool,
    /// For one test: epochs and tokens fence nothing.
    pub unfenced: bool,
}

#[derive(Clone)]
struct Lease {
    holder: String,
    token: u64,
    expires_ms: u64,
}

/// What a commit did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// Parts that were dropped because another holder took over.
    pub lost: BTreeSet<ClusterId>,
    /// Parts that were written although their epoch was not the current one: never, unless the fence is off.
    pub stale: BTreeSet<ClusterId>,
}

impl Model {
    /// A database whose world has this id; otherwise the first load draws one.
    pub fn with_world(id: Uuid) -> Self {
        Self { world: Some(WorldId { id, incarnation: 1, adopted: Vec::new() }), ..Self::default() }
    }

    /// A database that holds this and no history.
    #[cfg(test)]
    pub fn holding(loaded: Loaded) -> Self {
        let Loaded { world, clusters, objects, published, .. } = loaded;
        let objects = objects.into_iter().map(|(cluster, it)| ((cluster, it.object.key()), it)).collect();
        Self { world: Some(world), clusters, objects, published, ..Self::default() }
    }

    /// As if somebody deleted rows by hand.
    #[cfg(test)]
    pub fn lose(&mut self, is_lost: impl Fn(&ObjectKey) -> bool) {
        self.objects.retain(|(_, key), _| !is_lost(key));
        self.keeps.clear();
    }

    pub fn load(&mut self) -> Loaded {
        let fresh = || WorldId { id: Uuid::new_v4(), incarnation: 1, adopted: Vec::new() };
        Loaded {
            world: self.world.get_or_insert_with(fresh).clone(),
            clusters: self.clusters.clone(),
            objects: self.objects.iter().map(|((cluster, _), stored)| (cluster.clone(), stored.clone())).collect(),
            unreadable: Vec::new(),
            published: self.published.clone(),
            forgets_secrets: self.forgets_secrets,
        }
    }

    pub fn load_kept(&self, now_ms: u64) -> Kept {
        let KeepsNews { holds, overrides, .. } = self.keeps();
        let mut kept = Kept { holds, overrides, ..Kept::default() };
        for keep in self.keeps.values() {
            if let Keep::Backend(_, Some(encoded)) = keep {
                kept.backends.push(encoded.clone());
            }
        }
        let body = |digest| self.bodies.get(digest).cloned().unwrap_or_default();
        kept.published = self.published.iter().map(|(key, digest)| (key.clone(), body(digest))).collect();
        let window_begins_ms = now_ms.saturating_sub(WINDOW_MS);
        kept.losses = self.losses.iter().filter(|loss| loss.at_ms > window_begins_ms).cloned().collect();
        let inferred = self.tombstones.iter().filter(|(_, (it, at_ms))| it.inferred && *at_ms > window_begins_ms);
        for ((cluster, _), (_, at_ms)) in inferred {
            let last = kept.inferred.entry(cluster.clone()).or_default();
            *last = (*last).max(*at_ms);
        }
        kept
    }

    pub fn take_over(&mut self, request: &TakeOver, now_ms: u64) -> TakeOverAnswer {
        let fresh = || ClusterRow::fresh(request, now_ms);
        let row = self.clusters.entry(request.cluster.clone()).or_insert_with(fresh).clone();
        if row.uid != request.uid {
            return TakeOverAnswer::OtherUid { pinned: row.uid };
        }
        if let Some(live) = row.live.as_ref().filter(|live| live.replica != request.by.replica)
            && live.agent != request.by.agent
            && self.last_beat(live).is_some_and(|beat_ms| is_present(beat_ms, now_ms))
        {
            return TakeOverAnswer::Held { replica: live.replica.clone() };
        }
        let changes = self.changes(&request.cluster, request.known);
        let Some(row) = self.clusters.get_mut(&request.cluster) else { unreachable!("the row was just made") };
        row.lineage.begin(next_epoch(row.lineage.position.epoch, request.at_ms));
        row.live = Some(request.by.clone());
        row.member.lost_ms = None;
        let stored = Box::new(ClusterNews { row: row.clone(), changes });
        TakeOverAnswer::Granted { digest_key: row.digest_key, stored }
    }

    pub fn release(&mut self, cluster: &ClusterId, epoch: u64, now_ms: u64) {
        if let Some(row) = self.clusters.get_mut(cluster).filter(|row| row.lineage.position.epoch == epoch) {
            row.live = None;
            row.member.lost_ms = Some(now_ms);
        }
    }

    /// # Errors
    /// If Postgres would refuse the data; nothing is written then.
    pub fn commit(&mut self, batch: &Batch, now_ms: u64) -> Result<Committed, StoreError> {
        refuse_nul(batch)?;
        let mut committed = Committed::default();
        for (cluster, part) in &batch.clusters {
            let Some(row) = self.clusters.get_mut(cluster) else {
                committed.lost.insert(cluster.clone());
                continue;
            };
            if row.lineage.position.epoch != part.epoch {
                if !self.unfenced {
                    committed.lost.insert(cluster.clone());
                    continue;
                }
                committed.stale.insert(cluster.clone());
            }
            row.lineage.position.seq = row.lineage.position.seq.max(part.durable_seq);
            if let Some(incarnation) = part.settled {
                row.lineage.settle(incarnation);
            }
            for (key, stored) in &part.upserts {
                self.tombstones.remove(&(cluster.clone(), key.clone()));
                if self.forgets_secrets && key.kind == Kind::Secret {
                    self.objects.remove(&(cluster.clone(), key.clone()));
                } else {
                    self.objects.insert((cluster.clone(), key.clone()), stored.clone());
                }
            }
            for (key, removed) in &part.removals {
                self.objects.remove(&(cluster.clone(), key.clone()));
                self.tombstones.insert((cluster.clone(), key.clone()), (*removed, now_ms));
            }
        }
        if self.unfenced || self.lease.as_ref().is_some_and(|lease| lease.token == batch.token) {
            batch.revisions.iter().for_each(|revision| self.publish(revision, now_ms));
        }
        batch.keeps.iter().for_each(|(key, keep)| self.keep(key, keep));
        self.keeps_stamp += u64::from(!batch.keeps.is_empty());
        self.gaps.extend(batch.gap);
        Ok(committed)
    }

    pub fn beat(&mut self, beat: &Beat, now_ms: u64) -> News {
        self.replicas.insert(beat.replica.id.clone(), (beat.replica.clone(), now_ms));
        let clerk = self.be_clerk(beat, now_ms);
        if !matches!(clerk, Clerk::Other(_)) {
            self.step(&beat.terms, now_ms);
        }
        let news = |(cluster, row): (&ClusterId, &ClusterRow)| {
            let known = beat.known.get(cluster).copied().unwrap_or_default();
            let changes = if beat.held.contains(cluster) { None } else { self.changes(cluster, known) };
            (cluster.clone(), ClusterNews { row: row.clone(), changes })
        };
        let here = self.replicas.values().filter(|(row, at)| is_present(*at, now_ms) && row.id != beat.replica.id);
        News {
            world: self.world.clone().unwrap_or_default(),
            clusters: self.clusters.iter().map(news).collect(),
            clerk_rev: self.clerk_stamp + 1,
            keeps: (self.keeps_stamp + 1 != beat.keeps_stamp).then(|| self.keeps()),
            policy: self.policies.last().filter(|row| row.rev > beat.policy_rev).cloned(),
            replicas: here.map(|(row, _)| row.clone()).collect(),
            clerk,
        }
    }

    pub fn leave(&mut self, replica: &str) {
        self.replicas.remove(replica);
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.holder == replica) {
            lease.expires_ms = 0;
        }
    }

    pub fn change_lifecycle(&mut self, change: &LifecycleChange, now_ms: u64) -> LifecycleAnswer {
        let Some(row) = self.clusters.get_mut(&change.cluster) else { return LifecycleAnswer::NoCluster };
        let answer = clerk::change(&row.member, change, now_ms);
        if let LifecycleAnswer::Changed(next) = &answer {
            row.member = next.clone();
            self.clerk_stamp += 1;
        }
        answer
    }

    pub fn readopt(&mut self, cluster: &ClusterId, uid: &str) -> bool {
        let row = self.clusters.get_mut(cluster);
        row.map(|row| uid.clone_into(&mut row.uid)).is_some()
    }

    pub fn adopt_world(&mut self, other: Option<Uuid>) -> Option<WorldId> {
        let world = self.world.as_mut()?;
        match other {
            Some(other) if !world.adopted.contains(&other) => {
                world.adopted.push(other);
                let excess = world.adopted.len().saturating_sub(ADOPTED_MAX);
                world.adopted.drain(..excess);
            }
            Some(_) => {}
            None => world.incarnation += 1,
        }
        Some(world.clone())
    }

    pub fn host_revisions(&self, pool: &PoolName, host: &HostKey, limit: u32) -> Vec<RevisionRow> {
        let own = self.revisions.iter().enumerate().rev().filter(|(_, (_, it))| it.pool == *pool && it.host == *host);
        let row = |(index, (at_ms, it)): (usize, &(u64, HostRevision))| RevisionRow {
            id: index as i64 + 1,
            at_ms: *at_ms,
            digest: it.body.as_ref().map(|body| body.digest),
            cause: it.cause.as_str().to_owned(),
        };
        own.take(limit as usize).map(row).collect()
    }

    pub fn revision_body(&self, pool: &PoolName, host: &HostKey, id: i64) -> Option<HostBody> {
        let (_, revision) = self.revisions.get(usize::try_from(id - 1).ok()?)?;
        revision.body.clone().filter(|_| revision.pool == *pool && revision.host == *host)
    }

    pub fn compact(&mut self, now_ms: u64) -> u64 {
        let excess = self.tombstones.len().saturating_sub(TOMBSTONES_MAX as usize);
        for _ in 0..excess {
            self.tombstones.pop_first();
        }
        let is_over = |row: &ClusterRow| {
            let kept_ms = REMOVED_SECONDS_MAX as u64 * 1_000;
            row.member.membership.lifecycle == Lifecycle::Removed && now_ms >= row.member.changed_ms + kept_ms
        };
        let over: BTreeSet<ClusterId> =
            self.clusters.iter().filter(|(_, row)| is_over(row)).map(|(id, _)| id.clone()).collect();
        self.objects.retain(|(cluster, _), _| !over.contains(cluster));
        excess as u64
    }

    pub fn latest_policy(&self) -> Option<PolicyRow> {
        self.policies.last().cloned()
    }

    pub fn accept_policy(&mut self, after: u64, policy: &NewPolicy) -> Option<u64> {
        if self.policies.len() as u64 != after {
            return None;
        }
        let NewPolicy { digest, body, source } = policy.clone();
        self.policies.push(PolicyRow { rev: after + 1, digest, body, source });
        Some(after + 1)
    }

    pub fn revisions(&self) -> Vec<HostRevision> {
        self.revisions.iter().map(|(_, revision)| revision.clone()).collect()
    }

    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.clone()
    }

    pub fn tombstones(&self) -> Vec<(ClusterId, ObjectKey, Position)> {
        self.tombstones.iter().map(|((cluster, key), (it, _))| (cluster.clone(), key.clone(), it.position)).collect()
    }

    pub fn row(&self, cluster: &ClusterId) -> Option<&ClusterRow> {
        self.clusters.get(cluster)
    }

    pub fn objects(&self, cluster: &ClusterId) -> BTreeMap<ObjectKey, Digest> {
        let own = self.objects.iter().filter(|((of, _), _)| of == cluster);
        own.map(|((_, key), stored)| (key.clone(), stored.digest)).collect()
    }

    pub fn digest(&self, cluster: &ClusterId, key: &ObjectKey) -> Option<Digest> {
        self.objects.get(&(cluster.clone(), key.clone())).map(|stored| stored.digest)
    }

    pub fn published(&self) -> &BTreeMap<(PoolName, HostKey), Digest> {
        &self.published
    }

    fn changes(&self, cluster: &ClusterId, known: Position) -> Option<Changes> {
        let row = self.clusters.get(cluster)?;
        let compacted = self.compacted.get(cluster).copied().unwrap_or_default();
        let own = self.objects.iter().filter(|((of, _), _)| of == cluster).map(|(_, stored)| stored);
        match lack(row, compacted, known) {
            Lack::Nothing => None,
            Lack::Everything => Some(Changes::Whole { objects: own.cloned().collect() }),
            Lack::Since(known) => {
                let gone = self.tombstones.iter().filter(|((of, _), (it, _))| of == cluster && it.position > known);
                Some(Changes::Since {
                    since: known,
                    objects: own.filter(|stored| stored.position > known).cloned().collect(),
                    removals: gone.map(|((_, key), (it, _))| (key.clone(), *it)).collect(),
                })
            }
        }
    }

    fn be_clerk(&mut self, beat: &Beat, now_ms: u64) -> Clerk {
        let id = &beat.replica.id;
        if let Some(lease) = self.lease.as_ref().filter(|it| it.holder != *id && now_ms < it.expires_ms) {
            return Clerk::Other(lease.holder.clone());
        }
        let token = self.lease.as_ref().map_or(0, |lease| lease.token);
        let is_same =
            beat.token == token && self.lease.as_ref().is_some_and(|it| it.holder == *id && it.expires_ms > 0);
        let token = if is_same { token } else { token + 1 };
        self.lease = Some(Lease { holder: id.clone(), token, expires_ms: lease_until(now_ms) });
        if is_same { Clerk::Same } else { Clerk::New { token, published: self.published.clone() } }
    }

    fn step(&mut self, terms: &clerk::Terms, now_ms: u64) {
        let beats: BTreeMap<ClusterId, Option<u64>> = self
            .clusters
            .iter()
            .filter_map(|(cluster, row)| Some((cluster.clone(), self.last_beat(row.live.as_ref()?))))
            .collect();
        for (cluster, row) in &mut self.clusters {
            if let Some(beat_ms) = beats.get(cluster).filter(|beat| !beat.is_some_and(|at| is_present(at, now_ms))) {
                row.live = None;
                row.member.lost_ms = Some(beat_ms.unwrap_or(now_ms));
            }
            let next = clerk::step(cluster, &row.member, row.live.is_some(), terms, now_ms);
            self.clerk_stamp += u64::from(next.membership != row.member.membership);
            row.member = next;
        }
    }

    /// When the process that holds a stream said last that it is there. `None`: it is not.
    fn last_beat(&self, live: &Live) -> Option<u64> {
        let (row, at) = self.replicas.get(&live.replica)?;
        (row.instance == live.instance).then_some(*at)
    }

    fn keeps(&self) -> KeepsNews {
        let mut news = KeepsNews { stamp: self.keeps_stamp + 1, holds: Vec::new(), overrides: Vec::new() };
        for keep in self.keeps.values().cloned() {
            match keep {
                Keep::Hold { hold, is_live: true } => news.holds.push(*hold),
                Keep::Override(it) => news.overrides.push(it),
                Keep::Hold { .. } | Keep::Lift(_) | Keep::Backend(..) => {}
            }
        }
        news
    }

    fn keep(&mut self, key: &Key, keep: &Keep) {
        match keep {
            Keep::Lift(_) | Keep::Backend(_, None) => drop(self.keeps.remove(key)),
            Keep::Hold { hold, .. } => {
                // A decision is final: a replica that has not heard of it does not open the Hold again.
                let stored = self.keeps.get(key);
                let is_closed = matches!(stored, Some(Keep::Hold { hold: stored, .. }) if !stored.is_open());
                if !(is_closed && hold.is_open()) {
                    self.keeps.insert(key.clone(), keep.clone());
                }
            }
            Keep::Override(_) | Keep::Backend(..) => drop(self.keeps.insert(key.clone(), keep.clone())),
        }
    }

    fn publish(&mut self, revision: &HostRevision, now_ms: u64) {
        let key = (revision.pool.clone(), revision.host.clone());
        let digest = revision.body.as_ref().map(|body| body.digest);
        if self.published.get(&key).copied() == digest {
            return;
        }
        if let Some(before) = self.published.get(&key).and_then(|digest| self.bodies.get(digest)).cloned() {
            let (pool, host) = key.clone();
            self.losses.push(Loss { at_ms: now_ms, pool, host, before });
        }
        if let Some(body) = &revision.body {
            self.bodies.insert(body.digest, body.encoded.clone());
        }
        match digest {
            Some(digest) => self.published.insert(key, digest),
            None => self.published.remove(&key),
        };
        self.revisions.push((now_ms, revision.clone()));
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
