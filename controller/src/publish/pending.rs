//! What one edge still has to be told. Coalesced by key: only the latest state is sent, and a resource that returned to
//! what the edge holds is not sent at all. Grows with what changed, never with what the edge holds.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use roadstead_proto::digest::Digest;
use roadstead_proto::resource::ResourceKey;

/// What the edge holds under a key that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    Absent,
    Holds(Digest),
    /// It refused something; what it kept is its own business.
    Unknown,
}

impl From<Option<Digest>> for Edge {
    fn from(digest: Option<Digest>) -> Self {
        digest.map_or(Edge::Absent, Edge::Holds)
    }
}

impl Edge {
    fn has(self, wanted: Option<Digest>) -> bool {
        self != Edge::Unknown && self == Edge::from(wanted)
    }
}

/// Removals sort backwards.
fn removal_order(key: &ResourceKey) -> Reverse<ResourceKey> {
    Reverse(key.clone())
}

#[derive(Default, Debug)]
pub struct Pending {
    /// In sending order: backends before the hosts that use them.
    upserts: BTreeMap<ResourceKey, Edge>,
    /// In sending order: hosts before the backends that they used.
    removals: BTreeMap<Reverse<ResourceKey>, Edge>,
}

impl Pending {
    /// `key` should be `wanted`. `edge` is what the edge holds, unless the key is pending already: then that is known.
    pub fn set(&mut self, key: &ResourceKey, edge: Edge, wanted: Option<Digest>) {
        let edge = self.remove(key).unwrap_or(edge);
        if edge.has(wanted) {
            return;
        }
        match wanted {
            Some(_) => self.upserts.insert(key.clone(), edge),
            None => self.removals.insert(removal_order(key), edge),
        };
    }

    /// Forgets the key; returns what the edge holds.
    pub fn remove(&mut self, key: &ResourceKey) -> Option<Edge> {
        self.upserts.remove(key).or_else(|| self.removals.remove(&removal_order(key)))
    }

    /// What the edge holds under a pending key can no longer be told. Returns whether the key is pending.
    pub fn now_unknown(&mut self, key: &ResourceKey) -> bool {
        let edge = self.upserts.get_mut(key).or_else(|| self.removals.get_mut(&removal_order(key)));
        edge.map(|edge| *edge = Edge::Unknown).is_some()
    }

    pub fn retain(&mut self, keep: impl Fn(&ResourceKey) -> bool) {
        self.upserts.retain(|key, _| keep(key));
        self.removals.retain(|key, _| keep(&key.0));
    }

    pub fn contains(&self, key: &ResourceKey) -> bool {
        self.upserts.contains_key(key) || self.removals.contains_key(&removal_order(key))
    }

    pub fn next_upsert(&self) -> Option<&ResourceKey> {
        self.upserts.first_key_value().map(|(key, _)| key)
    }

    pub fn next_removal(&self) -> Option<&ResourceKey> {
        self.removals.first_key_value().map(|(key, _)| &key.0)
    }

    pub fn len(&self) -> usize {
        self.upserts.len() + self.removals.len()
    }

    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty()
    }

    pub fn keys(&self) -> impl Iterator<Item = &ResourceKey> {
        self.upserts.keys().chain(self.removals.keys().map(|key| &key.0))
    }

    pub fn into_keys(self) -> impl Iterator<Item = (ResourceKey, Edge)> {
        self.upserts.into_iter().chain(self.removals.into_iter().map(|(key, edge)| (key.0, edge)))
    }
}
