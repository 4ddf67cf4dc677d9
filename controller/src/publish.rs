//! What each pool serves, and getting it to the pool's edges.
//!
//! Computed resources → what the guard lets through → per pool: hosts, the backends they refer to, digests → per edge:
//! the differences, in Updates.
//! Every changed Host is also handed to the store as a revision; endpoints are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use roadstead_proto::digest::Digest;
use roadstead_proto::resource::{backend_from_wire, backend_to_wire, host_from_wire, host_to_wire};
use roadstead_proto::wire;
use roadstead_proto::wire::config_message::Message as Say;
use roadstead_proto::wire::edge_message::Message as Said;
use roadstead_routing::guard::Units;
use roadstead_routing::id::{BackendId, HostKey, PoolName};
use roadstead_routing::table::{Backend, Host, Table};

use crate::compute::{Computed, Resource, backends_of};
use crate::core::heartbeat::Heartbeats;
use crate::core::message::{Close, EdgeId, Output, StreamId};
use crate::core::turn::Turn;
use crate::guard::kept::{Keep, Kept, Loss};
use crate::guard::{Changes, Guard};
use crate::ingest::{HEARTBEAT_TIMEOUT_MS, Ingest};
use crate::publish::pool::Pool;
use crate::store::queue::Request;
use crate::store::{Cause, HostBody, HostRevision};

pub mod edge;
pub mod pending;
pub mod pool;

/// Edges of one pool, connected or remembered.
pub const EDGES_PER_POOL_MAX: usize = 256;
/// Pools that edges may ask for, whether the policy has them or not.
pub const POOLS_MAX: usize = 256;

#[derive(Default)]
pub struct Publish {
    pools: BTreeMap<PoolName, Pool>,
    backends: BTreeMap<BackendId, Resource<Backend>>,
    streams: BTreeMap<StreamId, EdgeId>,
    guard: Guard,
    /// Backends that the world no longer describes and that held hosts refer to, as they were last.
    kept: BTreeSet<BackendId>,
    /// The same, found in this turn.
    orphans: BTreeSet<BackendId>,
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

impl Publish {
    /// The first set, computed from what was loaded. `published` is what was published last; only differences are
    /// written as revisions, and with `kept` they pass the guard first.
    pub fn start(
        &mut self,
        computed: Computed,
        published: &BTreeMap<(PoolName, HostKey), Digest>,
        kept: Option<Kept>,
        turn: &mut Turn,
    ) {
        let is_guarded = kept.is_some();
        let Kept { holds, overrides, backends, published: mut bodies, losses } = kept.unwrap_or_default();
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
            if before == resource.as_ref().map(|it| it.digest) {
                self.set_host(&pool, &host, resource);
            } else if let Some(old) = old {
                self.set_host(&pool, &host, Some(old));
                changes.entry(pool).or_default().insert(host, resource);
            } else if is_guarded && before.is_none() {
                changes.entry(pool).or_default().insert(host, resource);
            } else {
                // Without what it was nothing can be kept of it.
                push_revision(&pool, &host, resource.as_ref(), turn);
                self.set_host(&pool, &host, resource);
            }
        }
        if is_guarded {
            self.guard = Guard::resume(holds, overrides, losses.iter().filter_map(lost).collect(), &self.pools);
        }
        self.release(changes, turn);
    }

