//! What a replica sees of edges, as it tells its peers: so that a status is written once edges anywhere serve
//! an Ingress, and every replica can show all edges.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_proto::position::{position_from_wire, position_to_wire};
use roadstead_proto::resource::ResourceKey;
use roadstead_proto::wire;
use roadstead_routing::id::{ClusterId, HostKey, PoolName, Position};

use crate::core::follow::Alert;
use crate::core::turn::Turn;
use crate::publish::canary::Seen;
use crate::publish::{EDGES_PER_POOL_MAX, POOLS_MAX, Publish};

/// Edges of one replica, in all pools.
pub const EDGES_MAX: usize = EDGES_PER_POOL_MAX * 16;
/// Hosts that are named as not settled at one edge. With more, nothing counts as settled there.
pub const UNSETTLED_MAX: usize = 1_000;
/// Refused resources, failing backends and alerts that are named, each.
pub const NAMED_MAX: usize = 100;

/// What one other replica sees.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reported {
    pub edges: Vec<ReportedEdge>,
    pub positions: BTreeMap<ClusterId, Position>,
    pub policy_rev: u64,
    pub clerk_rev: u64,
    /// Trials that a person ended there: what policies up to this one lead to, all edges of the pool may have.
    pub released: BTreeMap<PoolName, u64>,
    /// Which edge tries what the others of its pool do not have yet, and the policy it comes from.
    pub trials: BTreeMap<PoolName, (String, u64)>,
    /// What needs a person about its edges.
    pub alerts: Vec<Alert>,
}

/// An edge that is connected there.
#[derive(Clone, PartialEq, Debug)]
pub struct ReportedEdge {
    pub pool: PoolName,
    pub id: String,
    pub version: String,
    pub region: String,
    pub zone: String,
    pub since_ms: u64,
    pub synced: bool,
    /// `None`: too many, or unknown.
    pub unsettled: Option<BTreeSet<HostKey>>,
    pub refused: Vec<String>,
    pub hosts_held: u64,
    pub failing: Vec<String>,
}

impl Reported {
    pub fn from_wire(state: wire::PeerState) -> Self {
        let positions = state.positions.unwrap_or_default();
        let at = positions.clusters.into_iter();
        let released = state.released.into_iter().take(POOLS_MAX);
        let trials = state.trials.into_iter().take(POOLS_MAX);
        let alert = |it: wire::PeerAlert| Alert { code: it.code, message: it.message, remedy: it.remedy };
        Self {
            edges: state.edges.into_iter().take(EDGES_MAX).map(edge_from_wire).collect(),
            positions: at.map(|it| (it.cluster.as_str().into(), position_from_wire(it.position))).collect(),
            policy_rev: positions.policy_rev,
            clerk_rev: positions.clerk_rev,
            released: released.map(|it| (it.pool.as_str().into(), it.policy_rev)).collect(),
            trials: trials.map(|it| (it.pool.as_str().into(), (it.edge, it.policy_rev))).collect(),
            alerts: state.alerts.into_iter().take(NAMED_MAX).map(alert).collect(),
        }
    }

    /// Whether the replica's edges with nothing unsettled have everything of the cluster up to `position`.
    pub fn reaches(&self, cluster: &ClusterId, position: Position) -> bool {
        self.positions.get(cluster).is_some_and(|there| *there >= position)
    }

    pub fn edges_of<'a>(&'a self, pool: &'a PoolName) -> impl Iterator<Item = &'a ReportedEdge> {
        self.edges.iter().filter(move |edge| edge.pool == *pool)
    }
}

impl ReportedEdge {
    /// As the trial of a change looks at it.
    pub fn seen(&self, policy_rev: u64) -> Seen {
        let refused = self.refused.iter().filter_map(|key| ResourceKey::parse(key)?.host().cloned());
        Seen { policy_rev, unsettled: self.unsettled.clone().filter(|_| self.synced), refused: refused.collect() }
    }

    pub fn has(&self, host: &HostKey) -> bool {
        self.synced && self.unsettled.as_ref().is_some_and(|unsettled| !unsettled.contains(host))
    }
}

/// What this replica sees.
pub(super) fn of(publish: &Publish, alerts: Vec<Alert>, turn: &Turn) -> wire::PeerState {
    let alert = |it: Alert| wire::PeerAlert { code: it.code, message: it.message, remedy: it.remedy };
    let positions = turn.world.positions().map(|(cluster, position)| wire::ClusterPosition {
        cluster: cluster.to_string(),
        position: Some(position_to_wire(position)),
        ..Default::default()
    });
    let edges = publish.pools().iter().flat_map(|(name, pool)| {
        pool.connected().map(move |(id, edge)| {
            let unsettled = edge.unsettled_hosts();
            let is_known = unsettled.as_ref().is_some_and(|hosts| hosts.len() <= UNSETTLED_MAX);
            let unsettled = unsettled.into_iter().flatten().take(UNSETTLED_MAX).map(|host| host.to_string());
            wire::PeerEdge {
                pool: name.to_string(),
                id: id.clone(),
                version: edge.version.clone(),
                region: edge.region.clone(),
                zone: edge.zone.clone(),
                since_ms: edge.since_ms,
                synced: edge.is_synced(),
                unsettled: unsettled.collect(),
                more_unsettled: !is_known,
                refused: edge.refused().chain(edge.guarded()).take(NAMED_MAX).map(ToString::to_string).collect(),
                hosts_held: pool.settled_hosts(edge) as u64,
                failing: edge.failing().take(NAMED_MAX).map(ToString::to_string).collect(),
            }
        })
    });
    let released = publish.released().iter();
    let released = released.map(|(pool, rev)| wire::ReleasedCanary { pool: pool.to_string(), policy_rev: *rev });
    let trials = publish.pools().iter().filter_map(|(pool, it)| {
        let (edge, policy_rev) = (it.canary().trial()?.edge?.to_owned(), it.canary().policy_rev());
        Some(wire::CanaryTrial { pool: pool.to_string(), edge, policy_rev })
    });
    wire::PeerState {
        edges: edges.collect(),
        positions: Some(wire::Positions {
            clusters: positions.collect(),
            policy_rev: turn.policy.rev,
            clerk_rev: turn.clerk_rev,
        }),
        released: released.collect(),
        trials: trials.collect(),
        alerts: alerts.into_iter().take(NAMED_MAX).map(alert).collect(),
    }
}

fn edge_from_wire(edge: wire::PeerEdge) -> ReportedEdge {
    let unsettled = edge.unsettled.iter().filter_map(|host| HostKey::parse(host)).collect();
    ReportedEdge {
        pool: edge.pool.as_str().into(),
        id: edge.id,
        version: edge.version,
        region: edge.region,
        zone: edge.zone,
        since_ms: edge.since_ms,
        synced: edge.synced,
        unsettled: (!edge.more_unsettled).then_some(unsettled),
        refused: edge.refused,
        hosts_held: edge.hosts_held,
        failing: edge.failing,
    }
}
