//! The reporting end: one stream to one replica, one conversation per cluster that this replica holds.
//!
//! Hello → the listener says what it knows → the buckets that differ → the differences as one step → every later step.
//! A listener that misses something says Welcome again, and the comparison begins anew.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use roadstead_proto::digest::{BucketHashes, Digest, bucket_of};
use roadstead_proto::finding::key_to_wire;
use roadstead_proto::object;
use roadstead_proto::position::{position_from_wire, position_to_wire};
use roadstead_proto::wire;
use roadstead_proto::wire::agent_message::Message as Says;
use roadstead_proto::wire::controller_message::Message as Hears;
use roadstead_proto::wire::peer_message::Message as Said;
use roadstead_routing::id::{ClusterId, ObjectKey, Position};
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

use crate::core::message::StreamId;
use crate::core::turn::Turn;
use crate::held::Held;
use crate::peers::convert;
use crate::store::queue::Write;
use crate::world::lineage::Lineage;

/// A Delta is filled up to here.
const CHUNK_BYTES: usize = MESSAGE_BYTES_MAX / 2;

pub(super) struct Reporter {
    pub replica: String,
    pub last_heard_ms: u64,
    conversations: BTreeMap<ClusterId, Conversation>,
    /// Comparisons begun on this stream.
    comparisons: u64,
}

enum Conversation {
    /// Hello is said.
    Greeted,
    /// Differing buckets are asked for.
    Comparing(Comparison),
    /// The listener gets every step.
    Following,
}

/// What is known of the listener's copy of a cluster, and what changed here meanwhile.
struct Comparison {
    /// Of the request for buckets.
    number: u64,
    at: Position,
    buckets: Vec<u32>,
    theirs: BTreeMap<ObjectKey, Digest>,
    touched: BTreeSet<ObjectKey>,
}

impl Reporter {
    pub fn new(replica: String, listening_ms: u64) -> Self {
        Self { replica, last_heard_ms: listening_ms, conversations: BTreeMap::new(), comparisons: 0 }
    }

    /// This replica holds the cluster now, in a new epoch.
    pub fn begin(&mut self, stream: StreamId, cluster: &ClusterId, turn: &mut Turn) {
        self.conversations.insert(cluster.clone(), Conversation::Greeted);
        let hello = wire::Hello { cluster: cluster.to_string(), agent: turn.replica.clone(), ..wire::Hello::default() };
        let epoch = turn.world.position(cluster).epoch;
        say(stream, cluster, Says::Hello(wire::Hello { epoch, ..hello }), turn);
    }

    pub fn heard(&mut self, stream: StreamId, cluster: &ClusterId, heard: Option<Hears>, turn: &mut Turn) {
        match heard {
            Some(Hears::Welcome(welcome)) => self.welcome(stream, cluster, &welcome, turn),
            Some(Hears::BucketContents(contents)) => self.contents(stream, cluster, contents, turn),
            _ => {}
        }
    }

    /// What an agent reported just now.
    pub fn step(&mut self, stream: StreamId, step: &Write, turn: &mut Turn) {
        match self.conversations.get_mut(&step.cluster) {
            Some(Conversation::Following) => {}
            Some(Conversation::Comparing(comparison)) => {
                comparison.touched.extend(step.keys());
                return;
            }
            // What it has of this it will say in its Welcome.
            Some(Conversation::Greeted) | None => return,
        }
        let upserts = step.upserts.iter().filter_map(|stored| {
            let object = wire::Object::decode(&*stored.packed).ok()?;
            Some(wire::Upsert { object: Some(object), digest: stored.digest.to_vec() })
        });
        let (since, inferred) = (step.since(), step.inferred);
        let changes = Changes { since, upserts: upserts.collect(), removals: step.removals.clone(), inferred };
        let Some(lineage) = turn.world.lineage(&step.cluster) else { return };
        // What became complete in this turn is so only at its end.
        let has_just_settled = turn.settled.contains(&step.cluster);
        let settled = lineage.settled && !has_just_settled;
        let incarnation = if has_just_settled { 0 } else { lineage.incarnation };
        let lineage = Lineage { position: step.position, settled, incarnation, ..lineage.clone() };
        send(stream, &step.cluster, &lineage, changes, turn);
    }

    /// The cluster's epoch settled at its present position.
    pub fn settled(&mut self, stream: StreamId, cluster: &ClusterId, turn: &mut Turn) {
        if matches!(self.conversations.get(cluster), Some(Conversation::Following)) {
            let Some(lineage) = turn.world.lineage(cluster).cloned() else { return };
            let nothing = Changes { since: lineage.position, ..Changes::default() };
            send(stream, cluster, &lineage, nothing, turn);
        }
    }

