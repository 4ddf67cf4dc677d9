//! What each pool serves, and getting it to the pool's edges.
//!
//! Computed resources → what the guard lets through → per pool: hosts, the backends they refer to, digests → per edge:
//! the differences, in Updates.
//! Every changed Host is also handed to the store as a revision; endpoints are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use roadstead_proto::digest::Digest;
use roadstead_proto::resource::{ResourceKey, backend_to_wire, host_to_wire};
use roadstead_proto::wire;
use roadstead_proto::wire::config_message::Message as Say;
use roadstead_proto::wire::edge_message::Message as Said;
use roadstead_routing::guard::Units;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, PoolName, Position};
use roadstead_routing::table::{Backend, Host, SecretId, Table};

use crate::compute::{Computed, Resource, backends_of};
use crate::core::heartbeat::Heartbeats;
use crate::core::message::{Close, EdgeId, Output, StreamId};
use crate::core::turn::Turn;
use crate::guard::kept::{Keep, Kept, Loss, stored_host};
use crate::guard::{Changes, Guard};
use crate::ingest::HEARTBEAT_TIMEOUT_MS;
use crate::peers::state::Reported;
use crate::publish::canary::{Occasion, Passed};
use crate::publish::edge::Guarded;
use crate::publish::pool::Pool;
use crate::publish::secrets::{Secrets, still_showing};
use crate::store::queue::Request;
use crate::store::{Cause, HostBody, HostRevision};
use crate::world::World;

mod backends;
mod behind;
pub mod canary;
pub mod edge;
pub mod pending;
pub mod pool;
mod secrets;

/// Edges of one pool, connected or remembered.
pub const EDGES_PER_POOL_MAX: usize = 256;
/// Backends of held and pinned hosts whose endpoints are followed; others keep their last ones.
pub const BACKENDS_KEPT_MAX: usize = 10_000;
/// Pools that edges may ask for, whether the policy has them or not.
pub const POOLS_MAX: usize = 256;

#[derive(Default)]
pub struct Publish {
    pools: BTreeMap<PoolName, Pool>,
    backends: BTreeMap<BackendId, Resource<Backend>>,
    secrets: Secrets,
    streams: BTreeMap<StreamId, EdgeId>,
    guard: Guard,
    /// Backends that the world no longer describes and that held hosts refer to, as they were last.
    kept: BTreeSet<BackendId>,
    /// The same, found in this turn.
    orphans: BTreeSet<BackendId>,
    /// Hosts may have begun or ceased to wait.
    has_reviewed: bool,
    /// What is stored as published. Kept up to date only while this replica is the clerk.
    recorded: BTreeMap<(PoolName, HostKey), Digest>,
    /// What other replicas see of their edges.
    elsewhere: Vec<Arc<Reported>>,
    /// Trials that a person ended here, with the policy they had come to.
    released: BTreeMap<PoolName, u64>,
    news: News,
    heartbeats: Heartbeats,
}

/// What may let a status be written. Read by the status stage.
#[derive(Default, Debug)]
pub struct News {
    /// Acknowledged by some edge.
    pub settled: BTreeSet<(PoolName, HostKey)>,
    /// An edge came, went, or got a first set.
    pub pools: BTreeSet<PoolName>,
}

/// How far the connected edges of a pool are with some hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    /// No connected edge has all of them, or none is connected.
    None,
    /// At least one edge has all of them.
    Some,
    /// Every connected edge has all of them.
    All,
}

impl Reached {
    /// `has`: whether each edge has all of them.
    pub fn of(has: impl Iterator<Item = bool>) -> Self {
        let (mut all, mut some) = (true, false);
        for has in has {
            all &= has;
            some |= has;
        }
        match (some, all) {
            (false, _) => Reached::None,
            (true, false) => Reached::Some,
            (true, true) => Reached::All,
        }
    }
}

