//! One edge of a pool: what it was told and acknowledged, what it refused, what it still has to be told.
//!
//! Hello → the buckets that differ are asked for → the differences become pending → Updates within a window. An edge
//! never goes back in time: while it holds something newer than this controller knows of a cluster, nothing in which
//! that cluster has a part is sent ([`behind`] says when that is), and nothing at all while its policy is newer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roadstead_proto::digest::{BucketHashes, Digest};
use roadstead_proto::resource::{ResourceKey, backend_id_from_wire};
use roadstead_proto::wire;
use roadstead_proto::wire::config_message::Message as Say;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, Position};

use crate::core::message::{Close, EdgeId, StreamId};
use crate::core::turn::Turn;
use crate::held::Held;
use crate::publish::behind::{Behind, Standing};
use crate::publish::canary::Seen;
use crate::publish::pending::{self, Pending};
use crate::publish::pool::Content;

mod session;

/// Updates that may be unacknowledged on one stream.
pub const WINDOW: usize = 8;
/// What an Update carries besides resources stays below this.
const OVERHEAD_BYTES: usize = 64 * 1024;
/// What an edge's guard refused is offered again so often: its window moves on.
const OFFER_AGAIN_MS: u64 = 60_000;
/// Failing backends that are remembered of one edge.
pub const FAILING_MAX: usize = 1_000;
/// Resources an edge may claim to hold.
pub const HELD_MAX: usize = 2_000_000;

/// Refused content is remembered across connections, so that it is not sent again until it changes.
#[derive(Default)]
pub struct Edge {
    session: Option<Session>,
    refused: BTreeMap<ResourceKey, Digest>,
    /// Backends of which it could not connect to some endpoints lately.
    failing: BTreeSet<BackendId>,
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
    /// What must wait, because the edge may have something newer.
    withheld: Pending,
    behind: Behind,
    /// Of hosts that are to be sent: the clusters that had a part in some version since what the edge holds.
    involved: BTreeMap<HostKey, BTreeSet<ClusterId>>,
    in_flight: VecDeque<InFlight>,
    /// How many Updates in flight carry a key.
    unacknowledged: BTreeMap<ResourceKey, usize>,
    last_nonce: u64,
    /// What the edge was told about positions.
    told: BTreeMap<ClusterId, Position>,
    /// What its guard was told.
    context: Option<wire::GuardContext>,
    /// What its guard refused.
    guarded: BTreeSet<ResourceKey>,
    /// When that was offered again last, and how often it was: what was sent before is offered again too.
    offered_ms: u64,
    offers: u64,
    is_synced: bool,
    /// It had no table when it connected, and has no complete one yet.
    is_new: bool,
}

