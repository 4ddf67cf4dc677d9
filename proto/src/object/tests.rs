use super::*;
use crate::digest::Digest;

fn meta() -> Meta {
    Meta {
        uid: "u-1".into(),
        resource_version: "17".into(),
        generation: 3,
        created_at: 1_700_000_000,
        last_manager: "argocd".into(),
    }
}

fn ingress() -> Ingress {
    let service = |port| IngressBackend::Service { name: "web".into(), port };
    let path = |path: &str, path_type, backend| IngressPath { path: path.into(), path_type, backend };
    Ingress {
        name: ObjectName::new("shop", "web"),
        meta: meta(),
        class_name: Some("roadstead".into()),
        annotations: [("roadstead.dev/x".into(), "y".into())].into(),
        default_backend: Some(IngressBackend::Resource { kind: "Bucket".into(), name: "b".into() }),
        rules: vec![
            IngressRule {
                host: "a.example.com".into(),
                paths: Some(vec![
                    path("/", PathType::Prefix, service(Some(PortRef::Number(80)))),
                    path("/x", PathType::Exact, service(Some(PortRef::Name("http".into())))),
                    path("", PathType::ImplementationSpecific, service(None)),
                    path("/bad", PathType::Prefix, IngressBackend::Invalid),
                ]),
            },
            IngressRule { host: "".into(), paths: None },
        ],
        tls: vec![IngressTls { hosts: vec!["a.example.com".into()], secret_name: "s".into() }],
    }
}

fn slice() -> EndpointSlice {
    EndpointSlice {
        name: ObjectName::new("shop", "web-1"),
        meta: meta(),
        service: "web".into(),
        address_type: AddressType::Ipv6,
        ports: vec![SlicePort { name: "http".into(), port: Some(8080), ..SlicePort::default() }, SlicePort::default()],
        endpoints: vec![SliceEndpoint {
            address: "fd00::1".parse().unwrap(),
            ready: Some(false),
            serving: None,
            terminating: Some(true),
            zone: Some("a".into()),
            node: None,
            for_zones: vec!["a".into(), "b".into()],
        }],
    }
}

fn node() -> Node {
    let address = |kind, address: &str| NodeAddress { kind, address: address.parse().unwrap() };
    Node {
        name: "worker-1".into(),
        meta: meta(),
        is_ready: true,
        addresses: vec![
            address(NodeAddressKind::Internal, "10.1.0.1"),
            address(NodeAddressKind::External, "2001:db8::1"),
        ],
        zone: Some("a".into()),
        provider_id: "aws:///a/i-0".into(),
    }
}

fn one_of_each_kind() -> [Object; 5] {
    let service = Service {
        name: ObjectName::new("shop", "web"),
        meta: meta(),
        service_type: ServiceType::ExternalName,
        external_name: "db.example.org".into(),
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            node_port: 30080,
            protocol: Protocol::Udp,
            app_protocol: Some("kubernetes.io/h2c".into()),
        }],
        ..Service::default()
    };
    let class = IngressClass {
        name: "roadstead".into(),
        meta: meta(),
        controller: "roadstead.dev/ingress".into(),
        parameters: Some(ClassParameters { api_group: "g".into(), kind: "Pool".into(), name: "internal".into() }),
    };
    [
        Object::IngressClass(Arc::new(class)),
        Object::Ingress(Arc::new(ingress())),
        Object::Service(Arc::new(service)),
        Object::EndpointSlice(Arc::new(slice())),
        Object::Node(Arc::new(node())),
    ]
}

#[test]
fn every_kind_survives_the_wire() {
    for object in one_of_each_kind() {
        assert_eq!(from_wire(to_wire(&object)), Ok(object.clone()));
        assert_eq!(key_parse(&key_text(&object.key())), Some(object.key()));
    }
}

/// A build that gives an object another digest makes every agent send everything again. Fields may be added: absent, they
/// take no bytes.
#[test]
fn digests_are_those_of_earlier_builds() {
    let digests = one_of_each_kind().map(|object| Digest::of(&to_wire(&object)).to_string());
    let recorded = [
        "bc86833b8517eb45debd8c22b6cd9abb",
        "1e7c526c2228d4ba6fe71aac0ec68206",
        "53dc26426f58db2753921ab3a127d8ff",
        "9998b68ee6fbdc20d957de9300773602",
        "6bfdbdbc8825750fbb4f9d728516ea41",
    ];
    assert_eq!(digests, recorded);
}

#[test]
fn what_an_address_beside_the_pods_needs_survives_the_wire() {
    let service = Service {
        name: ObjectName::new("ingress", "gateway"),
        annotations: [("roadstead.dev/reach".into(), "node-port".into())].into(),
        is_local: true,
        load_balancer: vec!["192.0.2.1".into(), "lb.example.org".into()],
        ..Service::default()
    };
    let mut slice = slice();
    slice.endpoints[0].node = Some("worker-1".into());
    for object in [Object::Service(service.into()), Object::EndpointSlice(slice.into())] {
        assert_eq!(from_wire(to_wire(&object)), Ok(object));
    }
}

#[test]
fn limits_are_enforced_where_an_object_enters() {
    let mut too_many = slice();
    too_many.endpoints = vec![too_many.endpoints[0].clone(); limit::ENDPOINTS_PER_SLICE_MAX + 1];
    let error = from_wire(to_wire(&Object::EndpointSlice(Arc::new(too_many)))).unwrap_err();
    assert_eq!(error, ObjectError::TooMany { field: "endpoints", found: 1001, max: 1000 });

    let mut too_many = ingress();
    let paths = too_many.rules[0].paths.as_mut().unwrap();
    *paths = vec![paths[0].clone(); limit::PATHS_PER_INGRESS_MAX + 1];
    assert!(matches!(
        from_wire(to_wire(&Object::Ingress(Arc::new(too_many)))),
        Err(ObjectError::TooMany { field: "spec.rules[].http.paths", .. })
    ));
}

#[test]
fn rubbish_names_the_field() {
    let mut object = to_wire(&Object::EndpointSlice(Arc::new(slice())));
    if let Some(wire::object::Spec::EndpointSlice(slice)) = &mut object.spec {
        slice.endpoints[0].address = vec![1, 2, 3];
    }
    assert_eq!(from_wire(object).unwrap_err().to_string(), "address has a value that is not allowed: 3 bytes");
    assert_eq!(from_wire(wire::Object::default()), Err(ObjectError::Missing { field: "name" }));
    let unnamed = wire::Object { name: "x".into(), ..wire::Object::default() };
    assert_eq!(from_wire(unnamed), Err(ObjectError::UnknownSpec));
}
