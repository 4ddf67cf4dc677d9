//! The core's state as the admin API shows it.

use std::collections::BTreeSet;

use roadstead_api as api;
use roadstead_proto::wire;
use roadstead_routing::guard::ScopeText;
use roadstead_routing::id::{ClusterId, PoolName};
use roadstead_routing::membership::Membership;
use uuid::Uuid;

use crate::core::follow::Alert;
use crate::guard::hold::{Hold, State};
use crate::guard::overrides::{Effect, Override};
use crate::observe::status::{EdgeReport, ElsewhereReport, PoolReport, Report, rfc3339};
use crate::store::{MemberRow, ReplicaRow, RevisionRow, WorldId};

pub fn hold(hold: &Hold) -> api::Hold {
    let cause = &hold.cause;
    api::Hold {
        id: hold.id.clone(),
        pool: hold.pool.to_string(),
        scope: ScopeText(&hold.scope).to_string(),
        state: match hold.state {
            State::Open => "open",
            State::Approved => "approved",
            State::Discarded => "discarded",
            State::Resolved => "resolved",
        }
        .to_owned(),
        since: rfc3339(hold.since_ms),
        message: hold.message.clone(),
        cause: api::Cause {
            clusters: cause.clusters.iter().map(ToString::to_string).collect(),
            namespaces: cause.namespaces.iter().cloned().collect(),
            managers: cause.managers.iter().cloned().collect(),
        },
        hosts: hold.hosts.keys().take(api::HOSTS_SHOWN_MAX).cloned().collect(),
        hosts_total: hold.hosts.len(),
    }
}

pub fn an_override(it: &Override) -> api::Override {
    let (kind, scope) = match &it.effect {
        Effect::ExpectRemoval(scope) => ("expect-removal", ScopeText(scope).to_string()),
        Effect::Freeze(pool) => ("freeze", pool.as_ref().map_or_else(|| "all".to_owned(), pool_text)),
        Effect::Pin(pin) => ("pin", format!("{}/host/{}@{}", pool_text(&pin.pool), pin.host, pin.revision)),
    };
    api::Override {
        id: it.id.clone(),
        kind: kind.to_owned(),
        scope,
        reason: it.reason.clone(),
        by: it.by.clone(),
        created: rfc3339(it.created_ms),
        expires: rfc3339(it.expires_ms),
    }
}

pub fn clusters(report: Report) -> api::Clusters {
    let clusters = report.clusters.into_iter().map(|cluster| {
        let (agent_version, kubernetes_version) = cluster.agent.map(|it| (it.version, it.kubernetes)).unzip();
        api::Cluster {
            id: cluster.id,
            state: cluster.state,
            since: cluster.since,
            lifecycle: cluster.lifecycle,
            percent: cluster.percent,
            liveness: cluster.liveness,
            replica: cluster.replica,
            settled: cluster.settled,
            hosts: cluster.hosts,
            findings: cluster.findings,
            agent_version,
            kubernetes_version,
        }
    });
    api::Clusters { clusters: clusters.collect() }
}

/// Edges of all replicas.
pub fn edges(report: Report) -> api::Edges {
    let Report { replica, pools, .. } = report;
    api::Edges { edges: pools.into_iter().flat_map(|pool| edges_of(pool, &replica)).collect() }
}

/// One that moved to another replica is remembered here and connected there: it is shown once.
fn edges_of(pool: PoolReport, replica: &str) -> impl Iterator<Item = api::Edge> {
    let PoolReport { name, hosts, edges, elsewhere, .. } = pool;
    let moved: BTreeSet<String> = elsewhere.iter().map(|edge| edge.id.clone()).collect();
    let here = edges.into_iter().filter(move |edge| edge.connected || !moved.contains(&edge.id));
    let all = here.map(move |edge| edge_here(edge, replica)).chain(elsewhere.into_iter().map(edge_elsewhere));
    all.map(move |edge| api::Edge { pool: name.clone(), hosts, ..edge })
}

/// Without its pool.
fn edge_here(edge: EdgeReport, replica: &str) -> api::Edge {
    api::Edge {
        pool: String::new(),
        id: edge.id,
        connected: edge.connected,
        replica: edge.connected.then(|| replica.to_owned()),
        since: edge.since,
        synced: edge.synced,
        hosts_held: edge.hosts_held,
        hosts: 0,
        refused: edge.refused,
        failing: edge.failing,
        world: edge.world,
        version: edge.version,
    }
}

/// Without its pool.
fn edge_elsewhere(edge: ElsewhereReport) -> api::Edge {
    api::Edge {
        pool: String::new(),
        id: edge.id,
        connected: true,
        replica: Some(edge.replica),
        since: edge.since,
        synced: edge.synced,
        hosts_held: edge.hosts_held,
        hosts: 0,
        refused: edge.refused,
        failing: edge.failing,
        world: None,
        version: edge.version,
    }
}

pub fn pools(report: Report) -> api::Pools {
    let pools = report.pools.into_iter();
    let shown =
        |it: PoolReport| api::Pool { name: it.name, default: it.default, hosts: it.hosts, backends: it.backends };
    api::Pools { pools: pools.map(shown).collect() }
}

