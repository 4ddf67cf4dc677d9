//! Which Host, and which of its routes: the steps of `Table::lookup`, with matchers that are kept and with every
//! step's outcome. A test holds that both agree.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::sync::Arc;

use roadstead_routing::declare::{Declared, Entry, declare};
use roadstead_routing::id::{HostKey, PoolName};
use roadstead_routing::lookup::{self, HostMatcher};
use roadstead_routing::object::PathType;
use roadstead_routing::policy::{Policy, Strategy};
use roadstead_routing::settings::ClientSettings;
use roadstead_routing::table::{Host, PathMatch, Route, RouteBackend, Table};

use crate::offline::world::{IngressId, World};

/// Where a request ends up.
#[derive(Clone, Copy, Debug)]
pub struct Place<'w> {
    /// The Host that is final for the request's host (rule S-3).
    pub bucket: Option<&'w Host>,
    pub by: By<'w>,
}

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub enum By<'w> {
    Route(&'w Route),
    /// The Host's own default (rule S-12 step 1).
    OwnDefault(&'w Host),
    /// The pool's catch-all (rule S-12 steps 2 and 3).
    CatchAll(&'w Host),
    Nothing,
}

impl<'w> By<'w> {
    pub fn backends(self) -> &'w [RouteBackend] {
        match self {
            By::Route(route) => &route.backends,
            By::OwnDefault(host) | By::CatchAll(host) => &host.default,
            By::Nothing => &[],
        }
    }

    pub fn strategy(self) -> Strategy {
        match self {
            By::Route(route) => route.strategy,
            By::OwnDefault(host) | By::CatchAll(host) => host.default_strategy,
            By::Nothing => Strategy::default(),
        }
    }

    pub fn client(self) -> Option<&'w Arc<ClientSettings>> {
        match self {
            By::Route(route) => Some(&route.client),
            By::OwnDefault(host) | By::CatchAll(host) => Some(&host.default_client),
            By::Nothing => None,
        }
    }
}

/// What was compiled or read for earlier requests: as much as the world has, at most.
#[derive(Default)]
pub struct Kept {
    matchers: BTreeMap<(PoolName, HostKey), HostMatcher>,
    declared: BTreeMap<IngressId, Declared>,
}

impl Kept {
    /// `host` and `path` as `lookup::request_host` and `lookup::request_path` return them.
    pub fn find<'w>(&mut self, table: &'w Table, pool: &PoolName, host: &str, path: &str) -> Place<'w> {
        let bucket = lookup::buckets(host).find_map(|bucket| table.hosts.get(&(pool.clone(), bucket.into())));
        let route = bucket.and_then(|host| self.matcher(host)?.find(path).and_then(|index| host.routes.get(index)));
        let catch_all = || table.hosts.get(&(pool.clone(), HostKey::CatchAll)).filter(|host| !host.default.is_empty());
        let by = match (route, bucket) {
            (Some(route), _) => By::Route(route),
            (None, Some(host)) if !host.default.is_empty() => By::OwnDefault(host),
            (None, _) => catch_all().map_or(By::Nothing, By::CatchAll),
        };
        Place { bucket, by }
    }

    /// `None` if a pattern does not compile, which `compute` never lets pass.
    fn matcher(&mut self, host: &Host) -> Option<&HostMatcher> {
        match self.matchers.entry((host.pool.clone(), host.name.clone())) {
            btree_map::Entry::Occupied(kept) => Some(kept.into_mut()),
            btree_map::Entry::Vacant(free) => Some(free.insert(HostMatcher::new(host).ok()?)),
        }
    }

    /// The route of `place` as its Ingress has it. `None` if nobody answers.
    pub fn written(&mut self, world: &World, place: Place<'_>) -> Option<Written> {
        let deciding = deciding(place.by.backends(), world.inputs.policy())?;
        let ingress = IngressId { cluster: deciding.cluster.clone(), name: deciding.ingress.clone() };
        let (By::Route(route), Some(host)) = (place.by, place.bucket) else {
            return Some(Written { ingress, kind: "Default", path: String::new() });
        };
        let entry = self.entry(world, &ingress, &host.name, &route.path);
        let kind = match (&route.path, &entry) {
            (PathMatch::Regex(_), _) | (_, Some((PathType::ImplementationSpecific, _))) => "ImplementationSpecific",
            (PathMatch::Exact(_), _) => "Exact",
            (PathMatch::Prefix(_), _) => "Prefix",
        };
        let path = entry.map_or_else(|| canonical(&route.path), |(_, written)| written.to_string());
        Some(Written { ingress, kind, path })
    }

    /// The entry of an Ingress that won a path. Of several spellings of one path the one that has priority (rules I-2,
    /// S-9, S-10). `None` if the host is not one of its rules'.
    fn entry(
        &mut self,
        world: &World,
        id: &IngressId,
        host: &HostKey,
        path: &PathMatch,
    ) -> Option<(PathType, Arc<str>)> {
        if !self.declared.contains_key(id) {
            self.declared.insert(id.clone(), declare(&*world.ingress(id)?));
        }
        // A class in mode nginx-compat makes a pattern of a path as it is written.
        let is_pattern = |written: &str| matches!(path, PathMatch::Regex(pattern) if **pattern == *written);
        let is_it = |entry: &&Entry| entry.path == *path || is_pattern(&entry.written);
        let equal = self.declared.get(id)?.entries(host).iter().filter(is_it);
        let winner = equal.min_by_key(|entry| (Reverse(entry.written.len()), entry.path_type, entry.order));
        winner.map(|entry| (entry.path_type, entry.written.clone()))
    }
}

