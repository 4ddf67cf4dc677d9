//! Removals that nobody saw happen: objects that were absent after a list.
//!
//! They are held back until the list of their kind is complete, then judged as one batch. A batch after which a cluster
//! would declare no host any more, where it declared some, is withheld as a whole and judged again at every later
//! completion. So is one that would take the last Service or the last EndpointSlice of a cluster that declares hosts:
//! of a cluster that lost everything these lists may be the first to complete. The buffers die with the stream, so a
//! broken synchronisation removes nothing.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::id::{ClusterId, Kind, ObjectKey};

use crate::world::World;

/// What decides whether a cluster declares hosts.
const DECLARING: [Kind; 2] = [Kind::IngressClass, Kind::Ingress];
/// What hosts need to be served.
const SERVING: [Kind; 2] = [Kind::Service, Kind::EndpointSlice];

#[derive(Default, Debug)]
pub struct Prune {
    pending: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    complete: BTreeSet<Kind>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Ingresses are still being listed: judge both declaring kinds together.
    Wait,
    Judged {
        /// Remove these; may be none.
        removed: Vec<ObjectKey>,
        withheld: Option<Withheld>,
    },
}

/// Removing these many objects would leave the cluster's hosts, so many, with nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Withheld {
    pub objects: usize,
    pub hosts: usize,
}

impl Prune {
    /// The object was absent from a list.
    pub fn infer(&mut self, key: ObjectKey) {
        self.complete.remove(&key.kind);
        self.pending.entry(key.kind).or_default().insert(key);
    }

    /// The object was reported again, or its removal was seen.
    pub fn forget(&mut self, key: &ObjectKey) {
        if let Some(pending) = self.pending.get_mut(&key.kind) {
            pending.remove(key);
        }
    }

    pub fn is_complete(&self, kind: Kind) -> bool {
        self.complete.contains(&kind)
    }

    /// Removals that are held back at present.
    pub fn len(&self) -> usize {
        self.pending.values().map(BTreeSet::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A kind was listed completely and its differences have arrived.
    pub fn completed(&mut self, kind: Kind, cluster: &ClusterId, world: &World) -> Verdict {
        self.complete.insert(kind);
        if kind == Kind::IngressClass && !self.is_complete(Kind::Ingress) {
            return Verdict::Wait;
        }
        let hosts = world.inputs().cluster_hosts(cluster);
        let kept = self.kept(cluster, world);
        let objects = self.ready(&kept).len();
        let flowing: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| !kept.contains(kind)).collect();
        let removed = self.ready(&flowing).into_iter().collect();
        for kind in flowing.iter().filter(|kind| self.complete.contains(kind)) {
            self.pending.remove(kind);
        }
        Verdict::Judged { removed, withheld: (objects > 0).then_some(Withheld { objects, hosts }) }
    }

    /// The kinds of which nothing may be removed: all, if the last host would go; else those that would be gone altogether.
    fn kept(&self, cluster: &ClusterId, world: &World) -> Vec<Kind> {
        if world.inputs().cluster_hosts(cluster) == 0 {
            return Vec::new();
        }
        let declaring = self.ready(&DECLARING);
        if !declaring.is_empty() && world.inputs().cluster_hosts_without(cluster, &declaring) == 0 {
            return Kind::ALL.to_vec();
        }
        let all_gone = |kind: &Kind| {
            let pending = self.ready(&[*kind]).len();
            pending > 0 && pending >= world.count(cluster, *kind)
        };
        SERVING.into_iter().filter(all_gone).collect()
    }

    /// What is held back of those kinds that are listed completely.
    fn ready(&self, kinds: &[Kind]) -> BTreeSet<ObjectKey> {
        let complete = kinds.iter().filter(|kind| self.complete.contains(kind));
        complete.filter_map(|kind| self.pending.get(kind)).flatten().cloned().collect()
    }
}
