//! Any request against any Ingress: no panic, whatever is accepted compiles, and the answer is one of the routes.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use roadstead_routing::check::check_host;
use roadstead_routing::compute::build;
use roadstead_routing::id::{ClusterId, HostKey, PoolName};
use roadstead_routing::inputs::Inputs;
use roadstead_routing::lookup::{Found, buckets, request_host, request_path};
use roadstead_routing::object::{
    Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, Object, PathType,
};
use roadstead_routing::policy::{CONTROLLER_NAME, Policy, PoolKind, PoolPolicy};

fuzz_target!(|input: (String, String, String, Vec<(u8, String)>)| {
    let (host, target, rule_host, paths) = input;
    let pool = PoolName::from("public");
    let mut inputs = Inputs::new(Policy {
        pools: BTreeMap::from([(
            pool.clone(),
            PoolPolicy { kind: PoolKind::Edge, addresses: Vec::new(), default: true, certificate: None },
        )]),
        ..Policy::default()
    });
    let class = IngressClass { name: "c".into(), controller: CONTROLLER_NAME.into(), ..IngressClass::default() };
    for object in [Object::IngressClass(Arc::new(class)), Object::Ingress(Arc::new(ingress(&rule_host, &paths)))] {
        inputs.apply(&ClusterId::from("a"), &object.key(), Some(object));
    }
    let table = build(&inputs).table;
    for compiled in table.hosts.values() {
        assert_eq!(check_host(compiled), []);
    }
    let name = request_host(&host);
    let declared = buckets(&name).any(|bucket| table.hosts.contains_key(&(pool.clone(), HostKey::from(bucket))));
    match table.lookup(&pool, &host, &target) {
        Found::Route(route) => assert!(declared && !route.backends.is_empty()),
        Found::Default(backends) => assert!(!backends.is_empty()),
        Found::NotFound => {}
    }
    assert!(!request_path(&target).is_empty());
});

fn ingress(host: &str, paths: &[(u8, String)]) -> Ingress {
    let path = |(path_type, path): &(u8, String)| IngressPath {
        path: path.as_str().into(),
        path_type: [PathType::Exact, PathType::Prefix, PathType::ImplementationSpecific][usize::from(path_type % 3)],
        backend: IngressBackend::Invalid,
    };
    let rule = |host: &str| IngressRule { host: host.into(), paths: Some(paths.iter().map(path).collect()) };
    Ingress {
        class_name: Some("c".into()),
        annotations: BTreeMap::from([("nginx.ingress.kubernetes.io/use-regex".into(), "true".into())]),
        rules: vec![rule(host), rule("")],
        ..Ingress::default()
    }
}
