//! Merging the clusters' parts of one host's routes (rules M-1 to M-7).

use std::sync::Arc;

use crate::finding::{Code, Finding, Severity};
use crate::id::{ClusterId, HostKey, Kind, ObjectKey, ObjectName};
use crate::policy::Strategy;
use crate::rules::{self, Rule};
use crate::settings::{self, CanaryRule, ClientSettings};
use crate::table::{Canary, PathMatch, Route, RouteBackend};

use super::order::match_order;

/// What one cluster has of a route.
pub(super) struct Part {
    pub(super) path: PathMatch,
    /// The lowest one's settings win where they cannot be joined (rule M-7).
    pub(super) rank: (u32, ClusterId),
    pub(super) backend: RouteBackend,
    pub(super) client: Arc<ClientSettings>,
    pub(super) strategy: Strategy,
    pub(super) canary: Option<(CanaryRule, RouteBackend)>,
}

/// Puts parts with the same path together, all in match order. `parts` come cluster by cluster in the order of cluster
/// ids, and so do the backends of each result.
pub(super) fn routes(host: &HostKey, mut parts: Vec<Part>, findings: &mut Vec<Finding>) -> Vec<Route> {
    if !rules::on(Rule::TypesDoNotPool) {
        for part in &mut parts {
            if let PathMatch::Exact(path) = &part.path {
                part.path = PathMatch::Prefix(path.clone());
            }
        }
    }
    parts.sort_by(|a, b| match_order(&a.path, &b.path));
    let mut routes = Vec::new();
    let mut rest = parts.into_iter().peekable();
    while let Some(first) = rest.next() {
        let mut same = vec![first];
        while let Some(part) = rest.next_if(|part| part.path == same[0].path) {
            same.push(part);
        }
        routes.extend(one(host, same, findings));
    }
    routes
}

/// The route of parts with one path. `None` if there are none.
pub(super) fn one(host: &HostKey, parts: Vec<Part>, findings: &mut Vec<Finding>) -> Option<Route> {
    let leader = parts.iter().min_by(|a, b| a.rank.cmp(&b.rank))?;
    let (path, strategy) = (leader.path.clone(), leader.strategy);
    let weigh_by_endpoints = leader.backend.weigh_by_endpoints;
    let weighed = |backend: RouteBackend| RouteBackend { weigh_by_endpoints, ..backend };
    let client = client(host, &parts, findings);
    let rules = parts.iter().filter_map(|part| Some((&part.rank, &part.canary.as_ref()?.0)));
    let rule = rules.min_by_key(|(rank, _)| *rank).map(|(_, rule)| rule.clone());
    let (mut backends, mut of_canary) = (Vec::with_capacity(parts.len()), Vec::new());
    for part in parts {
        backends.push(weighed(part.backend));
        of_canary.extend(part.canary.map(|(_, backend)| weighed(backend)));
    }
    let canary = rule.map(|rule| Canary { rule, backends: of_canary });
    Some(Route { path, backends, canary, client, strategy })
}

/// Settings of the client's leg: what protects is joined, the rest is the leader's (rule M-7).
fn client(host: &HostKey, parts: &[Part], findings: &mut Vec<Finding>) -> Arc<ClientSettings> {
    let first = &parts[0].client;
    if parts.iter().all(|part| part.client == *first) {
        return first.clone();
    }
    let mut by_rank: Vec<&Part> = parts.iter().collect();
    by_rank.sort_by(|a, b| a.rank.cmp(&b.rank));
    let merged = settings::merge(by_rank.iter().map(|part| &*part.client));
    for part in &by_rank[1..] {
        if settings::loses(&part.client, &merged) {
            findings.push(differs(host, &part.backend.cluster, &part.backend.ingress, &by_rank[0].rank.1));
        }
    }
    let was_reconcilable = parts.iter().all(|part| !part.client.access.is_irreconcilable);
    if merged.access.is_irreconcilable && was_reconcilable {
        findings.extend(by_rank.iter().map(|part| irreconcilable(host, &part.backend.cluster, &part.backend.ingress)));
    }
    Arc::new(merged)
}

fn differs(host: &HostKey, cluster: &ClusterId, ingress: &ObjectName, leader: &ClusterId) -> Finding {
    Finding {
        cluster: cluster.clone(),
        object: Some(ObjectKey { kind: Kind::Ingress, name: ingress.clone() }),
        code: Code::SettingsDiffer,
        severity: Severity::Warning,
        message: format!(
            "host {host} has other settings in cluster {leader}, which come first; those of here have no effect"
        ),
        remedy: "Give the Ingresses of all clusters the same annotations.".to_owned(),
    }
}

fn irreconcilable(host: &HostKey, cluster: &ClusterId, ingress: &ObjectName) -> Finding {
    Finding {
        cluster: cluster.clone(),
        object: Some(ObjectKey { kind: Kind::Ingress, name: ingress.clone() }),
        code: Code::SettingsDiffer,
        severity: Severity::Error,
        message: format!(
            "host {host}: clusters demand of clients what nobody can meet at once; every request gets 403"
        ),
        remedy: "Give the Ingresses of all clusters the same authentication and networks.".to_owned(),
    }
}
