//! The guarded units of one Host in little memory: its routes, who declared them, and who serves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::id::ClusterId;
use crate::table::{Host, PathMatch, RouteBackend, Target};

use super::Scope;

/// What the guard knows of one Host. Equal for equal routes, whatever their weights and services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Units {
    /// Every cluster's namespaces that have a part in the Host. Sorted.
    owners: Box<[Owner]>,
    /// Every part of a slot: the slot and an index into `owners`. Sorted, distinct.
    parts: Box<[(Slot, u32)]>,
}

/// Whose Ingresses have a part in a Host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub(super) cluster: ClusterId,
    pub(super) namespace: Arc<str>,
    /// Has a part that leads to a backend.
    pub(super) serves: bool,
}

/// What requests of a host end in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Slot {
    Path(PathMatch),
    /// The host's default backends.
    Default,
}

/// Something guarded that leaves (rule B-1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Unit {
    Host,
    Route(Slot),
    /// The last backend of a cluster, or of a namespace of one, leaves the host.
    LastBackend(Scope),
}

impl Units {
    pub fn of(host: &Host) -> Units {
        let routes = host.routes.iter().map(|route| (Slot::Path(route.path.clone()), &route.backends));
        let slots = routes.chain([(Slot::Default, &host.default)]);
        let parts = slots.flat_map(|(slot, backends)| backends.iter().map(move |part| (slot.clone(), Owner::of(part))));
        Self::from_parts(parts.collect())
    }

    /// Whether going from `before` to `after` withdraws a guarded unit.
    pub fn loses(before: Option<&Units>, after: Option<&Units>) -> bool {
        match (before, after) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(before), Some(after)) => {
                before.slots().any(|slot| !after.has(slot))
                    || before.owners.iter().any(|owner| after.loses_owner(owner))
            }
        }
    }

    /// Everything that is in either.
    pub(super) fn union(&self, other: &Units) -> Units {
        let parts = self.all_parts().chain(other.all_parts());
        Self::from_parts(parts.map(|(slot, owner)| (slot.clone(), owner.clone())).collect())
    }

    /// The clusters and namespaces that have a part, each once.
    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope> {
        let clusters: BTreeSet<&ClusterId> = self.owners.iter().map(|owner| &owner.cluster).collect();
        let clusters = clusters.into_iter().cloned().map(Scope::Cluster);
        clusters.chain(self.owners.iter().map(Owner::scope))
    }

    pub(super) fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// Each once.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.parts.chunk_by(|a, b| a.0 == b.0).map(|parts| &parts[0].0)
    }

    pub(super) fn owners_of(&self, slot: &Slot) -> impl Iterator<Item = &Owner> {
        self.parts[self.position(slot)..].iter().take_while(move |part| part.0 == *slot).map(|part| self.owner(part.1))
    }

    pub(super) fn has(&self, slot: &Slot) -> bool {
        self.parts.get(self.position(slot)).is_some_and(|part| part.0 == *slot)
    }

    /// Whether `owner` had a backend, or any part, that it has not here.
    pub(super) fn loses_owner(&self, owner: &Owner) -> bool {
        let own = |it: &&Owner| it.cluster == owner.cluster && it.namespace == owner.namespace;
        self.owners.iter().find(own).map(|own| own.serves) < Some(owner.serves)
    }

    /// The same of a whole cluster. `None`: it has no part; else whether one of its parts leads to a backend.
    pub(super) fn cluster_serves(&self, cluster: &ClusterId) -> Option<bool> {
        self.owners.iter().filter(|owner| owner.cluster == *cluster).map(|owner| owner.serves).max()
    }

    fn from_parts(parts: Vec<(Slot, Owner)>) -> Units {
        let mut serves: BTreeMap<(ClusterId, Arc<str>), bool> = BTreeMap::new();
        for (_, owner) in &parts {
            *serves.entry((owner.cluster.clone(), owner.namespace.clone())).or_default() |= owner.serves;
        }
        let owners: Box<[Owner]> =
            serves.into_iter().map(|((cluster, namespace), serves)| Owner { cluster, namespace, serves }).collect();
        let index = |owner: &Owner| {
            let found =
                owners.binary_search_by(|it| (&it.cluster, &it.namespace).cmp(&(&owner.cluster, &owner.namespace)));
            u32::try_from(found.expect("every owner must be listed")).expect("owners of one host must fit 32 bits")
        };
        let mut parts: Vec<_> = parts.into_iter().map(|(slot, owner)| (slot, index(&owner))).collect();
        parts.sort();
        parts.dedup();
        Units { owners, parts: parts.into() }
    }

    fn all_parts(&self) -> impl Iterator<Item = (&Slot, &Owner)> {
        self.parts.iter().map(|(slot, owner)| (slot, self.owner(*owner)))
    }

    fn owner(&self, index: u32) -> &Owner {
        &self.owners[index as usize]
    }

    /// Where the parts of a slot begin, or would.
    fn position(&self, slot: &Slot) -> usize {
        self.parts.partition_point(|part| part.0 < *slot)
    }
}

impl Owner {
    fn of(part: &RouteBackend) -> Self {
        let serves = matches!(part.target, Target::Backend(_));
        Self { cluster: part.cluster.clone(), namespace: part.ingress.namespace.clone(), serves }
    }

    pub(super) fn scope(&self) -> Scope {
        Scope::Namespace(self.cluster.clone(), self.namespace.clone())
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::Path(path) => path.fmt(f),
            Slot::Default => f.write_str("default"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Host => f.write_str("the host"),
            Unit::Route(slot) => slot.fmt(f),
            Unit::LastBackend(scope) => write!(f, "last backend of {scope}"),
        }
    }
}
