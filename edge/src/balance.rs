//! Which cluster, then which endpoint.
//!
//! A route, how to choose, what was tried already and the time → one endpoint. Clusters of the lowest level come first
//! ([`levels`]), those of one level share requests by weight (rules M-2, M-3), endpoints of a cluster take turns, unless
//! requests are told apart by a key ([`keyed`]). Counters are shared by all workers, so the spread is even over the
//! edge and not only within a worker. No randomness, no I/O: the same calls give the same picks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::health::Millis;
use crate::table::{LiveBackend, LiveCluster, LiveEndpoint, LiveRoute};

pub mod keyed;
mod levels;

#[cfg(test)]
mod tests;

/// What a request is spread by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// The endpoint with this mark, as long as it may be used.
    pub mark: Option<u64>,
    pub spread: Spread,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Spread {
    #[default]
    Turns,
    /// Of two endpoints the one that lately answered faster.
    Faster,
    /// Equal keys go to the same endpoint.
    Key(u64),
}

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
    endpoints: Vec<Arc<LiveEndpoint>>,
}

impl Tried {
    pub fn add(&mut self, pick: &Pick) {
        self.clusters.push(pick.cluster);
        self.endpoints.push(pick.endpoint.clone());
    }

    fn has(&self, endpoint: &LiveEndpoint) -> bool {
        self.endpoints.iter().any(|tried| tried.is_same(endpoint))
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

/// One request's question.
#[derive(Clone, Copy)]
struct Ask<'a> {
    route: &'a LiveRoute,
    spread: Spread,
    tried: &'a Tried,
    now: Millis,
    /// Where in the range of shares this request falls.
    point: u64,
}

/// An endpoint that this request has not tried, or `None` if the route has no further one. Prefers usable endpoints,
/// then clusters with weight, then clusters that were not tried, then lower levels.
pub fn pick(route: &LiveRoute, choice: Choice, tried: &Tried, now: Millis) -> Option<Pick> {
    if let Some(pick) = choice.mark.and_then(|mark| keyed::marked(route, mark, tried, now)) {
        return Some(pick);
    }
    let point = match choice.spread {
        Spread::Key(key) => keyed::mix(key),
        Spread::Turns | Spread::Faster => next_point(route),
    };
    let ask = Ask { route, spread: choice.spread, tried, now, point };
    if route.levels.is_empty() {
        return TIERS.iter().find_map(|tier| pick_in(ask, *tier, None));
    }
    let (first, point) = levels::first(route, point, now);
    let ask = Ask { point, ..ask };
    let others = route.levels.iter().filter(|level| **level != first);
    let order = || std::iter::once(&first).chain(others.clone());
    TIERS.iter().find_map(|tier| order().find_map(|level| pick_in(ask, *tier, Some(*level))))
}

fn pick_in(ask: Ask<'_>, tier: Tier, level: Option<u32>) -> Option<Pick> {
    let candidates = || {
        let all = ask.route.clusters.iter().enumerate();
        let all = all.filter(move |(_, cluster)| level.is_none_or(|level| cluster.level == level));
        all.filter_map(move |(index, cluster)| Some((index, eligible(ask, cluster, index, tier)?)))
    };
    if let Spread::Key(key) = ask.spread {
        return keyed::pick(ask, tier, key, candidates());
    }
    let total: u64 = candidates().map(|(_, (_, share))| share).sum();
    if total == 0 {
        return None;
    }
    let mut ticket = ((u128::from(ask.point) * u128::from(total)) >> u64::BITS) as u64;
    for (index, (backend, share)) in candidates() {
        if ticket < share {
            // Nothing is found if others took the last probes or the addresses were swapped meanwhile; the next
            // tier or the caller's "unserved" answers then.
            let endpoint = match ask.spread {
                Spread::Faster => faster_endpoint(ask, backend, tier),
                Spread::Turns | Spread::Key(_) => None,
            };
            let endpoint = endpoint.or_else(|| choose_endpoint(ask, backend, tier))?;
            return Some(Pick { cluster: index, endpoint });
        }
        ticket -= share;
    }
    None
}

/// The backend and share of a cluster that can take the request in this tier.
fn eligible<'a>(ask: Ask<'a>, cluster: &'a LiveCluster, index: usize, tier: Tier) -> Option<(&'a LiveBackend, u64)> {
    let is_of_tier = (cluster.weight > 0) == (tier.weight == Weight::Positive);
    if !is_of_tier || (tier.cluster == Cluster::Untried && ask.tried.clusters.contains(&index)) {
        return None;
    }
    let backend = cluster.backend.as_deref()?;
    let endpoints = backend.endpoints();
    let share = if cluster.weight == 0 { 1 } else { cluster.share(&endpoints) };
    endpoints.as_slice().iter().any(|endpoint| is_open(ask, endpoint, tier)).then_some((backend, share))
}

fn is_open(ask: Ask<'_>, endpoint: &LiveEndpoint, tier: Tier) -> bool {
    let healthy = tier.health == Health::Any || endpoint.health.is_usable(ask.now);
    healthy && !ask.tried.has(endpoint)
}

/// Takes the endpoint for this request; of those that rest only one request gets it.
fn claim(ask: Ask<'_>, endpoint: &LiveEndpoint, tier: Tier) -> bool {
    tier.health == Health::Any || endpoint.health.claim(ask.now)
}

/// Successive ones are spread by the golden ratio, so that any run of picks gives every cluster close to its share;
/// random numbers would need a hundred times as many to come as close.
fn next_point(route: &LiveRoute) -> u64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let draw = route.picks.fetch_add(1, Ordering::Relaxed) as u64;
    draw.wrapping_mul(GOLDEN)
}

/// The next endpoint in turn that may be used.
fn choose_endpoint(ask: Ask<'_>, backend: &LiveBackend, tier: Tier) -> Option<Arc<LiveEndpoint>> {
    let set = backend.endpoints();
    let endpoints = set.as_slice();
    let start = backend.next.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1);
    let in_turn = endpoints[start..].iter().chain(&endpoints[..start]);
    let mut untried = in_turn.filter(|endpoint| !ask.tried.has(endpoint));
    untried.find(|endpoint| claim(ask, endpoint, tier)).cloned()
}

/// Of two endpoints the one that lately answered faster. The first are taken in turn, the second at a distance that
/// changes, so that every two meet.
fn faster_endpoint(ask: Ask<'_>, backend: &LiveBackend, tier: Tier) -> Option<Arc<LiveEndpoint>> {
    let set = backend.endpoints();
    let endpoints = set.as_slice();
    let turn = backend.next.fetch_add(1, Ordering::Relaxed);
    let others = endpoints.len().checked_sub(1).filter(|others| *others > 0)?;
    let first = turn % endpoints.len();
    let second = (first + 1 + keyed::mix(turn as u64) as usize % others) % endpoints.len();
    let pair = [&endpoints[first], &endpoints[second]];
    let open = pair.into_iter().filter(|endpoint| is_open(ask, endpoint, tier));
    let fastest = open.min_by_key(|endpoint| endpoint.latency.at(ask.now))?;
    claim(ask, fastest, tier).then(|| fastest.clone())
}
