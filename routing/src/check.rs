//! Invariants of a table, as a list of what violates them.
//!
//! [`check_host`] is cheap and runs before a host is published or accepted; [`check`] compares a whole table with its
//! inputs. Neither repairs anything, and neither is needed for `compute` to be right: they exist to notice when it
//! is not.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::compute::{has_certificate, is_declared, match_order};
use crate::id::{BackendId, ClusterId, HostKey, ObjectName, PoolName};
use crate::inputs::Inputs;
use crate::lookup::HostMatcher;
use crate::policy::WEIGHT_MAX;
use crate::table::{Backend, Host, PathMatch, Route, RouteBackend, Table};

/// Where a violation is and what it is. The text is a sentence for the log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Violation {
    #[error("pool {pool} host {host}: {fault}")]
    Host { pool: PoolName, host: HostKey, fault: HostFault },
    #[error("backend {backend}: {fault}")]
    Backend { backend: BackendId, fault: BackendFault },
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum HostFault {
    #[error("is stored under another name")]
    WrongKey,
    #[error("the policy has no such pool")]
    UnknownPool,
    #[error("no Ingress declares it")]
    Undeclared,
    #[error("it is declared but not in the table")]
    Missing,
    #[error("the catch-all has routes")]
    CatchAllRoutes,
    #[error("{0:?} has no backends")]
    NoBackends(PathMatch),
    #[error("{0:?} is there twice")]
    DuplicateRoute(PathMatch),
    #[error("{0:?} is not in match order")]
    RouteOrder(PathMatch),
    #[error("{0:?} is not canonical")]
    NotCanonical(PathMatch),
    #[error("a pattern does not compile")]
    Pattern,
    #[error("backends are not one for each cluster in the order of clusters")]
    BackendOrder,
    #[error("a weight is over {max}", max = WEIGHT_MAX)]
    Weight,
    #[error("it names backend {0}, which is not in the table")]
    DanglingBackend(BackendId),
    #[error("backend {0} is of another cluster or namespace than its Ingress")]
    ForeignBackend(BackendId),
    #[error("Ingress {0} does not declare it")]
    ForeignIngress(ObjectName),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum BackendFault {
    #[error("is stored under another id")]
    WrongKey,
    #[error("endpoints are not sorted or not distinct")]
    EndpointOrder,
    #[error("no Ingress refers to it")]
    Unreferenced,
    #[error("an Ingress refers to it but it is not in the table")]
    Missing,
}

/// Violations that a host shows by itself. Empty: it can be published.
pub fn check_host(host: &Host) -> Vec<Violation> {
    let mut faults = Vec::new();
    if host.name == HostKey::CatchAll && !host.routes.is_empty() {
        faults.push(HostFault::CatchAllRoutes);
    }
    for route in &host.routes {
        check_route(route, &mut faults);
    }
    for pair in host.routes.windows(2) {
        match match_order(&pair[0].path, &pair[1].path) {
            Ordering::Less => {}
            Ordering::Equal => faults.push(HostFault::DuplicateRoute(pair[1].path.clone())),
            Ordering::Greater => faults.push(HostFault::RouteOrder(pair[1].path.clone())),
        }
    }
    if HostMatcher::new(host).is_err() {
        faults.push(HostFault::Pattern);
    }
    check_backends(&host.default, &mut faults);
    at_host(host, faults)
}

/// Every violation of `table`, which should be what [`crate::compute::build`] makes of `inputs`. Sorted.
pub fn check(inputs: &Inputs, table: &Table) -> Vec<Violation> {
    let mut violations = Vec::new();
    for ((pool, name), host) in &table.hosts {
        violations.extend(check_host(host));
        let mut faults = Vec::new();
        if (pool, name) != (&host.pool, &host.name) {
            faults.push(HostFault::WrongKey);
        }
        check_declared(inputs, host, &mut faults);
        for backend in all_backends(host) {
            check_target(table, backend, &mut faults);
        }
        violations.extend(at_host(host, faults));
    }
    for (pool, host) in inputs.hosts() {
        if !table.hosts.contains_key(&(pool.clone(), host.clone())) && is_declared(inputs, pool, host) {
            violations.push(Violation::Host { pool: pool.clone(), host: host.clone(), fault: HostFault::Missing });
        }
    }
    check_table_backends(inputs, table, &mut violations);
    violations.sort();
    violations
}

fn check_route(route: &Route, faults: &mut Vec<HostFault>) {
    if route.backends.is_empty() {
        faults.push(HostFault::NoBackends(route.path.clone()));
    }
    let canonical = match &route.path {
        PathMatch::Exact(path) => path.starts_with('/'),
        PathMatch::Regex(_) => true,
        PathMatch::Prefix(path) => path.is_empty() || (path.starts_with('/') && !path.ends_with('/')),
    };
    if !canonical {
        faults.push(HostFault::NotCanonical(route.path.clone()));
    }
    check_backends(&route.backends, faults);
    if let Some(canary) = &route.canary {
        check_backends(&canary.backends, faults);
    }
}

fn check_backends(backends: &[RouteBackend], faults: &mut Vec<HostFault>) {
    if !backends.is_sorted_by(|a, b| a.cluster < b.cluster) {
        faults.push(HostFault::BackendOrder);
    }
    for backend in backends {
        if backend.weight > WEIGHT_MAX {
            faults.push(HostFault::Weight);
        }
        let is_foreign =
            |id: &&BackendId| id.cluster != backend.cluster || id.service.namespace != backend.ingress.namespace;
        faults.extend(backend.backends().filter(is_foreign).cloned().map(HostFault::ForeignBackend));
    }
}

fn check_declared(inputs: &Inputs, host: &Host, faults: &mut Vec<HostFault>) {
    if !inputs.policy().pools.contains_key(&host.pool) {
        faults.push(HostFault::UnknownPool);
    }
    if !is_declared(inputs, &host.pool, &host.name) && !has_certificate(inputs, &host.pool, &host.name) {
        faults.push(HostFault::Undeclared);
    }
    for backend in all_backends(host) {
        let served = inputs.cluster(&backend.cluster).and_then(|cluster| cluster.served(&backend.ingress));
        let declares = served.is_some_and(|served| served.pool == host.pool && served.declares(&host.name));
        if !declares || !is_in_table(inputs, &backend.cluster) {
            faults.push(HostFault::ForeignIngress(backend.ingress.clone()));
        }
    }
}

fn is_in_table(inputs: &Inputs, cluster: &ClusterId) -> bool {
    inputs.membership(cluster).lifecycle.is_in_table()
}

fn check_target(table: &Table, backend: &RouteBackend, faults: &mut Vec<HostFault>) {
    let is_missing = |id: &&BackendId| !table.backends.contains_key(id);
    faults.extend(backend.backends().filter(is_missing).cloned().map(HostFault::DanglingBackend));
}

fn check_table_backends(inputs: &Inputs, table: &Table, violations: &mut Vec<Violation>) {
    let referenced: BTreeSet<BackendId> = inputs.backends().filter(|id| is_in_table(inputs, &id.cluster)).collect();
    let mut fault =
        |backend: &BackendId, fault| violations.push(Violation::Backend { backend: backend.clone(), fault });
    for (id, Backend { id: own, endpoints, reach, .. }) in &table.backends {
        if id != own {
            fault(id, BackendFault::WrongKey);
        }
        let nodes = reach.as_ref().map_or(&[][..], |reach| &reach.nodes);
        if !endpoints.is_sorted_by(|a, b| a.address < b.address) || !nodes.is_sorted_by(|a, b| a < b) {
            fault(id, BackendFault::EndpointOrder);
        }
        if !referenced.contains(id) {
            fault(id, BackendFault::Unreferenced);
        }
    }
    for id in referenced.iter().filter(|id| !table.backends.contains_key(id)) {
        fault(id, BackendFault::Missing);
    }
}

fn all_backends(host: &Host) -> impl Iterator<Item = &RouteBackend> {
    host.parts()
}

fn at_host(host: &Host, faults: Vec<HostFault>) -> Vec<Violation> {
    let place = |fault| Violation::Host { pool: host.pool.clone(), host: host.name.clone(), fault };
    faults.into_iter().map(place).collect()
}
