//! Whether what is acknowledged to an agent is really stored: follows what each stream said and compares, at every
//! Ack, with the database.

use std::collections::BTreeMap;

use roadstead_proto::digest::Digest;
use roadstead_proto::{finding, object, wire};
use roadstead_routing::id::{ClusterId, ObjectKey};

use crate::database::Database;
use crate::network::LinkId;

#[derive(Default)]
pub struct Acks {
    streams: BTreeMap<LinkId, Said>,
}

/// What a stream said, oldest first. `None`: the object is gone.
#[derive(Default)]
struct Said {
    cluster: Option<ClusterId>,
    about: Vec<(u64, ObjectKey, Option<Digest>)>,
}

impl Acks {
    pub fn opened(&mut self, link: LinkId, cluster: ClusterId) {
        self.streams.insert(link, Said { cluster: Some(cluster), about: Vec::new() });
    }

    pub fn closed(&mut self, link: LinkId) {
        self.streams.remove(&link);
    }

    /// A controller has heard this.
    pub fn heard(&mut self, link: LinkId, delta: &wire::Delta) {
        let Some(said) = self.streams.get_mut(&link) else { return };
        for upsert in &delta.upserts {
            let Some(Ok(object)) = upsert.object.clone().map(object::from_wire) else { continue };
            said.about.push((delta.seq, object.key(), Digest::from_slice(&upsert.digest)));
        }
        for removal in &delta.removals {
            if let Some(key) = removal.object.as_ref().and_then(finding::key_from_wire) {
                said.about.push((delta.seq, key, None));
            }
        }
    }

    /// A controller acknowledges everything up to `seq`. Returns what is not stored.
    pub fn acknowledged(&mut self, link: LinkId, seq: u64, database: &Database) -> Vec<String> {
        let Some(said) = self.streams.get_mut(&link) else { return Vec::new() };
        let Some(cluster) = &said.cluster else { return Vec::new() };
        // Of each object: the last state that is acknowledged, and later ones that may be stored already.
        let mut allowed: BTreeMap<&ObjectKey, Vec<Option<Digest>>> = BTreeMap::new();
        for (number, key, digest) in &said.about {
            if *number <= seq {
                allowed.insert(key, vec![*digest]);
            } else if let Some(allowed) = allowed.get_mut(key) {
                allowed.push(*digest);
            }
        }
        let missing = allowed.iter().filter_map(|(key, allowed)| {
            let stored = database.digest(cluster, key);
            // A removal that was inferred waits for the end of its list, or for a person.
            let is_waiting = allowed.contains(&None) && stored.is_some();
            let fits = allowed.contains(&stored) || is_waiting;
            (!fits).then(|| format!("{cluster} {key} is acknowledged in Delta {seq} but not stored"))
        });
        let missing = missing.collect();
        // What is acknowledged stays true of the newest state only.
        said.about.retain(|(number, ..)| *number > seq);
        missing
    }
}
