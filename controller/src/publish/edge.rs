//! One edge of a pool: what it was told and acknowledged, what it refused, what it still has to be told.
//!
//! Hello → the buckets that differ are asked for → the differences become pending → Updates within a window. An edge
//! never goes back in time: where it holds something newer than this controller knows of a cluster, what differed when
//! it connected is withheld until the controller has caught up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message;
use roadstead_proto::digest::{BucketHashes, Digest, bucket_of};
use roadstead_proto::resource::{ResourceKey, backend_to_wire, host_to_wire};
use roadstead_proto::wire;
use roadstead_proto::wire::config_message::Message as Say;
use roadstead_routing::id::{ClusterId, HostKey, Position};
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

use crate::core::message::{Close, EdgeId, StreamId};
use crate::core::turn::Turn;
use crate::held::Held;
use crate::ingest::Ingest;
use crate::publish::pending::{self, Pending};
use crate::publish::pool::Content;

/// Updates that may be unacknowledged on one stream.
pub const WINDOW: usize = 8;
/// What an Update carries besides resources stays below this.
const OVERHEAD_BYTES: usize = 64 * 1024;
/// Resources an edge may claim to hold.
pub const HELD_MAX: usize = 2_000_000;

/// Refused content is remembered across connections, so that it is not sent again until it changes.
#[derive(Default)]
pub struct Edge {
    session: Option<Session>,
    refused: BTreeMap<ResourceKey, Digest>,
    /// Connected or disconnected since.
    pub since_ms: u64,
    pub version: String,
    pub region: String,
    pub zone: String,
}

struct Session {
    stream: StreamId,
    last_heard_ms: u64,
    phase: Phase,
    pending: Pending,
    /// What differed at Hello, held back while `behind` names a cluster.
    withheld: Pending,
    /// Clusters of which the edge has seen more than this controller, and how much.
    behind: BTreeMap<ClusterId, Position>,
    in_flight: VecDeque<InFlight>,
    /// How many Updates in flight carry a key.
    unacknowledged: BTreeMap<ResourceKey, usize>,
    last_nonce: u64,
    /// What the edge was told about positions.
    told: BTreeMap<ClusterId, Position>,
    is_synced: bool,
}

enum Phase {
    /// Connected; no Hello yet.
    Greeting,
    /// Waits for what the edge holds in these buckets, ascending.
    Comparing {
        buckets: Vec<u32>,
        theirs: BTreeMap<ResourceKey, Digest>,
    },
    Live,
}