pub fn member(cluster: &ClusterId, row: &MemberRow) -> api::Member {
    api::Member {
        cluster: cluster.to_string(),
        lifecycle: row.membership.lifecycle.to_string(),
        percent: percent(row.membership),
        since: rfc3339(row.changed_ms),
        by: row.by.clone(),
        reason: row.reason.clone(),
    }
}

/// The share of the cluster's weight that counts.
pub fn percent(membership: Membership) -> u8 {
    if membership.lifecycle.serves() { membership.percent } else { 0 }
}

pub fn revision(row: &RevisionRow) -> api::Revision {
    let digest = row.digest.map(|digest| digest.to_string());
    api::Revision { id: row.id, at: rfc3339(row.at_ms), digest, cause: row.cause.clone() }
}

pub fn world(world: &WorldId) -> api::World {
    let adopted = world.adopted.iter().map(ToString::to_string).collect();
    api::World { id: world.id.to_string(), incarnation: world.incarnation, adopted }
}

/// As an edge says it. `nil` if it is no id.
pub fn other_world(world: &wire::World) -> api::OtherWorld {
    let id = Uuid::from_slice(&world.id).unwrap_or_default();
    api::OtherWorld { id: id.to_string(), incarnation: world.incarnation }
}

pub fn alert(it: Alert) -> api::Alert {
    api::Alert { code: it.code, message: it.message, remedy: it.remedy }
}

/// `own`: the replica that answers. `reports_to`: whether it reports to the other one.
pub fn replica(row: &ReplicaRow, own: &str, clerk: Option<&str>, reports_to: bool) -> api::Replica {
    api::Replica {
        id: row.id.clone(),
        address: row.address.clone(),
        version: row.version.clone(),
        is_self: row.id == own,
        is_clerk: clerk == Some(row.id.as_str()),
        reports_to,
    }
}

pub fn findings(report: Report) -> api::Findings {
    let findings = report.findings.into_iter().map(|it| api::Finding {
        cluster: it.cluster,
        object: it.object,
        code: it.code,
        severity: it.severity,
        message: it.message,
        remedy: it.remedy,
    });
    api::Findings { findings: findings.take(api::FINDINGS_SHOWN_MAX).collect(), total: report.findings_total }
}

fn pool_text(pool: &PoolName) -> String {
    format!("pool/{pool}")
}

#[cfg(test)]
mod tests {
    use roadstead_routing::membership::Lifecycle;

    use super::*;
    use crate::guard::overrides::Pin;

    #[test]
    fn a_pin_names_pool_host_and_revision() {
        let pin = Pin { pool: "public".into(), host: "*.example.com".to_owned(), revision: 7, body: Vec::new() };
        let it = Override {
            id: "o-1".to_owned(),
            effect: Effect::Pin(pin),
            reason: "x".to_owned(),
            by: "me".to_owned(),
            created_ms: 0,
            expires_ms: 1_000,
        };
        let shown = an_override(&it);
        assert_eq!((shown.kind.as_str(), shown.scope.as_str()), ("pin", "pool/public/host/*.example.com@7"));
        assert_eq!(shown.expires, "1970-01-01T00:00:01Z");
    }

    #[test]
    fn an_edge_that_moved_to_another_replica_is_shown_once() {
        let edge = |id: &str, connected: bool| EdgeReport {
            id: id.to_owned(),
            region: String::new(),
            zone: String::new(),
            version: String::new(),
            connected,
            since: String::new(),
            synced: connected,
            unacked: 0,
            pending: 0,
            hosts_held: 0,
            refused: Vec::new(),
            failing: Vec::new(),
            world: None,
        };
        let there = ElsewhereReport {
            id: "e2".to_owned(),
            replica: "c2".to_owned(),
            region: String::new(),
            zone: String::new(),
            version: String::new(),
            since: String::new(),
            synced: true,
            hosts_held: 3,
            refused: Vec::new(),
            failing: vec!["eu/shop/web:80".to_owned()],
        };
        let pool = PoolReport {
            name: "public".to_owned(),
            default: true,
            hosts: 3,
            backends: 1,
            edges: vec![edge("e1", true), edge("e2", false), edge("e3", false)],
            elsewhere: vec![there],
        };
        let shown: Vec<_> = edges_of(pool, "c1").map(|it| (it.id, it.replica, it.connected, it.hosts)).collect();
        let (own, other) = (Some("c1".to_owned()), Some("c2".to_owned()));
        let expected = [("e1", own, true, 3), ("e3", None, false, 3), ("e2", other, true, 3)];
        assert_eq!(shown, expected.map(|(id, replica, connected, hosts)| (id.to_owned(), replica, connected, hosts)));
    }

    #[test]
    fn a_share_is_only_what_counts() {
        let at = |lifecycle| percent(Membership { lifecycle, percent: 40, ..Membership::default() });
        assert_eq!([Lifecycle::Active, Lifecycle::Draining].map(at), [40, 40]);
        assert_eq!([Lifecycle::Joining, Lifecycle::Offline].map(at), [0, 0]);
    }
}
