//! What edges receive: Hosts and Backends to and from the wire, and the keys by which both ends name them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use roadstead_routing::id::{BackendId, HostKey, ObjectName, PortRef};
use roadstead_routing::table::{Backend, Canary, Endpoint, Host, PathMatch, Route, RouteBackend, SecretId, Target};

use crate::object::{
    ObjectError, address_from_wire, address_to_wire, port_number, port_ref_from_wire, port_ref_to_wire,
};
use crate::settings::canary::{rule_from_wire, rule_to_wire};
use crate::settings::upstream::{
    external_name_from_wire, external_name_to_wire, protocol_from_wire, protocol_to_wire, upstream_from_wire,
    upstream_to_wire,
};
use crate::settings::{
    client_from_wire, client_to_wire, secret_ref_from_wire, secret_ref_to_wire, strategy_from_wire, strategy_to_wire,
    text,
};
use crate::wire;

mod reach;
pub mod secret;

/// Why an edge cannot take a resource.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ResourceError {
    #[error("`{0}` is not a host name, `*.` name, `*` or `_`")]
    HostName(String),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error(transparent)]
    Field(#[from] ObjectError),
}

/// Names one resource within a pool. Text forms: `host/a.example.com`, `backend/CLUSTER/NAMESPACE/SERVICE:PORT`.
/// Backends order before Hosts: what must exist first comes first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ResourceKey {
    Backend(BackendId),
    Secret(SecretId),
    Host(HostKey),
}

impl ResourceKey {
    /// `None` if `text` is not what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("host/") {
            return HostKey::parse(name).map(ResourceKey::Host);
        }
        if let Some(id) = text.strip_prefix("secret/") {
            let mut parts = id.splitn(3, '/');
            let (cluster, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
            let secret = ObjectName::new(namespace, name);
            return Some(ResourceKey::Secret(SecretId { cluster: cluster.into(), secret }));
        }
        let mut parts = text.strip_prefix("backend/")?.splitn(3, '/');
        let (cluster, namespace) = (parts.next()?, parts.next()?);
        let (service, port) = parts.next()?.split_once(':')?;
        // Kubernetes requires a letter in a port name, so a number is never a name.
        let number = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = number.map_or_else(|| PortRef::Name(port.into()), PortRef::Number);
        Some(ResourceKey::Backend(BackendId {
            cluster: cluster.into(),
            service: ObjectName::new(namespace, service),
            port,
        }))
    }

    /// The host that it names, if it names one.
    pub fn host(&self) -> Option<&HostKey> {
        match self {
            ResourceKey::Host(host) => Some(host),
            ResourceKey::Backend(_) | ResourceKey::Secret(_) => None,
        }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResourceKey::Backend(id) => write!(f, "backend/{id}"),
            ResourceKey::Secret(id) => write!(f, "secret/{id}"),
            ResourceKey::Host(name) => write!(f, "host/{name}"),
        }
    }
}

pub fn host_key(name: &HostKey) -> String {
    format!("host/{name}")
}

pub fn backend_key(id: &BackendId) -> String {
    format!("backend/{id}")
}

pub fn host_to_wire(host: &Host) -> wire::Host {
    wire::Host {
        pool: host.pool.to_string(),
        name: host.name.to_string(),
        routes: host.routes.iter().map(route_to_wire).collect(),
        default: host.default.iter().map(route_backend_to_wire).collect(),
        default_client: client_to_wire(&host.default_client),
        default_strategy: strategy_to_wire(host.default_strategy),
        certificate: host.certificate.as_ref().map(secret_ref_to_wire),
    }
}

/// # Errors
/// Says which field of the Host is missing or not allowed.
pub fn host_from_wire(host: wire::Host) -> Result<Host, ResourceError> {
    let default_strategy = strategy_from_wire(host.default_strategy());
    let name = HostKey::parse(&host.name).ok_or(ResourceError::HostName(host.name))?;
    Ok(Host {
        routes: host.routes.into_iter().map(route_from_wire).collect::<Result<_, _>>()?,
        default: host.default.into_iter().map(route_backend_from_wire).collect::<Result<_, _>>()?,
        default_client: client_from_wire(host.default_client)?,
        default_strategy,
        certificate: host.certificate.map(secret_ref_from_wire).transpose()?,
        ..Host::new(host.pool.as_str().into(), name)
    })
}

