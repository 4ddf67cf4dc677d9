//! The live table: what requests are matched against while it changes.
//!
//! A request's host and path → a [`LiveRoute`] whose clusters hold their backends directly, so a request looks up one
//! host and nothing else. Hosts are sharded by name and each shard is replaced as a whole; a changed endpoint swaps
//! the address list of one [`LiveBackend`] and touches no host. Readers never wait: everything is behind `arc-swap`,
//! and a request keeps what it found alive. All changes go through the one [`TableWriter`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use roadstead_routing::id::{BackendId, ClusterId, HostKey};
use roadstead_routing::lookup::{self, Bucket, HostMatcher};
use roadstead_routing::settings::UpstreamSettings;

mod endpoints;
mod settings;
mod writer;

pub use endpoints::{EndpointSet, LiveEndpoint};
pub use settings::{Authenticator, Groups, LiveCanary, RouteSettings};
pub use writer::{CompiledHost, FailingBackend, HostChange, StillNamed, TableWriter};

#[cfg(test)]
mod tests;

/// Parts into which hosts are divided by the hash of their name: at 100,000 hosts a change copies some 400 pointers.
const SHARDS: usize = 256;

/// What requests see. Cheap to share; only a [`TableWriter`] changes it.
pub struct LiveTable {
    shards: Box<[Shard]>,
    hasher: RandomState,
    /// Rules without a host ([`HostKey::Any`]).
    any: ArcSwapOption<LiveHost>,
    /// The pool's default backends ([`HostKey::CatchAll`]).
    catch_all: ArcSwapOption<LiveHost>,
    /// Whether a complete table was ever applied. Until then "not found" would be a lie.
    complete: AtomicBool,
}

/// One host, compiled.
pub struct LiveHost {
    matcher: HostMatcher,
    /// In the order of the matcher's indexes.
    routes: Vec<LiveRoute>,
    /// The host's own default backends (rule S-12 step 1).
    default: Option<LiveRoute>,
}

/// One route, or the default of a host: the clusters that serve it.
pub struct LiveRoute {
    pub clusters: Vec<LiveCluster>,
    /// What to answer when no cluster can serve it (rules S-11, M-1).
    pub unserved: u16,
    /// Counts picks, over all workers, so that the shares of clusters converge quickly.
    pub(crate) picks: AtomicUsize,
    /// The levels of its clusters, ascending; empty if there is only one.
    pub(crate) levels: Box<[u32]>,
    /// `None`: nobody set anything.
    pub settings: Option<Box<RouteSettings>>,
    /// Asked while none of the clusters has an endpoint, and instead of errors that they name.
    pub fallback: Option<Box<LiveRoute>>,
}

impl LiveRoute {
    /// Whether none of its clusters has an endpoint.
    pub fn is_empty(&self) -> bool {
        let is_empty = |backend: &Arc<LiveBackend>| backend.endpoints().as_slice().is_empty();
        self.clusters.iter().filter_map(|cluster| cluster.backend.as_ref()).all(is_empty)
    }
}

/// One cluster's part in a route.
pub struct LiveCluster {
    pub cluster: ClusterId,
    pub weight: u32,
    /// Whether the weight counts once for each of its pods (rule E-1).
    pub weigh_by_endpoints: bool,
    /// Clusters of the lowest level come first, those of the next as far as these are not well: what the route's
    /// strategy makes of priorities and regions.
    pub level: u32,
    /// `None`: nobody set anything.
    pub upstream: Option<Arc<UpstreamSettings>>,
    /// `None`: the cluster declares the route but names nothing that can be served.
    pub backend: Option<Arc<LiveBackend>>,
}

impl LiveCluster {
    /// What it gets of requests with these endpoints, in proportion to the others of its level (rule E-1).
    pub(crate) fn share(&self, endpoints: &EndpointSet) -> u64 {
        let times = if self.weigh_by_endpoints { u64::from(endpoints.pods) } else { 1 };
        u64::from(self.weight) * times
    }
}

/// One cluster's Service port: an address list that is replaced as a whole.
pub struct LiveBackend {
    pub id: BackendId,
    endpoints: ArcSwap<EndpointSet>,
    /// Position of the round robin, shared by all workers.
    pub(crate) next: AtomicUsize,
}

