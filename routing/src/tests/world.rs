//! The text form of a world in case files: a few Ingresses as a table → [`Inputs`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{ClusterId, ObjectName, PoolName, PortRef};
use crate::inputs::Inputs;
use crate::object::{
    Certificate, ClassParameters, EndpointSlice, Hidden, Ingress, IngressBackend, IngressClass, IngressPath,
    IngressRule, IngressTls, Meta, Object, PathType, Secret, SecretContent, Service, ServicePort, ServiceType,
    SliceEndpoint, SlicePort,
};
use crate::policy::{CONTROLLER_NAME, ClassMode, ClassPolicy, Policy, PoolKind, PoolPolicy, StatusPolicy};

pub(super) const POOL: &str = "public";
pub(super) const CLASS: &str = "roadstead";
/// What time it is in cases.
pub(super) const NOW: i64 = 100;
/// A foreign class that the policy lists.
pub(super) const NGINX: &str = "nginx";

pub(super) fn policy() -> Policy {
    let pool = |default| PoolPolicy { kind: PoolKind::Edge, addresses: Vec::new(), default, certificate: None };
    let class = |name: &str, pool: &str, mode| {
        let pool = PoolName::from(pool);
        (name.to_owned(), ClassPolicy { pool, status: StatusPolicy::Never, mode, hsts: None })
    };
    Policy {
        pools: BTreeMap::from([(PoolName::from(POOL), pool(true)), (PoolName::from("internal"), pool(false))]),
        classes: BTreeMap::from([
            class("listed", "internal", ClassMode::Standard),
            class(NGINX, POOL, ClassMode::NginxCompat),
        ]),
        ..Policy::default()
    }
}

/// Objects with their clusters, in the order of the text.
pub(super) type Objects = Vec<(ClusterId, Object)>;

pub(super) fn inputs(policy: Policy, objects: &Objects) -> Inputs {
    let mut inputs = Inputs::new(policy);
    for (cluster, object) in objects {
        inputs.apply(cluster, &object.key(), Some(object.clone()));
    }
    inputs.set_now(NOW);
    inputs
}

/// Splits a line into words; `"two words"` is one.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a quote must be closed"),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

/// Reads the `given` of a case.
pub(super) fn parse(text: &str) -> Objects {
    let mut objects = Objects::new();
    let mut open: Option<(ClusterId, Ingress)> = None;
    let mut services = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let words = words(line);
        if !line.starts_with(' ') && words.get(2).is_some_and(|word| word == "secret") {
            objects.push((ClusterId::from(words[0].as_str()), secret(&words)));
            continue;
        }
        if !line.starts_with(' ') {
            objects.extend(open.take().map(|(cluster, ingress)| (cluster, Object::Ingress(Arc::new(ingress)))));
            open = Some(header(&words));
            continue;
        }
        let (cluster, ingress) = open.as_mut().expect("an entry must follow an Ingress");
        if let Some(backend) = entry(ingress, &words) {
            services.insert((cluster.clone(), ingress.name.namespace.clone(), backend));
        }
    }
    objects.extend(open.map(|(cluster, ingress)| (cluster, Object::Ingress(Arc::new(ingress)))));
    let clusters: BTreeSet<_> = objects.iter().map(|(cluster, _)| cluster.clone()).collect();
    for (name, controller) in [(CLASS, CONTROLLER_NAME), (NGINX, "k8s.io/ingress-nginx")] {
        objects.extend(clusters.iter().map(|cluster| (cluster.clone(), class(name, controller, None))));
    }
    for (cluster, namespace, backend) in services {
        objects.extend(service_objects(&namespace, &backend).into_iter().map(|it| (cluster.clone(), it)));
    }
    objects
}

fn header(words: &[String]) -> (ClusterId, Ingress) {
    let (namespace, name) = words[1].split_once('/').expect("namespace/name");
    let mut ingress =
        Ingress { name: ObjectName::new(namespace, name), class_name: Some(CLASS.into()), ..Ingress::default() };
    for option in &words[2..] {
        match option.split_once('=').expect("key=value") {
            ("age", seconds) => ingress.meta.created_at = seconds.parse().expect("a number"),
            ("class", class) => ingress.class_name = Some(class.into()),
            ("tls", entry) => {
                let (hosts, secret) = entry.split_once(':').expect("HOST,HOST:SECRET");
                let hosts = hosts.split(',').filter(|host| !host.is_empty()).map(Into::into).collect();
                ingress.tls.push(IngressTls { hosts, secret_name: secret.into() });
            }
            (annotation, value) => {
                let key = if annotation.contains('/') {
                    annotation.to_owned()
                } else {
                    format!("nginx.ingress.kubernetes.io/{annotation}")
                };
                ingress.annotations.insert(key.into(), value.into());
            }
        }
    }
    (ClusterId::from(words[0].as_str()), ingress)
}