pub fn backend_to_wire(backend: &Backend) -> wire::Backend {
    wire::Backend {
        id: Some(backend_id_to_wire(&backend.id)),
        protocol: protocol_to_wire(backend.protocol).into(),
        external_name: backend.external_name.as_ref().map(external_name_to_wire),
        reach: backend.reach.as_deref().map(reach::to_wire),
        endpoints: backend
            .endpoints
            .iter()
            .map(|endpoint| wire::Endpoint {
                address: address_to_wire(endpoint.address.ip()),
                port: u32::from(endpoint.address.port()),
                for_zones: endpoint.for_zones.iter().map(ToString::to_string).collect(),
            })
            .collect(),
    }
}

/// # Errors
/// Says which field of the Backend is missing or not allowed.
pub fn backend_from_wire(backend: wire::Backend) -> Result<Backend, ResourceError> {
    let protocol = protocol_from_wire(backend.protocol());
    let endpoint_from_wire = |endpoint: wire::Endpoint| -> Result<Endpoint, ResourceError> {
        let port = port_number("endpoint port", endpoint.port)?;
        Ok(Endpoint {
            address: SocketAddr::new(address_from_wire(&endpoint.address)?, port),
            for_zones: endpoint.for_zones.into_iter().map(Arc::from).collect(),
        })
    };
    Ok(Backend {
        id: backend_id_from_wire(backend.id.ok_or(ResourceError::Missing("backend id"))?)?,
        protocol,
        external_name: backend.external_name.map(external_name_from_wire).transpose()?,
        reach: backend.reach.map(reach::from_wire).transpose()?.map(Box::new),
        endpoints: backend.endpoints.into_iter().map(endpoint_from_wire).collect::<Result<_, _>>()?,
    })
}

pub fn backend_id_to_wire(id: &BackendId) -> wire::BackendId {
    wire::BackendId {
        cluster: id.cluster.to_string(),
        namespace: id.service.namespace.to_string(),
        service: id.service.name.to_string(),
        port: Some(port_ref_to_wire(&id.port)),
    }
}

/// # Errors
/// If a part of it is missing or too long.
pub fn backend_id_from_wire(id: wire::BackendId) -> Result<BackendId, ResourceError> {
    Ok(BackendId {
        cluster: id.cluster.as_str().into(),
        service: ObjectName::new(id.namespace, id.service),
        port: port_ref_from_wire(id.port.ok_or(ResourceError::Missing("backend port"))?)?,
    })
}

fn route_to_wire(route: &Route) -> wire::Route {
    let path = match &route.path {
        PathMatch::Exact(path) => wire::route::Path::Exact(path.to_string()),
        PathMatch::Prefix(path) => wire::route::Path::Prefix(path.to_string()),
        PathMatch::Regex(pattern) => wire::route::Path::Regex(pattern.to_string()),
    };
    let canary = |canary: &Canary| wire::Canary {
        rule: Some(rule_to_wire(&canary.rule)),
        backends: canary.backends.iter().map(route_backend_to_wire).collect(),
    };
    wire::Route {
        path: Some(path),
        backends: route.backends.iter().map(route_backend_to_wire).collect(),
        canary: route.canary.as_ref().map(canary),
        client: client_to_wire(&route.client),
        strategy: strategy_to_wire(route.strategy),
    }
}

fn route_from_wire(route: wire::Route) -> Result<Route, ResourceError> {
    let strategy = strategy_from_wire(route.strategy());
    let path = match route.path.ok_or(ResourceError::Missing("route path"))? {
        wire::route::Path::Exact(path) => PathMatch::Exact(path.into()),
        wire::route::Path::Prefix(path) => PathMatch::Prefix(path.into()),
        wire::route::Path::Regex(pattern) => PathMatch::Regex(pattern.into()),
    };
    Ok(Route {
        path,
        backends: route.backends.into_iter().map(route_backend_from_wire).collect::<Result<_, _>>()?,
        canary: route.canary.map(canary_from_wire).transpose()?,
        client: client_from_wire(route.client)?,
        strategy,
    })
}

fn canary_from_wire(canary: wire::Canary) -> Result<Canary, ResourceError> {
    Ok(Canary {
        rule: rule_from_wire(canary.rule.ok_or(ResourceError::Missing("canary rule"))?)?,
        backends: canary.backends.into_iter().map(route_backend_from_wire).collect::<Result<_, _>>()?,
    })
}

fn route_backend_to_wire(backend: &RouteBackend) -> wire::RouteBackend {
    use wire::route_backend::Target as WireTarget;
    wire::RouteBackend {
        cluster: backend.cluster.to_string(),
        weight: backend.weight,
        target: Some(match &backend.target {
            Target::Backend(id) => WireTarget::Backend(backend_id_to_wire(id)),
            Target::Nothing => WireTarget::Nothing(wire::Nothing {}),
            Target::Resource => WireTarget::Resource(wire::ResourceTarget {}),
        }),
        ingress_namespace: backend.ingress.namespace.to_string(),
        ingress_name: backend.ingress.name.to_string(),
        priority: backend.priority,
        region: backend.region.to_string(),
        upstream: upstream_to_wire(&backend.upstream),
        weigh_by_endpoints: backend.weigh_by_endpoints,
        fallback: backend.fallback.as_ref().map(backend_id_to_wire),
    }
}

