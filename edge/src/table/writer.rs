//! The only way to change the live table.
//!
//! Hosts and backends of routing's types → live ones, wired together. Knows which hosts name which backend, so that a
//! backend is not taken away while a host still needs it. It does not know where changes come from or whether they
//! are allowed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use regex::bytes::Regex;
use roadstead_routing::endpoints::{self, Locality};
use roadstead_routing::id::{BackendId, HostKey};
use roadstead_routing::lookup::{self, HostMatcher, PatternError};
use roadstead_routing::policy::Strategy;
use roadstead_routing::settings::UpstreamSettings;
use roadstead_routing::table::{Backend, Host, Route, RouteBackend, Target};

use super::settings::{LiveCanary, RouteSettings, id, needs_groups};
use super::{EndpointSet, LiveBackend, LiveCluster, LiveHost, LiveRoute, LiveTable};
use crate::health::Millis;

/// Owns the right to change one [`LiveTable`].
pub struct TableWriter {
    table: Arc<LiveTable>,
    locality: Locality,
    backends: HashMap<BackendId, Slot>,
    /// The backends that each host names, once per mention.
    named: HashMap<HostKey, Vec<BackendId>>,
}

/// A host whose patterns have been compiled: putting it into the table cannot fail any more.
pub struct CompiledHost {
    host: Host,
    matcher: HostMatcher,
}

pub enum HostChange {
    Put(Box<CompiledHost>),
    Remove(HostKey),
}

/// A backend some of whose endpoints may not be used now.
#[derive(Debug, PartialEq, Eq)]
pub struct FailingBackend<'a> {
    pub id: &'a BackendId,
    /// Endpoints that requests could not connect to lately.
    pub failing: usize,
    /// Of how many.
    pub endpoints: usize,
}

/// A backend cannot be removed: a host of the table names it.
#[derive(Debug, PartialEq, Eq)]
pub struct StillNamed;

/// A backend that was put, or that a host names before (or without) being put: then it has no endpoints.
struct Slot {
    live: Arc<LiveBackend>,
    put: bool,
    mentions: usize,
}

impl CompiledHost {
    /// # Errors
    /// A pattern of the host cannot be compiled. The host must then be refused as a whole.
    pub fn new(host: Host) -> Result<Self, PatternError> {
        let matcher = HostMatcher::new(&host)?;
        Ok(Self { host, matcher })
    }

    pub fn host(&self) -> &Host {
        &self.host
    }
}

impl TableWriter {
    /// `locality` says where this edge is: it decides how it gets to backends and which of their endpoints are used (rules
    /// R-1 and P-5), and which clusters come first with `Strategy::Nearest`.
    pub fn new(table: Arc<LiveTable>, locality: Locality) -> Self {
        Self { table, locality, backends: HashMap::new(), named: HashMap::new() }
    }

    /// Creates the backend or swaps its endpoints. Requests that already chose an old endpoint finish on it.
    pub fn put_backend(&mut self, backend: &Backend) {
        let slot = self.backends.entry(backend.id.clone()).or_insert_with(|| Slot::new(&backend.id));
        slot.put = true;
        let (cluster, before) = (&backend.id.cluster, slot.live.endpoints());
        let set = EndpointSet::new(cluster, &endpoints::destination(backend, &self.locality), &before);
        drop(before);
        slot.live.endpoints.store(Arc::new(set));
    }

