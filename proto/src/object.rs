//! Kubernetes objects to and from the wire. Out of the wire every limit of routing's `limit` module is checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use roadstead_routing::id::{Kind, ObjectKey, ObjectName, PortRef};
use roadstead_routing::limit;
use roadstead_routing::object::{
    AddressType, ClassParameters, EndpointSlice, Ingress, IngressBackend, IngressClass, IngressPath, IngressRule,
    IngressTls, Meta, Node, NodeAddress, NodeAddressKind, Object, PathType, Protocol, Service, ServicePort,
    ServiceType, SliceEndpoint, SlicePort,
};

use crate::wire;

mod secret;

/// Which field of a received object is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ObjectError {
    #[error("the object has no spec that this version knows")]
    UnknownSpec,
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field} has a value that is not allowed: {value}")]
    Invalid { field: &'static str, value: String },
    #[error("{field} has {found} entries, more than {max}")]
    TooMany { field: &'static str, found: usize, max: usize },
}

/// The text by which a key is hashed into its bucket: `KIND/NAMESPACE/NAME`, the kind as its number.
pub fn key_text(key: &ObjectKey) -> String {
    format!("{}/{}/{}", key.kind as u8, key.name.namespace, key.name.name)
}

/// `None` if `text` is not what [`key_text`] writes.
pub fn key_parse(text: &str) -> Option<ObjectKey> {
    let mut parts = text.splitn(3, '/');
    let kind = Kind::from_number(parts.next()?.parse().ok()?)?;
    Some(ObjectKey::new(kind, parts.next()?, parts.next()?))
}

pub fn to_wire(object: &Object) -> wire::Object {
    use wire::object::Spec;
    let name = object.key().name;
    let spec = match object {
        Object::IngressClass(class) => Spec::IngressClass(class_to_wire(class)),
        Object::Ingress(ingress) => Spec::Ingress(ingress_to_wire(ingress)),
        Object::Service(service) => Spec::Service(service_to_wire(service)),
        Object::Node(node) => Spec::Node(node_to_wire(node)),
        Object::EndpointSlice(slice) => Spec::EndpointSlice(slice_to_wire(slice)),
        Object::Secret(secret) => Spec::Secret(secret::secret_to_wire(secret)),
    };
    wire::Object {
        meta: Some(meta_to_wire(object.meta())),
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        spec: Some(spec),
    }
}

/// # Errors
/// Names the first field that is missing, not allowed or over its limit.
pub fn from_wire(object: wire::Object) -> Result<Object, ObjectError> {
    use wire::object::Spec;
    if object.name.is_empty() {
        return Err(ObjectError::Missing { field: "name" });
    }
    let meta = meta_from_wire(object.meta.unwrap_or_default());
    let name = ObjectName::new(object.namespace, object.name);
    let object = match object.spec.ok_or(ObjectError::UnknownSpec)? {
        Spec::IngressClass(class) => Object::IngressClass(Arc::new(class_from_wire(name, meta, class))),
        Spec::Ingress(ingress) => Object::Ingress(Arc::new(ingress_from_wire(name, meta, ingress)?)),
        Spec::Service(service) => Object::Service(Arc::new(service_from_wire(name, meta, service)?)),
        Spec::Node(node) => Object::Node(Arc::new(node_from_wire(name, meta, node)?)),
        Spec::EndpointSlice(slice) => Object::EndpointSlice(Arc::new(slice_from_wire(name, meta, slice)?)),
        Spec::Secret(secret) => Object::Secret(Arc::new(secret::secret_from_wire(name, meta, secret)?)),
    };
    Ok(object)
}

pub fn port_ref_to_wire(port: &PortRef) -> wire::PortRef {
    let port = match port {
        PortRef::Number(number) => wire::port_ref::Port::Number(u32::from(*number)),
        PortRef::Name(name) => wire::port_ref::Port::Name(name.to_string()),
    };
    wire::PortRef { port: Some(port) }
}

/// # Errors
/// If neither number nor name is set, or the number is no port.
pub fn port_ref_from_wire(port: wire::PortRef) -> Result<PortRef, ObjectError> {
    match port.port.ok_or(ObjectError::Missing { field: "port" })? {
        wire::port_ref::Port::Number(number) => Ok(PortRef::Number(port_number("port", number)?)),
        wire::port_ref::Port::Name(name) => Ok(PortRef::Name(name.into())),
    }
}

pub(crate) fn address_to_wire(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn address_from_wire(bytes: &[u8]) -> Result<IpAddr, ObjectError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes)
        .map(IpAddr::from)
        .map_err(|_| ObjectError::Invalid { field: "address", value: format!("{} bytes", bytes.len()) })
}

