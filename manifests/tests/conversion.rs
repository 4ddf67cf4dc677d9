//! From what the Kubernetes API holds to what routing reads, good and bad.

#![expect(clippy::unwrap_used, reason = "in a test, a panic with the place is the report")]
#![expect(clippy::needless_pass_by_value, reason = "json!() makes values, and a test reads better without &")]

use proptest::prelude::*;
use roadstead_manifests::{Converted, Problem, decode};
use roadstead_routing::finding::{Code, Severity};
use roadstead_routing::id::{Kind, ObjectKey, ObjectName, PortRef};
use roadstead_routing::limit;
use roadstead_routing::object::{
    AddressType, EndpointSlice, Ingress, IngressBackend, Object, PathType, Protocol, Service, ServiceType,
};
use serde_json::{Value, json};

fn ingress(spec: Value) -> (Ingress, Vec<Problem>) {
    ingress_with(json!({"name": "web", "namespace": "shop"}), spec)
}

fn ingress_with(metadata: Value, spec: Value) -> (Ingress, Vec<Problem>) {
    let value = json!({"metadata": metadata, "spec": spec});
    let Converted { object, problems } = decode(Kind::Ingress, value).unwrap();
    let Object::Ingress(ingress) = object else { panic!("an Ingress was decoded as {object:?}") };
    ((*ingress).clone(), problems)
}

fn service(spec: Value) -> (Service, Vec<Problem>) {
    let value = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
    let Converted { object, problems } = decode(Kind::Service, value).unwrap();
    let Object::Service(service) = object else { panic!("a Service was decoded as {object:?}") };
    ((*service).clone(), problems)
}

fn slice(mut fields: Value) -> (EndpointSlice, Vec<Problem>) {
    let labels = json!({"kubernetes.io/service-name": "web"});
    fields["metadata"] = json!({"name": "web-1", "namespace": "shop", "labels": labels});
    let Converted { object, problems } = decode(Kind::EndpointSlice, fields).unwrap();
    let Object::EndpointSlice(slice) = object else { panic!("an EndpointSlice was decoded as {object:?}") };
    ((*slice).clone(), problems)
}

fn codes(problems: &[Problem]) -> Vec<Code> {
    problems.iter().map(|problem| problem.code).collect()
}

fn path(path: &str, port: Value) -> Value {
    json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": "web", "port": port}}})
}

#[test]
fn a_whole_ingress_is_kept_as_written() {
    let (ingress, problems) = ingress(json!({
        "ingressClassName": "roadstead",
        "defaultBackend": {"resource": {"apiGroup": "x.example.com", "kind": "Bucket", "name": "static"}},
        "rules": [
            {"host": "App.Example.com", "http": {"paths": [path("/a", json!({"number": 80}))]}},
            {"host": "declared.example.com"},
            {"http": {"paths": [path("", json!({"name": "http"}))]}},
        ],
        "tls": [{"hosts": ["app.example.com"], "secretName": "cert"}],
    }));
    assert_eq!(problems, []);
    assert_eq!(ingress.name, ObjectName::new("shop", "web"));
    assert_eq!(ingress.class_name.as_deref(), Some("roadstead"));
    assert_eq!(
        ingress.default_backend,
        Some(IngressBackend::Resource { kind: "Bucket".into(), name: "static".into() })
    );
    assert_eq!(&*ingress.rules[0].host, "App.Example.com");
    assert_eq!(ingress.rules[1].paths, None, "a rule without http only declares its host");
    let last = &ingress.rules[2].paths.as_ref().unwrap()[0];
    assert_eq!((&*last.path, last.path_type), ("", PathType::Prefix));
    assert_eq!(last.backend, IngressBackend::Service { name: "web".into(), port: Some(PortRef::Name("http".into())) });
    assert_eq!((&*ingress.tls[0].hosts[0], &*ingress.tls[0].secret_name), ("app.example.com", "cert"));
}

