//! How edges get to a cluster's Service ports (rules ).
//!
//! - **R-1** The Service's annotation `roadstead.dev/reach` decides, else the first entry of the cluster's `reach_from` that
//!   fits the edge's pool and region, else the cluster's `reach`. What an annotation says that is no mode is ignored, with a
//!   Finding. A Service of type ExternalName is reached by its name, whatever is said.
//! - **R-2** `pod-ip`: the usable endpoints (rules P).
//! - **R-3** `node-port`: the ready nodes with the Service's node port; of a Service with `externalTrafficPolicy: Local` only
//!   nodes that have a usable endpoint. At most [`NODES_PER_BACKEND_MAX`](crate::limit::NODES_PER_BACKEND_MAX), others for
//!   each Service.
//! - **R-4** `gateway`: the addresses of the cluster's gateway, a Service of type LoadBalancer. Whoever answers there
//!   routes by the same Ingresses: it gets the client's host and path, not what an edge would make of them.
//! - **R-5** Without a usable endpoint nothing is reached (rule M-3), by whatever mode.
//! - **R-6** Once pod addresses are in doubt, who would use them takes the gateway, else the node ports; where neither is
//!   there, they are used with half the weight.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::declare::is_dns_name;
use crate::endpoints::Locality;
use crate::id::{ObjectName, PoolName};
use crate::table::ExternalName;

/// The annotation of a Service that decides for it alone.
pub const ANNOTATION: &str = "roadstead.dev/reach";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReachMode {
    #[default]
    PodIp,
    NodePort,
    Gateway,
}

/// The mode of edges of one pool, one region, or both. An entry without either fits all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReachFrom {
    #[serde(default)]
    pub pool: Option<PoolName>,
    #[serde(default)]
    pub region: Option<String>,
    pub reach: ReachMode,
}

/// Ways to a Service port besides its pods, and who takes which.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reach {
    /// The first that fits decides.
    pub from: Vec<ReachFrom>,
    pub otherwise: ReachMode,
    /// Nodes with the node port, sorted. Empty if nobody uses them.
    pub nodes: Vec<SocketAddr>,
    pub gateway: Option<Gateway>,
    /// Pods behind nodes and gateway, about: for weights (rule E-1).
    pub pods: u32,
}

/// Where a cluster's gateway is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    pub at: GatewayAddress,
    /// Whether TLS is spoken there. Its certificate is not verified.
    pub is_tls: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GatewayAddress {
    /// Sorted. Never empty.
    Addresses(Vec<SocketAddr>),
    Name(ExternalName),
}

/// A gateway as the policy names it: `NAMESPACE/NAME`, or `NAMESPACE/NAME:PORT`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GatewayRef {
    pub service: ObjectName,
    /// `None`: 80 if the Service has it, else its first TCP port.
    pub port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not NAMESPACE/NAME or NAMESPACE/NAME:PORT of a Service")]
pub struct NotAGateway(String);

impl ReachMode {
    pub const ALL: [ReachMode; 3] = [ReachMode::PodIp, ReachMode::NodePort, ReachMode::Gateway];

    pub fn as_str(self) -> &'static str {
        match self {
            ReachMode::PodIp => "pod-ip",
            ReachMode::NodePort => "node-port",
            ReachMode::Gateway => "gateway",
        }
    }

    pub fn parse(text: &str) -> Option<ReachMode> {
        ReachMode::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

impl ReachFrom {
    fn fits(&self, at: &Locality) -> bool {
        let is_pool = self.pool.is_none() || self.pool == at.pool;
        is_pool && (self.region.is_none() || self.region.as_deref() == at.region.as_deref())
    }
}

impl Reach {
    /// How an edge there gets to the cluster (rule R-1).
    pub fn mode(&self, at: &Locality) -> ReachMode {
        self.from.iter().find(|from| from.fits(at)).map_or(self.otherwise, |from| from.reach)
    }

    /// Whether some edge uses `mode`.
    pub fn uses(&self, mode: ReachMode) -> bool {
        self.otherwise == mode || self.from.iter().any(|from| from.reach == mode)
    }

    /// Whether every edge goes to the pods.
    pub(crate) fn is_plain(&self) -> bool {
        ReachMode::ALL[1..].iter().all(|mode| !self.uses(*mode))
    }

    /// Whether there is an address besides those of pods.
    pub fn leads_somewhere(&self) -> bool {
        !self.nodes.is_empty() || self.gateway.is_some()
    }

    pub(crate) fn replace(&mut self, old: ReachMode, new: ReachMode) {
        let modes = self.from.iter_mut().map(|from| &mut from.reach).chain([&mut self.otherwise]);
        modes.filter(|mode| **mode == old).for_each(|mode| *mode = new);
    }
}

impl fmt::Display for ReachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for GatewayRef {
    type Err = NotAGateway;

    fn from_str(text: &str) -> Result<Self, NotAGateway> {
        let not = || NotAGateway(text.to_owned());
        let (service, port) = match text.split_once(':') {
            Some((service, port)) => (service, Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(not)?)),
            None => (text, None),
        };
        let (namespace, name) = service.split_once('/').ok_or_else(not)?;
        if ![namespace, name].iter().all(|part| is_dns_name(part)) {
            return Err(not());
        }
        Ok(Self { service: ObjectName::new(namespace, name), port })
    }
}

impl TryFrom<String> for GatewayRef {
    type Error = NotAGateway;

    fn try_from(text: String) -> Result<Self, NotAGateway> {
        text.parse()
    }
}

impl From<GatewayRef> for String {
    fn from(gateway: GatewayRef) -> String {
        gateway.to_string()
    }
}

impl fmt::Display for GatewayRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.service),
            None => write!(f, "{}", self.service),
        }
    }
}