enum Next<'a> {
    Upsert(&'a ResourceKey),
    Removal(&'a ResourceKey),
}

struct InFlight {
    nonce: u64,
    sent: Vec<(ResourceKey, Option<Digest>)>,
}

/// What came of one Update.
pub struct Outcome {
    pub accepted: Vec<ResourceKey>,
    /// With the edge's reason.
    pub refused: Vec<(ResourceKey, String)>,
}

impl Edge {
    /// Returns the older stream.
    pub fn connect(&mut self, stream: StreamId, turn: &Turn) -> Option<StreamId> {
        let older = self.stream();
        self.session = Some(Session::new(stream, turn.listening_ms));
        self.since_ms = turn.now_ms;
        older
    }

    pub fn disconnect(&mut self, now_ms: u64) {
        self.session = None;
        self.since_ms = now_ms;
    }

    pub fn stream(&self) -> Option<StreamId> {
        self.session.as_ref().map(|session| session.stream)
    }

    pub fn heard(&mut self, turn: &Turn) {
        if let Some(session) = &mut self.session {
            session.last_heard_ms = turn.listening_ms;
        }
    }

    pub fn last_heard_ms(&self) -> u64 {
        self.session.as_ref().map_or(u64::MAX, |session| session.last_heard_ms)
    }

    pub fn is_synced(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_synced)
    }

    pub fn unacknowledged(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.in_flight.len())
    }

    /// Resources still to be sent, withheld ones included.
    pub fn pending(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.pending.len() + session.withheld.len())
    }

    pub fn refused(&self) -> impl Iterator<Item = &ResourceKey> {
        self.refused.keys()
    }

    /// The edge has acknowledged the newest version of `key`.
    pub fn is_settled(&self, key: &ResourceKey) -> bool {
        self.session.as_ref().is_some_and(|session| {
            matches!(session.phase, Phase::Live)
                && !session.pending.contains(key)
                && !session.withheld.contains(key)
                && !session.unacknowledged.contains_key(key)
                && !self.refused.contains_key(key)
        })
    }

    /// Hosts of which it is not known that the edge has the newest version; `None` while nothing is known at all.
    pub fn unsettled_hosts(&self) -> Option<BTreeSet<HostKey>> {
        let session = self.session.as_ref().filter(|session| matches!(session.phase, Phase::Live))?;
        let waiting = session.pending.keys().chain(session.withheld.keys());
        let keys = waiting.chain(session.unacknowledged.keys()).chain(self.refused.keys());
        Some(keys.filter_map(|key| if let ResourceKey::Host(host) = key { Some(host.clone()) } else { None }).collect())
    }

    /// Takes the edge's word for what it holds. Returns refusals that are forgotten, because the edge is of another
    /// version now.
    pub fn hello(
        &mut self,
        id: &EdgeId,
        hello: wire::EdgeHello,
        held: &Held<ResourceKey>,
        turn: &Turn,
    ) -> Result<BTreeMap<ResourceKey, Digest>, Close> {
        if hello.edge != id.edge || hello.pool != id.pool.as_str() {
            let claimed = format!("pool/{}/edge/{}", hello.pool, hello.edge);
            return Err(Close::Identity { claimed, certificate: format!("pool/{}/edge/{}", id.pool, id.edge) });
        }
        let Some(session) = self.session.as_mut().filter(|session| matches!(session.phase, Phase::Greeting)) else {
            return Err(Close::Protocol("a second Hello".to_owned()));
        };
        let theirs = BucketHashes::from_bytes(&hello.held)
            .ok_or_else(|| Close::Protocol("`held` is not a list of bucket hashes".to_owned()))?;
        let buckets = held.hashes().differing(&theirs);
        // Positions of another world cannot be compared with ours; such an edge refuses what we send anyway.
        if hello.world == Some(turn.world_to_wire()) {
            session.remember_positions(&hello.positions.unwrap_or_default());
        }
        session.phase = Phase::Comparing { buckets, theirs: BTreeMap::new() };
        let forgotten = if hello.version == self.version { BTreeMap::new() } else { std::mem::take(&mut self.refused) };
        (self.version, self.region, self.zone) = (hello.version, hello.region, hello.zone);
        tracing::info!(pool = %id.pool, edge.id = id.edge, "An edge connected");
        Ok(forgotten)
    }

    /// Asks for the buckets that differ; with none there is nothing to compare.
    pub fn request_held(&mut self, stream: StreamId, turn: &mut Turn) {
        let Some(session) = &mut self.session else { return };
        let Phase::Comparing { buckets, .. } = &session.phase else { return };
        if buckets.is_empty() {
            session.phase = Phase::Live;
        } else {
            turn.to_edge(stream, Say::HeldRequest(wire::HeldRequest { buckets: buckets.clone() }));
        }
    }

    /// # Errors
    /// If nothing was asked, or the edge claims too much.
    pub fn held_contents(&mut self, contents: wire::HeldContents, held: &Held<ResourceKey>) -> Result<(), Close> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Phase::Comparing { theirs, .. } = &mut session.phase else {
            return Err(Close::Protocol("HeldContents that nobody asked for".to_owned()));
        };
        for entry in contents.buckets.into_iter().flat_map(|bucket| bucket.held) {
            // A key of a newer version cannot be compared; the edge keeps it.
            let Some(key) = ResourceKey::parse(&entry.key) else { continue };
            let digest = Digest::from_slice(&entry.digest)
                .ok_or_else(|| Close::Protocol(format!("the digest of {} is not 16 bytes long", entry.key)))?;
            theirs.insert(key, digest);
        }
        if theirs.len() > HELD_MAX {
            return Err(Close::Limit(format!("an edge may hold {HELD_MAX} resources")));
        }
        if contents.last {
            session.compare(held, &self.refused);
        }
        Ok(())
    }

    /// A resource of the pool went from `before` to `after`.
    pub fn changed(&mut self, key: &ResourceKey, before: Option<Digest>, after: Option<Digest>) {
        let was_refused = self.refused.remove(key).is_some();
        let Some(session) = &mut self.session else { return };
        let edge = if was_refused { pending::Edge::Unknown } else { pending::Edge::from(before) };
        if session.withheld.contains(key) {
            session.withheld.set(key, edge, after);
        } else {
            session.pending.set(key, edge, after);
        }
    }

    /// # Errors
    /// If it does not answer the oldest Update in flight.
    pub fn result(&mut self, result: wire::UpdateResult) -> Result<Outcome, Close> {
        let Some(session) = &mut self.session else { return Err(Close::Replaced) };
        let update = session.in_flight.pop_front().filter(|update| update.nonce == result.nonce);
        let Some(update) = update else {
            return Err(Close::Protocol(format!("result of Update {} out of order", result.nonce)));
        };
        let mut reasons: BTreeMap<ResourceKey, String> = result
            .refusals
            .into_iter()
            .filter_map(|refusal| Some((ResourceKey::parse(&refusal.key)?, refusal.reason)))
            .collect();
        let mut outcome = Outcome { accepted: Vec::new(), refused: Vec::new() };
        for (key, digest) in update.sent {
            session.acknowledge(&key);
            match (reasons.remove(&key), digest) {
                (Some(reason), Some(digest)) => {
                    if !session.pending.now_unknown(&key) {
                        self.refused.insert(key.clone(), digest);
                    }
                    outcome.refused.push((key, reason));
                }
                _ => {
                    self.refused.remove(&key);
                    outcome.accepted.push(key);
                }
            }
        }
        Ok(outcome)
    }

    /// Sends Updates while there is something to say and room in the window. Returns whether the first set was
    /// completed by it.
    pub fn flush(&mut self, content: &Content<'_>, ingest: &Ingest, turn: &mut Turn) -> bool {
        let Some(session) = self.session.as_mut().filter(|session| matches!(session.phase, Phase::Live)) else {
            return false;
        };
        session.catch_up(content.held, ingest, turn);
        let was_synced = session.is_synced;
        while session.in_flight.len() < WINDOW && (session.next().is_some() || !session.is_synced) {
            let update = session.next_update(content, turn);
            turn.metrics.publish.sent(update.upserts.len(), update.removals.len());
            turn.to_edge(session.stream, Say::Update(update));
        }
        session.is_synced && !was_synced
    }
}