pub(crate) fn port_number(field: &'static str, number: u32) -> Result<u16, ObjectError> {
    u16::try_from(number).map_err(|_| ObjectError::Invalid { field, value: number.to_string() })
}

fn at_most(field: &'static str, found: usize, max: usize) -> Result<(), ObjectError> {
    if found > max { Err(ObjectError::TooMany { field, found, max }) } else { Ok(()) }
}

fn optional(text: Option<String>) -> Option<Arc<str>> {
    text.map(Arc::from)
}

fn text(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
}

fn meta_to_wire(meta: &Meta) -> wire::Meta {
    wire::Meta {
        uid: meta.uid.to_string(),
        resource_version: meta.resource_version.to_string(),
        generation: meta.generation,
        created_at: meta.created_at,
        last_manager: meta.last_manager.to_string(),
    }
}

fn meta_from_wire(meta: wire::Meta) -> Meta {
    Meta {
        uid: meta.uid.into(),
        resource_version: meta.resource_version.into(),
        generation: meta.generation,
        created_at: meta.created_at,
        last_manager: meta.last_manager.into(),
    }
}

fn class_to_wire(class: &IngressClass) -> wire::IngressClass {
    wire::IngressClass {
        controller: class.controller.to_string(),
        parameters: class.parameters.as_ref().map(|parameters| wire::ClassParameters {
            api_group: parameters.api_group.to_string(),
            kind: parameters.kind.to_string(),
            name: parameters.name.to_string(),
        }),
    }
}

fn class_from_wire(name: ObjectName, meta: Meta, class: wire::IngressClass) -> IngressClass {
    IngressClass {
        name: name.name,
        meta,
        controller: class.controller.into(),
        parameters: class.parameters.map(|parameters| ClassParameters {
            api_group: parameters.api_group.into(),
            kind: parameters.kind.into(),
            name: parameters.name.into(),
        }),
    }
}

fn ingress_to_wire(ingress: &Ingress) -> wire::Ingress {
    wire::Ingress {
        class_name: text(ingress.class_name.as_ref()),
        annotations: annotations_to_wire(&ingress.annotations),
        default_backend: ingress.default_backend.as_ref().map(backend_to_wire),
        rules: ingress.rules.iter().map(rule_to_wire).collect(),
        tls: ingress
            .tls
            .iter()
            .map(|tls| wire::IngressTls {
                hosts: tls.hosts.iter().map(ToString::to_string).collect(),
                secret_name: tls.secret_name.to_string(),
            })
            .collect(),
    }
}

fn ingress_from_wire(name: ObjectName, meta: Meta, ingress: wire::Ingress) -> Result<Ingress, ObjectError> {
    let paths = ingress.rules.iter().flat_map(|rule| rule.http.iter()).map(|http| http.paths.len()).sum();
    at_most("spec.rules[].http.paths", paths, limit::PATHS_PER_INGRESS_MAX)?;
    at_most("spec.rules", ingress.rules.len(), limit::PATHS_PER_INGRESS_MAX)?;
    Ok(Ingress {
        name,
        meta,
        class_name: optional(ingress.class_name),
        annotations: annotations_from_wire(ingress.annotations),
        default_backend: ingress.default_backend.map(backend_from_wire).transpose()?,
        rules: ingress.rules.into_iter().map(rule_from_wire).collect::<Result<_, _>>()?,
        tls: ingress
            .tls
            .into_iter()
            .map(|tls| IngressTls {
                hosts: tls.hosts.into_iter().map(Arc::from).collect(),
                secret_name: tls.secret_name.into(),
            })
            .collect(),
    })
}

fn rule_to_wire(rule: &IngressRule) -> wire::IngressRule {
    let path_to_wire = |path: &IngressPath| wire::IngressPath {
        path: path.path.to_string(),
        path_type: match path.path_type {
            PathType::Exact => wire::PathType::Exact,
            PathType::Prefix => wire::PathType::Prefix,
            PathType::ImplementationSpecific => wire::PathType::ImplementationSpecific,
        }
        .into(),
        backend: Some(backend_to_wire(&path.backend)),
    };
    wire::IngressRule {
        host: rule.host.to_string(),
        http: rule.paths.as_ref().map(|paths| wire::IngressPaths { paths: paths.iter().map(path_to_wire).collect() }),
    }
}

