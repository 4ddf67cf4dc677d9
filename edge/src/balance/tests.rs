//! Shares, turns, and the order in which failures relax the choice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use roadstead_routing::endpoints::Locality;
use roadstead_routing::id::{BackendId, HostKey, ObjectName, PortRef};
use roadstead_routing::lookup;
use roadstead_routing::policy::Strategy;
use roadstead_routing::table::{Backend, Endpoint, Host, PathMatch, Route, RouteBackend, Target};

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
    let part = |(index, (weight, _)): (usize, &(u32, usize))| {
        RouteBackend::new(id(index).cluster, *weight, Target::Backend(id(index)), ObjectName::new("shop", "web"))
    };
    clusters.iter().enumerate().map(part).collect()
}

/// A route of clusters, each `(weight, number of endpoints)`.
fn route(clusters: &[(u32, usize)]) -> Found {
    route_of(clusters, parts(clusters))
}

/// The same, each of a lower priority than the one before.
fn failover(clusters: &[(u32, usize)]) -> Found {
    let parts = parts(clusters).into_iter().zip(0..);
    route_of(clusters, parts.map(|(part, priority)| RouteBackend { priority, ..part }).collect())
}

fn route_of(clusters: &[(u32, usize)], parts: Vec<RouteBackend>) -> Found {
    let table = LiveTable::new();
    let mut writer = TableWriter::new(table.clone(), Locality::default());
    for (cluster, (_, count)) in clusters.iter().enumerate() {
        let endpoints = (0..*count).map(|one| Endpoint { address: address(cluster, one), for_zones: vec![] });
        let endpoints = endpoints.collect();
        writer.put_backend(&Backend { endpoints, ..Backend::empty(id(cluster)) });
    }
    let strategy = Strategy::Failover;
    let routes = vec![Route { strategy, ..Route::new(PathMatch::Prefix("".into()), parts) }];
    let host = Host { routes, ..Host::new("p".into(), HostKey::Any) };
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
        *picked.entry(pick(route, Choice::default(), &Tried::default(), now).unwrap().cluster).or_default() += 1;
    }
    picked
}

