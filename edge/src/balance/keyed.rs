//! Endpoints for keys: equal keys get the same endpoint, and when endpoints come or go few keys move.
//!
//! Rendezvous hashing: every endpoint scores every key, the best one gets it. The share of a cluster is spread over its
//! endpoints, so an endpoint's part of all keys is what turns would have given it.

use std::sync::Arc;

use super::{Ask, Pick, Tier, Tried, claim, is_open};
use crate::health::Millis;
use crate::table::{LiveBackend, LiveCluster, LiveEndpoint, LiveRoute};

/// A number that looks random and depends on every bit of `key` (SplitMix64).
pub(super) fn mix(key: u64) -> u64 {
    let mut mixed = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The key of a text: the same at every edge.
pub fn key(text: &[u8]) -> u64 {
    let hash = blake3::hash(text);
    let (first, _) = hash.as_bytes().split_at(8);
    u64::from_le_bytes(first.try_into().expect("8 bytes"))
}

/// Among endpoints of weights w, the best score falls to each with probability w / sum of weights.
fn score(endpoint: &LiveEndpoint, key: u64, weight: f64) -> f64 {
    let uniform = ((mix(endpoint.mark ^ mix(key)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -weight / uniform.ln()
}

/// The best endpoint for `key` that may be used.
pub(super) fn pick<'a>(
    ask: Ask<'a>,
    tier: Tier,
    key: u64,
    candidates: impl Iterator<Item = (usize, (&'a LiveBackend, u64))>,
) -> Option<Pick> {
    let mut scored: Vec<(f64, usize, Arc<LiveEndpoint>)> = Vec::new();
    for (cluster, (backend, share)) in candidates {
        let set = backend.endpoints();
        let weight = share as f64 / set.as_slice().len().max(1) as f64;
        let open = set.as_slice().iter().filter(|endpoint| is_open(ask, endpoint, tier));
        scored.extend(open.map(|endpoint| (score(endpoint, key, weight), cluster, endpoint.clone())));
    }
    while let Some(best) = (0..scored.len()).max_by(|one, other| scored[*one].0.total_cmp(&scored[*other].0)) {
        let (_, cluster, endpoint) = scored.swap_remove(best);
        if claim(ask, &endpoint, tier) {
            return Some(Pick { cluster, endpoint });
        }
    }
    None
}

/// The endpoint with this mark, unless it failed, was tried, or its cluster receives nothing.
pub(super) fn marked(route: &LiveRoute, mark: u64, tried: &Tried, now: Millis) -> Option<Pick> {
    let (cluster, endpoint) = find(route, mark)?;
    let has_weight = |cluster: &LiveCluster| cluster.weight > 0;
    let receives = has_weight(&route.clusters[cluster]) || !route.clusters.iter().any(has_weight);
    let may = receives && !tried.has(&endpoint) && endpoint.health.claim(now);
    may.then_some(Pick { cluster, endpoint })
}

/// The endpoint with this mark, whatever its state.
pub fn find(route: &LiveRoute, mark: u64) -> Option<(usize, Arc<LiveEndpoint>)> {
    route.clusters.iter().enumerate().find_map(|(index, cluster)| {
        let set = cluster.backend.as_ref()?.endpoints();
        let endpoint = set.as_slice().iter().find(|endpoint| endpoint.mark == mark)?.clone();
        Some((index, endpoint))
    })
}

/// Where `key` leads among the clusters of the same level as `cluster` if all endpoints are well.
pub fn home(route: &LiveRoute, cluster: usize, key: u64) -> Option<Arc<LiveEndpoint>> {
    let level = route.clusters[cluster].level;
    let clusters = route.clusters.iter().filter(|cluster| cluster.level == level && cluster.weight > 0);
    let mut best: Option<(f64, Arc<LiveEndpoint>)> = None;
    for cluster in clusters {
        let Some(backend) = &cluster.backend else { continue };
        let set = backend.endpoints();
        let weight = cluster.share(&set) as f64 / set.as_slice().len().max(1) as f64;
        for endpoint in set.as_slice() {
            let score = score(endpoint, key, weight);
            if best.as_ref().is_none_or(|(so_far, _)| score > *so_far) {
                best = Some((score, endpoint.clone()));
            }
        }
    }
    best.map(|(_, endpoint)| endpoint)
}
