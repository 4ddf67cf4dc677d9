//! Removals that nobody saw happen: objects that were absent after a list.
//!
//! They are held back until the list of their kind is complete, then judged as one batch. A batch after which a cluster
//! would declare no host any more, where it declared some, is withheld as a whole and judged again at every later
//! completion. The buffers die with the stream, so a broken synchronisation removes nothing.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::id::{ClusterId, Kind, ObjectKey};
use roadstead_routing::inputs::Inputs;

/// What decides whether a cluster declares hosts.
const DECLARING: [Kind; 2] = [Kind::IngressClass, Kind::Ingress];

#[derive(Default, Debug)]
pub struct Prune {
    pending: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    complete: BTreeSet<Kind>,
    is_withheld: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Remove these; may be none.
    Apply(Vec<ObjectKey>),
    /// Removing this many IngressClasses and Ingresses would take the cluster's last hosts.
    Withhold { objects: usize, hosts: usize },
    /// Ingresses are still being listed: judge both kinds together.
    Wait,
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
    pub fn completed(&mut self, kind: Kind, cluster: &ClusterId, inputs: &Inputs) -> Verdict {
        self.complete.insert(kind);
        if kind == Kind::IngressClass && !self.is_complete(Kind::Ingress) {
            return Verdict::Wait;
        }
        let declaring = self.ready(&DECLARING);
        let hosts = inputs.cluster_hosts(cluster);
        self.is_withheld = hosts > 0 && !declaring.is_empty() && inputs.cluster_hosts_without(cluster, &declaring) == 0;
        if self.is_withheld {
            return Verdict::Withhold { objects: declaring.len(), hosts };
        }
        let removed = self.ready(&Kind::ALL);
        for kind in &self.complete {
            self.pending.remove(kind);
        }
        Verdict::Apply(removed.into_iter().collect())
    }

    /// What is held back of those kinds that are listed completely.
    fn ready(&self, kinds: &[Kind]) -> BTreeSet<ObjectKey> {
        let complete = kinds.iter().filter(|kind| self.complete.contains(kind));
        complete.filter_map(|kind| self.pending.get(kind)).flatten().cloned().collect()
    }
}
