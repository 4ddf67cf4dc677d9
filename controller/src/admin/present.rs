//! The core's state as the admin API shows it.

use roadstead_api as api;
use roadstead_routing::id::PoolName;

use crate::guard::hold::{Hold, ScopeText, State};
use crate::guard::overrides::{Effect, Override};
use crate::observe::status::{Report, rfc3339};

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
            hosts: cluster.hosts,
            findings: cluster.findings,
            agent_version,
            kubernetes_version,
        }
    });
    api::Clusters { clusters: clusters.collect() }
}

pub fn edges(report: Report) -> api::Edges {
    let of_pool = report.pools.into_iter().flat_map(|pool| {
        pool.edges.into_iter().map(move |edge| api::Edge {
            pool: pool.name.clone(),
            id: edge.id,
            connected: edge.connected,
            since: edge.since,
            synced: edge.synced,
            hosts_held: edge.hosts_held,
            hosts: pool.hosts,
            refused: edge.refused,
            version: edge.version,
        })
    });
    api::Edges { edges: of_pool.collect() }
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
