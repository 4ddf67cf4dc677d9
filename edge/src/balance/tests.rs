//! Shares, turns, and the order in which failures relax the choice.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use roadstead_routing::endpoints::Locality;
use roadstead_routing::id::{BackendId, HostKey, ObjectName, PortRef};
use roadstead_routing::lookup;
use roadstead_routing::table::{Backend, BackendProtocol, Endpoint, Host, PathMatch, Route, RouteBackend, Target};

use super::*;
use crate::table::{CompiledHost, Found, HostChange, LiveTable, TableWriter};

fn id(cluster: usize) -> BackendId {
    BackendId {
        cluster: format!("c{cluster}").as_str().into(),
        service: ObjectName::new("shop", "web"),
        port: PortRef::Number(80),
    }
}

fn address(cluster: usize, endpoint: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, cluster as u8, endpoint as u8], 80))
}

fn parts(clusters: &[(u32, usize)]) -> Vec<RouteBackend> {
    let part = |(index, (weight, _)): (usize, &(u32, usize))| RouteBackend {
        cluster: id(index).cluster,
        weight: *weight,
        target: Target::Backend(id(index)),
        ingress: ObjectName::new("shop", "web"),
    };
    clusters.iter().enumerate().map(part).collect()
}

/// A route of clusters, each `(weight, number of endpoints)`.
fn route(clusters: &[(u32, usize)]) -> Found {
    let table = LiveTable::new();
    let mut writer = TableWriter::new(table.clone(), Locality::default());
    for (cluster, (_, count)) in clusters.iter().enumerate() {
        let endpoints = (0..*count).map(|one| Endpoint { address: address(cluster, one), for_zones: vec![] });
        let endpoints = endpoints.collect();
        writer.put_backend(&Backend { id: id(cluster), protocol: BackendProtocol::Http1, endpoints });
    }
    let routes = vec![Route { path: PathMatch::Prefix("".into()), backends: parts(clusters) }];
    let host = Host { pool: "p".into(), name: HostKey::Any, routes, default: vec![] };
    writer.change_hosts(vec![HostChange::Put(Box::new(CompiledHost::new(host).unwrap()))]);
    table.find("", "/").unwrap()
}

fn at(ms: u64) -> Millis {
    Millis::new(Duration::from_millis(ms))
}

/// How often each cluster is picked.
fn picks(route: &LiveRoute, count: usize, now: Millis) -> BTreeMap<usize, usize> {
    let mut picked = BTreeMap::new();
    for _ in 0..count {
        *picked.entry(pick(route, &Tried::default(), now).unwrap().cluster).or_default() += 1;
    }
    picked
}

fn fail(route: &LiveRoute, cluster: usize, endpoints: impl Fn(usize) -> bool, now: Millis) {
    let set = route.clusters[cluster].backend.as_ref().unwrap().endpoints();
    let failing = set.as_slice().iter().enumerate().filter(|(index, _)| endpoints(*index));
    failing.for_each(|(_, endpoint)| endpoint.health.failed(now));
}

