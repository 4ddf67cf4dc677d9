//! The last known objects of all clusters. [`World::apply`] is the only way in, for agent streams and for the load at
//! start alike; it ignores whatever is older than what it has.
//!
//! Change (cluster, position, objects) → dirty names for compute. Holds no routes and decides nothing about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use roadstead_proto::digest::{BucketHashes, Digest};
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, ObjectName, Position};
use roadstead_routing::inputs::{Dirty, Inputs};
use roadstead_routing::limit::{HOSTS_PER_CLUSTER_MAX, OBJECTS_PER_CLUSTER_MAX};
use roadstead_routing::object::Object;
use roadstead_routing::policy::Policy;

use crate::held::Held;
use crate::store::Loaded;

/// Clusters that may ever have reported. The authority decides who may, so this only stops a runaway one.
pub const CLUSTERS_MAX: usize = 2_000;

/// One accepted change of one cluster.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    pub cluster: ClusterId,
    pub position: Position,
    pub upserts: Vec<(Object, Digest)>,
    pub removals: Vec<ObjectKey>,
}

/// What became of a [`Change`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Applied {
    pub dirty: Dirty,
    /// Objects that would exceed a limit; an earlier version of them stays.
    pub refused: Vec<(ObjectKey, Limit)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    Objects,
    Hosts,
}

/// Enforced per cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub objects: usize,
    pub hosts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { objects: OBJECTS_PER_CLUSTER_MAX, hosts: HOSTS_PER_CLUSTER_MAX }
    }
}

#[derive(Default)]
pub struct World {
    inputs: Inputs,
    clusters: BTreeMap<ClusterId, Known>,
    limits: Limits,
    /// Who wrote the Ingresses last that went in this turn.
    departed: BTreeMap<(ClusterId, ObjectName), Arc<str>>,
}

#[derive(Default)]
struct Known {
    position: Position,
    held: Held<ObjectKey>,
    counts: BTreeMap<Kind, usize>,
}

impl World {
    pub fn new(policy: Policy, limits: Limits) -> Self {
        Self { inputs: Inputs::new(policy), limits, ..Self::default() }
    }

    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    pub fn set_policy(&mut self, policy: Policy) -> Dirty {
        self.inputs.set_policy(policy)
    }

    /// Applies everything that was stored, each cluster in the order in which it happened.
    pub fn load(&mut self, loaded: Loaded) -> Dirty {
        let mut history: BTreeMap<(ClusterId, Position), Vec<(Object, Digest)>> = BTreeMap::new();
        for (cluster, stored) in loaded.objects {
            history.entry((cluster, stored.position)).or_default().push((stored.object, stored.digest));
        }
        let mut dirty = Dirty::default();
        for ((cluster, position), upserts) in history {
            if let Some(applied) = self.apply(Change { cluster, position, upserts, removals: Vec::new() }) {
                dirty.merge(applied.dirty);
            }
        }
        for (cluster, row) in loaded.clusters {
            let known = self.clusters.entry(cluster).or_default();
            // The last change may have been a removal, which left no object behind. An epoch in which nothing was
            // accepted yet says nothing about how much of the one before is here.
            if row.durable_seq > 0 {
                known.position = known.position.max(Position { epoch: row.epoch, seq: row.durable_seq });
            }
        }
        dirty
    }

    /// `None`: not newer than what is here, and ignored.
    pub fn apply(&mut self, change: Change) -> Option<Applied> {
        let Change { cluster, position, upserts, removals } = change;
        let known = self.clusters.entry(cluster.clone()).or_default();
        if position <= known.position {
            return None;
        }
        known.position = position;
        let mut applied = Applied::default();
        for key in removals {
            known.set(&key, None);
            if let Some(Object::Ingress(gone)) = self.inputs.object(&cluster, &key) {
                self.departed.insert((cluster.clone(), gone.name.clone()), gone.meta.last_manager.clone());
            }
            applied.dirty.merge(self.inputs.apply(&cluster, &key, None));
        }
        for (object, digest) in upserts {
            let key = object.key();
            if known.held.get(&key).is_none() && known.held.len() >= self.limits.objects {
                applied.refused.push((key, Limit::Objects));
                continue;
            }
            let (before, hosts) = (self.inputs.object(&cluster, &key), self.inputs.cluster_hosts(&cluster));
            let dirty = self.inputs.apply(&cluster, &key, Some(object));
            let hosts_now = self.inputs.cluster_hosts(&cluster);
            if hosts_now > self.limits.hosts && hosts_now > hosts {
                self.inputs.apply(&cluster, &key, before);
                applied.refused.push((key, Limit::Hosts));
                continue;
            }
            known.set(&key, Some(digest));
            applied.dirty.merge(dirty);
        }
        Some(applied)
    }

    /// Where in the cluster's history the world is. Zero: it never reported.
    pub fn position(&self, cluster: &ClusterId) -> Position {
        self.clusters.get(cluster).map(|known| known.position).unwrap_or_default()
    }

    pub fn positions(&self) -> impl Iterator<Item = (&ClusterId, Position)> {
        self.clusters.iter().map(|(cluster, known)| (cluster, known.position))
    }

    /// Who wrote an Ingress last, also if it went in this turn.
    pub fn last_manager(&self, cluster: &ClusterId, ingress: &ObjectName) -> Option<Arc<str>> {
        let key = ObjectKey { kind: Kind::Ingress, name: ingress.clone() };
        match self.inputs.object(cluster, &key) {
            Some(Object::Ingress(it)) => Some(it.meta.last_manager.clone()),
            _ => self.departed.get(&(cluster.clone(), ingress.clone())).cloned(),
        }
    }

    /// The turn is over.
    pub fn forget_departed(&mut self) {
        self.departed.clear();
    }

    pub fn digest(&self, cluster: &ClusterId, key: &ObjectKey) -> Option<Digest> {
        self.clusters.get(cluster)?.held.get(key)
    }

    /// How many objects of a kind the cluster has.
    pub fn count(&self, cluster: &ClusterId, kind: Kind) -> usize {
        self.clusters.get(cluster).and_then(|known| known.counts.get(&kind)).copied().unwrap_or(0)
    }

    /// `Welcome.known` of a cluster.
    pub fn known(&self, cluster: &ClusterId) -> Vec<u8> {
        self.clusters.get(cluster).map_or_else(|| BucketHashes::default().to_bytes(), |it| it.held.hashes().to_bytes())
    }

    pub fn held(&self, cluster: &ClusterId) -> Option<&Held<ObjectKey>> {
        self.clusters.get(cluster).map(|known| &known.held)
    }

    pub fn is_full_for(&self, cluster: &ClusterId) -> bool {
        self.clusters.len() >= CLUSTERS_MAX && !self.clusters.contains_key(cluster)
    }
}

impl Known {
    fn set(&mut self, key: &ObjectKey, digest: Option<Digest>) {
        let count = self.counts.entry(key.kind).or_default();
        match (self.held.set(key, digest), digest) {
            (None, Some(_)) => *count += 1,
            (Some(_), None) => *count -= 1,
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}
