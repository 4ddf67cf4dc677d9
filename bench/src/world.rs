//! The synthetic world: which cluster serves which host with which endpoints, and what one change does to it.
//!
//! Sizes → objects of every cluster; a change → the object that must be sent. Pure: nothing is sent here.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use roadstead_proto::resource;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, ObjectName, PortRef};
use roadstead_routing::object::{
    AddressType, EndpointSlice, Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, Meta, Object,
    PathType, Protocol, Service, ServicePort, SliceEndpoint, SlicePort,
};
use roadstead_routing::policy::CONTROLLER_NAME;

use crate::args::FIRST_ADDRESS;

/// Endpoints of one slice at most, as kube-controller-manager does it.
pub const ENDPOINTS_PER_SLICE: usize = 100;
pub const NAMESPACE: &str = "bench";
pub const CLASS: &str = "roadstead";
const SERVICE_PORT: u16 = 80;
/// Any fixed moment: nothing compares it across clusters.
const CREATED_AT: i64 = 1_750_000_000;

/// The numbers that decide a world's shape.
#[derive(Clone, Debug)]
pub struct Shape {
    pub clusters: Vec<ClusterId>,
    pub hosts: usize,
    pub endpoints: usize,
    /// What host names end in.
    pub domain: String,
    /// The port of every endpoint.
    pub port: u16,
}

pub struct World {
    shape: Shape,
    /// By host, then by which of its clusters.
    served: Vec<Served>,
    /// How many clusters serve each host.
    copies: usize,
}

/// One host in one cluster: an Ingress, a Service and its slices.
struct Served {
    host: usize,
    cluster: usize,
    endpoints: Vec<Ipv4Addr>,
    /// Which endpoint the next change replaces.
    turn: usize,
    /// Names the second path: `/v{revision}`.
    revision: u64,
    changes: i64,
}

/// Hands out addresses of 127.0.0.0/8, each once.
pub struct Addresses(u32);

impl Default for Addresses {
    fn default() -> Self {
        Self(FIRST_ADDRESS.into())
    }
}

impl Iterator for Addresses {
    type Item = Ipv4Addr;

    fn next(&mut self) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from(self.0);
        self.0 += 1;
        address.is_loopback().then_some(address)
    }
}

impl World {
    /// Each host is served by two clusters, or by one if there is only one; endpoints are spread evenly.
    pub fn new(shape: Shape, addresses: &mut Addresses) -> Self {
        let count = shape.clusters.len();
        let copies = count.min(2);
        let services = shape.hosts * copies;
        let served = (0..services).map(|index| {
            let (host, copy) = (index / copies, index % copies);
            let size = shape.endpoints / services + usize::from(index < shape.endpoints % services);
            Served {
                host,
                cluster: cluster_of(host, copy, count),
                endpoints: addresses.take(size).collect(),
                turn: 0,
                revision: 0,
                changes: 0,
            }
        });
        Self { served: served.collect(), copies, shape }
    }

    pub fn clusters(&self) -> &[ClusterId] {
        &self.shape.clusters
    }

    pub fn hosts(&self) -> usize {
        self.shape.hosts
    }

    /// Services are numbered from 0; those of host `h` are `h * copies ..`.
    pub fn services(&self) -> usize {
        self.served.len()
    }

    /// The service that cluster number `copy` (modulo the number of clusters serving it) runs for `host`.
    pub fn service_of(&self, host: usize, copy: usize) -> usize {
        host * self.copies + copy % self.copies
    }

    pub fn host_of(&self, service: usize) -> usize {
        self.served[service].host
    }

    /// The index in [`Self::clusters`] of the cluster that runs `service`.
    pub fn cluster_of(&self, service: usize) -> usize {
        self.served[service].cluster
    }

    pub fn host_name(&self, host: usize) -> String {
        format!("{}.{}", name_of(host), self.shape.domain)
    }

    /// Endpoints of a host over all its clusters.
    pub fn endpoints_of(&self, host: usize) -> usize {
        (0..self.copies).map(|copy| self.served[self.service_of(host, copy)].endpoints.len()).sum()
    }

    /// The key under which edges report the host: `host/NAME`.
    pub fn host_key(&self, host: usize) -> String {
        resource::host_key(&HostKey::Exact(self.host_name(host).into()))
    }

    /// The key under which edges report the service's backend: `backend/CLUSTER/NAMESPACE/SERVICE:PORT`.
    pub fn backend_key(&self, service: usize) -> String {
        let served = &self.served[service];
        resource::backend_key(&BackendId {
            cluster: self.shape.clusters[served.cluster].clone(),
            service: object_name(&name_of(served.host)),
            port: PortRef::Number(SERVICE_PORT),
        })
    }