#[test]
fn metadata_names_the_writer_of_the_object_and_not_of_its_status() {
    let entry = |manager: &str, time: &str, subresource: &str| json!({"manager": manager, "operation": "Apply", "time": time, "subresource": subresource});
    let metadata = json!({
        "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "77", "generation": 3,
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "managedFields": [
            entry("kubectl", "2026-01-02T03:04:05Z", ""),
            entry("argocd", "2026-02-02T03:04:05Z", ""),
            entry("some-controller", "2026-03-02T03:04:05Z", "status"),
        ],
    });
    let (ingress, _) = ingress_with(metadata, json!({}));
    let meta = ingress.meta;
    assert_eq!((&*meta.uid, &*meta.resource_version, meta.generation), ("u-1", "77", 3));
    assert_eq!(meta.created_at, 1_767_323_045);
    assert_eq!(&*meta.last_manager, "argocd");
}

#[test]
fn only_annotations_that_routing_reads_leave_the_cluster() {
    let metadata = json!({"name": "web", "namespace": "shop", "annotations": {
        "kubernetes.io/ingress.class": "roadstead",
        "nginx.ingress.kubernetes.io/rewrite-target": "/$1",
        "roadstead.dev/strategy": "spread",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "team.example.com/password": "hunter2",
    }});
    let (ingress, problems) = ingress_with(metadata, json!({}));
    let kept: Vec<&str> = ingress.annotations.keys().map(|key| &**key).collect();
    assert_eq!(
        kept,
        ["kubernetes.io/ingress.class", "nginx.ingress.kubernetes.io/rewrite-target", "roadstead.dev/strategy"]
    );
    assert_eq!(problems, []);
}

#[test]
fn an_annotation_with_nul_or_beyond_the_limit_is_dropped_alone() {
    let long = "x".repeat(limit::ANNOTATION_BYTES_MAX + 1);
    let fits = "x".repeat(limit::ANNOTATION_BYTES_MAX);
    let metadata = json!({"name": "web", "namespace": "shop", "annotations": {
        "roadstead.dev/a": "nul\u{0}", "roadstead.dev/b": long, "roadstead.dev/c": fits, "other.dev/d": "\u{0}",
    }});
    let (ingress, problems) = ingress_with(metadata, json!({}));
    assert_eq!(ingress.annotations.keys().map(|key| &**key).collect::<Vec<_>>(), ["roadstead.dev/c"]);
    assert_eq!(codes(&problems), [Code::InvalidAnnotation, Code::InvalidAnnotation]);
    assert!(problems[0].message.contains("NUL") && problems[1].message.contains("8193 bytes"), "{problems:?}");
    assert_eq!(problems[0].object, Some(ObjectKey::new(Kind::Ingress, "shop", "web")));
}

#[test]
fn paths_beyond_the_limit_are_cut_but_their_hosts_stay_declared() {
    let many = vec![path("/a", json!({"number": 80})); limit::PATHS_PER_INGRESS_MAX];
    let (whole, problems) = ingress(json!({"rules": [{"host": "a.example.com", "http": {"paths": many.clone()}}]}));
    assert_eq!((whole.rules[0].paths.as_ref().unwrap().len(), problems), (limit::PATHS_PER_INGRESS_MAX, vec![]));

    let (cut, problems) = ingress(json!({"rules": [
        {"host": "a.example.com", "http": {"paths": many}},
        {"host": "b.example.com", "http": {"paths": [path("/b", json!({"number": 80}))]}},
    ]}));
    assert_eq!(codes(&problems), [Code::TooManyPaths]);
    assert_eq!(cut.rules[0].paths.as_ref().unwrap().len(), limit::PATHS_PER_INGRESS_MAX);
    assert_eq!((&*cut.rules[1].host, cut.rules[1].paths.as_deref()), ("b.example.com", Some(&[][..])));
}

#[test]
fn rules_beyond_the_limit_are_cut() {
    let rules = vec![json!({"host": "a.example.com"}); limit::PATHS_PER_INGRESS_MAX + 1];
    let (cut, problems) = ingress(json!({"rules": rules}));
    assert_eq!((cut.rules.len(), codes(&problems)), (limit::PATHS_PER_INGRESS_MAX, vec![Code::TooManyPaths]));
}

