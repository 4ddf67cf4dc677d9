//! Any sequence of changes: no panic, no violated invariant, and computing piece by piece equals a full build.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use roadstead_routing::check::check;
use roadstead_routing::compute::{build, compute_backend, compute_host};
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, ObjectName, PoolName, PortRef};
use roadstead_routing::inputs::{Dirty, Inputs};
use roadstead_routing::membership::Membership;
use roadstead_routing::object::{
    AddressType, EndpointSlice, Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, Meta, Node,
    NodeAddress, NodeAddressKind, Object, PathType, Service, ServicePort, ServiceType, SliceEndpoint, SlicePort,
};
use roadstead_routing::policy::{CONTROLLER_NAME, ClusterPolicy, Policy, PoolKind, PoolPolicy};
use roadstead_routing::reach::{self, ReachMode};
use roadstead_routing::table::Table;

/// Names are numbers, so that objects meet; hosts, paths and annotations are text.
#[derive(Arbitrary, Debug)]
struct Step {
    cluster: bool,
    change: Change,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Ingress(IngressPlan),
    Class { exists: bool, ours: bool },
    Service { name: u8, exists: bool, external: bool, reach: Option<String>, local: bool, at: Vec<String> },
    Node { name: u8, exists: bool, ready: bool, address: u8 },
    Doubt { yes: bool },
    Slice { name: u8, service: u8, exists: bool, fqdn: bool, endpoints: Vec<EndpointPlan> },
    RemoveCluster,
}

#[derive(Arbitrary, Debug)]
struct IngressPlan {
    name: u8,
    exists: bool,
    created_at: i8,
    annotations: Vec<(String, String)>,
    regex: bool,
    default: Option<u8>,
    rules: Vec<(String, Option<Vec<(u8, String, u8)>>)>,
}

#[derive(Arbitrary, Debug)]
struct EndpointPlan {
    address: u8,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
    zones: Vec<u8>,
}

fuzz_target!(|steps: Vec<Step>| {
    let pool = PoolPolicy { kind: PoolKind::Edge, addresses: Vec::new(), default: true, certificate: None };
    let pools = BTreeMap::from([(PoolName::from("public"), pool)]);
    let gateway = "n/x0".parse().ok();
    let a = ClusterPolicy { reach: ReachMode::Gateway, gateway, ..ClusterPolicy::default() };
    let clusters = BTreeMap::from([(ClusterId::from("a"), a)]);
    let mut inputs = Inputs::new(Policy { pools, clusters, ..Policy::default() });
    let mut kept = Table::default();
    for step in steps {
        let cluster = ClusterId::from(if step.cluster { "a" } else { "b" });
        let dirty = take(&mut inputs, &cluster, step.change);
        update(&mut kept, &inputs, dirty);
    }
    let table = build(&inputs).table;
    assert_eq!(kept, table);
    assert_eq!(check(&inputs, &table), []);
});

fn update(kept: &mut Table, inputs: &Inputs, dirty: Dirty) {
    for key in dirty.hosts {
        match compute_host(inputs, &key.0, &key.1).host {
            Some(host) => kept.hosts.insert(key, host),
            None => kept.hosts.remove(&key),
        };
    }
    for id in dirty.backends {
        match compute_backend(inputs, &id).backend {
            Some(backend) => kept.backends.insert(id, backend),
            None => kept.backends.remove(&id),
        };
    }
}

