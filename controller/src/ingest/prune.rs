//! Removals that nobody saw happen: objects that were absent after a list.
//!
//! They are held back until the list of their kind is complete, so a list that breaks off removes nothing. What decides
//! whether a host is declared is judged together, and Services and EndpointSlices only after it: of a cluster that lost
//! everything their lists may be the first to complete, and hosts that are still declared need them. EndpointSlices go
//! no earlier than Services: a Service without them is one without endpoints. Whether hosts may go is not decided here
//! but by the guard. The buffers die with the stream.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::id::{Kind, ObjectKey};

/// What decides whether a cluster declares hosts.
const DECLARING: [Kind; 2] = [Kind::IngressClass, Kind::Ingress];

#[derive(Default, Debug)]
pub struct Prune {
    pending: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    complete: BTreeSet<Kind>,
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

    /// A kind was listed completely and its differences have arrived. Returns what is to be removed now.
    pub fn completed(&mut self, kind: Kind) -> Vec<ObjectKey> {
        self.complete.insert(kind);
        if !DECLARING.iter().all(|kind| self.is_complete(*kind)) {
            return Vec::new();
        }
        let is_service_known = self.is_complete(Kind::Service);
        let waits = |kind: &Kind| *kind == Kind::EndpointSlice && !is_service_known;
        let due: Vec<Kind> = self.complete.iter().copied().filter(|kind| !waits(kind)).collect();
        due.iter().filter_map(|kind| self.pending.remove(kind)).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_services_that_may_be_gone_wait_for_their_list() {
        let key = |kind| ObjectKey::new(kind, "shop", "web");
        let mut prune = Prune::default();
        for kind in [Kind::Ingress, Kind::EndpointSlice, Kind::Service] {
            prune.infer(key(kind));
        }
        assert!(prune.completed(Kind::EndpointSlice).is_empty());
        assert!(prune.completed(Kind::IngressClass).is_empty());
        assert_eq!(prune.completed(Kind::Ingress), [key(Kind::Ingress)]);
        assert_eq!(prune.completed(Kind::Service), [key(Kind::Service), key(Kind::EndpointSlice)]);
        assert!(prune.is_empty());
    }
}
