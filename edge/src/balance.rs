//! Which cluster, then which endpoint.
//!
//! A route, what was tried already and the time → one endpoint. Clusters share requests by weight (rules M-2, M-3),
//! endpoints of a cluster take turns. Both counters are shared by all workers, so the spread is even over the edge
//! and not only within a worker. No randomness, no I/O: the same calls give the same picks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::health::Millis;
use crate::table::{LiveBackend, LiveCluster, LiveEndpoint, LiveRoute};

#[cfg(test)]
mod tests;

/// Where one attempt goes.
#[derive(Clone, Debug)]
pub struct Pick {
    /// Index into the route's clusters.
    pub cluster: usize,
    pub endpoint: Arc<LiveEndpoint>,
}

/// What earlier attempts of the same request used.
#[derive(Default, Debug)]
pub struct Tried {
    clusters: Vec<usize>,
    endpoints: Vec<SocketAddr>,
}

impl Tried {
    pub fn add(&mut self, pick: &Pick) {
        self.clusters.push(pick.cluster);
        self.endpoints.push(pick.endpoint.address);
    }
}

/// Who may be picked; what [`pick`] relaxes step by step.
#[derive(Clone, Copy)]
struct Tier {
    health: Health,
    weight: Weight,
    cluster: Cluster,
}

#[derive(Clone, Copy, PartialEq)]
enum Health {
    Usable,
    /// All have failed: better a likely failure than a certain one.
    Any,
}

#[derive(Clone, Copy, PartialEq)]
enum Weight {
    Positive,
    /// A weight of 0 takes part only if nobody else can; all of them are equal then.
    Zero,
}

#[derive(Clone, Copy, PartialEq)]
enum Cluster {
    /// Only clusters that this request has not tried: what failed there may fail there again.
    Untried,
    Any,
}

const TIERS: [Tier; 8] = [
    Tier { health: Health::Usable, weight: Weight::Positive, cluster: Cluster::Untried },
    Tier { health: Health::Usable, weight: Weight::Positive, cluster: Cluster::Any },
    Tier { health: Health::Usable, weight: Weight::Zero, cluster: Cluster::Untried },
    Tier { health: Health::Usable, weight: Weight::Zero, cluster: Cluster::Any },
    Tier { health: Health::Any, weight: Weight::Positive, cluster: Cluster::Untried },
    Tier { health: Health::Any, weight: Weight::Positive, cluster: Cluster::Any },
    Tier { health: Health::Any, weight: Weight::Zero, cluster: Cluster::Untried },
    Tier { health: Health::Any, weight: Weight::Zero, cluster: Cluster::Any },
];

/// An endpoint that this request has not tried, or `None` if the route has no further one. Prefers usable endpoints,
/// then clusters with weight, then clusters that were not tried.
pub fn pick(route: &LiveRoute, tried: &Tried, now: Millis) -> Option<Pick> {
    TIERS.iter().find_map(|tier| pick_in(route, tried, now, *tier))
}

fn pick_in(route: &LiveRoute, tried: &Tried, now: Millis, tier: Tier) -> Option<Pick> {
    let candidates = || {
        let all = route.clusters.iter().enumerate();
        all.filter_map(move |(index, cluster)| Some((index, eligible(cluster, index, tried, now, tier)?)))
    };
    let total: u64 = candidates().map(|(_, (_, share))| share).sum();
    if total == 0 {
        return None;
    }
    let mut ticket = next_ticket(route, total);
    for (index, (backend, share)) in candidates() {
        if ticket < share {
            // Nothing is found if others took the last probes or the addresses were swapped meanwhile; the next
            // tier or the caller's "unserved" answers then.
            let endpoint = choose_endpoint(backend, tried, now, tier)?;
            return Some(Pick { cluster: index, endpoint });
        }
        ticket -= share;
    }
    None
}

/// The backend and share of a cluster that can take the request in this tier.
fn eligible<'a>(
    cluster: &'a LiveCluster,
    index: usize,
    tried: &Tried,
    now: Millis,
    tier: Tier,
) -> Option<(&'a LiveBackend, u64)> {
    let share = match tier.weight {
        Weight::Positive => u64::from(cluster.weight),
        Weight::Zero => u64::from(cluster.weight == 0),
    };
    if share == 0 || (tier.cluster == Cluster::Untried && tried.clusters.contains(&index)) {
        return None;
    }
    let backend = cluster.backend.as_deref()?;
    let endpoints = backend.endpoints();
    let open = |endpoint: &LiveEndpoint| {
        let healthy = tier.health == Health::Any || endpoint.health.is_usable(now);
        healthy && !tried.endpoints.contains(&endpoint.address)
    };
    endpoints.as_slice().iter().any(|endpoint| open(endpoint)).then_some((backend, share))
}

/// A number below `total`. Successive ones are spread by the golden ratio, so that any run of picks gives every
/// cluster close to its share; random numbers would need a hundred times as many to come as close.
fn next_ticket(route: &LiveRoute, total: u64) -> u64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let draw = route.picks.fetch_add(1, Ordering::Relaxed) as u64;
    let point = draw.wrapping_mul(GOLDEN);
    ((u128::from(point) * u128::from(total)) >> u64::BITS) as u64
}

/// The next endpoint in turn that may be used.
fn choose_endpoint(backend: &LiveBackend, tried: &Tried, now: Millis, tier: Tier) -> Option<Arc<LiveEndpoint>> {
    let set = backend.endpoints();
    let endpoints = set.as_slice();
    let start = backend.next.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1);
    let in_turn = endpoints[start..].iter().chain(&endpoints[..start]);
    let mut untried = in_turn.filter(|endpoint| !tried.endpoints.contains(&endpoint.address));
    untried.find(|endpoint| tier.health == Health::Any || endpoint.health.claim(now)).cloned()
}