enum Phase {
    /// Connected; no Hello yet.
    Greeting,
    /// It has the table of another world, and a person must say which one is right.
    Foreign(wire::World),
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
    offers: u64,
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
                && !session.guarded.contains(key)
                && !session.unacknowledged.contains_key(key)
                && !self.refused.contains_key(key)
        })
    }

    /// Hosts of which it is not known that the edge has the newest version; `None` while nothing is known at all.
    pub fn unsettled_hosts(&self) -> Option<BTreeSet<HostKey>> {
        let session = self.session.as_ref().filter(|session| matches!(session.phase, Phase::Live))?;
        let waiting = session.pending.keys().chain(session.withheld.keys());
        let keys = waiting.chain(session.unacknowledged.keys()).chain(&session.guarded).chain(self.refused.keys());
        Some(keys.filter_map(ResourceKey::host).cloned().collect())
    }

    /// As the trial of a change looks at it.
    pub fn seen(&self, policy_rev: u64) -> Seen {
        let refused = self.refused().chain(self.guarded()).filter_map(ResourceKey::host);
        Seen { policy_rev, unsettled: self.unsettled_hosts(), refused: refused.cloned().collect() }
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
        // What changed before Hello is in `held`, which is what the edge is compared with.
        session.pending = Pending::default();
        session.phase = match Standing::of(hello.world.as_ref(), turn) {
            Standing::Foreign => Phase::Foreign(hello.world.unwrap_or_default()),
            standing => {
                session.remember_positions(standing, &hello.positions.unwrap_or_default(), turn);
                Phase::Comparing { buckets, theirs: BTreeMap::new() }
            }
        };
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
            if let ResourceKey::Host(host) = &key
                && !entry.clusters.is_empty()
            {
                let clusters = entry.clusters.iter().map(|id| ClusterId::from(id.as_str()));
                session.involved.entry(host.clone()).or_default().extend(clusters);
            }
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

    /// A resource of the pool went from `before` to `after`. Of a host: the clusters that had or have a part in it.
    pub fn changed(
        &mut self,
        key: &ResourceKey,
        before: Option<Digest>,
        after: Option<Digest>,
        clusters: &BTreeSet<ClusterId>,
    ) {
        let was_refused = self.refused.remove(key).is_some();
        let Some(session) = &mut self.session else { return };
        let edge = if was_refused { pending::Edge::Unknown } else { pending::Edge::from(before) };
        if let ResourceKey::Host(host) = key {
            session.involved.entry(host.clone()).or_default().extend(clusters.iter().cloned());
        }
        if session.withheld.contains(key) {
            session.withheld.set(key, edge, after);
        } else {
            session.pending.set(key, edge, after);
        }
    }

    /// Offers again what the edge's guard refused: what it may let through has changed.
    pub fn offer_again(&mut self, held: &Held<ResourceKey>) {
        let Some(session) = &mut self.session else { return };
        session.offers += 1;
        for key in std::mem::take(&mut session.guarded) {
            let wanted = held.get(&key);
            session.pending.set(&key, pending::Edge::Unknown, wanted);
        }
    }

    /// What its own guard refused.
    pub fn guarded(&self) -> impl Iterator<Item = &ResourceKey> {
        self.session.iter().flat_map(|session| &session.guarded)
    }

    pub fn set_failing(&mut self, health: wire::BackendHealth) {
        let failing = health.failing.into_iter().take(FAILING_MAX);
        self.failing = failing.filter_map(|it| backend_id_from_wire(it.backend?).ok()).collect();
    }

    pub fn failing(&self) -> impl Iterator<Item = &BackendId> {
        self.failing.iter()
    }

    /// The world whose table it has, if that is not this one.
    pub fn foreign_world(&self) -> Option<&wire::World> {
        match &self.session.as_ref()?.phase {
            Phase::Foreign(world) => Some(world),
            _ => None,
        }
    }

    /// Clusters of which it has something newer than this controller.
    pub fn ahead(&self) -> impl Iterator<Item = (&ClusterId, Position)> {
        self.session.iter().flat_map(|session| session.behind.positions())
    }

    /// Since when its whole table is newer than what this controller knows, if it is.
    pub fn ahead_of_everything_since_ms(&self) -> Option<u64> {
        self.session.as_ref()?.behind.everything_since_ms()
    }

    /// # Errors
    /// If it does not answer the oldest Update in flight.
    pub fn result(&mut self, result: wire::UpdateResult) -> Result<Outcome, Close> {
        let Some(session) = &mut self.session else { return Err(Close::Replaced) };
        let update = session.in_flight.pop_front().filter(|update| update.nonce == result.nonce);
        let Some(update) = update else {
            return Err(Close::Protocol(format!("result of Update {} out of order", result.nonce)));
        };
        let refusals = result.refusals.into_iter();
        let mut reasons: BTreeMap<ResourceKey, (String, bool)> =
            refusals.filter_map(|it| Some((ResourceKey::parse(&it.key)?, (it.reason, it.guarded)))).collect();
        let mut outcome = Outcome { accepted: Vec::new(), refused: Vec::new() };
        for (key, digest) in update.sent {
            session.acknowledge(&key);
            match (reasons.remove(&key), digest) {
                (Some((reason, true)), _) => {
                    // A later Update has the key as well: what becomes of that one counts.
                    let waits = session.pending.now_unknown(&key)
                        || session.withheld.now_unknown(&key)
                        || session.unacknowledged.contains_key(&key);
                    if !waits && update.offers < session.offers {
                        session.pending.set(&key, pending::Edge::Unknown, digest);
                    } else if !waits {
                        session.guarded.insert(key.clone());
                    }
                    outcome.refused.push((key, reason));
                }
                (Some((reason, false)), Some(digest)) => {
                    if !session.pending.now_unknown(&key) && !session.withheld.now_unknown(&key) {
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
    pub fn flush(&mut self, content: &Content<'_>, turn: &mut Turn) -> bool {
        let Some(session) = self.session.as_mut().filter(|session| matches!(session.phase, Phase::Live)) else {
            return false;
        };
        if turn.now_ms >= session.offered_ms + OFFER_AGAIN_MS {
            session.offered_ms = turn.now_ms;
            self.offer_again(content.held);
        }
        let Some(session) = &mut self.session else { return false };
        session.behind.look(&session.told, turn);
        if session.behind.is_everything() {
            return false;
        }
        session.sort_out(content);
        let was_synced = session.is_synced;
        while session.in_flight.len() < WINDOW && (session.next().is_some() || !session.is_synced) {
            let update = session.next_update(content, turn);
            turn.metrics.publish.sent(update.upserts.len(), update.removals.len());
            turn.to_edge(session.stream, Say::Update(update));
        }
        session.is_synced && !was_synced
    }
}

/// What the guard keeps as it was.
pub struct Guarded<'a> {
    pub hosts: BTreeSet<HostKey>,
    /// Backends that only such hosts use and that no object describes any more.
    pub backends: &'a BTreeSet<BackendId>,
}

impl Guarded<'_> {
    fn is_something(&self) -> bool {
        !self.hosts.is_empty()
    }

    fn contains(&self, key: &ResourceKey) -> bool {
        match key {
            ResourceKey::Host(host) => self.hosts.contains(host),
            ResourceKey::Backend(id) => self.is_something() && self.backends.contains(id),
            ResourceKey::Secret(_) => false,
        }
    }
}
