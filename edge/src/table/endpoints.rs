//! The addresses of one backend. Replaced as a whole; an address that stays keeps its health.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::health::Health;

/// One pod address. Lives as long as a table or a request holds it, which is how connection pools notice that an
/// address left the table.
#[derive(Debug)]
pub struct LiveEndpoint {
    pub address: SocketAddr,
    pub health: Health,
}

/// Sorted by address, without duplicates.
#[derive(Debug, Default)]
pub struct EndpointSet(Box<[Arc<LiveEndpoint>]>);

impl LiveEndpoint {
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { address, health: Health::default() })
    }
}

impl EndpointSet {
    /// The set of these addresses; endpoints that `before` has too are taken over with their health.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>, before: &EndpointSet) -> Self {
        let mut addresses: Vec<SocketAddr> = addresses.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        let kept = |address: SocketAddr| before.get(address).cloned().unwrap_or_else(|| LiveEndpoint::new(address));
        Self(addresses.into_iter().map(kept).collect())
    }

    pub fn as_slice(&self) -> &[Arc<LiveEndpoint>] {
        &self.0
    }

    fn get(&self, address: SocketAddr) -> Option<&Arc<LiveEndpoint>> {
        self.0.binary_search_by_key(&address, |endpoint| endpoint.address).ok().map(|index| &self.0[index])
    }
}
