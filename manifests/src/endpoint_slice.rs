//! EndpointSlice → routing's, within the limits of rule P-1.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as api;
use roadstead_routing::finding::Code;
use roadstead_routing::limit::{ENDPOINTS_PER_SLICE_MAX, PORTS_PER_SLICE_MAX, ZONES_PER_ENDPOINT_MAX};
use roadstead_routing::object::{AddressType, EndpointSlice, Object, SliceEndpoint, SlicePort};

use crate::meta::{meta, name, text};
use crate::problem::Problems;
use crate::service::protocol;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

pub(crate) fn convert(slice: &api::EndpointSlice, problems: &mut Problems) -> Object {
    let labels = slice.metadata.labels.as_ref();
    let address_type = address_type(&slice.address_type);
    Object::EndpointSlice(Arc::new(EndpointSlice {
        name: name(&slice.metadata),
        meta: meta(&slice.metadata),
        service: text(labels.and_then(|labels| labels.get(SERVICE_LABEL)).map(String::as_str)),
        address_type,
        ports: ports(slice.ports.as_deref().unwrap_or_default(), problems),
        endpoints: endpoints(slice.endpoints.as_deref().unwrap_or_default(), address_type, problems),
    }))
}

/// An address type that this build does not know is ignored like FQDN (rule P-1).
fn address_type(text: &str) -> AddressType {
    match text {
        "IPv4" => AddressType::Ipv4,
        "IPv6" => AddressType::Ipv6,
        _ => AddressType::Fqdn,
    }
}

fn ports(ports: &[api::EndpointPort], problems: &mut Problems) -> Vec<SlicePort> {
    let kept = within(ports, PORTS_PER_SLICE_MAX, "ports", problems);
    kept.iter().filter_map(port).collect()
}

/// `None` for a port that nothing can be sent to.
fn port(port: &api::EndpointPort) -> Option<SlicePort> {
    let number = match port.port {
        None => None,
        Some(number) => Some(u16::try_from(number).ok().filter(|number| *number != 0)?),
    };
    Some(SlicePort {
        name: text(port.name.as_deref()),
        port: number,
        protocol: protocol(port.protocol.as_deref())?,
        app_protocol: port.app_protocol.as_deref().map(Into::into),
    })
}

fn endpoints(all: &[api::Endpoint], address_type: AddressType, problems: &mut Problems) -> Vec<SliceEndpoint> {
    if address_type == AddressType::Fqdn {
        return Vec::new();
    }
    let kept = within(all, ENDPOINTS_PER_SLICE_MAX, "endpoints", problems);
    let converted: Vec<_> = kept.iter().filter_map(|entry| endpoint(entry, address_type)).collect();
    let skipped = kept.len() - converted.len();
    if skipped > 0 {
        problems.warn(
            Code::MalformedObject,
            format!("{skipped} endpoints have no valid address of the slice's address type; they are ignored"),
            "Give every endpoint an IP address of the slice's addressType.",
        );
    }
    converted
}

fn endpoint(endpoint: &api::Endpoint, address_type: AddressType) -> Option<SliceEndpoint> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    if address.is_ipv4() != (address_type == AddressType::Ipv4) {
        return None;
    }
    let conditions = endpoint.conditions.as_ref();
    let zones = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
    Some(SliceEndpoint {
        address,
        ready: conditions.and_then(|conditions| conditions.ready),
        serving: conditions.and_then(|conditions| conditions.serving),
        terminating: conditions.and_then(|conditions| conditions.terminating),
        zone: endpoint.zone.as_deref().map(Into::into),
        node: endpoint.node_name.as_deref().map(Into::into),
        for_zones: zones.iter().take(ZONES_PER_ENDPOINT_MAX).map(|zone| zone.name.as_str().into()).collect(),
    })
}

fn within<'a, T>(all: &'a [T], max: usize, what: &str, problems: &mut Problems) -> &'a [T] {
    if all.len() > max {
        let message = format!("the slice has {} {what}; only the first {max} take effect", all.len());
        problems.warn(Code::ObjectTooLarge, message, "Split the slice into several.");
    }
    &all[..all.len().min(max)]
}