impl Publish {
    /// The first set, computed from what was loaded. `published` is what was published last; with `kept` what differs
    /// passes the guard first.
    pub fn start(
        &mut self,
        computed: Computed,
        published: &BTreeMap<(PoolName, HostKey), Digest>,
        kept: Option<Kept>,
        turn: &mut Turn,
    ) {
        let is_guarded = kept.is_some();
        let Kept { holds, overrides, backends, published: mut bodies, losses, inferred } = kept.unwrap_or_default();
        for (id, resource) in computed.backends {
            self.set_backend(id, resource, turn);
        }
        self.recall_backends(backends);
        let mut wanted = computed.hosts;
        for key in published.keys() {
            wanted.entry(key.clone()).or_default();
        }
        let mut changes: BTreeMap<PoolName, Changes> = BTreeMap::new();
        for (key, resource) in wanted {
            let before = published.get(&key).copied();
            let old = before.zip(bodies.remove(&key)).and_then(|(digest, body)| recalled(digest, &body));
            let (pool, host) = key;
            let resource = still_showing(old.as_ref(), resource, &turn.world);
            if before == resource.as_ref().map(|it| it.digest) {
                self.set_host((&pool, &host), resource, &turn.world);
            } else if let Some(old) = old {
                self.set_host((&pool, &host), Some(old), &turn.world);
                changes.entry(pool).or_default().insert(host, resource);
            } else if is_guarded && before.is_none() {
                changes.entry(pool).or_default().insert(host, resource);
            } else {
                // Without what it was nothing can be kept of it.
                self.set_host((&pool, &host), resource, &turn.world);
            }
        }
        if is_guarded {
            self.guard = Guard::resume(holds, overrides, losses.iter().filter_map(lost).collect(), &self.pools);
            self.guard.recall_inferred(inferred);
        }
        self.release(changes, turn);
    }

    /// This replica writes history from now on: whatever differs from `recorded` is written.
    pub fn become_clerk(&mut self, recorded: BTreeMap<(PoolName, HostKey), Digest>, turn: &mut Turn) {
        self.recorded = recorded;
        let mut keys: BTreeSet<(PoolName, HostKey)> = self.recorded.keys().cloned().collect();
        keys.extend(
            self.pools.iter().flat_map(|(name, pool)| pool.hosts().map(move |(host, _)| (name.clone(), host.clone()))),
        );
        let cause = std::mem::replace(&mut turn.cause, Cause::Start);
        keys.into_iter().for_each(|(pool, host)| self.record(&pool, &host, turn));
        turn.cause = cause;
        for id in &self.kept {
            let encoded = self.backends.get(id).map(|it| backend_to_wire(&it.value).encode_to_vec());
            turn.out.push(Output::Store(Request::Keep(Keep::Backend(id.clone(), encoded))));
        }
        self.guard.own_all(turn);
    }

    /// Takes over what was computed, as far as the guard lets it. Backends first, so that a host that appears finds them.
    pub fn apply(&mut self, computed: Computed, turn: &mut Turn) {
        for (id, resource) in computed.backends {
            self.set_backend(id, resource, turn);
        }
        // A host may stay as it is while its certificate is renewed or its users change.
        let needed = computed.hosts.values().flatten().flat_map(|it| secrets_of(&it.value));
        for id in needed.collect::<BTreeSet<_>>() {
            let key = ResourceKey::Secret(id.clone());
            if self.is_used(&key) {
                self.set_secret(&id, &turn.world);
            }
        }
        let mut changes: BTreeMap<PoolName, Changes> = BTreeMap::new();
        for ((pool, host), resource) in computed.hosts {
            let before = self.pools.get(&pool).and_then(|pool| pool.host(&host));
            let resource = still_showing(before, resource, &turn.world);
            changes.entry(pool).or_default().insert(host, resource);
        }
        self.release(changes, turn);
    }

