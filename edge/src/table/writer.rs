//! The only way to change the live table.
//!
//! Hosts and backends of routing's types → live ones, wired together. Knows which hosts name which backend, so that a
//! backend is not taken away while a host still needs it. It does not know where changes come from or whether they
//! are allowed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roadstead_routing::endpoints::{self, Locality};
use roadstead_routing::id::{BackendId, HostKey};
use roadstead_routing::lookup::{self, HostMatcher, PatternError};
use roadstead_routing::table::{Backend, Host, RouteBackend, Target};

use super::{EndpointSet, LiveBackend, LiveCluster, LiveHost, LiveRoute, LiveTable};

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
}

impl TableWriter {
    /// `locality` says where this edge is: it decides which of a backend's endpoints are used (rule P-5).
    pub fn new(table: Arc<LiveTable>, locality: Locality) -> Self {
        Self { table, locality, backends: HashMap::new(), named: HashMap::new() }
    }

    /// Creates the backend or swaps its endpoints. Requests that already chose an old endpoint finish on it.
    pub fn put_backend(&mut self, backend: &Backend) {
        let slot = self.backends.entry(backend.id.clone()).or_insert_with(|| Slot::new(&backend.id));
        slot.put = true;
        let addresses = endpoints::reachable(&backend.endpoints, &self.locality).map(|endpoint| endpoint.address);
        let set = EndpointSet::new(addresses, &slot.live.endpoints());
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

    fn build(&mut self, host: &Host, matcher: HostMatcher) -> LiveHost {
        let routes = host.routes.iter().map(|route| self.build_route(&route.backends)).collect();
        let default = (!host.default.is_empty()).then(|| self.build_route(&host.default));
        LiveHost { matcher, routes, default }
    }

    fn build_route(&mut self, backends: &[RouteBackend]) -> LiveRoute {
        let clusters = backends.iter().map(|part| LiveCluster {
            cluster: part.cluster.clone(),
            weight: part.weight,
            backend: match &part.target {
                Target::Backend(id) => Some(self.slot(id).live.clone()),
                Target::Resource | Target::Nothing => None,
            },
        });
        let clusters = clusters.collect();
        LiveRoute { clusters, unserved: lookup::unserved_status(backends), picks: AtomicUsize::new(0) }
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
    let parts = host.routes.iter().flat_map(|route| &route.backends).chain(&host.default);
    let ids = parts.filter_map(|part| match &part.target {
        Target::Backend(id) => Some(id.clone()),
        Target::Resource | Target::Nothing => None,
    });
    ids.collect()
}
