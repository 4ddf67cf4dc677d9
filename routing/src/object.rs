//! What a cluster reports, reduced to what routing needs. Values are as the Kubernetes API holds them
//! (not yet validated): the rules that reject or repair them live in `declare`, `class` and `endpoints`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::id::{Kind, ObjectKey, ObjectName};

/// Carried by every object so that history can name causes and conflicts have an order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    pub uid: Arc<str>,
    pub resource_version: Arc<str>,
    pub generation: i64,
    /// `creationTimestamp` in seconds since the epoch. Never compared across clusters (rule M-1).
    pub created_at: i64,
    /// Who wrote the object last (`metadata.managedFields`), empty if unknown.
    pub last_manager: Arc<str>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    IngressClass(Arc<IngressClass>),
    Ingress(Arc<Ingress>),
    Service(Arc<Service>),
    Node(Arc<Node>),
    EndpointSlice(Arc<EndpointSlice>),
    Secret(Arc<Secret>),
}

impl Object {
    pub fn key(&self) -> ObjectKey {
        match self {
            Object::IngressClass(class) => ObjectKey::new(Kind::IngressClass, "", &class.name),
            Object::Ingress(ingress) => ObjectKey { kind: Kind::Ingress, name: ingress.name.clone() },
            Object::Service(service) => ObjectKey { kind: Kind::Service, name: service.name.clone() },
            Object::Node(node) => ObjectKey::new(Kind::Node, "", &node.name),
            Object::EndpointSlice(slice) => ObjectKey { kind: Kind::EndpointSlice, name: slice.name.clone() },
            Object::Secret(secret) => ObjectKey { kind: Kind::Secret, name: secret.name.clone() },
        }
    }