#[test]
fn a_cluster_that_is_weighed_by_endpoints_counts_for_as_many_as_it_has_now() {
    let clusters = [(10, 3), (30, 1), (10, 0)];
    let weighed = |part| RouteBackend { weigh_by_endpoints: true, ..part };
    let found = route_of(&clusters, parts(&clusters).into_iter().map(weighed).collect());
    let picked = picks(found.route(), 1_000, at(0));
    assert!(picked[&0].abs_diff(500) <= 10 && picked[&1].abs_diff(500) <= 10 && picked.len() == 2, "{picked:?}");
    let fixed = route(&clusters);
    let picked = picks(fixed.route(), 1_000, at(0));
    assert!(picked[&0].abs_diff(250) <= 10 && picked[&1].abs_diff(750) <= 10, "{picked:?}");
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
        let expected = lookup::shares(&all, |id| u32::from(usable(id)));
        let total: f64 = expected.iter().map(|(_, share)| f64::from(*share)).sum();
        if expected.is_empty() {
            prop_assert!(pick(found.route(), Choice::default(), &Tried::default(), at(0)).is_none());
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
        while let Some(pick) = pick(found.route(), Choice::default(), &tried, at(0)) {
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
        let endpoint = pick(found.route(), Choice::default(), &Tried::default(), at(0)).unwrap().endpoint;
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
        assert_eq!(
            pick(found.route(), Choice::default(), &Tried::default(), at(1)).unwrap().endpoint.address,
            address(1, 1)
        );
    }
    fail(found.route(), 1, |_| true, at(0));
    assert_eq!(picks(found.route(), 100, at(1)).len(), 2, "when all have failed, all are tried");
    let rested = at(2_000);
    let mut probes: Vec<SocketAddr> = (0..4)
        .map(|_| pick(found.route(), Choice::default(), &Tried::default(), rested).unwrap().endpoint.address)
        .collect();
    probes.sort();
    probes.dedup();
    assert_eq!(probes.len(), 4, "each is probed once");
}

#[test]
fn a_second_attempt_goes_to_another_cluster_with_weight_first() {
    let found = route(&[(1_000, 3), (1, 1), (0, 1)]);
    let mut tried = Tried::default();
    let mut order = Vec::new();
    while let Some(pick) = pick(found.route(), Choice::default(), &tried, at(0)) {
        order.push(pick.cluster);
        tried.add(&pick);
    }
    assert_eq!(order, [0, 1, 0, 0, 2]);
}

/// How often each cluster is picked for as many different keys.
fn keyed_picks(route: &LiveRoute, count: u64) -> BTreeMap<usize, usize> {
    let mut picked = BTreeMap::new();
    for key in 0..count {
        let choice = Choice { mark: None, spread: Spread::Key(key) };
        *picked.entry(pick(route, choice, &Tried::default(), at(0)).unwrap().cluster).or_default() += 1;
    }
    picked
}

#[test]
fn the_next_level_takes_what_the_first_is_too_unwell_for() {
    let found = failover(&[(1, 10), (3, 4), (1, 4)]);
    let route = found.route();
    assert_eq!(picks(route, 1_000, at(0)), BTreeMap::from([(0, 1_000)]));
    fail(route, 0, |endpoint| endpoint < 2, at(0));
    assert_eq!(picks(route, 1_000, at(0)), BTreeMap::from([(0, 1_000)]), "eight of ten are enough");
    fail(route, 0, |endpoint| endpoint < 5, at(0));
    let picked = picks(route, 1_000, at(0));
    assert!(picked[&0].abs_diff(700) < 15 && picked[&1].abs_diff(300) < 15 && picked.len() == 2, "{picked:?}");
    fail(route, 0, |_| true, at(0));
    assert_eq!(picks(route, 1_000, at(0)), BTreeMap::from([(1, 1_000)]));
    fail(route, 1, |_| true, at(0));
    fail(route, 2, |_| true, at(0));
    assert_eq!(picks(route, 100, at(0)), BTreeMap::from([(0, 100)]), "when all have failed, the first is tried");
}

#[test]
fn clusters_of_one_level_share_by_weight_also_while_another_level_helps() {
    let clusters = [(30, 4), (10, 4), (1, 4)];
    let level = [0, 0, 1];
    let parts = parts(&clusters).into_iter().zip(level);
    let found = route_of(&clusters, parts.map(|(part, priority)| RouteBackend { priority, ..part }).collect());
    fail(found.route(), 0, |endpoint| endpoint < 2, at(0));
    fail(found.route(), 1, |endpoint| endpoint < 2, at(0));
    let picked = picks(found.route(), 4_000, at(0));
    for (cluster, expected) in [(0, 2_100), (1, 700), (2, 1_200)] {
        assert!(picked[&cluster].abs_diff(expected) < 60, "{picked:?}");
    }
}

#[test]
fn keys_are_spread_by_weight_and_stay_when_others_come_and_go() {
    let found = route(&[(3, 4), (1, 2)]);
    let picked = keyed_picks(found.route(), 4_000);
    assert!(picked[&0].abs_diff(3_000) < 120 && picked[&1].abs_diff(1_000) < 120, "{picked:?}");
    let home = |key| {
        let choice = Choice { mark: None, spread: Spread::Key(key) };
        pick(found.route(), choice, &Tried::default(), at(0)).unwrap().endpoint.address
    };
    let before: Vec<SocketAddr> = (0..200).map(home).collect();
    fail(found.route(), 0, |endpoint| endpoint == 1, at(0));
    for (key, before) in (0..200).zip(before) {
        assert!(home(key) == before || before == address(0, 1), "{key} was at {before}");
    }
}

#[test]
fn home_is_where_a_key_leads_also_between_clusters_that_are_weighed_by_endpoints() {
    let clusters = [(1, 4), (1, 1)];
    let weighed = |part| RouteBackend { weigh_by_endpoints: true, ..part };
    let found = route_of(&clusters, parts(&clusters).into_iter().map(weighed).collect());
    for key in 0..200 {
        let choice = Choice { mark: None, spread: Spread::Key(key) };
        let picked = pick(found.route(), choice, &Tried::default(), at(0)).unwrap();
        let home = keyed::home(found.route(), picked.cluster, key).unwrap();
        assert_eq!(home.address, picked.endpoint.address, "key {key}");
    }
}

#[test]
fn a_marked_endpoint_is_kept_while_it_may_be_used() {
    let found = route(&[(1, 3), (0, 1)]);
    let mark = |cluster: usize, endpoint: usize| {
        found.route().clusters[cluster].backend.as_ref().unwrap().endpoints().as_slice()[endpoint].mark
    };
    let picked = |mark| {
        let choice = Choice { mark: Some(mark), spread: Spread::Turns };
        pick(found.route(), choice, &Tried::default(), at(0)).unwrap().endpoint.address
    };
    for _ in 0..5 {
        assert_eq!(picked(mark(0, 2)), address(0, 2));
        assert_ne!(picked(mark(1, 0)), address(1, 0), "its cluster receives nothing");
    }
    fail(found.route(), 0, |endpoint| endpoint == 2, at(0));
    assert_ne!(picked(mark(0, 2)), address(0, 2));
    assert_ne!(picked(12_345), address(1, 0), "nobody's mark");
}

#[test]
fn the_faster_endpoint_gets_more_and_the_slower_one_is_not_forgotten() {
    let found = route(&[(1, 4)]);
    let backend = found.route().clusters[0].backend.clone().unwrap();
    let set = backend.endpoints();
    let answered = |endpoint: &LiveEndpoint, now: u64| {
        let slow = endpoint.address == address(0, 3);
        endpoint.latency.note(Duration::from_millis(if slow { 400 } else { 10 }), at(now));
    };
    set.as_slice().iter().for_each(|endpoint| answered(endpoint, 0));
    let slow_picks = |now: u64| {
        let choice = Choice { mark: None, spread: Spread::Faster };
        let picked = (0..100).map(|_| pick(found.route(), choice, &Tried::default(), at(now)).unwrap().endpoint);
        picked.filter(|endpoint| endpoint.address == address(0, 3)).count()
    };
    assert_eq!(slow_picks(1), 0, "it loses against everybody");
    for seconds in (10..=90).step_by(10) {
        set.as_slice()[..3].iter().for_each(|endpoint| answered(endpoint, seconds * 1_000));
    }
    assert!(slow_picks(90_000) > 0, "what was learned of it has faded");
}
