//! The readable copy of a stored object: the shape of the Kubernetes API, as far as routing reads it.
//! Written for people with a SQL prompt; the controller never reads it back.

use roadstead_routing::id::{ObjectName, PortRef};
use roadstead_routing::object::{
    Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, Meta, Node, NodeAddress, NodeAddressKind, Object,
    PathType, Protocol, Service, ServicePort, ServiceType,
};
use serde_json::{Value, json};

/// `None` for an EndpointSlice, which is stored packed only, and for a Secret.
pub fn document(object: &Object) -> Option<Value> {
    match object {
        Object::IngressClass(class) => Some(ingress_class(class)),
        Object::Ingress(it) => Some(ingress(it)),
        Object::Service(it) => Some(service(it)),
        Object::Node(it) => Some(node(it)),
        Object::EndpointSlice(_) | Object::Secret(_) => None,
    }
}

fn ingress_class(class: &IngressClass) -> Value {
    let parameters = class.parameters.as_ref();
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": metadata(&ObjectName::new("", class.name.clone()), &class.meta),
        "spec": {
            "controller": class.controller,
            "parameters": parameters.map(|it| json!({"apiGroup": it.api_group, "kind": it.kind, "name": it.name})),
        },
    })
}

fn ingress(ingress: &Ingress) -> Value {
    let mut metadata = metadata(&ingress.name, &ingress.meta);
    metadata["annotations"] = json!(ingress.annotations);
    let tls: Vec<Value> =
        ingress.tls.iter().map(|tls| json!({"hosts": tls.hosts, "secretName": tls.secret_name})).collect();
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "spec": {
            "ingressClassName": ingress.class_name,
            "defaultBackend": ingress.default_backend.as_ref().map(backend),
            "rules": ingress.rules.iter().map(rule).collect::<Vec<_>>(),
            "tls": tls,
        },
    })
}

fn rule(rule: &IngressRule) -> Value {
    let paths = rule.paths.as_ref().map(|paths| json!({"paths": paths.iter().map(path).collect::<Vec<_>>()}));
    json!({"host": rule.host, "http": paths})
}

fn path(path: &IngressPath) -> Value {
    let path_type = match path.path_type {
        PathType::Exact => "Exact",
        PathType::Prefix => "Prefix",
        PathType::ImplementationSpecific => "ImplementationSpecific",
    };
    json!({"path": path.path, "pathType": path_type, "backend": backend(&path.backend)})
}

fn backend(backend: &IngressBackend) -> Value {
    match backend {
        IngressBackend::Service { name, port } => {
            json!({"service": {"name": name, "port": port.as_ref().map(port_ref)}})
        }
        IngressBackend::Resource { kind, name } => json!({"resource": {"kind": kind, "name": name}}),
        IngressBackend::Invalid => json!({}),
    }
}

fn port_ref(port: &PortRef) -> Value {
    match port {
        PortRef::Number(number) => json!({"number": number}),
        PortRef::Name(name) => json!({"name": name}),
    }
}

fn service(service: &Service) -> Value {
    let service_type = match service.service_type {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::ExternalName => "ExternalName",
    };
    let mut with_annotations = metadata(&service.name, &service.meta);
    with_annotations["annotations"] = json!(service.annotations);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": with_annotations,
        "spec": {
            "type": service_type,
            "externalName": service.external_name,
            "externalTrafficPolicy": if service.is_local { "Local" } else { "Cluster" },
            "ports": service.ports.iter().map(service_port).collect::<Vec<_>>(),
        },
        "status": {"loadBalancer": service.load_balancer},
    })
}

fn node(node: &Node) -> Value {
    let address = |it: &NodeAddress| {
        let kind = match it.kind {
            NodeAddressKind::Internal => "InternalIP",
            NodeAddressKind::External => "ExternalIP",
        };
        json!({"type": kind, "address": it.address})
    };
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": metadata(&ObjectName::new("", node.name.clone()), &node.meta),
        "spec": {"providerID": node.provider_id},
        "status": {
            "ready": node.is_ready,
            "zone": node.zone,
            "addresses": node.addresses.iter().map(address).collect::<Vec<_>>(),
        },
    })
}

fn service_port(port: &ServicePort) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    json!({
        "name": port.name,
        "port": port.port,
        "nodePort": port.node_port,
        "protocol": protocol,
        "appProtocol": port.app_protocol,
    })
}

fn metadata(name: &ObjectName, meta: &Meta) -> Value {
    json!({
        "namespace": name.namespace,
        "name": name.name,
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "generation": meta.generation,
        "creationTimestampSeconds": meta.created_at,
        "lastManager": meta.last_manager,
    })
}
