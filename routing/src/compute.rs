//! The only place where routing is decided: one host, one backend or one Ingress at a time.
//!
//! Inputs + a name → its compiled form and findings. [`build`] is a map of these over everything, so what changes
//! piece by piece ends where a full build would. Per-cluster tables come first (rules S, I), then the merge (rules M).

use crate::finding::{Code, Finding, Severity};
use crate::id::{ClusterId, Kind, ObjectKey, ObjectName};
use crate::inputs::{Inputs, Placement};
use crate::membership::Presence;
use crate::table::{Backend, Host, Table};

mod access;
mod backend;
mod canary;
mod certificate;
mod claims;
mod defaults;
mod host;
mod local;
mod merge;
mod order;
mod reach;
mod sole;
mod stale;

pub use backend::compute_backend;
pub use host::compute_host;
pub(crate) use host::{has_certificate, is_declared};

pub use order::match_order;
pub use sole::hosts_only_served_by;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostOutcome {
    /// `None`: no served Ingress of a cluster in the table declares it.
    pub host: Option<Host>,
    pub findings: Vec<Finding>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BackendOutcome {
    /// `None`: no served Ingress refers to it, or its cluster is not in the table (rule D-2). One that leads nowhere
    /// exists and has no endpoints (rule S-11).
    pub backend: Option<Backend>,
    pub findings: Vec<Finding>,
}

/// A full build.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    pub table: Table,
    /// Sorted.
    pub findings: Vec<Finding>,
}

/// The findings of one Ingress alone. Empty for one that is not managed or whose cluster is removed.
pub fn compute_ingress(inputs: &Inputs, cluster: &ClusterId, ingress: &ObjectName) -> Vec<Finding> {
    if inputs.membership(cluster).lifecycle.presence() == Presence::Nothing {
        return Vec::new();
    }
    match inputs.cluster(cluster).and_then(|held| held.placement(ingress)) {
        None | Some(Placement::Unmanaged) => Vec::new(),
        Some(Placement::Served(served)) => served.declared.findings(cluster, ingress),
        Some(Placement::Unplaced(why)) => vec![Finding {
            cluster: cluster.clone(),
            object: Some(ObjectKey { kind: Kind::Ingress, name: ingress.clone() }),
            code: Code::UnknownPool,
            severity: Severity::Error,
            message: format!("{why}; the Ingress is not served"),
            remedy: "Name a pool of the policy, or add the pool to the policy.".to_owned(),
        }],
    }
}

/// Computes everything.
pub fn build(inputs: &Inputs) -> Outcome {
    let mut outcome = Outcome::default();
    for (pool, name) in inputs.hosts() {
        let HostOutcome { host, findings } = compute_host(inputs, pool, name);
        outcome.table.hosts.extend(host.map(|host| ((pool.clone(), name.clone()), host)));
        outcome.findings.extend(findings);
    }
    for id in inputs.backends() {
        let BackendOutcome { backend, findings } = compute_backend(inputs, &id);
        outcome.table.backends.extend(backend.map(|backend| (id, backend)));
        outcome.findings.extend(findings);
    }
    for (cluster, ingress) in inputs.ingresses() {
        outcome.findings.extend(compute_ingress(inputs, cluster, ingress));
    }
    outcome.findings.sort();
    outcome.findings.dedup();
    outcome
}