    /// The backends of hosts that are not published as computed: their agents must go on reporting them. `None`: as
    /// before.
    pub fn backends_to_keep(&mut self) -> Option<BTreeSet<BackendId>> {
        if !std::mem::take(&mut self.has_reviewed) {
            return None;
        }
        let held = self.guard.held().filter_map(|(pool, host)| self.pools.get(pool)?.host(host));
        Some(held.flat_map(|it| backends_of(&it.value)).take(BACKENDS_KEPT_MAX).cloned().collect())
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    pub fn guard_mut(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Whether a published host of some pool refers to the backend or Secret.
    fn is_used(&self, key: &ResourceKey) -> bool {
        self.pools.values().any(|pool| pool.refers_to(key))
    }

    /// Sends what edges have room for.
    pub fn flush(&mut self, turn: &mut Turn) {
        let mut passed = Vec::new();
        for (name, pool) in &mut self.pools {
            let edges = self.elsewhere.iter().flat_map(|it| it.edges_of(name).map(|edge| (&**it, edge)));
            let hosts = self.guard.kept_as_they_are(name);
            let released = self.elsewhere.iter().filter_map(|it| it.released.get(name)).max();
            for (edge, policy_rev) in self.elsewhere.iter().filter_map(|it| it.trials.get(name)) {
                pool.canary_mut().agree(edge, *policy_rev);
            }
            let all_may_have = match released {
                Some(rev) if *rev >= pool.canary().policy_rev() => pool.canary_mut().release(),
                _ if pool.canary().trial().is_none() => None,
                _ => pool.advance_canary(&edges.collect::<Vec<_>>(), &hosts, turn),
            };
            passed.extend(all_may_have.map(|it| (name.clone(), it)));
            pool.set_context(self.guard.context_for_edges(name, turn.now_ms));
            if pool.flush(&self.backends, &self.secrets, &Guarded { hosts, backends: &self.kept }, turn) {
                self.news.pools.insert(name.clone());
            }
        }
        for (pool, passed) in passed {
            self.record_passed(&pool, passed, turn);
        }
    }

    /// What other replicas see of their edges has changed.
    pub fn heard_from_peers(&mut self, reported: Vec<Arc<Reported>>) {
        self.elsewhere = reported;
        self.news.pools.extend(self.elsewhere.iter().flat_map(|it| &it.edges).map(|edge| edge.pool.clone()));
    }

    /// Everybody gets what one edge is trying. Returns whether there was anything.
    pub fn release_canary(&mut self, pool: &PoolName, turn: &mut Turn) -> bool {
        let Some(at) = self.pools.get_mut(pool) else { return false };
        let rev = at.canary().policy_rev();
        let Some(passed) = at.canary_mut().release() else { return false };
        self.released.insert(pool.clone(), rev);
        self.record_passed(pool, passed, turn);
        true
    }

    pub fn released(&self) -> &BTreeMap<PoolName, u64> {
        &self.released
    }

    pub fn elsewhere(&self) -> &[Arc<Reported>] {
        &self.elsewhere
    }

    /// Ends every edge's stream: they come back at once, and what they hold is compared anew.
    pub fn end_all(&mut self, why: &Close, turn: &mut Turn) {
        for stream in self.streams.keys().copied().collect::<Vec<_>>() {
            self.end(stream, why.clone(), turn);
        }
    }

    pub fn opened(&mut self, stream: StreamId, edge: EdgeId, turn: &mut Turn) {
        if !self.pools.contains_key(&edge.pool) && self.pools.len() >= POOLS_MAX {
            return turn.close(stream, Close::Limit("too many pools".to_owned()));
        }
        if !turn.policy.policy.pools.contains_key(&edge.pool) {
            tracing::warn!(pool = %edge.pool, edge.id = edge.edge, "The policy has no such pool; the edge gets an empty table");
        }
        match self.pools.entry(edge.pool.clone()).or_default().connect(&edge, stream, turn) {
            Ok(replaced) => {
                if let Some(older) = replaced {
                    self.streams.remove(&older);
                    turn.close(older, Close::Replaced);
                }
                self.news.pools.insert(edge.pool.clone());
                self.streams.insert(stream, edge);
            }
            Err(why) => turn.close(stream, why),
        }
    }

    pub fn closed(&mut self, stream: StreamId, turn: &mut Turn) {
        let Some(edge) = self.streams.remove(&stream) else { return };
        if let Some(pool) = self.pools.get_mut(&edge.pool) {
            pool.disconnect(&edge.edge, turn.now_ms);
        }
        tracing::info!(pool = %edge.pool, edge.id = edge.edge, "An edge disconnected");
        self.news.pools.insert(edge.pool);
    }

    pub fn received(&mut self, stream: StreamId, message: wire::EdgeMessage, turn: &mut Turn) {
        let Some(edge) = self.streams.get(&stream).cloned() else { return };
        let Some(pool) = self.pools.get_mut(&edge.pool) else { return };
        let outcome = match message.message {
            None => Ok(()),
            Some(Said::Result(result)) => pool.result(&edge, result, turn).map(|settled| {
                self.news.settled.extend(settled.into_iter().map(|host| (edge.pool.clone(), host)));
            }),
            Some(said) => pool.received(&edge, stream, said, turn),
        };
        if let Err(why) = outcome {
            self.end(stream, why, turn);
        }
    }

    pub fn tick(&mut self, turn: &mut Turn) {
        self.guard.tick(turn);
        let silent_since = turn.listening_ms.saturating_sub(HEARTBEAT_TIMEOUT_MS);
        let silent: Vec<StreamId> = self.pools.values().flat_map(|pool| pool.silent(silent_since)).collect();
        for stream in silent {
            self.end(stream, Close::Silent, turn);
        }
        self.beat(turn);
    }

    /// Tells edges that this controller lives, if it is time.
    pub fn beat(&mut self, turn: &mut Turn) {
        let Some(heartbeat) = self.heartbeats.due(turn.now_ms) else { return };
        for stream in self.streams.keys() {
            turn.to_edge(*stream, Say::Heartbeat(heartbeat));
        }
    }

    /// How far the edges of `pool`, wherever they are connected, are with all of `hosts`, as they were when the cluster
    /// was at `at`.
    pub fn reached(&self, pool: &PoolName, hosts: &[HostKey], cluster: &ClusterId, at: Position) -> Reached {
        let elsewhere = self.elsewhere.iter().flat_map(|there| {
            let knows = there.reaches(cluster, at);
            there.edges_of(pool).map(move |edge| knows && hosts.iter().all(|host| edge.has(host)))
        });
        match self.pools.get(pool) {
            Some(pool) => pool.reached(hosts, elsewhere),
            None => Reached::of(elsewhere),
        }
    }

    /// Whether every connected edge has everything that this replica published.
    pub fn all_settled(&self, turn: &Turn) -> bool {
        let edges = self.pools.values().flat_map(Pool::connected);
        let here = edges.map(|(_, edge)| edge.unsettled_hosts().is_some_and(|hosts| hosts.is_empty()));
        let there = self.elsewhere.iter().flat_map(|it| {
            let knows = it.clerk_rev >= turn.clerk_rev;
            it.edges.iter().map(move |edge| knows && edge.unsettled.as_ref().is_some_and(BTreeSet::is_empty))
        });
        here.chain(there).all(|settled| settled)
    }

    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    pub fn pools(&self) -> &BTreeMap<PoolName, Pool> {
        &self.pools
    }

    /// Everything that is published, for checks and tests.
    pub fn table(&self) -> Table {
        let hosts = self.pools.iter().flat_map(|(name, pool)| {
            pool.hosts().map(move |(host, it)| ((name.clone(), host.clone()), Host::clone(&it.value)))
        });
        let backends = self.backends.iter().map(|(id, it)| (id.clone(), Backend::clone(&it.value)));
        Table { hosts: hosts.collect(), backends: backends.collect() }
    }

    /// Publishes what the guard lets through of `changes` and of what has waited.
    fn release(&mut self, changes: BTreeMap<PoolName, Changes>, turn: &mut Turn) {
        for (pool, flow) in self.guard.review(changes, &self.pools, turn) {
            self.has_reviewed = true;
            let on = Occasion { cause: turn.cause, policy_rev: turn.policy.rev, now_ms: turn.now_ms };
            for (host, resource) in flow {
                self.complete(resource.as_ref());
                let after = resource.as_ref().map(|it| it.digest);
                let before = self.set_host((&pool, &host), resource, &turn.world);
                if let Some(pool) = self.pools.get_mut(&pool) {
                    pool.canary_mut().published(&host, (before, after), on);
                }
                self.record(&pool, &host, turn);
            }
        }
        self.keep_backends(turn);
    }

    fn record_passed(&mut self, pool: &PoolName, (hosts, why): Passed, turn: &mut Turn) {
        let cause = std::mem::replace(&mut turn.cause, why);
        hosts.iter().for_each(|host| self.record(pool, host, turn));
        turn.cause = cause;
    }

    /// Hands the published version of a host to the store, if it has another one and this replica is the clerk. What is
    /// on trial is no history yet.
    fn record(&mut self, pool: &PoolName, host: &HostKey, turn: &mut Turn) {
        let Some(token) = turn.token else { return };
        let at = self.pools.get(pool);
        if at.is_some_and(|pool| pool.canary().keeps(host)) {
            return;
        }
        let resource = at.and_then(|pool| pool.host(host));
        let key = (pool.clone(), host.clone());
        let digest = resource.map(|it| it.digest);
        let before = match digest {
            Some(digest) => self.recorded.insert(key, digest),
            None => self.recorded.remove(&key),
        };
        if before == digest {
            return;
        }
        let body = resource.map(|it| HostBody { digest: it.digest, encoded: host_to_wire(&it.value).encode_to_vec() });
        let positions = match turn.cause {
            Cause::Objects => turn.moved.clone(),
            Cause::Policy | Cause::Start | Cause::Lifecycle | Cause::Decision => BTreeMap::new(),
        };
        let revision = HostRevision { pool: pool.clone(), host: host.clone(), body, cause: turn.cause, positions };
        turn.out.push(Output::Store(Request::Revision { token, revision }));
    }

    /// Returns what was there before.
    fn set_host(
        &mut self,
        (pool, host): (&PoolName, &HostKey),
        resource: Option<Resource<Host>>,
        world: &World,
    ) -> Option<Digest> {
        for id in resource.iter().flat_map(|it| secrets_of(&it.value)) {
            self.set_secret(&id, world);
        }
        let pool = self.pools.entry(pool.clone()).or_default();
        let replaced = pool.replace_host(host, resource);
        let (before, after) = (replaced.as_ref(), pool.host(host).cloned());
        let before = before.map(|it| needs_of(&it.value)).unwrap_or_default();
        let after = after.map(|it| needs_of(&it.value)).unwrap_or_default();
        for key in after.difference(&before) {
            let digest = match key {
                ResourceKey::Backend(id) => self.backends.get(id).map(|it| it.digest),
                ResourceKey::Secret(id) => self.secrets.get(id).map(|it| it.digest),
                ResourceKey::Host(_) => None,
            };
            pool.refer(key, digest);
        }
        for key in before.difference(&after) {
            pool.release(key);
        }
        for key in before.difference(&after) {
            self.forget_secret(key);
        }
        replaced.as_ref().map(|it| it.digest)
    }

    fn end(&mut self, stream: StreamId, why: Close, turn: &mut Turn) {
        if let Some(edge) = self.streams.get(&stream) {
            tracing::warn!(pool = %edge.pool, edge.id = edge.edge, reason = %why, "An edge's stream is ended");
        }
        turn.close(stream, why);
        self.closed(stream, turn);
    }
}

/// The certificate that it shows, and the users who may enter.
fn secrets_of(host: &Host) -> impl Iterator<Item = SecretId> {
    host.certificate.clone().into_iter().chain(host.users())
}

/// What must be there before the host.
fn needs_of(host: &Host) -> BTreeSet<ResourceKey> {
    let backends = backends_of(host).into_iter().cloned().map(ResourceKey::Backend);
    backends.chain(secrets_of(host).map(ResourceKey::Secret)).collect()
}

/// What was published, as the store has it.
fn recalled(digest: Digest, body: &[u8]) -> Option<Resource<Host>> {
    Some(Resource { value: Arc::new(stored_host(body)?), digest })
}

fn lost(loss: &Loss) -> Option<(u64, PoolName, HostKey, Units)> {
    let host = stored_host(&loss.before)?;
    Some((loss.at_ms, loss.pool.clone(), loss.host.clone(), Units::of(&host)))
}