fn route_backend_from_wire(backend: wire::RouteBackend) -> Result<RouteBackend, ResourceError> {
    use wire::route_backend::Target as WireTarget;
    let target = match backend.target.ok_or(ResourceError::Missing("route target"))? {
        WireTarget::Backend(id) => Target::Backend(backend_id_from_wire(id)?),
        WireTarget::Nothing(_) => Target::Nothing,
        WireTarget::Resource(_) => Target::Resource,
    };
    Ok(RouteBackend {
        cluster: backend.cluster.as_str().into(),
        weight: backend.weight,
        priority: backend.priority,
        region: text("region", backend.region)?,
        weigh_by_endpoints: backend.weigh_by_endpoints,
        fallback: backend.fallback.map(backend_id_from_wire).transpose()?,
        target,
        ingress: ObjectName::new(backend.ingress_namespace, backend.ingress_name),
        upstream: upstream_from_wire(backend.upstream)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn id(port: PortRef) -> BackendId {
        BackendId { cluster: "eu".into(), service: ObjectName::new("shop", "web"), port }
    }

    fn route_backend(target: Target) -> RouteBackend {
        RouteBackend::new("eu".into(), 70, target, ObjectName::new("shop", "web"))
    }

    fn host() -> Host {
        let paths = [PathMatch::Exact("/x".into()), PathMatch::Regex("/[0-9]+".into()), PathMatch::Prefix("".into())];
        let targets = [Target::Backend(id(PortRef::Name("http".into()))), Target::Nothing, Target::Resource];
        Host {
            routes: paths
                .into_iter()
                .zip(targets)
                .map(|(path, target)| Route::new(path, vec![route_backend(target)]))
                .collect(),
            default: vec![route_backend(Target::Nothing)],
            ..Host::new("public".into(), HostKey::Wildcard("example.com".into()))
        }
    }

    fn backend() -> Backend {
        let endpoint = |address: &str, for_zones| Endpoint { address: address.parse().unwrap(), for_zones };
        Backend {
            endpoints: vec![endpoint("10.0.0.1:8080", vec!["a".into()]), endpoint("[fd00::1]:80", vec![])],
            ..Backend::empty(id(PortRef::Number(80)))
        }
    }

    #[test]
    fn hosts_and_backends_survive_the_wire() {
        assert_eq!(host_from_wire(host_to_wire(&host())), Ok(host()));
        assert_eq!(backend_from_wire(backend_to_wire(&backend())), Ok(backend()));
    }

    /// A build that gives a resource another digest sends every edge everything again.
    #[test]
    fn digests_are_those_of_earlier_builds() {
        let digests = [Digest::of(&host_to_wire(&host())), Digest::of(&backend_to_wire(&backend()))];
        assert_eq!(
            digests.map(|digest| digest.to_string()),
            ["c0e7abdd243f199030fbd6333d2a4425", "fb1ba523ceba008d60d913874c0a7452"]
        );
    }

    #[test]
    fn resource_keys_have_one_text_form() {
        let keys = [
            ResourceKey::Host(HostKey::Exact("a.example.com".into())),
            ResourceKey::Host(HostKey::Wildcard("example.com".into())),
            ResourceKey::Host(HostKey::Any),
            ResourceKey::Host(HostKey::CatchAll),
            ResourceKey::Backend(id(PortRef::Number(80))),
            ResourceKey::Backend(id(PortRef::Name("http".into()))),
            ResourceKey::Secret(SecretId { cluster: "eu".into(), secret: ObjectName::new("shop", "tls") }),
        ];
        for key in keys {
            assert_eq!(ResourceKey::parse(&key.to_string()), Some(key));
        }
        for text in ["", "host/", "backend/a/b", "backend/a/b/c", "secret/a/b", "route/x"] {
            assert_eq!(ResourceKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_incomplete_resource_says_what_is_missing() {
        let host = wire::Host { name: "a".into(), routes: vec![wire::Route::default()], ..wire::Host::default() };
        assert_eq!(host_from_wire(host), Err(ResourceError::Missing("route path")));
        assert_eq!(host_from_wire(wire::Host::default()), Err(ResourceError::HostName(String::new())));
        assert_eq!(backend_from_wire(wire::Backend::default()), Err(ResourceError::Missing("backend id")));
    }
}
