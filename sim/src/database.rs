//! A model of the database with the semantics of the SQL that matter: a world written once, epochs, fencing inside the
//! transaction, whole batches or nothing, outages, and backups that can be put back.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_controller::store::{
    Batch, ClusterRow, Loaded, StoreError, StoredObject, TakeOver, TakeOverAnswer, WorldId,
};
use roadstead_proto::digest::Digest;
use roadstead_routing::id::{ClusterId, HostKey, ObjectKey, PoolName};

#[derive(Clone)]
pub struct Database {
    world: WorldId,
    clusters: BTreeMap<ClusterId, ClusterRow>,
    objects: BTreeMap<(ClusterId, ObjectKey), StoredObject>,
    published: BTreeMap<(PoolName, HostKey), Digest>,
    /// Revision of the policy in force and the weight it gives.
    pub policy: (u64, u32),
}

/// What a commit did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Parts that were dropped because of their epoch.
    pub fenced: BTreeSet<ClusterId>,
    /// Parts that were written although their epoch was not the current one: never, unless the fence is off.
    pub stale: BTreeSet<ClusterId>,
}

/// Whether the fence stands. It does, but for one test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fence {
    On,
    Off,
}

impl Database {
    pub fn new(id: u128) -> Self {
        Self {
            world: WorldId { id: uuid::Uuid::from_u128(id), incarnation: 1 },
            clusters: BTreeMap::new(),
            objects: BTreeMap::new(),
            published: BTreeMap::new(),
            policy: (1, 100),
        }
    }

    pub fn load(&self) -> Loaded {
        Loaded {
            world: self.world,
            clusters: self.clusters.clone(),
            objects: self.objects.iter().map(|((cluster, _), stored)| (cluster.clone(), stored.clone())).collect(),
            unreadable: Vec::new(),
            published: self.published.clone(),
        }
    }

    pub fn take_over(&mut self, request: &TakeOver) -> Result<TakeOverAnswer, StoreError> {
        let row = self.clusters.entry(request.cluster.clone()).or_insert_with(|| ClusterRow {
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

    pub fn commit(&mut self, batch: &Batch, fence: Fence) -> Committed {
        let mut committed = Committed::default();
        for (cluster, part) in &batch.clusters {
            let Some(row) = self.clusters.get_mut(cluster) else {
                committed.fenced.insert(cluster.clone());
                continue;
            };
            if row.epoch != part.epoch {
                if fence == Fence::On {
                    committed.fenced.insert(cluster.clone());
                    continue;
                }
                committed.stale.insert(cluster.clone());
            }
            row.durable_seq = row.durable_seq.max(part.durable_seq);
            for (key, stored) in &part.upserts {
                self.objects.insert((cluster.clone(), key.clone()), stored.clone());
            }
            for key in part.removals.keys() {
                self.objects.remove(&(cluster.clone(), key.clone()));
            }
        }
        for revision in &batch.revisions {
            let key = (revision.pool.clone(), revision.host.clone());
            match &revision.body {
                Some(body) => self.published.insert(key, body.digest),
                None => self.published.remove(&key),
            };
        }
        committed
    }

    /// Puts a backup back, as a person does it: the controllers are stopped, the world becomes a new incarnation.
    pub fn restore(&mut self, backup: &Database) {
        let incarnation = self.world.incarnation + 1;
        *self = backup.clone();
        self.world.incarnation = incarnation;
    }

    pub fn epoch(&self, cluster: &ClusterId) -> u64 {
        self.clusters.get(cluster).map_or(0, |row| row.epoch)
    }

    pub fn digest(&self, cluster: &ClusterId, key: &ObjectKey) -> Option<Digest> {
        self.objects.get(&(cluster.clone(), key.clone())).map(|stored| stored.digest)
    }

    pub fn objects(&self, cluster: &ClusterId) -> BTreeMap<ObjectKey, Digest> {
        let own = self.objects.iter().filter(|((of, _), _)| of == cluster);
        own.map(|((_, key), stored)| (key.clone(), stored.digest)).collect()
    }

    pub fn published(&self) -> &BTreeMap<(PoolName, HostKey), Digest> {
        &self.published
    }
}