impl Session {
    fn new(stream: StreamId, listening_ms: u64) -> Self {
        Self {
            stream,
            last_heard_ms: listening_ms,
            phase: Phase::Greeting,
            pending: Pending::default(),
            withheld: Pending::default(),
            behind: BTreeMap::new(),
            in_flight: VecDeque::new(),
            unacknowledged: BTreeMap::new(),
            last_nonce: 0,
            told: BTreeMap::new(),
            is_synced: false,
        }
    }

    /// Everything the edge knows counts as possibly ahead of us until [`Self::catch_up`] has looked.
    fn remember_positions(&mut self, positions: &wire::Positions) {
        for entry in &positions.clusters {
            let position = entry.position.unwrap_or_default();
            let position = Position { epoch: position.epoch, seq: position.seq };
            self.told.insert(entry.cluster.as_str().into(), position);
        }
        self.behind.clone_from(&self.told);
    }

    /// The edge said everything it holds in the differing buckets: what is not equal becomes withheld, to be released
    /// by [`Self::catch_up`] as soon as nothing speaks against it. Changes since Hello are in `pending` already.
    fn compare(&mut self, held: &Held<ResourceKey>, refused: &BTreeMap<ResourceKey, Digest>) {
        let Phase::Comparing { buckets, mut theirs } = std::mem::replace(&mut self.phase, Phase::Live) else { return };
        let differs = |bucket: u32| buckets.binary_search(&bucket).is_ok();
        self.pending.retain(|key| !differs(bucket_of(&key.to_string()) as u32));
        for (key, digest) in held.in_buckets(differs).into_values().flatten() {
            let edge = theirs.remove(key);
            if refused.get(key) != Some(&digest) {
                self.withheld.set(key, edge.into(), Some(digest));
            }
        }
        for (key, digest) in theirs {
            self.withheld.set(&key, pending::Edge::Holds(digest), None);
        }
    }

    /// Releases what was withheld, once the controller knows as much as the edge.
    fn catch_up(&mut self, held: &Held<ResourceKey>, ingest: &Ingest, turn: &Turn) {
        self.behind.retain(|cluster, position| !is_caught_up(cluster, *position, ingest, turn));
        if self.withheld.is_empty() {
            return;
        }
        let (mut kept, behind) = (Pending::default(), &self.behind);
        for (key, edge) in std::mem::take(&mut self.withheld).into_keys() {
            let waits = match &key {
                // One that the edge lacks is used by none of the hosts it retains, but a new host may need it.
                ResourceKey::Backend(id) => behind.contains_key(&id.cluster) && edge != pending::Edge::Absent,
                // Which clusters had a part in the edge's version cannot be told from ours.
                ResourceKey::Host(_) => !behind.is_empty(),
            };
            let target = if waits { &mut kept } else { &mut self.pending };
            target.set(&key, edge, held.get(&key));
        }
        self.withheld = kept;
    }

