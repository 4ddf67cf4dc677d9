//! Names and identifiers, each its own type. Cheap to clone (shared strings), ordered by bytes, so every
//! ordering in this crate ends in an id and ties are deterministic.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name_type! {
    /// A member cluster. Immutable; the same text as in its certificate (`cluster/ID`).
    ClusterId
}
name_type! {
    /// A target that is programmed: an edge fleet or a cloud load balancer.
    PoolName
}

/// `namespace/name` of an object inside one cluster. `namespace` is empty for cluster-scoped kinds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectName {
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The Kubernetes kinds that routing reads. The numbers are stored and sent: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    IngressClass = 1,
    Ingress = 2,
    Service = 3,
    EndpointSlice = 4,
    Secret = 5,
    Node = 6,
}

impl Kind {
    /// In the order in which a full synchronisation completes them: what later kinds depend on comes first.
    pub const ALL: [Kind; 6] =
        [Kind::IngressClass, Kind::Ingress, Kind::Service, Kind::EndpointSlice, Kind::Secret, Kind::Node];
    /// Without which nothing can be routed. An agent may be denied Secrets and Nodes: nobody waits for those.
    pub const ROUTING: [Kind; 4] = [Kind::IngressClass, Kind::Ingress, Kind::Service, Kind::EndpointSlice];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::IngressClass => "IngressClass",
            Kind::Ingress => "Ingress",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Secret => "Secret",
            Kind::Node => "Node",
        }
    }

    /// Whether its objects are in no namespace.
    pub fn is_cluster_scoped(self) -> bool {
        matches!(self, Kind::IngressClass | Kind::Node)
    }

    pub fn from_number(number: i32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as i32 == number)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object inside one cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ObjectKey {
    pub kind: Kind,
    pub name: ObjectName,
}

impl ObjectKey {
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, name: ObjectName::new(namespace, name) }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Where in a cluster's history something was accepted. `seq` restarts at each epoch; a later epoch always wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    pub epoch: u64,
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

/// Which host a [`crate::table::Host`] answers for. Text forms: `a.example.com`, `*.example.com`, `*`, `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HostKey {
    /// A lower-case DNS name.
    Exact(Arc<str>),
    /// `*.` + suffix; holds the suffix without `*.`. Matches exactly one label more (rule S-2).
    Wildcard(Arc<str>),
    /// Rules without a host: traffic whose host no other rule names (rule S-3).
    Any,
    /// Not a host but the pool's catch-all default backends (rule S-12 steps 2 and 3). Every host without a
    /// default of its own ends here, so it is a resource of its own: changing it touches one Host, not all.
    CatchAll,
}

impl HostKey {
    /// Reads the text form back. `None` if `text` is not one that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<HostKey> {
        match text {
            "" => None,
            "*" => Some(HostKey::Any),
            "_" => Some(HostKey::CatchAll),
            _ => match text.strip_prefix("*.") {
                Some("") => None,
                Some(suffix) => Some(HostKey::Wildcard(suffix.into())),
                None => Some(HostKey::Exact(text.into())),
            },
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostKey::Exact(name) => f.write_str(name),
            HostKey::Wildcard(suffix) => write!(f, "*.{suffix}"),
            HostKey::Any => f.write_str("*"),
            HostKey::CatchAll => f.write_str("_"),
        }
    }
}

/// A Service port as an Ingress names it. A number means the Service's port, never a targetPort (rule I-3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PortRef {
    Number(u16),
    Name(Arc<str>),
}

impl PortRef {
    /// The Service's first TCP port, where somebody names only the Service.
    pub const FIRST: PortRef = PortRef::Number(0);
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortRef::Number(number) => write!(f, "{number}"),
            PortRef::Name(name) => f.write_str(name),
        }
    }
}

/// One cluster's Service port, as Ingresses refer to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackendId {
    pub cluster: ClusterId,
    pub service: ObjectName,
    pub port: PortRef,
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.cluster, self.service, self.port)
    }
}