fn take(inputs: &mut Inputs, cluster: &ClusterId, change: Change) -> Dirty {
    let (kind, name, object) = match change {
        Change::RemoveCluster => return inputs.remove_cluster(cluster),
        Change::Class { exists, ours } => {
            let controller = if ours { CONTROLLER_NAME } else { "other" };
            let class = IngressClass { name: "c".into(), controller: controller.into(), ..IngressClass::default() };
            (Kind::IngressClass, ObjectName::new("", "c"), exists.then(|| Object::IngressClass(Arc::new(class))))
        }
        Change::Ingress(plan) => {
            let exists = plan.exists;
            let ingress = ingress(plan);
            (Kind::Ingress, ingress.name.clone(), exists.then(|| Object::Ingress(Arc::new(ingress))))
        }
        Change::Doubt { yes } => {
            return inputs.set_membership(cluster, Membership { is_doubtful: yes, ..Membership::default() });
        }
        Change::Node { name, exists, ready, address } => {
            let kind = if address % 2 == 0 { NodeAddressKind::Internal } else { NodeAddressKind::External };
            let addresses = vec![NodeAddress { kind, address: IpAddr::V4(Ipv4Addr::new(10, 1, 0, address)) }];
            let node = Node { name: format!("w{}", name % 4).into(), is_ready: ready, addresses, ..Node::default() };
            (Kind::Node, ObjectName::new("", node.name.clone()), exists.then(|| Object::Node(Arc::new(node))))
        }
        Change::Service { name, exists, external, reach, local, at } => {
            let annotations = reach.into_iter().map(|mode| (reach::ANNOTATION.into(), mode.into())).collect();
            let load_balancer = at.into_iter().map(Into::into).collect();
            let service = Service { annotations, load_balancer, is_local: local, ..service(name, external) };
            (Kind::Service, service.name.clone(), exists.then(|| Object::Service(Arc::new(service))))
        }
        Change::Slice { name, service, exists, fqdn, endpoints } => {
            let slice = slice(name, service, fqdn, &endpoints);
            (Kind::EndpointSlice, slice.name.clone(), exists.then(|| Object::EndpointSlice(Arc::new(slice))))
        }
    };
    inputs.apply(cluster, &ObjectKey { kind, name }, object)
}

fn name(number: u8) -> ObjectName {
    ObjectName::new("n", format!("x{}", number % 4))
}

fn backend(number: u8) -> IngressBackend {
    let port = match number % 3 {
        0 => Some(PortRef::Number(80)),
        1 => Some(PortRef::Name("http".into())),
        _ => None,
    };
    match number % 16 {
        14 => IngressBackend::Resource { kind: "k".into(), name: "r".into() },
        15 => IngressBackend::Invalid,
        _ => IngressBackend::Service { name: name(number / 16).name, port },
    }
}

fn ingress(plan: IngressPlan) -> Ingress {
    let path = |(path_type, path, to): (u8, String, u8)| IngressPath {
        path: path.into(),
        path_type: [PathType::Exact, PathType::Prefix, PathType::ImplementationSpecific][usize::from(path_type % 3)],
        backend: backend(to),
    };
    let rule = |(host, paths): (String, Option<Vec<(u8, String, u8)>>)| IngressRule {
        host: host.into(),
        paths: paths.map(|paths| paths.into_iter().map(path).collect()),
    };
    let mut annotations: BTreeMap<Arc<str>, Arc<str>> =
        plan.annotations.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    if plan.regex {
        annotations.insert("nginx.ingress.kubernetes.io/use-regex".into(), "true".into());
    }
    Ingress {
        name: name(plan.name),
        meta: Meta { created_at: plan.created_at.into(), ..Meta::default() },
        class_name: Some("c".into()),
        annotations,
        default_backend: plan.default.map(backend),
        rules: plan.rules.into_iter().map(rule).collect(),
        tls: Vec::new(),
    }
}

fn service(number: u8, external: bool) -> Service {
    Service {
        name: name(number),
        service_type: if external { ServiceType::ExternalName } else { ServiceType::LoadBalancer },
        ports: vec![ServicePort { name: "http".into(), port: 80, node_port: 30_080, ..ServicePort::default() }],
        ..Service::default()
    }
}

fn slice(number: u8, service: u8, fqdn: bool, endpoints: &[EndpointPlan]) -> EndpointSlice {
    let endpoint = |plan: &EndpointPlan| SliceEndpoint {
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, plan.address)),
        ready: plan.ready,
        serving: plan.serving,
        terminating: plan.terminating,
        zone: None,
        node: None,
        for_zones: plan.zones.iter().map(|zone| zone.to_string().into()).collect(),
    };
    EndpointSlice {
        name: name(number),
        meta: Meta::default(),
        service: name(service).name,
        address_type: if fqdn { AddressType::Fqdn } else { AddressType::Ipv4 },
        ports: vec![SlicePort { name: "http".into(), port: Some(8080), ..SlicePort::default() }],
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}