#[test]
fn an_unknown_path_type_costs_only_its_path() {
    let mut odd = path("/odd", json!({"number": 80}));
    odd["pathType"] = json!("Glob");
    let mut old = path("/old", json!({"number": 80}));
    old.as_object_mut().unwrap().remove("pathType");
    let (ingress, problems) = ingress(json!({"rules": [{"host": "a.example.com", "http": {"paths": [odd, old]}}]}));
    let kept = ingress.rules[0].paths.as_ref().unwrap();
    assert_eq!((kept.len(), kept[0].path_type), (1, PathType::ImplementationSpecific));
    assert_eq!(codes(&problems), [Code::InvalidPath]);
    assert!(problems[0].message.contains("/odd") && problems[0].message.contains("Glob"), "{problems:?}");
}

#[test]
fn backends_that_are_not_exactly_one_thing_are_invalid() {
    let service = |port: Value| json!({"service": {"name": "web", "port": port}});
    let cases = [
        (json!({}), IngressBackend::Invalid),
        (json!({"service": {"name": "a"}, "resource": {"kind": "B", "name": "b"}}), IngressBackend::Invalid),
        (service(json!({"name": "http", "number": 80})), IngressBackend::Invalid),
        (service(json!({"number": 65_536})), IngressBackend::Invalid),
        (service(json!({"number": -1})), IngressBackend::Invalid),
        (json!({"service": {"name": "", "port": {"number": 80}}}), IngressBackend::Invalid),
        (service(json!({})), IngressBackend::Service { name: "web".into(), port: None }),
        (
            service(json!({"name": "", "number": 65_535})),
            IngressBackend::Service { name: "web".into(), port: Some(PortRef::Number(65_535)) },
        ),
    ];
    for (backend, expected) in cases {
        let (ingress, _) = ingress(json!({"defaultBackend": backend}));
        assert_eq!(ingress.default_backend, Some(expected), "{backend}");
    }
}

#[test]
fn services_keep_their_routable_ports() {
    let (service, problems) = service(json!({"type": "NodePort", "ports": [
        {"name": "http", "port": 80, "nodePort": 30_080, "appProtocol": "kubernetes.io/h2c", "targetPort": "web"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "bad", "port": 70_000},
        {"name": "odd", "port": 90, "protocol": "QUIC"},
    ]}));
    assert_eq!(service.service_type, ServiceType::NodePort);
    let ports: Vec<_> = service.ports.iter().map(|port| (&*port.name, port.port, port.protocol)).collect();
    assert_eq!(ports, [("http", 80, Protocol::Tcp), ("dns", 53, Protocol::Udp)]);
    assert_eq!(
        (service.ports[0].node_port, service.ports[0].app_protocol.as_deref()),
        (30_080, Some("kubernetes.io/h2c"))
    );
    assert_eq!(codes(&problems), [Code::ServicePortNotFound, Code::ServicePortNotFound]);
}

#[test]
fn an_external_name_service_keeps_its_name() {
    let (service, _) = service(json!({"type": "ExternalName", "externalName": "db.example.com"}));
    assert_eq!((service.service_type, &*service.external_name), (ServiceType::ExternalName, "db.example.com"));
}

#[test]
fn a_service_keeps_what_other_ways_to_it_need() {
    let object = json!({
        "metadata": {
            "name": "gateway", "namespace": "ingress",
            "annotations": {"roadstead.dev/reach": "node-port", "roadstead.dev/other": "x", "example.com/x": "y"},
        },
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
        "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.1", "hostname": "both.example.org"}, {"hostname": "lb.example.org"}, {},
        ]}},
    });
    let Object::Service(service) = decode(Kind::Service, object).unwrap().object else { panic!("a Service") };
    assert!(service.is_local);
    assert_eq!(service.load_balancer, ["192.0.2.1".into(), "lb.example.org".into()]);
    assert_eq!(service.annotations, [("roadstead.dev/reach".into(), "node-port".into())].into());
}