/// A route as the Ingress that decides about it declares it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    pub ingress: IngressId,
    /// `pathType`; `Default` for a default backend.
    pub kind: &'static str,
    /// Empty for a default backend.
    pub path: String,
}

/// Whose settings decide where clusters differ: the policy's order, then the id (rule M-7).
fn deciding<'w>(backends: &'w [RouteBackend], policy: &Policy) -> Option<&'w RouteBackend> {
    backends.iter().min_by_key(|backend| (policy.cluster(&backend.cluster).priority, &backend.cluster))
}

/// A canonical path as text; the root is a slash.
pub fn canonical(path: &PathMatch) -> String {
    match path {
        PathMatch::Prefix(path) if path.is_empty() => "/".to_owned(),
        PathMatch::Exact(path) | PathMatch::Regex(path) | PathMatch::Prefix(path) => path.to_string(),
    }
}

/// `pathType` of a canonical path.
pub fn path_type(path: &PathMatch) -> &'static str {
    match path {
        PathMatch::Exact(_) => "Exact",
        PathMatch::Regex(_) => "ImplementationSpecific",
        PathMatch::Prefix(_) => "Prefix",
    }
}

#[cfg(test)]
mod tests {
    use roadstead_routing::lookup::Found;

    use super::*;
    use crate::offline::manifests::Manifests;
    use crate::offline::policy;

    fn world() -> World {
        let paths = "Prefix /a, Exact /a, Prefix /a/b/, ImplementationSpecific /A/[0-9]+";
        let paths: String = paths
            .split(", ")
            .filter_map(|it| it.split_once(' '))
            .map(|(kind, path)| {
                format!("      - {{path: '{path}', pathType: {kind}, backend: {{service: {{name: s, port: {{number: 80}}}}}}}}\n")
            })
            .collect();
        let rule = |host: &str| format!("  - host: '{host}'\n    http:\n      paths:\n{paths}");
        let ingress = |name: &str, rest: &str| {
            format!(
                "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, annotations: \
                 {{kubernetes.io/ingress.class: roadstead, nginx.ingress.kubernetes.io/use-regex: 'true'}}}}\nspec:\n{rest}"
            )
        };
        let default = "  defaultBackend: {service: {name: d, port: {number: 80}}}\n";
        let text = [
            ingress("exact", &format!("  rules:\n{}", rule("a.example.com"))),
            ingress("wild", &format!("{default}  rules:\n{}", rule("*.example.com"))),
            ingress("any", default),
        ];
        let mut manifests = Manifests::default();
        manifests.documents("test", text.concat().into_bytes());
        assert_eq!(manifests.skipped, Vec::<String>::new());
        World::new(policy::read(None, &["roadstead"]).unwrap(), vec![("a".into(), manifests)], 0)
    }

    #[test]
    fn the_place_is_that_of_the_edges_lookup() {
        let (world, mut kept) = (world(), Kept::default());
        let pool = PoolName::from("default");
        let mut kinds = std::collections::BTreeSet::new();
        for host in ["a.example.com", "A.example.com:80", "b.example.com", "b.b.example.com", "other", ""] {
            for target in ["/", "/a", "/a/", "/a/b", "/a//b/c?x", "/a/7", "/A/7/x", "/b/../a", "*"] {
                let (name, path) = (lookup::request_host(host), lookup::request_path(target));
                let place = kept.find(&world.table, &pool, &name, &path);
                let found = world.table.lookup(&pool, host, target);
                match (place.by, found) {
                    (By::Route(route), Found::Route(expected)) => assert_eq!(route, expected, "{host}{target}"),
                    (By::OwnDefault(host) | By::CatchAll(host), Found::Default(expected)) => {
                        assert_eq!(host.default, expected);
                    }
                    (By::Nothing, Found::NotFound) => {}
                    other => panic!("{host}{target}: {other:?}"),
                }
                kinds.insert(kept.written(&world, place).map(|written| written.kind));
            }
        }
        assert_eq!(kinds.len(), 4, "{kinds:?}");
    }
}