/// `CLUSTER NAMESPACE/NAME secret NAMES [from=T] [until=T]`
pub(super) fn secret(words: &[String]) -> Object {
    let (namespace, name) = words[1].split_once('/').expect("namespace/name");
    let time = |key: &str, default| {
        let found = words[4..].iter().find_map(|word| word.strip_prefix(key));
        found.map_or(default, |time| time.parse().expect("a number"))
    };
    let content = match words[3].as_str() {
        "bad" => SecretContent::Unusable("it is rubbish".into()),
        "values" => SecretContent::Values(BTreeMap::new()),
        names => SecretContent::Certificate(Certificate {
            names: names.split(',').map(Into::into).collect(),
            not_before: time("from=", 0),
            not_after: time("until=", 1_000),
            chain: Arc::default(),
            key: Hidden(Arc::default()),
        }),
    };
    Object::Secret(Arc::new(Secret { name: ObjectName::new(namespace, name), meta: Meta::default(), content }))
}

/// Adds one entry and returns its backend as written.
fn entry(ingress: &mut Ingress, words: &[String]) -> Option<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let host = |host: &str| -> Arc<str> { if host == "-" { "".into() } else { host.into() } };
    match words[..] {
        ["default", backend] => {
            ingress.default_backend = Some(self::backend(backend));
            Some(backend.to_owned())
        }
        [name, "no-paths"] => {
            ingress.rules.push(IngressRule { host: host(name), paths: None });
            None
        }
        [name, path_type, path, backend] => {
            let path_type = match path_type {
                "Exact" => PathType::Exact,
                "Prefix" => PathType::Prefix,
                "Impl" => PathType::ImplementationSpecific,
                other => panic!("path type {other}"),
            };
            let path = IngressPath { path: path.into(), path_type, backend: self::backend(backend) };
            ingress.rules.push(IngressRule { host: host(name), paths: Some(vec![path]) });
            Some(backend.to_owned())
        }
        _ => panic!("an entry is `default BACKEND`, `HOST no-paths` or `HOST TYPE PATH BACKEND`, not {words:?}"),
    }
}

fn backend(text: &str) -> IngressBackend {
    match text.strip_prefix('@') {
        Some(name) => IngressBackend::Resource { kind: "StorageBucket".into(), name: name.into() },
        None if text == "nothing" => IngressBackend::Invalid,
        None => IngressBackend::Service {
            name: text.trim_start_matches(['!', '?', '~']).into(),
            port: Some(PortRef::Name("http".into())),
        },
    }
}

fn service_objects(namespace: &str, backend: &str) -> Vec<Object> {
    let name = backend.trim_start_matches(['?', '~']);
    if name == "nothing" || name.starts_with(['!', '@']) {
        return Vec::new();
    }
    let mut objects = vec![service(namespace, name, !backend.starts_with('~'))];
    if !backend.starts_with(['?', '~']) {
        objects.push(slice(namespace, name, &["10.0.0.1"]));
    }
    objects
}

pub(super) fn class(name: &str, controller: &str, pool: Option<&str>) -> Object {
    let parameters =
        pool.map(|pool| ClassParameters { api_group: "roadstead.dev".into(), kind: "Pool".into(), name: pool.into() });
    let class = IngressClass { name: name.into(), controller: controller.into(), parameters, meta: Meta::default() };
    Object::IngressClass(Arc::new(class))
}

/// A Service with TCP ports http = 80 and adm = 81; without addresses of its own it is of type ExternalName.
pub(super) fn service(namespace: &str, name: &str, has_addresses: bool) -> Object {
    let app_protocol = || name.starts_with("h2c-").then(|| "kubernetes.io/h2c".into());
    let port = |name: &str, port| ServicePort {
        name: name.into(),
        port,
        app_protocol: app_protocol(),
        ..ServicePort::default()
    };
    Object::Service(Arc::new(Service {
        name: ObjectName::new(namespace, name),
        meta: Meta::default(),
        service_type: if has_addresses { ServiceType::ClusterIp } else { ServiceType::ExternalName },
        external_name: match name {
            _ if has_addresses => "".into(),
            "localhost" => name.into(),
            _ => "elsewhere.example.org".into(),
        },
        ports: vec![port("http", 80), port("adm", 81)],
        ..Service::default()
    }))
}

/// The slice `NAME-1` of a Service, all endpoints ready on port http = 8080.
pub(super) fn slice(namespace: &str, service: &str, addresses: &[&str]) -> Object {
    let endpoint = |address: &&str| SliceEndpoint::ready(address.parse().expect("an address"));
    Object::EndpointSlice(Arc::new(EndpointSlice {
        name: ObjectName::new(namespace, format!("{service}-1")),
        meta: Meta::default(),
        service: service.into(),
        address_type: crate::object::AddressType::Ipv4,
        ports: vec![SlicePort { name: "http".into(), port: Some(8080), ..SlicePort::default() }],
        endpoints: addresses.iter().map(endpoint).collect(),
    }))
}
