//! The `/status` page: what an operator asks first, as JSON. Built on demand from the core's state.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_api as api;
use roadstead_routing::finding::Finding;
use roadstead_routing::id::{ClusterId, Kind, PoolName};
use serde::{Deserialize, Serialize};

use crate::admin::present;
use crate::core::Core;
use crate::ingest::State;
use crate::ingest::session::Session;
use crate::peers::state::ReportedEdge;
use crate::publish::edge::Edge;
use crate::publish::pool::Pool;

/// Findings on the page; `findings_total` says how many there are.
pub const FINDINGS_SHOWN_MAX: usize = 1_000;
/// Refused resources shown per edge.
pub const REFUSED_SHOWN_MAX: usize = 100;
/// Failing backends shown per edge.
pub const FAILING_SHOWN_MAX: usize = 100;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The controller that answers.
    pub replica: String,
    pub world: api::World,
    /// What is wrong with the whole and needs a person.
    pub alerts: Vec<api::Alert>,
    pub replicas: Vec<api::Replica>,
    /// The replica that turns time into data and writes history. Absent: not known yet.
    pub clerk: Option<String>,
    pub clusters: Vec<ClusterReport>,
    pub pools: Vec<PoolReport>,
    pub store: StoreReport,
    pub policy: PolicyReport,
    /// Changes that wait for a decision.
    pub holds: Vec<api::Hold>,
    pub overrides: Vec<api::Override>,
    pub findings: Vec<FindingReport>,
    pub findings_total: usize,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClusterReport {
    pub id: String,
    /// `live`, `standby` (an agent waits for the store), `stale` or `never`.
    pub state: String,
    /// RFC 3339; since when it is live or stale. Absent: never seen.
    pub since: Option<String>,
    /// Where it stands in its life, as routes go by it.
    pub lifecycle: String,
    /// How far an activation or drain is: the share of the cluster's weight that counts.
    pub percent: u8,
    /// `fresh`, `stale` or `expired`.
    pub liveness: String,
    /// The controller that has its stream. Absent: none.
    pub replica: Option<String>,
    /// Its agent has reported everything since it took the cluster over last.
    pub settled: bool,
    pub epoch: u64,
    pub seq: u64,
    pub durable_seq: u64,
    /// By kind.
    pub objects: BTreeMap<String, usize>,
    pub hosts: usize,
    pub agent: Option<AgentReport>,
    pub findings: usize,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentReport {
    pub id: String,
    pub version: String,
    pub kubernetes: String,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PoolReport {
    pub name: String,
    /// The pool of what names none.
    pub default: bool,
    pub hosts: usize,
    pub backends: usize,
    pub edges: Vec<EdgeReport>,
    /// Edges that are connected to other replicas.
    pub elsewhere: Vec<ElsewhereReport>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EdgeReport {
    pub id: String,
    pub region: String,
    pub zone: String,
    pub version: String,
    pub connected: bool,
    /// RFC 3339; connected or disconnected since.
    pub since: String,
    pub synced: bool,
    /// Updates sent and not answered.
    pub unacked: usize,
    /// Resources not sent yet.
    pub pending: usize,
    /// Hosts it has in their newest version.
    pub hosts_held: usize,
    /// Keys of refused resources.
    pub refused: Vec<String>,
    /// Backends of which it could not connect to some endpoints lately.
    pub failing: Vec<String>,
    /// The world whose table it serves, if that is another one: then it is sent nothing.
    pub world: Option<api::OtherWorld>,
}

/// An edge as another replica tells of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ElsewhereReport {
    pub id: String,
    /// The controller that it is connected to.
    pub replica: String,
    pub region: String,
    pub zone: String,
    pub version: String,
    pub since: String,
    pub synced: bool,
    pub hosts_held: usize,
    pub refused: Vec<String>,
    pub failing: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StoreReport {
    /// `durable` or `degraded: not durable`.
    pub state: String,
    pub problem: Option<String>,
    /// Objects and host versions that wait to be written.
    pub queued: usize,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PolicyReport {
    pub rev: u64,
    pub source: String,
    /// Why the file is not what is in force.
    pub problem: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FindingReport {
    pub cluster: String,
    /// Kind, namespace and name. Absent: the cluster as a whole.
    pub object: Option<String>,
    pub code: String,
    pub severity: String,
    pub message: String,
    pub remedy: String,
}

/// `queued` is how much waits in the store's queue.
pub fn report(core: &Core, queued: usize) -> Report {
    Report {
        replica: core.followed.replica.id.clone(),
        world: present::world(&core.turn.world_id),
        alerts: core.alerts().into_iter().map(present::alert).collect(),
        replicas: replicas(core),
        clerk: core.followed.clerk.clone(),
        clusters: clusters(core),
        pools: pools(core),
        store: StoreReport {
            state: if core.store_away.is_some() { "degraded: not durable" } else { "durable" }.to_owned(),
            problem: core.store_away.clone(),
            queued,
        },
        policy: PolicyReport {
            rev: core.turn.policy.rev,
            source: core.turn.policy.source.clone(),
            problem: core.policy_problem.clone(),
        },
        holds: core.guard().holds().map(present::hold).collect(),
        overrides: core.guard().overrides().map(present::an_override).collect(),
        findings: core.turn.findings.iter().take(FINDINGS_SHOWN_MAX).map(finding).collect(),
        findings_total: core.turn.findings.len(),
    }
}

/// This controller first, then the others that the store knows to be there.
fn replicas(core: &Core) -> Vec<api::Replica> {
    let (own, clerk) = (&core.followed.replica, core.followed.clerk.as_deref());
    let others = core.peers.known().iter().map(|it| (it, core.peers.reports_to(&it.id)));
    let all = std::iter::once((own, false)).chain(others);
    all.map(|(row, reports_to)| present::replica(row, &own.id, clerk, reports_to)).collect()
}

/// Clusters that ever reported and clusters that the policy names.
fn clusters(core: &Core) -> Vec<ClusterReport> {
    let mut ids: Vec<&ClusterId> = core.ingest.members().map(|(id, _)| id).collect();
    ids.extend(core.turn.policy.policy.clusters.keys());
    ids.sort();
    ids.dedup();
    ids.into_iter().map(|id| cluster(core, id)).collect()
}

fn cluster(core: &Core, id: &ClusterId) -> ClusterReport {
    let (world, state) = (&core.turn.world, core.ingest.state(id, core.turn.now_ms));
    let session = core.ingest.session(id).map(|(_, session)| session);
    let membership = world.inputs().membership(id);
    let position = session.map_or_else(|| world.position(id), Session::position);
    let since_ms = core.ingest.members().find(|(member, _)| *member == id).map(|(_, member)| member.since_ms);
    let agent = core.ingest.hello(id).map(|hello| AgentReport {
        id: hello.agent.clone(),
        version: hello.agent_version.clone(),
        kubernetes: hello.kubernetes_version.clone(),
    });
    ClusterReport {
        id: id.to_string(),
        state: match state {
            State::Live | State::Elsewhere => "live",
            State::Standby => "standby",
            State::Reconnecting => "reconnecting",
            State::Stale => "stale",
            State::Never => "never",
        }
        .to_owned(),
        since: since_ms.filter(|_| state != State::Never).map(rfc3339),
        lifecycle: membership.lifecycle.to_string(),
        percent: present::percent(membership),
        liveness: membership.liveness.to_string(),
        replica: match session {
            Some(_) => Some(core.followed.replica.id.clone()),
            None => core.ingest.elsewhere(id).map(str::to_owned),
        },
        settled: world.lineage(id).is_some_and(|it| it.settled),
        epoch: position.epoch,
        seq: position.seq,
        durable_seq: session.map_or(position.seq, Session::durable_seq),
        objects: Kind::ALL.iter().map(|kind| (kind.to_string(), world.count(id, *kind))).collect(),
        hosts: world.inputs().cluster_hosts(id),
        agent,
        findings: core.turn.findings.subjects(id).count(),
    }
}

/// Pools of the policy, pools with something in them, and pools that edges ask for, here or elsewhere.
fn pools(core: &Core) -> Vec<PoolReport> {
    let (own, policy) = (core.publish.pools(), &core.turn.policy.policy);
    let elsewhere = core.peers.reported().flat_map(|(_, it)| it.edges.iter().map(|edge| &edge.pool));
    let names: BTreeSet<&PoolName> = own.keys().chain(policy.pools.keys()).chain(elsewhere).collect();
    let default = policy.default_pool();
    let report = |name: &PoolName| {
        let pool = own.get(name);
        PoolReport {
            name: name.to_string(),
            default: default == Some(name),
            hosts: pool.map_or(0, Pool::host_count),
            backends: pool.map_or(0, Pool::backend_count),
            edges: pool.map(edges).unwrap_or_default(),
            elsewhere: edges_elsewhere(core, name),
        }
    };
    names.into_iter().map(report).collect()
}

fn edges(pool: &Pool) -> Vec<EdgeReport> {
    let report = |(id, edge): (&String, &Edge)| EdgeReport {
        id: id.clone(),
        region: edge.region.clone(),
        zone: edge.zone.clone(),
        version: edge.version.clone(),
        connected: edge.stream().is_some(),
        since: rfc3339(edge.since_ms),
        synced: edge.is_synced(),
        unacked: edge.unacknowledged(),
        pending: edge.pending(),
        hosts_held: pool.settled_hosts(edge),
        refused: edge.refused().take(REFUSED_SHOWN_MAX).map(ToString::to_string).collect(),
        failing: edge.failing().take(FAILING_SHOWN_MAX).map(ToString::to_string).collect(),
        world: edge.foreign_world().map(present::other_world),
    };
    pool.edges().map(report).collect()
}

fn edges_elsewhere(core: &Core, pool: &PoolName) -> Vec<ElsewhereReport> {
    let report = |replica: &str, edge: &ReportedEdge| ElsewhereReport {
        id: edge.id.clone(),
        replica: replica.to_owned(),
        region: edge.region.clone(),
        zone: edge.zone.clone(),
        version: edge.version.clone(),
        since: rfc3339(edge.since_ms),
        synced: edge.synced,
        hosts_held: usize::try_from(edge.hosts_held).unwrap_or(usize::MAX),
        refused: edge.refused.iter().take(REFUSED_SHOWN_MAX).cloned().collect(),
        failing: edge.failing.iter().take(FAILING_SHOWN_MAX).cloned().collect(),
    };
    let reported = core.peers.reported();
    let mut edges: Vec<_> =
        reported.flat_map(|(replica, it)| it.edges_of(pool).map(move |edge| report(replica, edge))).collect();
    edges.sort_by(|a, b| (&a.id, &a.replica).cmp(&(&b.id, &b.replica)));
    edges
}

fn finding(finding: &Finding) -> FindingReport {
    FindingReport {
        cluster: finding.cluster.to_string(),
        object: finding.object.as_ref().map(ToString::to_string),
        code: finding.code.to_string(),
        severity: format!("{:?}", finding.severity).to_lowercase(),
        message: finding.message.clone(),
        remedy: finding.remedy.clone(),
    }
}

pub(crate) fn rfc3339(ms: u64) -> String {
    jiff::Timestamp::from_millisecond(ms as i64).unwrap_or_default().to_string()
}