    pub fn meta(&self) -> &Meta {
        match self {
            Object::IngressClass(class) => &class.meta,
            Object::Ingress(ingress) => &ingress.meta,
            Object::Service(service) => &service.meta,
            Object::Node(node) => &node.meta,
            Object::EndpointSlice(slice) => &slice.meta,
            Object::Secret(secret) => &secret.meta,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IngressClass {
    pub name: Arc<str>,
    pub meta: Meta,
    /// `spec.controller`.
    pub controller: Arc<str>,
    /// `spec.parameters`, if set.
    pub parameters: Option<ClassParameters>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClassParameters {
    pub api_group: Arc<str>,
    pub kind: Arc<str>,
    pub name: Arc<str>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ingress {
    pub name: ObjectName,
    pub meta: Meta,
    /// `spec.ingressClassName`.
    pub class_name: Option<Arc<str>>,
    /// Annotations that routing may read: `kubernetes.io/ingress.class` and the prefixes
    /// `nginx.ingress.kubernetes.io/` and `roadstead.dev/`. All others stay in the cluster.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    pub default_backend: Option<IngressBackend>,
    pub rules: Vec<IngressRule>,
    pub tls: Vec<IngressTls>,
}

impl Default for Ingress {
    fn default() -> Self {
        Self {
            name: ObjectName::new("", ""),
            meta: Meta::default(),
            class_name: None,
            annotations: BTreeMap::new(),
            default_backend: None,
            rules: Vec::new(),
            tls: Vec::new(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IngressRule {
    /// Empty: a rule without a host.
    pub host: Arc<str>,
    /// `None`: a rule without an `http` section, which only declares the host (rule S-13).
    pub paths: Option<Vec<IngressPath>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IngressPath {
    /// As written; empty means `/`.
    pub path: Arc<str>,
    pub path_type: PathType,
    pub backend: IngressBackend,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PathType {
    Exact,
    Prefix,
    ImplementationSpecific,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IngressBackend {
    /// `port` is `None` where the Ingress names none: that slot answers 503 with a Finding.
    Service { name: Arc<str>, port: Option<crate::id::PortRef> },
    /// A resource backend, which no pool can serve (404, rule S-11).
    Resource { kind: Arc<str>, name: Arc<str> },
    /// Neither service nor resource, or both: invalid by rule I-3, tolerated from old objects.
    Invalid,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IngressTls {
    pub hosts: Vec<Arc<str>>,
    pub secret_name: Arc<str>,
}

impl Ingress {
    /// Names of the Services this Ingress refers to, all in its own namespace (rule I-3). May repeat.
    pub fn service_names(&self) -> impl Iterator<Item = &Arc<str>> {
        let paths = self.rules.iter().flat_map(|rule| rule.paths.iter().flatten()).map(|path| &path.backend);
        self.default_backend.iter().chain(paths).filter_map(|backend| match backend {
            IngressBackend::Service { name, .. } => Some(name),
            IngressBackend::Resource { .. } | IngressBackend::Invalid => None,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    pub name: ObjectName,
    pub meta: Meta,
    pub service_type: ServiceType,
    /// Set when `service_type` is `ExternalName`.
    pub external_name: Arc<str>,
    pub ports: Vec<ServicePort>,
    /// Those of prefix `roadstead.dev/`.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// `spec.externalTrafficPolicy` is `Local`: a node only answers for pods of its own.
    pub is_local: bool,
    /// IPs and host names of `status.loadBalancer.ingress`.
    pub load_balancer: Vec<Arc<str>>,
}

/// A ClusterIP without ports.
impl Default for Service {
    fn default() -> Self {
        Self {
            name: ObjectName::new("", ""),
            meta: Meta::default(),
            service_type: ServiceType::default(),
            external_name: "".into(),
            ports: Vec::new(),
            annotations: BTreeMap::new(),
            is_local: false,
            load_balancer: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServiceType {
    #[default]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServicePort {
    /// Empty for a single unnamed port.
    pub name: Arc<str>,
    pub port: u16,
    /// 0: none.
    pub node_port: u16,
    /// TCP unless the Service says otherwise; only TCP ports can be routed to.
    pub protocol: Protocol,
    pub app_protocol: Option<Arc<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// What requests for node ports need to know of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    pub name: Arc<str>,
    /// Without resourceVersion: the status of a node is rewritten every few minutes and says the same.
    pub meta: Meta,
    /// Its condition is `Ready`, it is not about to be removed, and load balancers may use it.
    pub is_ready: bool,
    pub addresses: Vec<NodeAddress>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// `spec.providerID`, such as `aws:///eu-west-1a/i-0123456789abcdef0`; empty if it has none.
    pub provider_id: Arc<str>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeAddress {
    pub kind: NodeAddressKind,
    pub address: IpAddr,
}

/// Which of a node's addresses are meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeAddressKind {
    /// `InternalIP`.
    #[default]
    Internal,
    /// `ExternalIP`.
    External,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSlice {
    pub name: ObjectName,
    pub meta: Meta,
    /// Label `kubernetes.io/service-name`.
    pub service: Arc<str>,
    pub address_type: AddressType,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<SliceEndpoint>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AddressType {
    #[default]
    Ipv4,
    Ipv6,
    /// Deprecated, ignored (rule P-1).
    Fqdn,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlicePort {
    pub name: Arc<str>,
    /// `None`: "all ports", which cannot be routed to.
    pub port: Option<u16>,
    pub protocol: Protocol,
    pub app_protocol: Option<Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SliceEndpoint {
    /// `addresses[0]`; the others are not meaningful (rule P-1).
    pub address: IpAddr,
    /// Three-valued as in the API: rule P-3 says what absent means.
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
    pub zone: Option<Arc<str>>,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// `hints.forZones`, at most 8 (rule P-5).
    pub for_zones: Vec<Arc<str>>,
}

impl SliceEndpoint {
    /// One that says nothing but that it is ready.
    pub fn ready(address: IpAddr) -> Self {
        Self {
            address,
            ready: Some(true),
            serving: None,
            terminating: None,
            zone: None,
            node: None,
            for_zones: Vec::new(),
        }
    }
}

/// Only what Ingresses refer to: certificates and lists of users.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secret {
    pub name: ObjectName,
    pub meta: Meta,
    pub content: SecretContent,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretContent {
    /// Of type `kubernetes.io/tls`.
    Certificate(Certificate),
    /// Of any other type: keys and values that may hold users.
    Values(BTreeMap<Arc<str>, Hidden>),
    /// It should hold a certificate, and does not: why.
    Unusable(Arc<str>),
}

/// A certificate whose key belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// DNS names it is for, lower case: hosts, and wildcards as `*.example.com`.
    pub names: Vec<Arc<str>>,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    pub not_after: i64,
    /// PEM, the leaf first.
    pub chain: Arc<[u8]>,
    /// PEM.
    pub key: Hidden,
}

impl Certificate {
    /// `now` in seconds since the Unix epoch.
    pub fn is_valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Bytes that must never be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Arc<[u8]>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}
