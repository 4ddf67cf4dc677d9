//! Objects as a Kubernetes API takes them: for the one cluster whose changes pass a real agent.

use roadstead_routing::id::PortRef;
use roadstead_routing::object::{EndpointSlice, Ingress, IngressBackend, IngressPath, Object, PathType, Service};
use serde_json::{Value, json};

/// The manifest of an object of the synthetic [`crate::world`]. Fields that the world never sets are left out;
/// metadata that a server assigns is, too.
pub fn of(object: &Object) -> Value {
    match object {
        Object::IngressClass(class) => json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": class.name},
            "spec": {"controller": class.controller},
        }),
        Object::Ingress(ingress) => of_ingress(ingress),
        Object::Service(service) => of_service(service),
        Object::EndpointSlice(slice) => of_slice(slice),
        Object::Secret(_) | Object::Node(_) => unreachable!("the synthetic world has no Secrets and Nodes"),
    }
}

fn of_ingress(ingress: &Ingress) -> Value {
    let rules = ingress.rules.iter().map(|rule| {
        let paths: Vec<Value> = rule.paths.iter().flatten().map(of_path).collect();
        json!({"host": rule.host, "http": {"paths": paths}})
    });
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"namespace": ingress.name.namespace, "name": ingress.name.name},
        "spec": {"ingressClassName": ingress.class_name, "rules": rules.collect::<Vec<_>>()},
    })
}

fn of_path(path: &IngressPath) -> Value {
    let path_type = match path.path_type {
        PathType::Exact => "Exact",
        PathType::Prefix => "Prefix",
        PathType::ImplementationSpecific => "ImplementationSpecific",
    };
    json!({"path": path.path, "pathType": path_type, "backend": of_backend(&path.backend)})
}

fn of_backend(backend: &IngressBackend) -> Value {
    match backend {
        IngressBackend::Service { name, port: Some(PortRef::Number(number)) } => {
            json!({"service": {"name": name, "port": {"number": number}}})
        }
        IngressBackend::Service { name, port: Some(PortRef::Name(port)) } => {
            json!({"service": {"name": name, "port": {"name": port}}})
        }
        IngressBackend::Service { name, port: None } => json!({"service": {"name": name}}),
        IngressBackend::Resource { kind, name } => json!({"resource": {"kind": kind, "name": name}}),
        IngressBackend::Invalid => json!({}),
    }
}

fn of_service(service: &Service) -> Value {
    let ports = service.ports.iter().map(|port| json!({"port": port.port, "protocol": "TCP"}));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": service.name.namespace, "name": service.name.name},
        "spec": {"type": "ClusterIP", "ports": ports.collect::<Vec<_>>()},
    })
}

fn of_slice(slice: &EndpointSlice) -> Value {
    let endpoints = slice
        .endpoints
        .iter()
        .map(|endpoint| json!({"addresses": [endpoint.address.to_string()], "conditions": {"ready": endpoint.ready}}));
    let ports = slice.ports.iter().map(|port| json!({"name": port.name, "port": port.port, "protocol": "TCP"}));
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": slice.name.namespace,
            "name": slice.name.name,
            "labels": {"kubernetes.io/service-name": slice.service},
        },
        "addressType": "IPv4",
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": ports.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};

    use super::*;
    use crate::world::{Addresses, NAMESPACE, Shape, World};

    /// The API server validates what it is given: all manifests of a world must be acceptable to it.
    #[tokio::test]
    async fn a_kubernetes_api_accepts_the_whole_world() {
        let server = ApiServer::start(ApiServerOptions::new("bench")).await.expect("must start");
        let shape = Shape { clusters: vec!["c0".into()], hosts: 2, endpoints: 6, domain: "t.test".to_owned(), port: 9 };
        let mut addresses = Addresses::default();
        let mut world = World::new(shape, &mut addresses);
        for object in world.objects(0) {
            server.apply(of(&object)).expect("must be accepted");
        }
        let changed = world.replace_endpoint(1, addresses.next().expect("has more"));
        server.apply(of(&changed)).expect("must be accepted");
        let stored = server.get("endpointslices", NAMESPACE, "h00001-0").expect("must exist");
        assert_eq!(stored["endpoints"][0]["addresses"][0], "127.1.0.7");
        assert_eq!(stored["endpoints"].as_array().map(Vec::len), Some(3));
    }
}
