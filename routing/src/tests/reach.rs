//! How edges get to clusters: its case file, and what a gateway may be called.

use std::sync::Arc;

use serde::Deserialize;

use crate::check::check;
use crate::compute::build;
use crate::endpoints::{Locality, destination};
use crate::id::{ClusterId, ObjectName, PoolName};
use crate::inputs::Inputs;
use crate::membership::Membership;
use crate::object::{Meta, Node, NodeAddress, NodeAddressKind, Object, Service, ServicePort, ServiceType};
use crate::policy::{ClusterPolicy, Policy};
use crate::reach::{ANNOTATION, GatewayRef};
use crate::table::{Table, Target};

use super::cases::{parse_slices, read};
use super::world::{self, POOL, words};

const CLUSTER: &str = "one";
const GIVEN: &str = "one shop/web\n  h.ex.com  Prefix  /  !web";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    rule: String,
    says: String,
    cluster: ClusterPolicy,
    #[serde(default)]
    doubtful: bool,
    service: String,
    #[serde(default)]
    gateway: String,
    #[serde(default)]
    nodes: String,
    slices: String,
    expect: String,
    #[serde(default)]
    findings: String,
}

pub(super) fn failures() -> Vec<String> {
    read("reach.yaml").iter().flat_map(check_case).collect()
}

fn check_case(case: &Case) -> Vec<String> {
    let name = format!("{} ({}: {})", case.case, case.rule, case.says);
    let inputs = case.inputs();
    let outcome = build(&inputs);
    let mut failures: Vec<String> =
        check(&inputs, &outcome.table).iter().map(|violation| format!("{name}: {violation}")).collect();
    for line in case.expect.lines() {
        let words = words(line);
        let (want, got) = (words[2..].join(" "), answer(&outcome.table, &words[0], &words[1]));
        if want != got {
            failures.push(format!("{name}: from pool {} region {} wants {want}, got {got}", words[0], words[1]));
        }
    }
    let findings: Vec<_> = outcome.findings.iter().map(|finding| finding.code.as_str()).collect();
    if findings != words(&case.findings) {
        failures.push(format!("{name}: wants findings {:?}, got {findings:?}", case.findings));
    }
    failures
}

impl Case {
    fn inputs(&self) -> Inputs {
        let id = ClusterId::from(CLUSTER);
        let policy = Policy { clusters: [(id.clone(), self.cluster.clone())].into(), ..world::policy() };
        let mut inputs = world::inputs(policy, &world::parse(GIVEN));
        let slices = parse_slices(&self.slices).into_iter().map(|slice| Object::EndpointSlice(slice.into()));
        let nodes = self.nodes.lines().map(|line| node(&words(line)));
        let services = [("shop/web", &self.service), ("ingress/gateway", &self.gateway)];
        let services = services.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, it)| service(name, it));
        for object in slices.chain(nodes).chain(services) {
            inputs.apply(&id, &object.key(), Some(object.clone()));
        }
        inputs.set_membership(&id, Membership { is_doubtful: self.doubtful, ..Membership::default() });
        inputs
    }
}

/// `TYPE [local] [reach=MODE] [at=ADDRESS,…] PORT…`, a port being `NAME=PORT[:NODE_PORT][/APP_PROTOCOL]`.
fn service(name: &str, text: &str) -> Object {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let words = words(text);
    let mut service = Service {
        name: ObjectName::new(namespace, name),
        service_type: match words[0].as_str() {
            "ClusterIP" => ServiceType::ClusterIp,
            "NodePort" => ServiceType::NodePort,
            "LoadBalancer" => ServiceType::LoadBalancer,
            "ExternalName" => ServiceType::ExternalName,
            other => panic!("Service type {other}"),
        },
        external_name: "elsewhere.example.org".into(),
        ..Service::default()
    };
    for word in &words[1..] {
        match word.split_once('=') {
            None => service.is_local = word == "local",
            Some(("reach", mode)) => {
                service.annotations.insert(ANNOTATION.into(), mode.into());
            }
            Some(("at", addresses)) => service.load_balancer = addresses.split(',').map(Arc::from).collect(),
            Some((name, port)) => service.ports.push(service_port(name, port)),
        }
    }
    Object::Service(service.into())
}

fn service_port(name: &str, text: &str) -> ServicePort {
    let (text, app_protocol) = text.split_once('/').map_or((text, None), |(text, app)| (text, Some(app.into())));
    let (port, node_port) = text.split_once(':').unwrap_or((text, "0"));
    let number = |text: &str| text.parse().expect("a port");
    ServicePort {
        name: name.into(),
        port: number(port),
        node_port: number(node_port),
        app_protocol,
        ..ServicePort::default()
    }
}

