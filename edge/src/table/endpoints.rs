//! The addresses of one backend. Replaced as a whole; an address that stays keeps its health.

use std::net::SocketAddr;
use std::sync::Arc;

use roadstead_routing::id::ClusterId;
use roadstead_routing::table::{BackendProtocol, ExternalName};

use crate::health::{Health, Latency};
use crate::upstream::{Name, Protocol};

/// One pod address, or the name of an external service. Lives as long as a table or a request holds it, which is how
/// connection pools notice that an address left the table.
#[derive(Debug)]
pub struct LiveEndpoint {
    /// Of an external name only the port counts.
    pub address: SocketAddr,
    /// Who is resolved at every connection instead of using the address (rule P-6).
    pub name: Option<Name>,
    /// As its Service says; a route may say otherwise.
    pub protocol: Protocol,
    /// The same at every edge and after every start: by this clients are told endpoints apart, and nothing else.
    pub mark: u64,
    pub health: Health,
    pub latency: Latency,
}

/// Sorted by address, without duplicates.
#[derive(Debug, Default)]
pub struct EndpointSet(Box<[Arc<LiveEndpoint>]>);

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
        Arc::new(Self { address, name, protocol, mark, health: Health::default(), latency: Latency::default() })
    }

    /// Whether both lead to one place.
    pub fn is_same(&self, other: &Self) -> bool {
        self.address == other.address && self.host() == other.host()
    }

    fn host(&self) -> Option<&str> {
        self.name.as_ref().map(Name::as_str)
    }
}

impl EndpointSet {
    /// The set of these addresses; endpoints that `before` has too are taken over with their health.
    pub fn new(
        cluster: &ClusterId,
        protocol: BackendProtocol,
        addresses: impl IntoIterator<Item = SocketAddr>,
        before: &EndpointSet,
    ) -> Self {
        let protocol = protocol.into();
        let mut addresses: Vec<SocketAddr> = addresses.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        let kept = |address: SocketAddr| {
            let kept = before.get(address).filter(|endpoint| endpoint.protocol == protocol).cloned();
            kept.unwrap_or_else(|| LiveEndpoint::new(cluster, address, protocol))
        };
        Self(addresses.into_iter().map(kept).collect())
    }

    /// The one endpoint of an external service.
    pub fn external(cluster: &ClusterId, protocol: BackendProtocol, name: &ExternalName, before: &EndpointSet) -> Self {
        let endpoint = LiveEndpoint::external(cluster, name, protocol.into());
        let is_kept = |kept: &&Arc<LiveEndpoint>| kept.is_same(&endpoint) && kept.protocol == endpoint.protocol;
        let kept = before.0.first().filter(is_kept).cloned();
        Self(Box::new([kept.unwrap_or(endpoint)]))
    }

    pub fn as_slice(&self) -> &[Arc<LiveEndpoint>] {
        &self.0
    }

    fn get(&self, address: SocketAddr) -> Option<&Arc<LiveEndpoint>> {
        let index = self.0.binary_search_by_key(&address, |endpoint| endpoint.address).ok()?;
        self.0.get(index).filter(|endpoint| endpoint.name.is_none())
    }
}