/// A host and one of its routes, kept alive for the duration of a request.
pub struct Found {
    host: Arc<LiveHost>,
    /// `None`: the host's default.
    route: Option<usize>,
}

#[derive(Default)]
struct Shard(ArcSwap<ShardHosts>);

#[derive(Clone, Default)]
struct ShardHosts {
    exact: HashMap<Arc<str>, Arc<LiveHost>>,
    /// By suffix without `*.`.
    wildcard: HashMap<Arc<str>, Arc<LiveHost>>,
}

impl LiveTable {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            any: ArcSwapOption::empty(),
            catch_all: ArcSwapOption::empty(),
            complete: AtomicBool::new(false),
        })
    }

    /// Who answers. `host` and `path` are as `routing::lookup::{request_host, request_path}` return them. The first
    /// bucket that exists is final (rule S-3); an unmatched path goes to the host's default, else to the pool's
    /// catch-all (rule S-12).
    pub fn find(&self, host: &str, path: &str) -> Option<Found> {
        if let Some(host) = lookup::buckets(host).find_map(|bucket| self.bucket(bucket)) {
            let route = host.matcher.find(path);
            if route.is_some() || host.default.is_some() {
                return Some(Found { host, route });
            }
        }
        let host = self.catch_all.load_full().filter(|host| host.default.is_some())?;
        Some(Found { host, route: None })
    }

    /// Whether a complete table was ever applied, from disk or from a controller.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    fn bucket(&self, bucket: Bucket<'_>) -> Option<Arc<LiveHost>> {
        match bucket {
            Bucket::Exact(name) => self.shard(name).0.load().exact.get(name).cloned(),
            Bucket::Wildcard(suffix) => self.shard(suffix).0.load().wildcard.get(suffix).cloned(),
            Bucket::Any => self.any.load_full(),
        }
    }

    fn shard(&self, name: &str) -> &Shard {
        &self.shards[self.shard_index(name)]
    }

    fn shard_index(&self, name: &str) -> usize {
        self.hasher.hash_one(name) as usize % SHARDS
    }
}

impl Found {
    pub fn route(&self) -> &LiveRoute {
        match self.route {
            Some(index) => &self.host.routes[index],
            None => self.host.default.as_ref().expect("a host found without a route must have a default"),
        }
    }
}

impl LiveBackend {
    fn new(id: BackendId) -> Arc<Self> {
        Arc::new(Self { id, endpoints: ArcSwap::default(), next: AtomicUsize::new(0) })
    }

    /// The addresses as they are now.
    pub fn endpoints(&self) -> arc_swap::Guard<Arc<EndpointSet>> {
        self.endpoints.load()
    }
}

/// Where a host of this name is stored.
enum Place<'a> {
    Exact(&'a Arc<str>),
    Wildcard(&'a Arc<str>),
    Single(&'a ArcSwapOption<LiveHost>),
}

impl LiveTable {
    fn place<'a>(&'a self, key: &'a HostKey) -> Place<'a> {
        match key {
            HostKey::Exact(name) => Place::Exact(name),
            HostKey::Wildcard(suffix) => Place::Wildcard(suffix),
            HostKey::Any => Place::Single(&self.any),
            HostKey::CatchAll => Place::Single(&self.catch_all),
        }
    }

    /// Replaces hosts, each shard once however many of its hosts change.
    fn replace_hosts(&self, changes: Vec<(HostKey, Option<Arc<LiveHost>>)>) {
        let mut by_shard: HashMap<usize, ShardHosts> = HashMap::new();
        for (key, host) in changes {
            let (name, is_wildcard) = match self.place(&key) {
                Place::Single(place) => {
                    place.store(host);
                    continue;
                }
                Place::Exact(name) => (name, false),
                Place::Wildcard(suffix) => (suffix, true),
            };
            let index = self.shard_index(name);
            let hosts = by_shard.entry(index).or_insert_with(|| ShardHosts::clone(&self.shards[index].0.load()));
            let map = if is_wildcard { &mut hosts.wildcard } else { &mut hosts.exact };
            match host {
                Some(host) => map.insert(name.clone(), host),
                None => map.remove(name),
            };
        }
        for (index, hosts) in by_shard {
            self.shards[index].0.store(Arc::new(hosts));
        }
    }
}