    /// What to send next: upserts first, then removals. While anything is withheld the edge retains hosts of which
    /// this controller does not know what they refer to, so nothing is removed.
    fn next(&self) -> Option<Next<'_>> {
        let removal = || self.pending.next_removal().filter(|_| self.withheld.is_empty());
        self.pending.next_upsert().map(Next::Upsert).or_else(|| removal().map(Next::Removal))
    }

    /// Takes as much as fits into one message.
    fn next_update(&mut self, content: &Content<'_>, turn: &Turn) -> wire::Update {
        let mut bytes = OVERHEAD_BYTES;
        let mut update = wire::Update { world: Some(turn.world_to_wire()), ..wire::Update::default() };
        let mut sent = Vec::new();
        while let Some(next) = self.next() {
            let (key, upsert) = match next {
                // Only what the pool holds is ever pending as an upsert.
                Next::Upsert(key) => (key.clone(), upsert(key, content)),
                Next::Removal(key) => (key.clone(), None),
            };
            bytes += upsert.as_ref().map_or_else(|| key.to_string().len() + 8, Message::encoded_len);
            if bytes > MESSAGE_BYTES_MAX && !sent.is_empty() {
                break;
            }
            self.pending.remove(&key);
            sent.push((key.clone(), upsert.as_ref().and_then(|upsert| Digest::from_slice(&upsert.digest))));
            match upsert {
                Some(upsert) => update.upserts.push(upsert),
                None => update.removals.push(key.to_string()),
            }
        }
        for (key, _) in &sent {
            *self.unacknowledged.entry(key.clone()).or_default() += 1;
        }
        update.synced = self.next().is_none() && !self.is_synced;
        self.is_synced |= update.synced;
        update.positions = Some(self.news_of_positions(turn));
        self.last_nonce += 1;
        update.nonce = self.last_nonce;
        self.in_flight.push_back(InFlight { nonce: update.nonce, sent });
        update
    }

    /// Positions that differ from what the edge was told.
    fn news_of_positions(&mut self, turn: &Turn) -> wire::Positions {
        let mut clusters = Vec::new();
        for (cluster, position) in turn.world.positions() {
            // An edge that is ahead of us keeps what it has, also while a newer epoch has brought nothing yet. Until then
            // it must not hear of that epoch either: on its next stream it would no longer count as ahead.
            let is_ahead = self.behind.contains_key(cluster);
            if is_ahead || self.told.get(cluster).is_some_and(|told| *told >= position) {
                continue;
            }
            self.told.insert(cluster.clone(), position);
            let position = wire::Position { epoch: position.epoch, seq: position.seq };
            clusters.push(wire::ClusterPosition { cluster: cluster.to_string(), position: Some(position) });
        }
        wire::Positions { clusters, policy_rev: turn.policy.rev, clerk_rev: 0 }
    }

    fn acknowledge(&mut self, key: &ResourceKey) {
        if let Some(count) = self.unacknowledged.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.unacknowledged.remove(key);
            }
        }
    }
}

fn upsert(key: &ResourceKey, content: &Content<'_>) -> Option<wire::ResourceUpsert> {
    let (digest, resource) = match key {
        ResourceKey::Host(host) => {
            let it = content.hosts.get(host)?;
            (it.digest, wire::resource_upsert::Resource::Host(host_to_wire(&it.value)))
        }
        ResourceKey::Backend(id) => {
            let it = content.backends.get(id)?;
            (it.digest, wire::resource_upsert::Resource::Backend(backend_to_wire(&it.value)))
        }
    };
    Some(wire::ResourceUpsert { digest: digest.to_vec(), resource: Some(resource) })
}

/// Whether this controller knows at least what an edge at `edge` was told of the cluster. A newer epoch supersedes
/// everything before it, but while its first synchronisation runs it may still show less.
fn is_caught_up(cluster: &ClusterId, edge: Position, ingest: &Ingest, turn: &Turn) -> bool {
    let live_epoch = ingest.session(cluster).map(|(_, session)| session.epoch());
    let world = turn.world.position(cluster);
    if world >= edge && world.epoch == edge.epoch {
        return true;
    }
    let newest = live_epoch.unwrap_or_default().max(world.epoch);
    newest > edge.epoch && (live_epoch.is_none() || ingest.is_settled(cluster, turn.now_ms))
}