    /// Removes the backend.
    ///
    /// # Errors
    /// If a host still names it; nothing is changed then.
    pub fn remove_backend(&mut self, id: &BackendId) -> Result<(), StillNamed> {
        match self.backends.get(id) {
            Some(slot) if slot.mentions > 0 => Err(StillNamed),
            Some(_) => {
                self.backends.remove(id);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Applies the changes in order. Requests see each host either before or after, never in between.
    pub fn change_hosts(&mut self, changes: Vec<HostChange>) {
        let mut replaced = Vec::with_capacity(changes.len());
        for change in changes {
            match change {
                HostChange::Put(compiled) => {
                    let CompiledHost { host, matcher } = *compiled;
                    let live = self.build(&host, matcher);
                    self.rename(&host.name, Some(mentions(&host)));
                    replaced.push((host.name, Some(Arc::new(live))));
                }
                HostChange::Remove(name) => {
                    self.rename(&name, None);
                    replaced.push((name, None));
                }
            }
        }
        self.table.replace_hosts(replaced);
    }

    /// From now on the table may say "not found".
    pub fn mark_complete(&self) {
        self.table.complete.store(true, Ordering::Release);
    }

    pub fn hosts(&self) -> usize {
        self.named.len()
    }

    pub fn backends(&self) -> usize {
        self.backends.values().filter(|slot| slot.put).count()
    }

    /// What requests have learnt about backends so far. In no order.
    pub fn failing(&self, now: Millis) -> impl Iterator<Item = FailingBackend<'_>> {
        self.backends.iter().filter_map(move |(id, slot)| {
            let set = slot.live.endpoints();
            let failing = set.as_slice().iter().filter(|endpoint| !endpoint.health.is_usable(now)).count();
            (failing > 0).then(|| FailingBackend { id, failing, endpoints: set.as_slice().len() })
        })
    }

    fn build(&mut self, host: &Host, matcher: HostMatcher) -> LiveHost {
        let routes = host.routes.iter().enumerate().map(|(index, route)| {
            let pattern = matcher.pattern(index).filter(|_| needs_groups(route)).cloned();
            self.build_route(&host.name, route, pattern)
        });
        let routes = routes.collect();
        let default = (!host.default.is_empty()).then(|| {
            let settings = RouteSettings::new(&host.default_client, None, None, id(&host.name, None));
            LiveRoute { settings, ..self.build_clusters(&host.default, host.default_strategy) }
        });
        LiveHost { matcher, routes, default }
    }

    fn build_route(&mut self, host: &HostKey, route: &Route, pattern: Option<Regex>) -> LiveRoute {
        let canary = route.canary.as_ref().map(|canary| {
            let rule = canary.rule.clone();
            LiveCanary { rule, route: self.build_clusters(&canary.backends, route.strategy) }
        });
        let settings = RouteSettings::new(&route.client, canary, pattern, id(host, Some(&route.path)));
        LiveRoute { settings, ..self.build_clusters(&route.backends, route.strategy) }
    }

    /// A route without settings.
    fn build_clusters(&mut self, backends: &[RouteBackend], strategy: Strategy) -> LiveRoute {
        let target = |part: &RouteBackend| {
            let target = Target::Backend(part.fallback.clone()?);
            // It gets what the client sent, and speaks as its own Service says.
            let UpstreamSettings { connect_timeout, read_timeout, send_timeout, .. } = *part.upstream;
            let upstream =
                UpstreamSettings { connect_timeout, read_timeout, send_timeout, ..UpstreamSettings::default() };
            Some(RouteBackend { target, fallback: None, upstream: upstream.into(), ..part.clone() })
        };
        let fallback: Vec<RouteBackend> = backends.iter().filter_map(target).collect();
        let fallback = (!fallback.is_empty()).then(|| Box::new(self.build_clusters(&fallback, strategy)));
        let clusters: Vec<LiveCluster> = backends.iter().map(|part| self.build_cluster(part, strategy)).collect();
        let mut levels: Vec<u32> = clusters.iter().map(|cluster| cluster.level).collect();
        levels.sort_unstable();
        levels.dedup();
        if levels.len() == 1 {
            levels.clear();
        }
        LiveRoute {
            clusters,
            unserved: lookup::unserved_status(backends),
            picks: AtomicUsize::new(0),
            levels: levels.into(),
            settings: None,
            fallback,
        }
    }

    fn build_cluster(&mut self, part: &RouteBackend, strategy: Strategy) -> LiveCluster {
        let is_here = !part.region.is_empty() && self.locality.region.as_ref() == Some(&part.region);
        LiveCluster {
            cluster: part.cluster.clone(),
            weight: part.weight,
            weigh_by_endpoints: part.weigh_by_endpoints,
            level: match strategy {
                Strategy::Spread => 0,
                Strategy::Failover => part.priority,
                Strategy::Nearest => u32::from(!is_here),
            },
            upstream: (*part.upstream != UpstreamSettings::default()).then(|| part.upstream.clone()),
            backend: match &part.target {
                Target::Backend(id) => Some(self.slot(id).live.clone()),
                Target::Resource | Target::Nothing => None,
            },
        }
    }

    fn slot(&mut self, id: &BackendId) -> &mut Slot {
        self.backends.entry(id.clone()).or_insert_with(|| Slot::new(id))
    }

    /// Records which backends `host` names now; `None`: the host is gone. New mentions are counted before old ones
    /// are dropped, so that a backend which stays named is never forgotten in between.
    fn rename(&mut self, host: &HostKey, now: Option<Vec<BackendId>>) {
        for id in now.iter().flatten() {
            self.slot(id).mentions += 1;
        }
        let before = match now {
            Some(now) => self.named.insert(host.clone(), now),
            None => self.named.remove(host),
        };
        for id in before.into_iter().flatten() {
            let slot = self.backends.get_mut(&id).expect("a named backend must have a slot");
            slot.mentions -= 1;
            if slot.mentions == 0 && !slot.put {
                self.backends.remove(&id);
            }
        }
    }
}

impl Slot {
    fn new(id: &BackendId) -> Self {
        Self { live: LiveBackend::new(id.clone()), put: false, mentions: 0 }
    }
}

fn mentions(host: &Host) -> Vec<BackendId> {
    let parts = host.routes.iter().flat_map(Route::all_backends).chain(&host.default);
    parts.flat_map(RouteBackend::backends).cloned().collect()
}
