//! Resources for tests, as controllers send them: backends `eu/shop/SERVICE:80`, and hosts that lead to one.

use roadstead_proto::digest::Digest;
use roadstead_proto::resource::{backend_to_wire, host_to_wire};
use roadstead_proto::wire;
use roadstead_routing::id::{BackendId, HostKey, ObjectName, PortRef};
use roadstead_routing::settings::CanaryRule;
use roadstead_routing::table::{Backend, Canary, Endpoint, Host, PathMatch, Route, RouteBackend, Target};

/// A backend with the one endpoint 10.0.0.`last_byte`.
pub(crate) fn backend(service: &str, last_byte: u8) -> wire::ResourceUpsert {
    let endpoints = vec![Endpoint { address: ([10, 0, 0, last_byte], 80).into(), for_zones: vec![] }];
    let backend = backend_to_wire(&Backend { endpoints, ..Backend::empty(id(service)) });
    upsert(wire::resource_upsert::Resource::Backend(backend))
}

/// A host of the pool `public` whose every path leads to the service.
pub(crate) fn host(name: &str, service: &str) -> wire::ResourceUpsert {
    host_with(name, "public", PathMatch::Prefix("".into()), service)
}

pub(crate) fn world(byte: u8, incarnation: u64) -> Option<wire::World> {
    Some(wire::World { id: vec![byte; 16], incarnation, adopted: Vec::new() })
}

/// Positions that name the cluster `eu` only.
pub(crate) fn position_of(epoch: u64, seq: u64) -> Option<wire::Positions> {
    let entry = wire::ClusterPosition {
        cluster: "eu".to_owned(),
        position: Some(wire::Position { epoch, seq }),
        ..Default::default()
    };
    Some(wire::Positions { clusters: vec![entry], policy_rev: 0, clerk_rev: 0 })
}

/// A host of the pool `public` in which these clusters have a part: the first in its route, the second in the route's
/// canary, all others as its default.
pub(super) fn shared_host(name: &str, clusters: &[&str]) -> wire::ResourceUpsert {
    let part =
        |cluster: &&str| RouteBackend::new((*cluster).into(), 1, Target::Nothing, ObjectName::new("shop", "web"));
    let (first, others) = clusters.split_at(1);
    let (second, others) = others.split_at(others.len().min(1));
    let mut route = Route::new(PathMatch::Prefix("".into()), first.iter().map(part).collect());
    let backends: Vec<RouteBackend> = second.iter().map(part).collect();
    route.canary = (!backends.is_empty()).then(|| Canary { rule: CanaryRule::default(), backends });
    let routes = vec![route];
    let default = others.iter().map(part).collect();
    let host = Host { routes, default, ..Host::new("public".into(), HostKey::parse(name).unwrap()) };
    upsert(wire::resource_upsert::Resource::Host(host_to_wire(&host)))
}

pub(super) fn host_with(name: &str, pool: &str, path: PathMatch, service: &str) -> wire::ResourceUpsert {
    let target = Target::Backend(id(service));
    let part = RouteBackend::new("eu".into(), 1, target, ObjectName::new("shop", "web"));
    let routes = vec![Route::new(path, vec![part])];
    let host = Host { routes, ..Host::new(pool.into(), HostKey::parse(name).unwrap()) };
    upsert(wire::resource_upsert::Resource::Host(host_to_wire(&host)))
}

pub(super) fn upsert(resource: wire::resource_upsert::Resource) -> wire::ResourceUpsert {
    let mut upsert = wire::ResourceUpsert { digest: Vec::new(), resource: Some(resource) };
    upsert.digest = Digest::of(&upsert).to_vec();
    upsert
}

fn id(service: &str) -> BackendId {
    BackendId { cluster: "eu".into(), service: ObjectName::new("shop", service), port: PortRef::Number(80) }
}
