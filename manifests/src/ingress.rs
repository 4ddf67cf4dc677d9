//! Ingress → routing's. Only annotations that routing may read leave the cluster; entries that have no form in
//! routing's types are dropped alone with a Problem (rules I-9, S-17). Everything else is kept as written: judging
//! hosts and paths is routing's part.

use std::sync::Arc;

use k8s_openapi::api::networking::v1 as api;
use roadstead_routing::finding::Code;
use roadstead_routing::id::PortRef;
use roadstead_routing::limit::PATHS_PER_INGRESS_MAX;
use roadstead_routing::object::{Ingress, IngressBackend, IngressPath, IngressRule, IngressTls, Object, PathType};

use crate::annotations::annotations;
use crate::meta::{meta, name, text};
use crate::problem::Problems;

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const ANNOTATION_PREFIXES: [&str; 2] = ["nginx.ingress.kubernetes.io/", "roadstead.dev/"];

pub(crate) fn convert(ingress: &api::Ingress, problems: &mut Problems) -> Object {
    let empty = api::IngressSpec::default();
    let spec = ingress.spec.as_ref().unwrap_or(&empty);
    Object::Ingress(Arc::new(Ingress {
        name: name(&ingress.metadata),
        meta: meta(&ingress.metadata),
        class_name: spec.ingress_class_name.as_deref().map(Into::into),
        annotations: annotations(&ingress.metadata, is_read, problems),
        default_backend: spec.default_backend.as_ref().map(backend),
        rules: rules(spec.rules.as_deref().unwrap_or_default(), problems),
        tls: spec.tls.as_deref().unwrap_or_default().iter().map(tls).collect(),
    }))
}

fn is_read(annotation: &str) -> bool {
    annotation == CLASS_ANNOTATION || ANNOTATION_PREFIXES.iter().any(|prefix| annotation.starts_with(prefix))
}

/// Keeps the first [`PATHS_PER_INGRESS_MAX`] paths, and as many rules. A rule that loses all of its paths still
/// declares its host, so that its requests cannot fall to a wider one.
fn rules(rules: &[api::IngressRule], problems: &mut Problems) -> Vec<IngressRule> {
    if rules.len() > PATHS_PER_INGRESS_MAX {
        problems.warn(
            Code::TooManyPaths,
            format!("the Ingress has {} rules; only the first {PATHS_PER_INGRESS_MAX} take effect", rules.len()),
            "Split the Ingress into several.",
        );
    }
    let rules = &rules[..rules.len().min(PATHS_PER_INGRESS_MAX)];
    let total: usize = rules.iter().filter_map(|rule| rule.http.as_ref()).map(|http| http.paths.len()).sum();
    if total > PATHS_PER_INGRESS_MAX {
        problems.warn(
            Code::TooManyPaths,
            format!("the Ingress has {total} paths; only the first {PATHS_PER_INGRESS_MAX} take effect"),
            "Split the Ingress into several.",
        );
    }
    let mut left = PATHS_PER_INGRESS_MAX;
    let mut convert = |rule: &api::IngressRule| {
        let paths = rule.http.as_ref().map(|http| {
            let kept = &http.paths[..http.paths.len().min(left)];
            left -= kept.len();
            kept.iter().filter_map(|entry| path(entry, rule.host.as_deref(), problems)).collect()
        });
        IngressRule { host: text(rule.host.as_deref()), paths }
    };
    rules.iter().map(&mut convert).collect()
}

fn path(entry: &api::HTTPIngressPath, host: Option<&str>, problems: &mut Problems) -> Option<IngressPath> {
    let path_type = match entry.path_type.as_str() {
        "Exact" => PathType::Exact,
        "Prefix" => PathType::Prefix,
        // Objects stored before the field became mandatory have none, which meant the same.
        "ImplementationSpecific" | "" => PathType::ImplementationSpecific,
        other => {
            let shown = (host.unwrap_or("*"), entry.path.as_deref().unwrap_or("/"));
            let message =
                format!("host {} path {}: pathType {other:?} is unknown; the path is ignored", shown.0, shown.1);
            problems.warn(Code::InvalidPath, message, "Use Exact, Prefix or ImplementationSpecific.");
            return None;
        }
    };
    Some(IngressPath { path: text(entry.path.as_deref()), path_type, backend: backend(&entry.backend) })
}

/// Rule I-3: service xor resource, port name xor number.
fn backend(backend: &api::IngressBackend) -> IngressBackend {
    match (&backend.service, &backend.resource) {
        (Some(service), None) => match service.port.as_ref().map_or(Ok(None), port) {
            Ok(port) if !service.name.is_empty() => {
                IngressBackend::Service { name: service.name.as_str().into(), port }
            }
            _ => IngressBackend::Invalid,
        },
        (None, Some(resource)) => {
            IngressBackend::Resource { kind: resource.kind.as_str().into(), name: resource.name.as_str().into() }
        }
        (Some(_), Some(_)) | (None, None) => IngressBackend::Invalid,
    }
}

/// `Err` if both or an impossible number are given.
fn port(port: &api::ServiceBackendPort) -> Result<Option<PortRef>, ()> {
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    let number = port.number.filter(|number| *number != 0);
    match (name, number) {
        (None, None) => Ok(None),
        (Some(name), None) => Ok(Some(PortRef::Name(name.into()))),
        (None, Some(number)) => u16::try_from(number).map(|number| Some(PortRef::Number(number))).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

fn tls(tls: &api::IngressTLS) -> IngressTls {
    IngressTls {
        hosts: tls.hosts.as_deref().unwrap_or_default().iter().map(|host| host.as_str().into()).collect(),
        secret_name: text(tls.secret_name.as_deref()),
    }
}
