//! The `/status` page: what an operator asks first, as JSON. Built on demand from the core's state.

use std::collections::BTreeMap;

use roadstead_routing::finding::Finding;
use roadstead_routing::id::{ClusterId, Kind};
use serde::{Deserialize, Serialize};

use crate::admin::present;
use crate::core::Core;
use crate::ingest::State;
use crate::ingest::session::Session;
use crate::publish::pool::Pool;

/// Findings on the page; `findings_total` says how many there are.
pub const FINDINGS_SHOWN_MAX: usize = 1_000;
/// Refused resources shown per edge.
pub const REFUSED_SHOWN_MAX: usize = 100;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    pub world: WorldReport,
    pub clusters: Vec<ClusterReport>,
    pub pools: Vec<PoolReport>,
    pub store: StoreReport,
    pub policy: PolicyReport,
    /// Changes that wait for a decision.
    pub holds: Vec<roadstead_api::Hold>,
    pub overrides: Vec<roadstead_api::Override>,
    pub findings: Vec<FindingReport>,
    pub findings_total: usize,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorldReport {
    pub id: String,
    pub incarnation: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClusterReport {
    pub id: String,
    /// `live`, `standby` (an agent waits for the store), `stale` or `never`.
    pub state: String,
    /// RFC 3339; since when it is live or stale. Absent: never seen.
    pub since: Option<String>,
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
    pub hosts: usize,
    pub backends: usize,
    pub edges: Vec<EdgeReport>,
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
        world: WorldReport { id: core.turn.world_id.id.to_string(), incarnation: core.turn.world_id.incarnation },
        clusters: clusters(core),
        pools: core.publish.pools().iter().map(|(name, it)| pool(name.as_str(), it)).collect(),
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
            State::Live => "live",
            State::Standby => "standby",
            State::Reconnecting => "reconnecting",
            State::Stale => "stale",
            State::Never => "never",
        }
        .to_owned(),
        since: since_ms.filter(|_| state != State::Never).map(rfc3339),
        epoch: position.epoch,
        seq: position.seq,
        durable_seq: session.map_or(position.seq, Session::durable_seq),
        objects: Kind::ALL.iter().map(|kind| (kind.to_string(), world.count(id, *kind))).collect(),
        hosts: world.inputs().cluster_hosts(id),
        agent,
        findings: core.turn.findings.subjects(id).count(),
    }
}

fn pool(name: &str, pool: &Pool) -> PoolReport {
    PoolReport {
        name: name.to_owned(),
        hosts: pool.host_count(),
        backends: pool.backend_count(),
        edges: pool
            .edges()
            .map(|(id, edge)| EdgeReport {
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
            })
            .collect(),
    }
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