fn rule_from_wire(rule: wire::IngressRule) -> Result<IngressRule, ObjectError> {
    let path_from_wire = |path: wire::IngressPath| {
        Ok(IngressPath {
            path_type: match path.path_type() {
                wire::PathType::Exact => PathType::Exact,
                wire::PathType::Prefix => PathType::Prefix,
                wire::PathType::ImplementationSpecific => PathType::ImplementationSpecific,
                wire::PathType::Unspecified => return Err(ObjectError::Missing { field: "pathType" }),
            },
            path: path.path.into(),
            backend: backend_from_wire(path.backend.unwrap_or_default())?,
        })
    };
    let paths = match rule.http {
        Some(http) => Some(http.paths.into_iter().map(path_from_wire).collect::<Result<_, _>>()?),
        None => None,
    };
    Ok(IngressRule { host: rule.host.into(), paths })
}

fn backend_to_wire(backend: &IngressBackend) -> wire::IngressBackend {
    use wire::ingress_backend::Backend;
    let backend = match backend {
        IngressBackend::Service { name, port } => Some(Backend::Service(wire::ServiceBackend {
            name: name.to_string(),
            port: port.as_ref().map(port_ref_to_wire),
        })),
        IngressBackend::Resource { kind, name } => {
            Some(Backend::Resource(wire::ResourceBackend { kind: kind.to_string(), name: name.to_string() }))
        }
        IngressBackend::Invalid => None,
    };
    wire::IngressBackend { backend }
}

fn backend_from_wire(backend: wire::IngressBackend) -> Result<IngressBackend, ObjectError> {
    use wire::ingress_backend::Backend;
    Ok(match backend.backend {
        Some(Backend::Service(service)) => IngressBackend::Service {
            name: service.name.into(),
            port: service.port.map(port_ref_from_wire).transpose()?,
        },
        Some(Backend::Resource(resource)) => {
            IngressBackend::Resource { kind: resource.kind.into(), name: resource.name.into() }
        }
        None => IngressBackend::Invalid,
    })
}

fn service_to_wire(service: &Service) -> wire::Service {
    wire::Service {
        r#type: match service.service_type {
            ServiceType::ClusterIp => wire::ServiceType::ClusterIp,
            ServiceType::NodePort => wire::ServiceType::NodePort,
            ServiceType::LoadBalancer => wire::ServiceType::LoadBalancer,
            ServiceType::ExternalName => wire::ServiceType::ExternalName,
        }
        .into(),
        external_name: service.external_name.to_string(),
        ports: service
            .ports
            .iter()
            .map(|port| wire::ServicePort {
                name: port.name.to_string(),
                port: u32::from(port.port),
                node_port: u32::from(port.node_port),
                protocol: protocol_to_wire(port.protocol),
                app_protocol: text(port.app_protocol.as_ref()),
            })
            .collect(),
        annotations: annotations_to_wire(&service.annotations),
        local: service.is_local,
        load_balancer: service.load_balancer.iter().map(ToString::to_string).collect(),
    }
}

fn service_from_wire(name: ObjectName, meta: Meta, service: wire::Service) -> Result<Service, ObjectError> {
    let service_type = match service.r#type() {
        wire::ServiceType::ClusterIp => ServiceType::ClusterIp,
        wire::ServiceType::NodePort => ServiceType::NodePort,
        wire::ServiceType::LoadBalancer => ServiceType::LoadBalancer,
        wire::ServiceType::ExternalName => ServiceType::ExternalName,
    };
    let port_from_wire = |port: wire::ServicePort| {
        Ok(ServicePort {
            protocol: protocol_from_wire(port.protocol()),
            port: port_number("spec.ports[].port", port.port)?,
            node_port: port_number("spec.ports[].nodePort", port.node_port)?,
            name: port.name.into(),
            app_protocol: optional(port.app_protocol),
        })
    };
    let ports = service.ports.into_iter().map(port_from_wire).collect::<Result<_, _>>()?;
    at_most("status.loadBalancer.ingress", service.load_balancer.len(), limit::ADDRESSES_PER_OBJECT_MAX)?;
    Ok(Service {
        name,
        meta,
        service_type,
        external_name: service.external_name.into(),
        ports,
        annotations: annotations_from_wire(service.annotations),
        is_local: service.local,
        load_balancer: service.load_balancer.into_iter().map(Arc::from).collect(),
    })
}

fn annotations_to_wire(annotations: &BTreeMap<Arc<str>, Arc<str>>) -> Vec<wire::Annotation> {
    let entry =
        |(key, value): (&Arc<str>, &Arc<str>)| wire::Annotation { key: key.to_string(), value: value.to_string() };
    annotations.iter().map(entry).collect()
}

fn annotations_from_wire(annotations: Vec<wire::Annotation>) -> BTreeMap<Arc<str>, Arc<str>> {
    annotations.into_iter().map(|annotation| (annotation.key.into(), annotation.value.into())).collect()
}

