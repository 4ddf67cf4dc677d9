//! Endpoints that manifests from Git cannot have: clusters' objects → the same, with an EndpointSlice for each Service
//! that has none.
//!
//! Off unless asked for: a Service that nobody backs is what explaining a live cluster is often about.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use roadstead_routing::id::{ClusterId, ObjectName};
use roadstead_routing::object::{
    AddressType, EndpointSlice, Meta, Object, Service, ServiceType, SliceEndpoint, SlicePort,
};

use super::manifests::Manifests;

/// Of a network for documentation (RFC 5737), so that nobody takes it for a pod's.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

pub fn assume_ready(clusters: &mut [(ClusterId, Manifests)]) {
    let with_slices: BTreeSet<(ClusterId, ObjectName)> = clusters
        .iter()
        .flat_map(|(id, it)| it.objects.iter().filter_map(|it| Some((id.clone(), service_of(it)?))))
        .collect();
    for (id, manifests) in clusters {
        let is_bare = |service: &Service| {
            service.service_type != ServiceType::ExternalName
                && !with_slices.contains(&(id.clone(), service.name.clone()))
        };
        let services = manifests.objects.iter().filter_map(|object| match object {
            Object::Service(service) if is_bare(service) => Some(service),
            _ => None,
        });
        let assumed: Vec<Object> = services.map(|service| Object::EndpointSlice(Arc::new(slice(service)))).collect();
        manifests.objects.extend(assumed);
    }
}

fn service_of(object: &Object) -> Option<ObjectName> {
    let Object::EndpointSlice(slice) = object else { return None };
    Some(ObjectName::new(slice.name.namespace.clone(), slice.service.clone()))
}

fn slice(service: &Service) -> EndpointSlice {
    let ports = service.ports.iter().map(|port| SlicePort {
        name: port.name.clone(),
        port: Some(port.port),
        protocol: port.protocol,
        app_protocol: port.app_protocol.clone(),
    });
    let endpoint = SliceEndpoint::ready(ADDRESS);
    EndpointSlice {
        name: ObjectName::new(service.name.namespace.clone(), format!("{}-assumed", service.name.name)),
        meta: Meta::default(),
        service: service.name.name.clone(),
        address_type: AddressType::Ipv4,
        ports: ports.collect(),
        endpoints: vec![endpoint],
    }
}
