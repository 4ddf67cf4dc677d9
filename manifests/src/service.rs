//! Service → routing's.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;
use roadstead_routing::finding::Code;
use roadstead_routing::limit::ADDRESSES_PER_OBJECT_MAX;
use roadstead_routing::object::{Object, Protocol, Service, ServicePort, ServiceType};
use roadstead_routing::reach;

use crate::annotations::annotations;
use crate::meta::{meta, name, text};
use crate::problem::Problems;

pub(crate) fn convert(service: &api::Service, problems: &mut Problems) -> Object {
    let empty = api::ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    Object::Service(Arc::new(Service {
        name: name(&service.metadata),
        meta: meta(&service.metadata),
        service_type: service_type(spec.type_.as_deref()),
        external_name: text(spec.external_name.as_deref()),
        ports: spec.ports.as_deref().unwrap_or_default().iter().filter_map(|entry| port(entry, problems)).collect(),
        annotations: annotations(&service.metadata, |name| name == reach::ANNOTATION, problems),
        is_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        load_balancer: load_balancer(service),
    }))
}

/// The IP of an entry, else its name.
fn load_balancer(service: &api::Service) -> Vec<Arc<str>> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|it| it.ingress.as_deref()).unwrap_or_default();
    let texts = entries.iter().filter_map(|entry| entry.ip.as_deref().or(entry.hostname.as_deref()));
    texts.filter(|text| !text.is_empty()).take(ADDRESSES_PER_OBJECT_MAX).map(Into::into).collect()
}

/// A type that this build does not know has endpoints like any other: it is read as ClusterIP.
fn service_type(text: Option<&str>) -> ServiceType {
    match text {
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        _ => ServiceType::ClusterIp,
    }
}

fn port(port: &api::ServicePort, problems: &mut Problems) -> Option<ServicePort> {
    let number = u16::try_from(port.port).ok().filter(|number| *number != 0);
    let (Some(number), Some(protocol)) = (number, protocol(port.protocol.as_deref())) else {
        let message = format!(
            "port {} {} is not a TCP, UDP or SCTP port; it is ignored",
            port.port,
            port.protocol.as_deref().unwrap_or("TCP")
        );
        problems.warn(Code::ServicePortNotFound, message, "Use a port number from 1 to 65535 and a known protocol.");
        return None;
    };
    Some(ServicePort {
        name: text(port.name.as_deref()),
        port: number,
        node_port: port.node_port.and_then(|number| u16::try_from(number).ok()).unwrap_or(0),
        protocol,
        app_protocol: port.app_protocol.as_deref().map(Into::into),
    })
}

/// TCP if absent. `None`: a protocol that this build does not know.
pub(crate) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}