    fn welcome(&mut self, stream: StreamId, cluster: &ClusterId, welcome: &wire::Welcome, turn: &mut Turn) {
        let ours = turn.world.held(cluster).map(|held| held.hashes().clone()).unwrap_or_default();
        let theirs = BucketHashes::from_bytes(&welcome.known).unwrap_or_default();
        let buckets = ours.differing(&theirs);
        self.comparisons += 1;
        let (number, at) = (self.comparisons, position_from_wire(welcome.position));
        say(stream, cluster, Says::BucketRequest(wire::BucketRequest { buckets: buckets.clone(), number }), turn);
        let (theirs, touched) = (BTreeMap::new(), BTreeSet::new());
        let comparison = Comparison { number, at, buckets, theirs, touched };
        self.conversations.insert(cluster.clone(), Conversation::Comparing(comparison));
    }

    fn contents(&mut self, stream: StreamId, cluster: &ClusterId, contents: wire::BucketContents, turn: &mut Turn) {
        let Some(Conversation::Comparing(comparison)) = self.conversations.get_mut(cluster) else { return };
        if contents.number != comparison.number {
            return;
        }
        for held in contents.buckets.into_iter().flat_map(|bucket| bucket.held) {
            if let (Some(key), Some(digest)) = (object::key_parse(&held.key), Digest::from_slice(&held.digest)) {
                comparison.theirs.insert(key, digest);
            }
        }
        if !contents.last {
            return;
        }
        let Some(Conversation::Comparing(comparison)) = self.conversations.remove(cluster) else { return };
        let Comparison { at, buckets, mut theirs, mut touched, .. } = comparison;
        // Steps of this turn are in the world already; they are told at its end.
        let pending = turn.steps.iter().filter(|step| step.cluster == *cluster);
        touched.extend(pending.flat_map(Write::keys));
        if position_from_wire(contents.position) != at {
            // Its copy moved on between the two answers: what was equal may not be any more.
            return self.begin(stream, cluster, turn);
        }
        let is_asked = |key: &ObjectKey| buckets.binary_search(&(bucket_of(&object::key_text(key)) as u32)).is_ok();
        let mut upserts = Vec::new();
        for (key, digest) in turn.world.held(cluster).into_iter().flat_map(Held::iter) {
            let may_differ = is_asked(key) || touched.contains(key);
            if !may_differ || theirs.remove(key) == Some(*digest) {
                continue;
            }
            if let Some(it) = turn.world.inputs().object(cluster, key) {
                upserts.push(wire::Upsert { object: Some(object::to_wire(&it)), digest: digest.to_vec() });
            }
        }
        let mut removals: BTreeSet<ObjectKey> = theirs.into_keys().collect();
        removals.extend(touched.into_iter().filter(|key| turn.world.digest(cluster, key).is_none()));
        self.conversations.insert(cluster.clone(), Conversation::Following);
        // The listener did not see them being deleted, whatever this replica saw.
        let changes = Changes { since: at, upserts, removals: removals.into_iter().collect(), inferred: true };
        let Some(lineage) = turn.world.lineage(cluster).cloned() else { return };
        send(stream, cluster, &lineage, changes, turn);
    }
}

/// What changed since `since`.
#[derive(Default)]
struct Changes {
    since: Position,
    upserts: Vec<wire::Upsert>,
    removals: Vec<ObjectKey>,
    inferred: bool,
}

/// One step from `since` to where `lineage` is, in as many Deltas as it takes.
fn send(stream: StreamId, cluster: &ClusterId, lineage: &Lineage, changes: Changes, turn: &mut Turn) {
    let Changes { since, upserts, removals, inferred } = changes;
    let last = wire::PeerDelta { since: Some(position_to_wire(since)), inferred, ..convert::to_wire(lineage) };
    let more = wire::PeerDelta { more: true, ..wire::PeerDelta::default() };
    let (mut delta, mut bytes) = (wire::Delta::default(), 0);
    for upsert in upserts {
        bytes += upsert.encoded_len();
        delta.upserts.push(upsert);
        if bytes > CHUNK_BYTES {
            let full = wire::Delta { peer: Some(more.clone()), ..std::mem::take(&mut delta) };
            say(stream, cluster, Says::Delta(full), turn);
            bytes = 0;
        }
    }
    let removal = |key| wire::Removal { object: Some(key_to_wire(key)), cause: wire::RemovalCause::Deleted.into() };
    for chunk in removals.chunks(1_000) {
        let removals = chunk.iter().map(removal).collect();
        let part = wire::Delta { removals, peer: Some(more.clone()), ..wire::Delta::default() };
        say(stream, cluster, Says::Delta(part), turn);
    }
    say(stream, cluster, Says::Delta(wire::Delta { peer: Some(last), ..delta }), turn);
}

fn say(stream: StreamId, cluster: &ClusterId, message: Says, turn: &mut Turn) {
    let message = Some(wire::AgentMessage { message: Some(message) });
    turn.report(stream, Said::Cluster(wire::ClusterSays { cluster: cluster.to_string(), message }));
}