#[test]
fn nodes_say_whether_and_where_they_take_requests() {
    let ready = json!([{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}]);
    let node = |metadata: Value, spec: Value, conditions: &Value| {
        let mut object = json!({"metadata": metadata, "spec": spec, "status": {"conditions": conditions, "addresses": [
            {"type": "Hostname", "address": "worker-1"}, {"type": "ExternalIP", "address": "2001:db8::1"},
            {"type": "InternalIP", "address": "10.1.0.1"}, {"type": "InternalIP", "address": "not an address"},
            {"type": "InternalIP", "address": "10.1.0.1"},
        ]}});
        object["metadata"]["name"] = "worker-1".into();
        let Object::Node(node) = decode(Kind::Node, object).unwrap().object else { panic!("a Node") };
        node
    };
    let whole = json!({
        "uid": "u-1", "resourceVersion": "9", "generation": 4, "labels": {"topology.kubernetes.io/zone": "a"},
    });
    let node_1 = node(whole, json!({"providerID": "aws:///a/i-0"}), &ready);
    let addresses: Vec<String> = node_1.addresses.iter().map(|it| format!("{:?} {}", it.kind, it.address)).collect();
    assert_eq!(addresses, ["Internal 10.1.0.1", "External 2001:db8::1"]);
    assert_eq!((node_1.is_ready, node_1.zone.as_deref(), &*node_1.provider_id), (true, Some("a"), "aws:///a/i-0"));
    assert_eq!((&*node_1.meta.uid, &*node_1.meta.resource_version), ("u-1", ""), "a heartbeat is no change");

    let not_ready = json!([{"type": "Ready", "status": "Unknown"}]);
    let taint = json!({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]});
    let excluded = json!({"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}});
    let leaving = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    for (metadata, spec, conditions) in [
        (json!({}), json!({}), &not_ready),
        (json!({}), json!({}), &json!([])),
        (json!({}), taint, &ready),
        (excluded, json!({}), &ready),
        (leaving, json!({}), &ready),
    ] {
        assert!(!node(metadata.clone(), spec.clone(), conditions).is_ready, "{metadata} {spec} {conditions}");
    }
    let cordoned = node(json!({}), json!({"unschedulable": true}), &ready);
    assert!(cordoned.is_ready, "a cordoned node still answers for its pods");
}

#[test]
fn endpoints_keep_their_three_valued_conditions_and_zones() {
    let zones: Vec<Value> = (0..10).map(|zone| json!({"name": format!("z{zone}")})).collect();
    let (slice, problems) = slice(json!({
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "all"}, {"name": "bad", "port": 0}],
        "endpoints": [
            {"addresses": ["10.0.0.1", "10.0.0.9"], "conditions": {"ready": true, "terminating": false}, "zone": "z1"},
            {"addresses": ["10.0.0.2"], "hints": {"forZones": zones}},
        ],
    }));
    assert_eq!(problems, []);
    assert_eq!(&*slice.service, "web");
    let ports: Vec<_> = slice.ports.iter().map(|port| (&*port.name, port.port)).collect();
    assert_eq!(ports, [("http", Some(8080)), ("all", None)]);
    let first = &slice.endpoints[0];
    assert_eq!(first.address.to_string(), "10.0.0.1", "only the first address means anything");
    assert_eq!((first.ready, first.serving, first.terminating), (Some(true), None, Some(false)));
    assert_eq!(slice.endpoints[1].for_zones.len(), limit::ZONES_PER_ENDPOINT_MAX);
}

#[test]
fn endpoints_without_a_usable_address_are_skipped_with_one_problem() {
    let endpoint = |address: &str| json!({"addresses": [address]});
    let (slice, problems) = slice(json!({"addressType": "IPv6", "endpoints": [
        endpoint("fd00::1"), endpoint("10.0.0.1"), endpoint("fd00::zz"), {"addresses": []}, {},
    ]}));
    assert_eq!(slice.endpoints.len(), 1);
    assert_eq!(codes(&problems), [Code::MalformedObject]);
    assert!(problems[0].message.starts_with("4 endpoints"), "{problems:?}");
    assert_eq!(problems[0].severity, Severity::Warning);
}