/// `NAME [unready] INTERNAL… [ext=EXTERNAL]`
fn node(words: &[String]) -> Object {
    let address = |word: &String| {
        let (kind, text) = match word.strip_prefix("ext=") {
            Some(text) => (NodeAddressKind::External, text),
            None => (NodeAddressKind::Internal, word.as_str()),
        };
        Some(NodeAddress { kind, address: text.parse().ok()? })
    };
    Object::Node(Arc::new(Node {
        name: words[0].as_str().into(),
        meta: Meta::default(),
        is_ready: !words.iter().any(|word| word == "unready"),
        addresses: words[1..].iter().filter_map(address).collect(),
        zone: None,
        provider_id: "".into(),
    }))
}

/// The mode, the protocol if it is not HTTP/1.1, and where requests go; the weight if it is not 100.
fn answer(table: &Table, pool: &str, region: &str) -> String {
    let host = table.hosts.values().find(|host| host.pool.as_str() == POOL).expect("the host");
    let part = &host.routes[0].backends[0];
    let Target::Backend(id) = &part.target else { panic!("a backend") };
    let region = (region != "-").then(|| region.into());
    let at = Locality { pool: Some(PoolName::from(pool)), region, ..Locality::default() };
    let to = destination(&table.backends[id], &at);
    let mut words = vec![to.mode.to_string()];
    if to.protocol != Default::default() {
        words.push(format!("{:?}", to.protocol));
    }
    words.extend(to.name.map(|name| format!("{}:{}", name.host, name.port)));
    words.extend(to.addresses.iter().map(ToString::to_string));
    if to.is_empty() {
        words.push("none".to_owned());
    }
    if part.weight != 100 {
        words.push(format!("weight={}", part.weight));
    }
    words.join(" ")
}

#[test]
fn every_way_to_a_cluster_is_as_its_case_says() {
    let failures = failures();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn a_large_cluster_is_reached_through_some_of_its_nodes_and_each_service_through_others() {
    let nodes = |service: &str| {
        let mut inputs = Inputs::new(Policy {
            clusters: [("one".into(), serde_saphyr::from_str("reach: node-port").unwrap())].into(),
            ..world::policy()
        });
        let given = format!("one shop/web\n  h.ex.com  Prefix  /  !{service}");
        let objects = world::parse(&given).into_iter().map(|(_, object)| object);
        let nodes = (0..200).map(|at| node(&[format!("n{at}"), format!("10.1.0.{at}")]));
        let port = self::service(&format!("shop/{service}"), "NodePort http=80:30080");
        for object in objects.chain(nodes).chain([port, world::slice("shop", service, &["10.0.0.1"])]) {
            inputs.apply(&"one".into(), &object.key(), Some(object.clone()));
        }
        let table = build(&inputs).table;
        let backend = table.backends.values().next().expect("a backend").clone();
        backend.reach.expect("other ways").nodes
    };
    let (web, api) = (nodes("web"), nodes("api"));
    assert_eq!((web.len(), api.len()), (crate::limit::NODES_PER_BACKEND_MAX, crate::limit::NODES_PER_BACKEND_MAX));
    assert_eq!(web, nodes("web"));
    assert_ne!(web, api);
}

/// One pod more of many does not rewrite the backend.
#[test]
fn pods_behind_a_gateway_are_counted_about() {
    let pods = |count: u8| {
        let mut inputs = Case {
            case: String::new(),
            rule: String::new(),
            says: String::new(),
            cluster: serde_saphyr::from_str("{reach: gateway, gateway: ingress/gateway}").unwrap(),
            doubtful: false,
            service: "ClusterIP http=80".to_owned(),
            gateway: "LoadBalancer at=192.0.2.9 http=80".to_owned(),
            nodes: String::new(),
            slices: String::new(),
            expect: String::new(),
            findings: String::new(),
        }
        .inputs();
        let addresses: Vec<String> = (1..=count).map(|last| format!("10.0.0.{last}")).collect();
        let slice = world::slice("shop", "web", &addresses.iter().map(String::as_str).collect::<Vec<_>>());
        inputs.apply(&"one".into(), &slice.key(), Some(slice.clone()));
        let table = build(&inputs).table;
        let backend = table.backends.values().next().expect("a backend");
        destination(backend, &Locality::default()).weighed()
    };
    assert_eq!([1, 2, 3, 7, 8, 9, 10, 99, 100, 101].map(pods), [1, 2, 3, 7, 8, 10, 10, 96, 96, 96]);
    assert_eq!(pods(0), 0);
}

#[test]
fn a_gateway_is_named_with_or_without_a_port() {
    for text in ["ingress/gateway", "ingress/gateway:8443"] {
        assert_eq!(text.parse::<GatewayRef>().unwrap().to_string(), text);
    }
    for text in ["", "gateway", "/gateway", "ingress/", "a/b/c", "ingress/gateway:", "ingress/gateway:0", "A/b"] {
        assert!(text.parse::<GatewayRef>().is_err(), "{text}");
    }
}