    /// Takes over what was computed, as far as the guard lets it. Backends first, so that a host that appears finds them.
    pub fn apply(&mut self, computed: Computed, turn: &mut Turn) {
        for (id, resource) in computed.backends {
            self.set_backend(id, resource, turn);
        }
        let mut changes: BTreeMap<PoolName, Changes> = BTreeMap::new();
        for ((pool, host), resource) in computed.hosts {
            changes.entry(pool).or_default().insert(host, resource);
        }
        self.release(changes, turn);
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    pub fn guard_mut(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Sends what edges have room for.
    pub fn flush(&mut self, ingest: &Ingest, turn: &mut Turn) {
        for (name, pool) in &mut self.pools {
            if pool.flush(&self.backends, ingest, turn) {
                self.news.pools.insert(name.clone());
            }
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

    /// How far the edges of `pool` are with all of `hosts`.
    pub fn reached(&self, pool: &PoolName, hosts: &[HostKey]) -> Reached {
        self.pools.get(pool).map_or(Reached::None, |pool| pool.reached(hosts))
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
            for (host, resource) in flow {
                push_revision(&pool, &host, resource.as_ref(), turn);
                self.set_host(&pool, &host, resource);
            }
        }
        self.keep_backends(turn);
    }

    /// After hosts changed: backends that the world no longer describes stay as long as a host refers to them.
    fn keep_backends(&mut self, turn: &mut Turn) {
        let (before, orphans) = (std::mem::take(&mut self.kept), std::mem::take(&mut self.orphans));
        for id in before.union(&orphans) {
            let is_used = self.pools.values().any(|pool| pool.refers_to(id));
            if is_used {
                self.kept.insert(id.clone());
            }
            let last = if is_used { self.backends.get(id).cloned() } else { self.backends.remove(id) };
            if is_used != before.contains(id) {
                let encoded = last.filter(|_| is_used).map(|it| backend_to_wire(&it.value).encode_to_vec());
                turn.out.push(Output::Store(Request::Keep(Keep::Backend(id.clone(), encoded))));
            }
        }
    }

    /// Backends that an earlier process kept and that are not computed now.
    fn recall_backends(&mut self, encoded: Vec<Vec<u8>>) {
        for encoded in encoded {
            let decoded = wire::Backend::decode(&*encoded).ok().and_then(|it| backend_from_wire(it).ok());
            let Some(backend) = decoded.filter(|it| !self.backends.contains_key(&it.id)) else { continue };
            let (id, digest) = (backend.id.clone(), Digest::of(&backend_to_wire(&backend)));
            self.kept.insert(id.clone());
            self.backends.insert(id, Resource { value: Arc::new(backend), digest });
        }
    }

    fn set_backend(&mut self, id: BackendId, resource: Option<Resource<Backend>>, turn: &mut Turn) {
        let is_used = || self.pools.values().any(|pool| pool.refers_to(&id));
        if resource.is_none() && is_used() {
            self.orphans.insert(id);
            return;
        }
        if self.kept.remove(&id) {
            turn.out.push(Output::Store(Request::Keep(Keep::Backend(id.clone(), None))));
        }
        let digest = resource.as_ref().map(|resource| resource.digest);
        for pool in self.pools.values_mut() {
            pool.backend_changed(&id, digest);
        }
        match resource {
            Some(resource) => self.backends.insert(id, resource),
            None => self.backends.remove(&id),
        };
    }

    fn set_host(&mut self, pool: &PoolName, host: &HostKey, resource: Option<Resource<Host>>) {
        let pool = self.pools.entry(pool.clone()).or_default();
        let before = pool.replace_host(host, resource);
        let (before, after) = (before.as_ref(), pool.host(host).cloned());
        let before: BTreeSet<&BackendId> = before.map(|it| backends_of(&it.value)).unwrap_or_default();
        let after: BTreeSet<&BackendId> = after.as_ref().map(|it| backends_of(&it.value)).unwrap_or_default();
        for id in after.difference(&before) {
            pool.refer(id, self.backends.get(*id).map(|it| it.digest));
        }
        for id in before.difference(&after) {
            pool.release(id);
        }
    }

    fn end(&mut self, stream: StreamId, why: Close, turn: &mut Turn) {
        if let Some(edge) = self.streams.get(&stream) {
            tracing::warn!(pool = %edge.pool, edge.id = edge.edge, reason = %why, "An edge's stream is ended");
        }
        turn.close(stream, why);
        self.closed(stream, turn);
    }
}

/// What was published, as the store has it.
fn recalled(digest: Digest, body: &[u8]) -> Option<Resource<Host>> {
    let host = wire::Host::decode(body).ok().and_then(|it| host_from_wire(it).ok())?;
    Some(Resource { value: Arc::new(host), digest })
}

fn lost(loss: &Loss) -> Option<(u64, PoolName, HostKey, Units)> {
    let host = wire::Host::decode(&*loss.before).ok().and_then(|it| host_from_wire(it).ok())?;
    Some((loss.at_ms, loss.pool.clone(), loss.host.clone(), Units::of(&host)))
}

fn push_revision(pool: &PoolName, host: &HostKey, resource: Option<&Resource<Host>>, turn: &mut Turn) {
    let body = resource.map(|it| HostBody { digest: it.digest, encoded: host_to_wire(&it.value).encode_to_vec() });
    let positions = match turn.cause {
        Cause::Objects => turn.moved.clone(),
        Cause::Policy | Cause::Start => BTreeMap::new(),
    };
    let revision = HostRevision { pool: pool.clone(), host: host.clone(), body, cause: turn.cause, positions };
    turn.out.push(Output::Store(Request::Revision(revision)));
}
