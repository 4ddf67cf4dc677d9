//! The addresses of one backend. Replaced as a whole; an address that stays keeps its health.

use std::net::SocketAddr;
use std::sync::Arc;

use roadstead_routing::endpoints::Destination;
use roadstead_routing::id::ClusterId;
use roadstead_routing::reach::ReachMode;
use roadstead_routing::table::{BackendProtocol, ExternalName};

use crate::health::{Health, Latency};
use crate::upstream::{Name, Protocol};

/// One address of a pod, a node or a gateway, or the name of what is outside. Lives as long as a table or a request holds it, which is how
/// connection pools notice that an address left the table.
#[derive(Debug)]
pub struct LiveEndpoint {
    /// Of an external name only the port counts.
    pub address: SocketAddr,
    /// Who is resolved at every connection instead of using the address (rule P-6).
    pub name: Option<Name>,
    /// As its Service says; a route may say otherwise.
    pub protocol: Protocol,
    /// Whether whoever answers there routes by the Ingress itself (rule R-4).
    pub is_gateway: bool,
    /// The same at every edge and after every start: by this clients are told endpoints apart, and nothing else.
    pub mark: u64,
    pub health: Health,
    pub latency: Latency,
}

/// Sorted by address, without duplicates.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Box<[Arc<LiveEndpoint>]>,
    /// What the weight of a cluster counts for that is weighed by endpoints.
    pub pods: u32,
}

impl LiveEndpoint {
    pub fn new(cluster: &ClusterId, address: SocketAddr, protocol: Protocol) -> Arc<Self> {
        Self::with_name(cluster, address, None, protocol)
    }

    /// One that is resolved whenever it is connected to.
    pub fn external(cluster: &ClusterId, name: &ExternalName, protocol: Protocol) -> Arc<Self> {
        let address = SocketAddr::from(([0, 0, 0, 0], name.port));
        Self::with_name(cluster, address, Some(Name::new(&name.host)), protocol)
    }

    fn with_name(cluster: &ClusterId, address: SocketAddr, name: Option<Name>, protocol: Protocol) -> Arc<Self> {
        let host = name.as_ref().map_or("", |name| name.as_str());
        let hash = blake3::hash(format!("{cluster} {address} {host}").as_bytes());
        let (first, _) = hash.as_bytes().split_at(8);
        let mark = u64::from_le_bytes(first.try_into().expect("8 bytes"));
        let (health, latency) = Default::default();
        Arc::new(Self { address, name, protocol, is_gateway: false, mark, health, latency })
    }

    /// How to speak to it where a route asks for something. A gateway decides about TLS.
    pub fn spoken(&self, asked: Option<BackendProtocol>) -> Protocol {
        match asked {
            None => self.protocol,
            Some(asked) if self.is_gateway => asked.with_tls(self.protocol.is_tls()).into(),
            Some(asked) => asked.into(),
        }
    }

    /// Whether both lead to one place.
    pub fn is_same(&self, other: &Self) -> bool {
        self.address == other.address && self.host() == other.host()
    }

    fn is_spoken_to_alike(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.is_gateway == other.is_gateway
    }

    fn host(&self) -> Option<&str> {
        self.name.as_ref().map(Name::as_str)
    }
}

impl EndpointSet {
    /// The set of where requests go; endpoints that `before` has too are taken over with their health.
    pub fn new(cluster: &ClusterId, to: &Destination<'_>, before: &EndpointSet) -> Self {
        let protocol = to.protocol.into();
        let mut fresh: Vec<Arc<LiveEndpoint>> = match to.name {
            Some(name) => vec![LiveEndpoint::external(cluster, name, protocol)],
            None => to.addresses.iter().map(|address| LiveEndpoint::new(cluster, *address, protocol)).collect(),
        };
        for endpoint in &mut fresh {
            if to.mode == ReachMode::Gateway {
                Arc::get_mut(endpoint).expect("a new endpoint must have one owner").is_gateway = true;
            }
            let is_kept = |kept: &&Arc<LiveEndpoint>| kept.is_same(endpoint) && kept.is_spoken_to_alike(endpoint);
            if let Some(kept) = before.get(endpoint.address).filter(is_kept) {
                *endpoint = kept.clone();
            }
        }
        fresh.sort_unstable_by_key(|endpoint| endpoint.address);
        fresh.dedup_by_key(|endpoint| endpoint.address);
        Self { endpoints: fresh.into(), pods: to.weighed() }
    }

    pub fn as_slice(&self) -> &[Arc<LiveEndpoint>] {
        &self.endpoints
    }

    fn get(&self, address: SocketAddr) -> Option<&Arc<LiveEndpoint>> {
        let index = self.endpoints.binary_search_by_key(&address, |endpoint| endpoint.address).ok()?;
        self.endpoints.get(index)
    }
}
