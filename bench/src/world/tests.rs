use std::collections::BTreeSet;

use roadstead_routing::id::Kind;

use super::*;

fn world(clusters: usize, hosts: usize, endpoints: usize) -> World {
    let clusters = (0..clusters).map(|number| ClusterId::new(format!("c{number}"))).collect();
    let shape = Shape { clusters, hosts, endpoints, domain: "bench.test".to_owned(), port: 9 };
    World::new(shape, &mut Addresses::default())
}

fn addresses(object: &Object) -> Vec<IpAddr> {
    let Object::EndpointSlice(slice) = object else { return Vec::new() };
    slice.endpoints.iter().map(|endpoint| endpoint.address).collect()
}

fn paths(object: &Object) -> Vec<String> {
    let Object::Ingress(ingress) = object else { panic!("not an Ingress: {object:?}") };
    let paths = ingress.rules[0].paths.iter().flatten();
    paths.map(|path| path.path.to_string()).collect()
}

#[test]
fn every_endpoint_asked_for_exists_once_in_slices_of_at_most_100() {
    let world = world(3, 2, 1_003);
    let objects: Vec<Object> = (0..3).flat_map(|cluster| world.objects(cluster)).collect();
    let all: Vec<IpAddr> = objects.iter().flat_map(addresses).collect();
    assert_eq!(all.len(), 1_003);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 1_003);
    assert!(objects.iter().all(|object| addresses(object).len() <= ENDPOINTS_PER_SLICE));
}

#[test]
fn a_host_is_served_by_two_different_clusters() {
    let world = world(5, 40, 80);
    for host in 0..40 {
        let [first, second] = [0, 1].map(|copy| world.cluster_of(world.service_of(host, copy)));
        assert_ne!(first, second, "host {host}");
    }
    let overlap: BTreeSet<_> = (0..40).step_by(5).map(|host| world.cluster_of(world.service_of(host, 1))).collect();
    assert_eq!(overlap, BTreeSet::from([1, 2, 3, 4]));
}

#[test]
fn a_single_cluster_serves_every_host_alone() {
    let world = world(1, 3, 3);
    assert_eq!(world.services(), 3);
    assert_eq!(world.service_of(2, 7), 2);
}

#[test]
fn objects_come_in_the_order_in_which_kinds_are_completed() {
    let world = world(2, 4, 8);
    let kinds: Vec<Kind> = world.objects(0).iter().map(|object| object.key().kind).collect();
    assert!(kinds.is_sorted());
    assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), Kind::ROUTING.len());
}

#[test]
fn an_endpoint_change_replaces_one_address_of_one_slice() {
    let mut world = world(1, 1, 150);
    let before = addresses(&world.objects(0)[3]);
    let new = Ipv4Addr::new(127, 200, 0, 1);
    let after = addresses(&world.replace_endpoint(0, new));
    assert_eq!(after[0], IpAddr::V4(new));
    assert_eq!(after[1..], before[1..]);
    assert_eq!(addresses(&world.objects(0)[3]), after);
}

#[test]
fn path_changes_of_a_host_never_repeat_whatever_the_cluster() {
    let mut world = world(2, 1, 2);
    let mut seen = BTreeSet::from([paths(&world.objects(0)[1])[1].clone()]);
    for change in 0..6 {
        let service = world.service_of(0, change);
        let (object, path) = world.change_path(service);
        assert_eq!(paths(&object), ["/".to_owned(), path.clone()]);
        assert!(seen.insert(path));
    }
}

#[test]
fn keys_are_those_that_edges_report() {
    let world = world(2, 2, 4);
    assert_eq!(world.host_key(1), "host/h00001.bench.test");
    assert_eq!(world.backend_key(world.service_of(0, 1)), "backend/c1/bench/h00000:80");
}
