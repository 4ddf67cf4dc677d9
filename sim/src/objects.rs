//! The small world of objects that histories play with. Every Ingress and EndpointSlice says in what routing makes of
//! it which version of it this is: an Ingress by a path `/v/N`, a slice by its address. So a table shows from which
//! versions it was made, and going back in time can be seen.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use roadstead_proto::digest::Digest;
use roadstead_proto::object::to_wire;
use roadstead_routing::id::{Kind, ObjectKey, ObjectName, PortRef};
use roadstead_routing::object::{
    AddressType, EndpointSlice, Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, Meta, Object,
    PathType, Protocol, Service, ServicePort, SliceEndpoint, SlicePort,
};
use roadstead_routing::policy::CONTROLLER_NAME;
use roadstead_routing::table::PathMatch;

pub const NAMESPACE: &str = "shop";
/// IngressClasses, each with a pool of its own in [`POLICY`].
pub const CLASSES: [&str; 2] = ["roadstead", "inside"];
pub const POOLS: [&str; 2] = ["public", "internal"];
pub const INGRESSES: usize = 4;
pub const HOSTS: usize = 4;
pub const SERVICES: usize = 3;
pub const SLICES: usize = 2;

/// `WEIGHT` is replaced.
pub const POLICY: &str = "
clusters:
  c0: {weight: WEIGHT}
pools:
  public: {kind: edge, addresses: [203.0.113.10], default: true}
  internal: {kind: edge, addresses: [lb.internal.example.com]}
classes:
  roadstead: {pool: public}
  inside: {pool: internal}
";

const PATH_PREFIX: &str = "/v/";

pub fn class(name: &str, version: u64) -> Object {
    Object::IngressClass(Arc::new(IngressClass {
        name: name.into(),
        meta: meta(Kind::IngressClass, name, version, version),
        controller: CONTROLLER_NAME.into(),
        parameters: None,
    }))
}

/// What an Ingress should be.
#[derive(Clone, Copy, Debug)]
pub struct IngressWish {
    pub name: usize,
    pub class: usize,
    pub host: usize,
    pub service: usize,
}

/// `created`: the version at which it came into being.
pub fn ingress(wish: IngressWish, version: u64, created: u64) -> Object {
    let name = format!("i{}", wish.name);
    let backend =
        || IngressBackend::Service { name: format!("s{}", wish.service).into(), port: Some(PortRef::Number(80)) };
    let path = |path: String| IngressPath { path: path.into(), path_type: PathType::Prefix, backend: backend() };
    Object::Ingress(Arc::new(Ingress {
        name: ObjectName::new(NAMESPACE, &*name),
        meta: meta(Kind::Ingress, &name, version, created),
        class_name: Some(CLASSES[wish.class].into()),
        rules: vec![IngressRule {
            host: format!("h{}.example.com", wish.host).into(),
            paths: Some(vec![path("/".to_owned()), path(format!("{PATH_PREFIX}{version}"))]),
        }],
        ..Ingress::default()
    }))
}

pub fn service(name: usize, port: u16, version: u64) -> Object {
    let name = format!("s{name}");
    let port = ServicePort { port, protocol: Protocol::Tcp, ..ServicePort::default() };
    Object::Service(Arc::new(Service {
        name: ObjectName::new(NAMESPACE, &*name),
        meta: meta(Kind::Service, &name, version, version),
        ports: vec![port],
        ..Service::default()
    }))
}

pub fn slice(service: usize, slice: usize, version: u64) -> Object {
    let name = format!("s{service}-{slice}");
    let [.., high, low] = (version as u32).to_be_bytes();
    let endpoint = SliceEndpoint::ready(IpAddr::from([10, slice as u8, high, low]));
    Object::EndpointSlice(Arc::new(EndpointSlice {
        name: ObjectName::new(NAMESPACE, &*name),
        meta: meta(Kind::EndpointSlice, &name, version, version),
        service: format!("s{service}").into(),
        address_type: AddressType::Ipv4,
        ports: vec![SlicePort { port: Some(8080), ..SlicePort::default() }],
        endpoints: vec![endpoint],
    }))
}

pub fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::new(kind, if kind == Kind::IngressClass { "" } else { NAMESPACE }, name)
}

/// The version of the Ingress that a route was made from, if it says so.
pub fn version_of_path(path: &PathMatch) -> Option<u64> {
    match path {
        PathMatch::Prefix(path) => path.strip_prefix(PATH_PREFIX)?.parse().ok(),
        PathMatch::Exact(_) | PathMatch::Regex(_) => None,
    }
}

/// The number of the slice that an address was made from, and its version.
pub fn version_of_address(address: IpAddr) -> Option<(u8, u64)> {
    match address {
        IpAddr::V4(address) => {
            let [_, slice, high, low] = Ipv4Addr::octets(&address);
            Some((slice, u64::from(u16::from_be_bytes([high, low]))))
        }
        IpAddr::V6(_) => None,
    }
}

/// The digest that agents report, worked out here on its own: over everything but what changes with every write.
pub fn digest_of(object: &Object) -> Digest {
    let mut encoded = to_wire(object);
    if let Some(meta) = &mut encoded.meta {
        meta.resource_version.clear();
        meta.generation = 0;
        meta.last_manager.clear();
    }
    Digest::of(&encoded)
}

fn meta(kind: Kind, name: &str, version: u64, created: u64) -> Meta {
    Meta {
        uid: format!("uid-{kind}-{name}-{created}").into(),
        resource_version: version.to_string().into(),
        generation: 1,
        created_at: created as i64,
        last_manager: "kubectl".into(),
    }
}
