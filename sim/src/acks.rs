//! Whether what is acknowledged to an agent is really stored: follows what each stream said and compares, at every
//! Ack, with the database.

use std::collections::BTreeMap;

use roadstead_controller::store::model::Model;
use roadstead_proto::digest::Digest;
use roadstead_proto::{finding, object, wire};
use roadstead_routing::id::{ClusterId, ObjectKey};

use crate::network::LinkId;

#[derive(Default)]
pub struct Acks {
    streams: BTreeMap<LinkId, Said>,
}

/// What a stream said, oldest first.
struct Said {
    cluster: ClusterId,
    epoch: u64,
    about: Vec<(u64, ObjectKey, State)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Is(Digest),
    Deleted,
    /// Absent from a list. It is removed at the end of that list, or when a person says so.
    Inferred,
}

impl Acks {
    pub fn opened(&mut self, link: LinkId, cluster: ClusterId) {
        self.streams.insert(link, Said { cluster, epoch: 0, about: Vec::new() });
    }

    pub fn cluster(&self, link: LinkId) -> Option<&ClusterId> {
        self.streams.get(&link).map(|said| &said.cluster)
    }

    pub fn closed(&mut self, link: LinkId) {
        self.streams.remove(&link);
    }

    pub fn welcomed(&mut self, link: LinkId, epoch: u64) {
        if let Some(said) = self.streams.get_mut(&link) {
            said.epoch = epoch;
        }
    }

    /// A controller has heard this.
    pub fn heard(&mut self, link: LinkId, delta: &wire::Delta) {
        let Some(said) = self.streams.get_mut(&link) else { return };
        for upsert in &delta.upserts {
            let Some(Ok(object)) = upsert.object.clone().map(object::from_wire) else { continue };
            if let Some(digest) = Digest::from_slice(&upsert.digest) {
                said.about.push((delta.seq, object.key(), State::Is(digest)));
            }
        }
        for removal in &delta.removals {
            let is_deleted = removal.cause() == wire::RemovalCause::Deleted;
            if let Some(key) = removal.object.as_ref().and_then(finding::key_from_wire) {
                said.about.push((delta.seq, key, if is_deleted { State::Deleted } else { State::Inferred }));
            }
        }
    }

    /// A controller acknowledges everything up to `seq`. Returns what is not stored.
    pub fn acknowledged(&mut self, link: LinkId, seq: u64, database: &Model) -> Vec<String> {
        let Some(said) = self.streams.get_mut(&link) else { return Vec::new() };
        let cluster = &said.cluster;
        // What was stored may have been replaced since by another holder, which the agent will be compared with.
        let is_superseded = database.row(cluster).is_some_and(|row| row.lineage.position.epoch > said.epoch);
        // Of each object: the last state that is acknowledged, and later ones that may be stored already.
        let mut allowed: BTreeMap<&ObjectKey, Vec<State>> = BTreeMap::new();
        for (number, key, state) in &said.about {
            if *number <= seq {
                allowed.insert(key, vec![*state]);
            } else if let Some(allowed) = allowed.get_mut(key) {
                allowed.push(*state);
            }
        }
        let missing = allowed.iter().filter_map(|(key, allowed)| {
            let stored = database.digest(cluster, key).map_or(State::Deleted, State::Is);
            (!is_superseded && !allowed.contains(&stored) && !allowed.contains(&State::Inferred))
                .then(|| format!("{cluster} {key} is acknowledged in Delta {seq} but not stored"))
        });
        let missing = missing.collect();
        // What is acknowledged stays true of the newest state only.
        said.about.retain(|(number, ..)| *number > seq);
        missing
    }
}
