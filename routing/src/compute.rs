//! The only place where routing is decided: one host, one backend or one Ingress at a time.
//!
//! Inputs + a name → its compiled form and findings. [`build`] is a map of these over everything, so what changes
//! piece by piece ends where a full build would. Per-cluster tables come first (rules S, I), then the merge (rules M).

use crate::declare::NamedBackend;
use crate::endpoints::{self, Problem};
use crate::finding::{Code, Finding, Severity};
use crate::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName};
use crate::inputs::{Inputs, Placement};
use crate::membership::{Membership, Presence};
use crate::object::Ingress;
use crate::policy::{ClusterPolicy, WEIGHT_MAX};
use crate::rules::{self, Rule};
use crate::table::{Backend, BackendProtocol, Host, Route, RouteBackend, Table, Target};

mod defaults;
mod local;
mod order;
mod sole;
mod stale;

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

/// Compiles one host of one pool. [`HostKey::CatchAll`] is the pool's catch-all (rule S-12 steps 2 and 3).
pub fn compute_host(inputs: &Inputs, pool: &PoolName, host: &HostKey) -> HostOutcome {
    let mut compiled = Host { pool: pool.clone(), name: host.clone(), routes: Vec::new(), default: Vec::new() };
    let mut findings = Vec::new();
    let mut declared = false;
    // Every cluster's table is complete before the merge, and clusters come in the order of their ids.
    for (id, cluster) in inputs.declaring(pool, host) {
        let presence = inputs.membership(id).lifecycle.presence();
        if presence == Presence::Nothing || (declared && !rules::on(Rule::UnionAcrossClusters)) {
            continue;
        }
        let declaring: Vec<_> = cluster.declaring(pool, host).collect();
        let table = local::table(host, &declaring);
        findings.extend(table.losers.iter().map(|loser| loser.finding(id, host)));
        if presence != Presence::Table {
            continue;
        }
        declared = true;
        let seat = Seat::new(inputs, id);
        compiled.default.extend(defaults::choose(host, &declaring).map(|(ingress, it)| seat.backend(ingress, it)));
        let routes = table.slots.into_iter().map(|slot| Route {
            backends: vec![seat.backend(slot.ingress, &slot.entry.backend)],
            path: slot.entry.path.clone(),
        });
        compiled.routes.extend(routes);
    }
    compiled.routes = order::merge(compiled.routes);
    stale::settle(inputs, &mut compiled);
    if host == &HostKey::CatchAll && !rules::on(Rule::DefaultsPool) {
        compiled.default.truncate(1);
    }
    compiled.default.shrink_to_fit();
    HostOutcome { host: declared.then_some(compiled), findings }
}

/// Finds the endpoints of one Service port. The findings go to every served Ingress that refers to it.
pub fn compute_backend(inputs: &Inputs, id: &BackendId) -> BackendOutcome {
    let Some(cluster) = inputs.cluster(&id.cluster) else { return BackendOutcome::default() };
    let referring = cluster.referring(&id.service, &id.port);
    let presence = inputs.membership(&id.cluster).lifecycle.presence();
    if referring.is_empty() || presence == Presence::Nothing {
        return BackendOutcome::default();
    }
    let resolved = endpoints::resolve(cluster.service(&id.service), &id.port, cluster.slices(&id.service));
    let (code, remedy) = match &resolved {
        Ok(endpoints) if !endpoints.is_empty() => (None, ""),
        Ok(_) => (Some(Code::NoEndpoints), "Check the Service's selector and the readiness of its pods."),
        Err(Problem::ServiceNotFound) => (Some(Code::ServiceNotFound), "Create the Service or correct its name."),
        Err(Problem::PortNotFound) => {
            (Some(Code::ServicePortNotFound), "Name one of the Service's TCP ports; a targetPort does not count.")
        }
        Err(Problem::ExternalName) => (Some(Code::UnsupportedService), "Use a Service with endpoints."),
    };
    let why = resolved.as_ref().map_or_else(ToString::to_string, |_| "no endpoint is ready".to_owned());
    let finding = |(code, ingress): (Code, &ObjectName)| Finding {
        cluster: id.cluster.clone(),
        object: Some(ObjectKey { kind: Kind::Ingress, name: ingress.clone() }),
        code,
        severity: Severity::Warning,
        message: format!("Service {} port {}: {why}; this cluster cannot serve its requests", id.service, id.port),
        remedy: remedy.to_owned(),
    };
    BackendOutcome {
        findings: code.into_iter().flat_map(|code| referring.iter().map(move |it| (code, it))).map(finding).collect(),
        backend: (presence == Presence::Table).then(|| Backend {
            id: id.clone(),
            protocol: BackendProtocol::default(),
            endpoints: resolved.unwrap_or_default(),
        }),
    }
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

/// A cluster's part in the routes of a host.
struct Seat<'a> {
    cluster: &'a ClusterId,
    membership: Membership,
    weight: u32,
}

impl<'a> Seat<'a> {
    fn new(inputs: &Inputs, cluster: &'a ClusterId) -> Self {
        let membership = inputs.membership(cluster);
        let named = inputs.policy().clusters.get(cluster).map(|policy| policy.weight);
        let weight = named.unwrap_or_else(|| ClusterPolicy::default().weight).min(WEIGHT_MAX);
        Self { cluster, membership, weight: membership.weight(weight) }
    }

    fn backend(&self, ingress: &Ingress, named: &NamedBackend) -> RouteBackend {
        let reachable = self.membership.lifecycle.serves() || !rules::on(Rule::DrainedUnreachable);
        let target = match named {
            NamedBackend::Port { name, port } if reachable => Target::Backend(BackendId {
                cluster: self.cluster.clone(),
                service: ObjectName::new(ingress.name.namespace.clone(), name.clone()),
                port: port.clone(),
            }),
            NamedBackend::Port { .. } | NamedBackend::Nothing => Target::Nothing,
            NamedBackend::Resource => Target::Resource,
        };
        RouteBackend { cluster: self.cluster.clone(), weight: self.weight, target, ingress: ingress.name.clone() }
    }
}