#[test]
fn slices_of_names_are_ignored_without_a_problem() {
    let (slice, problems) = slice(json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.example.com"]}]}));
    assert_eq!((slice.address_type, slice.endpoints, problems), (AddressType::Fqdn, vec![], vec![]));
}

#[test]
fn slices_beyond_the_limits_are_cut() {
    let endpoints = vec![json!({"addresses": ["10.0.0.1"]}); limit::ENDPOINTS_PER_SLICE_MAX + 1];
    let ports = vec![json!({"port": 80}); limit::PORTS_PER_SLICE_MAX + 1];
    let (slice, problems) = slice(json!({"addressType": "IPv4", "endpoints": endpoints, "ports": ports}));
    assert_eq!(slice.endpoints.len(), limit::ENDPOINTS_PER_SLICE_MAX);
    assert_eq!(slice.ports.len(), limit::PORTS_PER_SLICE_MAX);
    assert_eq!(codes(&problems), [Code::ObjectTooLarge, Code::ObjectTooLarge]);
}

#[test]
fn a_class_keeps_its_controller_and_parameters() {
    let value = json!({"metadata": {"name": "internal"}, "spec": {
        "controller": "roadstead.dev/ingress",
        "parameters": {"apiGroup": "roadstead.dev", "kind": "Pool", "name": "internal"},
    }});
    let Object::IngressClass(class) = decode(Kind::IngressClass, value).unwrap().object else { panic!("not a class") };
    let parameters = class.parameters.as_ref().unwrap();
    assert_eq!((&*class.name, &*class.controller), ("internal", "roadstead.dev/ingress"));
    assert_eq!((&*parameters.api_group, &*parameters.kind, &*parameters.name), ("roadstead.dev", "Pool", "internal"));
}

#[test]
fn a_wrong_shape_names_the_object_where_its_metadata_can_be_read() {
    let metadata = json!({"name": "web", "namespace": "shop"});
    let problem = decode(Kind::Ingress, json!({"metadata": metadata, "spec": {"rules": "all"}})).unwrap_err();
    assert_eq!(problem.object, Some(ObjectKey::new(Kind::Ingress, "shop", "web")));
    assert_eq!((problem.code, problem.severity), (Code::MalformedObject, Severity::Error));
    assert!(problem.message.starts_with("Ingress shop/web cannot be read: invalid type"), "{}", problem.message);

    for value in [json!(null), json!([]), json!({"metadata": {"name": 7}}), json!({"metadata": {"name": "a"}})] {
        let problem = decode(Kind::Ingress, value.clone()).unwrap_err();
        assert_eq!((problem.object, problem.code), (None, Code::MalformedObject), "{value}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\0/*.]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let key = prop_oneof![
            Just("name".to_owned()),
            Just("port".to_owned()),
            Just("paths".to_owned()),
            Just("http".to_owned()),
            Just("rules".to_owned()),
            Just("backend".to_owned()),
            Just("service".to_owned()),
            Just("addresses".to_owned()),
            Just("endpoints".to_owned()),
            Just("ports".to_owned()),
            Just("annotations".to_owned()),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_panics_and_what_is_kept_has_its_own_key(kind in 0..4_usize, spec in any_json(), extra in any_json()) {
        let kind = Kind::ALL[kind];
        let mut value = json!({"metadata": {"name": "web"}, "spec": spec, "endpoints": extra, "addressType": "IPv4"});
        if kind != Kind::IngressClass {
            value["metadata"]["namespace"] = json!("shop");
        }
        let namespace = if kind == Kind::IngressClass { "" } else { "shop" };
        let expected = ObjectKey::new(kind, namespace, "web");
        match decode(kind, value) {
            Ok(converted) => prop_assert_eq!(converted.object.key(), expected),
            Err(problem) => prop_assert_eq!(problem.object, Some(expected)),
        }
    }
}
