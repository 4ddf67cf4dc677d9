//! What changed between two tables, for people: one line for each change, in a stable order.
//!
//! Two tables → [`Change`]s, hosts before backends. Says nothing about why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use crate::compute::match_order;
use crate::id::{BackendId, HostKey, PoolName};
use crate::table::{Backend, Endpoint, Host, PathMatch, RouteBackend, Table, Target};

/// One difference. [`fmt::Display`] writes a line that starts with `+`, `-` or `~`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    HostAdded { pool: PoolName, host: HostKey },
    HostRemoved { pool: PoolName, host: HostKey },
    Route { pool: PoolName, host: HostKey, path: PathMatch, before: Vec<RouteBackend>, after: Vec<RouteBackend> },
    Default { pool: PoolName, host: HostKey, before: Vec<RouteBackend>, after: Vec<RouteBackend> },
    BackendAdded { id: BackendId, endpoints: usize },
    BackendRemoved { id: BackendId },
    Endpoints { id: BackendId, added: Vec<SocketAddr>, removed: Vec<SocketAddr>, rehinted: Vec<SocketAddr> },
}

/// Everything that differs, ordered by pool, host and match order, then by backend. The routes of an added host follow
/// it as added routes; those of a removed host go without saying.
pub fn diff(before: &Table, after: &Table) -> Vec<Change> {
    let mut changes = Vec::new();
    for key in union(&before.hosts, &after.hosts) {
        let (pool, host) = (key.0.clone(), key.1.clone());
        match (before.hosts.get(key), after.hosts.get(key)) {
            (Some(_), None) => changes.push(Change::HostRemoved { pool, host }),
            (None, Some(new)) => {
                changes.push(Change::HostAdded { pool, host });
                diff_host(None, new, &mut changes);
            }
            (old, Some(new)) if old != Some(new) => diff_host(old, new, &mut changes),
            _ => {}
        }
    }
    for id in union(&before.backends, &after.backends) {
        match (before.backends.get(id), after.backends.get(id)) {
            (Some(_), None) => changes.push(Change::BackendRemoved { id: id.clone() }),
            (None, Some(new)) => changes.push(Change::BackendAdded { id: id.clone(), endpoints: new.endpoints.len() }),
            (Some(old), Some(new)) if old != new => changes.push(diff_endpoints(old, new)),
            _ => {}
        }
    }
    changes
}

fn union<'a, K: Ord, V>(before: &'a BTreeMap<K, V>, after: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    before.keys().chain(after.keys()).collect()
}

fn diff_host(before: Option<&Host>, after: &Host, changes: &mut Vec<Change>) {
    let (pool, host) = (&after.pool, &after.name);
    let old_routes = before.map_or(&[][..], |host| &host.routes);
    let backends = |routes: &[crate::table::Route], path: &PathMatch| {
        routes.iter().find(|route| route.path == *path).map(|route| route.backends.clone()).unwrap_or_default()
    };
    let mut paths: Vec<&PathMatch> = old_routes.iter().chain(&after.routes).map(|route| &route.path).collect();
    paths.sort_by(|a, b| match_order(a, b));
    paths.dedup();
    for path in paths {
        let (before, after) = (backends(old_routes, path), backends(&after.routes, path));
        if before != after {
            changes.push(Change::Route { pool: pool.clone(), host: host.clone(), path: path.clone(), before, after });
        }
    }
    let old_default = before.map_or(&[][..], |host| &host.default);
    if old_default != after.default {
        let (before, after) = (old_default.to_vec(), after.default.clone());
        changes.push(Change::Default { pool: pool.clone(), host: host.clone(), before, after });
    }
}

fn diff_endpoints(before: &Backend, after: &Backend) -> Change {
    let by_address = |backend: &Backend| -> BTreeMap<SocketAddr, Endpoint> {
        backend.endpoints.iter().map(|endpoint| (endpoint.address, endpoint.clone())).collect()
    };
    let (old, new) = (by_address(before), by_address(after));
    let missing_in = |here: &BTreeMap<SocketAddr, Endpoint>, there: &BTreeMap<SocketAddr, Endpoint>| {
        here.keys().filter(|address| !there.contains_key(address)).copied().collect()
    };
    let rehinted = new.iter().filter(|(address, endpoint)| old.get(address).is_some_and(|old| old != *endpoint));
    Change::Endpoints {
        id: after.id.clone(),
        added: missing_in(&new, &old),
        removed: missing_in(&old, &new),
        rehinted: rehinted.map(|(address, _)| *address).collect(),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::HostAdded { pool, host } => write!(f, "+ {pool} {host}"),
            Change::HostRemoved { pool, host } => write!(f, "- {pool} {host}"),
            Change::Route { pool, host, path, before, after } => {
                write!(f, "{} {pool} {host} {path}: {}", sign(before, after), Pools { before, after })
            }
            Change::Default { pool, host, before, after } => {
                write!(f, "{} {pool} {host} default: {}", sign(before, after), Pools { before, after })
            }
            Change::BackendAdded { id, endpoints } => write!(f, "+ backend {id}: {endpoints} endpoints"),
            Change::BackendRemoved { id } => write!(f, "- backend {id}"),
            Change::Endpoints { id, added, removed, rehinted } => {
                write!(f, "~ backend {id}:")?;
                added.iter().try_for_each(|address| write!(f, " +{address}"))?;
                removed.iter().try_for_each(|address| write!(f, " -{address}"))?;
                rehinted.iter().try_for_each(|address| write!(f, " ~{address}"))
            }
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathMatch::Exact(path) => write!(f, "exact {path}"),
            PathMatch::Regex(pattern) => write!(f, "regex {pattern}"),
            PathMatch::Prefix(path) => write!(f, "prefix {}", if path.is_empty() { "/" } else { path }),
        }
    }
}

fn sign(before: &[RouteBackend], after: &[RouteBackend]) -> char {
    match (before.is_empty(), after.is_empty()) {
        (true, false) => '+',
        (false, true) => '-',
        _ => '~',
    }
}

/// Backend sets before and after; an empty one is left out.
struct Pools<'a> {
    before: &'a [RouteBackend],
    after: &'a [RouteBackend],
}

impl fmt::Display for Pools<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(self.before, f)?;
        if !self.before.is_empty() && !self.after.is_empty() {
            f.write_str(" -> ")?;
        }
        list(self.after, f)
    }
}

fn list(backends: &[RouteBackend], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, RouteBackend { cluster, weight, target, .. }) in backends.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        match target {
            Target::Backend(id) => write!(f, "{comma}{id} weight {weight}")?,
            Target::Resource => write!(f, "{comma}{cluster}/resource")?,
            Target::Nothing => write!(f, "{comma}{cluster}/nothing")?,
        }
    }
    Ok(())
}