    /// Everything a cluster holds, by kind in [`roadstead_routing::id::Kind::ROUTING`] order.
    pub fn objects(&self, cluster: usize) -> Vec<Object> {
        let served = || self.served.iter().filter(move |served| served.cluster == cluster);
        let mut objects = vec![class()];
        objects.extend(served().map(|served| self.ingress(served)));
        objects.extend(served().map(|served| self.service(served)));
        for one in served() {
            let slices = one.endpoints.len().div_ceil(ENDPOINTS_PER_SLICE);
            objects.extend((0..slices).map(|slice| self.slice(one, slice)));
        }
        objects
    }

    /// Replaces the endpoint whose turn it is by `address`. Returns the changed EndpointSlice.
    pub fn replace_endpoint(&mut self, service: usize, address: Ipv4Addr) -> Object {
        let served = &mut self.served[service];
        let index = served.turn % served.endpoints.len();
        served.endpoints[index] = address;
        served.turn += 1;
        served.changes += 1;
        self.slice(&self.served[service], index / ENDPOINTS_PER_SLICE)
    }

    /// Gives the second path of the service's Ingress a name it never had. Returns the changed Ingress and the path.
    pub fn change_path(&mut self, service: usize) -> (Object, String) {
        let copies = self.copies as u64;
        let served = &mut self.served[service];
        // The clusters of one host never have the same second path, so that a path is new to the whole host.
        served.revision = if served.revision == 0 { service as u64 % copies + 1 } else { served.revision + copies };
        served.changes += 1;
        let served = &self.served[service];
        (self.ingress(served), second_path(served.revision))
    }

    fn ingress(&self, served: &Served) -> Object {
        let name = name_of(served.host);
        let path = |path: &str, path_type| IngressPath {
            path: path.into(),
            path_type,
            backend: IngressBackend::Service { name: name.as_str().into(), port: Some(PortRef::Number(SERVICE_PORT)) },
        };
        // `/` is exact, so that a request for a path that no route names is answered 404 and not by `/`.
        let second = second_path(served.revision);
        let paths = vec![path("/", PathType::Exact), path(&second, PathType::Prefix)];
        Object::Ingress(Arc::new(Ingress {
            name: object_name(&name),
            meta: meta("ingress", &name, served.changes),
            class_name: Some(CLASS.into()),
            rules: vec![IngressRule { host: self.host_name(served.host).into(), paths: Some(paths) }],
            ..Ingress::default()
        }))
    }

    fn service(&self, served: &Served) -> Object {
        let name = name_of(served.host);
        Object::Service(Arc::new(Service {
            name: object_name(&name),
            meta: meta("service", &name, 0),
            ports: vec![ServicePort { port: SERVICE_PORT, protocol: Protocol::Tcp, ..ServicePort::default() }],
            ..Service::default()
        }))
    }

    fn slice(&self, served: &Served, slice: usize) -> Object {
        let service = name_of(served.host);
        let name = format!("{service}-{slice}");
        let first = slice * ENDPOINTS_PER_SLICE;
        let addresses = served.endpoints.iter().skip(first).take(ENDPOINTS_PER_SLICE);
        Object::EndpointSlice(Arc::new(EndpointSlice {
            name: object_name(&name),
            meta: meta("slice", &name, served.changes),
            service: service.into(),
            address_type: AddressType::Ipv4,
            ports: vec![SlicePort { port: Some(self.shape.port), ..SlicePort::default() }],
            endpoints: addresses.map(|address| endpoint(*address)).collect(),
        }))
    }
}

/// Spreads the second copies of one cluster's hosts over all other clusters, as real fleets overlap.
fn cluster_of(host: usize, copy: usize, clusters: usize) -> usize {
    let first = host % clusters;
    if copy == 0 { first } else { (first + 1 + (host / clusters) % (clusters - 1)) % clusters }
}

fn name_of(host: usize) -> String {
    format!("h{host:05}")
}

fn second_path(revision: u64) -> String {
    format!("/v{revision}")
}

fn object_name(name: &str) -> ObjectName {
    ObjectName::new(NAMESPACE, name)
}

fn class() -> Object {
    Object::IngressClass(Arc::new(IngressClass {
        name: CLASS.into(),
        meta: meta("class", CLASS, 0),
        controller: CONTROLLER_NAME.into(),
        parameters: None,
    }))
}

fn meta(kind: &str, name: &str, changes: i64) -> Meta {
    Meta {
        uid: format!("{kind}-{name}").into(),
        resource_version: (changes + 1).to_string().into(),
        generation: changes + 1,
        created_at: CREATED_AT,
        last_manager: "bench".into(),
    }
}

fn endpoint(address: Ipv4Addr) -> SliceEndpoint {
    SliceEndpoint::ready(IpAddr::V4(address))
}

#[cfg(test)]
mod tests;