fn node_to_wire(node: &Node) -> wire::Node {
    let address = |it: &NodeAddress| wire::NodeAddress {
        external: it.kind == NodeAddressKind::External,
        address: address_to_wire(it.address),
    };
    wire::Node {
        ready: node.is_ready,
        addresses: node.addresses.iter().map(address).collect(),
        zone: text(node.zone.as_ref()),
        provider_id: node.provider_id.to_string(),
    }
}

fn node_from_wire(name: ObjectName, meta: Meta, node: wire::Node) -> Result<Node, ObjectError> {
    at_most("status.addresses", node.addresses.len(), limit::ADDRESSES_PER_OBJECT_MAX)?;
    let address = |it: wire::NodeAddress| -> Result<NodeAddress, ObjectError> {
        let kind = if it.external { NodeAddressKind::External } else { NodeAddressKind::Internal };
        Ok(NodeAddress { kind, address: address_from_wire(&it.address)? })
    };
    Ok(Node {
        name: name.name,
        meta,
        is_ready: node.ready,
        addresses: node.addresses.into_iter().map(address).collect::<Result<_, _>>()?,
        zone: optional(node.zone),
        provider_id: node.provider_id.into(),
    })
}

fn slice_to_wire(slice: &EndpointSlice) -> wire::EndpointSlice {
    let endpoint_to_wire = |endpoint: &SliceEndpoint| wire::SliceEndpoint {
        address: address_to_wire(endpoint.address),
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        zone: text(endpoint.zone.as_ref()),
        for_zones: endpoint.for_zones.iter().map(ToString::to_string).collect(),
        node: text(endpoint.node.as_ref()),
    };
    wire::EndpointSlice {
        service: slice.service.to_string(),
        address_type: match slice.address_type {
            AddressType::Ipv4 => wire::AddressType::Ipv4,
            AddressType::Ipv6 => wire::AddressType::Ipv6,
            AddressType::Fqdn => wire::AddressType::Fqdn,
        }
        .into(),
        ports: slice
            .ports
            .iter()
            .map(|port| wire::SlicePort {
                name: port.name.to_string(),
                port: port.port.map(u32::from),
                protocol: protocol_to_wire(port.protocol),
                app_protocol: text(port.app_protocol.as_ref()),
            })
            .collect(),
        endpoints: slice.endpoints.iter().map(endpoint_to_wire).collect(),
    }
}

fn slice_from_wire(name: ObjectName, meta: Meta, slice: wire::EndpointSlice) -> Result<EndpointSlice, ObjectError> {
    at_most("endpoints", slice.endpoints.len(), limit::ENDPOINTS_PER_SLICE_MAX)?;
    at_most("ports", slice.ports.len(), limit::PORTS_PER_SLICE_MAX)?;
    let address_type = match slice.address_type() {
        wire::AddressType::Ipv4 => AddressType::Ipv4,
        wire::AddressType::Ipv6 => AddressType::Ipv6,
        wire::AddressType::Fqdn => AddressType::Fqdn,
    };
    let port_from_wire = |port: wire::SlicePort| {
        Ok(SlicePort {
            protocol: protocol_from_wire(port.protocol()),
            port: port.port.map(|number| port_number("ports[].port", number)).transpose()?,
            name: port.name.into(),
            app_protocol: optional(port.app_protocol),
        })
    };
    Ok(EndpointSlice {
        name,
        meta,
        service: slice.service.into(),
        address_type,
        ports: slice.ports.into_iter().map(port_from_wire).collect::<Result<_, _>>()?,
        endpoints: slice.endpoints.into_iter().map(slice_endpoint_from_wire).collect::<Result<_, _>>()?,
    })
}

fn slice_endpoint_from_wire(endpoint: wire::SliceEndpoint) -> Result<SliceEndpoint, ObjectError> {
    at_most("hints.forZones", endpoint.for_zones.len(), limit::ZONES_PER_ENDPOINT_MAX)?;
    Ok(SliceEndpoint {
        address: address_from_wire(&endpoint.address)?,
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        zone: optional(endpoint.zone),
        for_zones: endpoint.for_zones.into_iter().map(Arc::from).collect(),
        node: optional(endpoint.node),
    })
}

fn protocol_to_wire(protocol: Protocol) -> i32 {
    match protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
        Protocol::Sctp => wire::Protocol::Sctp,
    }
    .into()
}

fn protocol_from_wire(protocol: wire::Protocol) -> Protocol {
    match protocol {
        wire::Protocol::Tcp => Protocol::Tcp,
        wire::Protocol::Udp => Protocol::Udp,
        wire::Protocol::Sctp => Protocol::Sctp,
    }
}

#[cfg(test)]
mod tests;