proptest! {
    /// Every cluster gets its share within 1 % of 1,000 picks, from any point of the sequence on, and only who
    /// `routing::lookup::shares` says takes part.
    #[test]
    fn shares_are_kept(
        clusters in prop::collection::vec((0u32..1_000, 0usize..4), 1..5),
        warm_up in 0usize..5_000,
    ) {
        let found = route(&clusters);
        let all = parts(&clusters);
        let usable = |id: &BackendId| {
            let index = all.iter().position(|part| part.cluster == id.cluster).unwrap();
            clusters[index].1 > 0
        };
        let expected = lookup::shares(&all, usable);
        let total: f64 = expected.iter().map(|(_, share)| f64::from(*share)).sum();
        if expected.is_empty() {
            prop_assert!(pick(found.route(), &Tried::default(), at(0)).is_none());
            return Ok(());
        }
        found.route().picks.store(warm_up, Ordering::Relaxed);
        let picked = picks(found.route(), 1_000, at(0));
        for (index, part) in all.iter().enumerate() {
            let share = expected.iter().find(|(it, _)| it.cluster == part.cluster).map_or(0.0, |(_, share)| f64::from(*share));
            let got = picked.get(&index).copied().unwrap_or(0);
            let difference = (got as f64 - 1_000.0 * share / total).abs();
            prop_assert!(difference <= 10.0 && (share > 0.0 || got == 0), "{:?} for {:?}", picked, clusters);
        }
    }

    /// Whatever failed and was tried: a pick is in its cluster's set, was not tried, and there is one as long as any
    /// endpoint was not tried.
    #[test]
    fn a_request_visits_every_endpoint_once(
        clusters in prop::collection::vec((0u32..3, 0usize..4), 1..4),
        failed in prop::collection::vec(any::<bool>(), 16),
    ) {
        let found = route(&clusters);
        for cluster in 0..clusters.len() {
            fail(found.route(), cluster, |endpoint| failed[cluster * 4 + endpoint], at(0));
        }
        let mut tried = Tried::default();
        let mut visited = Vec::new();
        while let Some(pick) = pick(found.route(), &tried, at(0)) {
            let set = found.route().clusters[pick.cluster].backend.as_ref().unwrap().endpoints();
            prop_assert!(set.as_slice().iter().any(|endpoint| endpoint.address == pick.endpoint.address));
            prop_assert!(!visited.contains(&pick.endpoint.address));
            visited.push(pick.endpoint.address);
            tried.add(&pick);
        }
        prop_assert_eq!(visited.len(), clusters.iter().map(|(_, count)| count).sum::<usize>());
    }
}

#[test]
fn endpoints_take_turns() {
    let found = route(&[(1, 10)]);
    let mut counts = BTreeMap::new();
    for _ in 0..100 {
        let endpoint = pick(found.route(), &Tried::default(), at(0)).unwrap().endpoint;
        *counts.entry(endpoint.address).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10; 10]);
}

#[test]
fn a_weight_of_zero_serves_only_when_nobody_else_can() {
    let found = route(&[(0, 1), (5, 1)]);
    assert_eq!(picks(found.route(), 100, at(0)), BTreeMap::from([(1, 100)]));
    fail(found.route(), 1, |_| true, at(0));
    assert_eq!(picks(found.route(), 100, at(1)), BTreeMap::from([(0, 100)]));
    let equal = route(&[(0, 1), (0, 1)]);
    let picked = picks(equal.route(), 100, at(0));
    assert!(picked.values().all(|count| (48..=52).contains(count)), "{picked:?}");
}

#[test]
fn failed_endpoints_are_left_out_until_all_have_failed() {
    let found = route(&[(1, 2), (1, 2)]);
    fail(found.route(), 0, |_| true, at(0));
    fail(found.route(), 1, |endpoint| endpoint == 0, at(0));
    for _ in 0..20 {
        assert_eq!(pick(found.route(), &Tried::default(), at(1)).unwrap().endpoint.address, address(1, 1));
    }
    fail(found.route(), 1, |_| true, at(0));
    assert_eq!(picks(found.route(), 100, at(1)).len(), 2, "when all have failed, all are tried");
    let rested = at(2_000);
    let mut probes: Vec<SocketAddr> =
        (0..4).map(|_| pick(found.route(), &Tried::default(), rested).unwrap().endpoint.address).collect();
    probes.sort();
    probes.dedup();
    assert_eq!(probes.len(), 4, "each is probed once");
}

#[test]
fn a_second_attempt_goes_to_another_cluster_with_weight_first() {
    let found = route(&[(1_000, 3), (1, 1), (0, 1)]);
    let mut tried = Tried::default();
    let mut order = Vec::new();
    while let Some(pick) = pick(found.route(), &tried, at(0)) {
        order.push(pick.cluster);
        tried.add(&pick);
    }
    assert_eq!(order, [0, 1, 0, 0, 2]);
}
