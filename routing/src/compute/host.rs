//! One host of one pool: every cluster's table, then the merge (rules S, I, M, C).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::class;
use crate::declare::{Declared, Extra, NamedBackend};
use crate::id::{BackendId, ClusterId, HostKey, ObjectName, PoolName};
use crate::inputs::Inputs;
use crate::membership::{Membership, Presence};
use crate::object::Ingress;
use crate::policy::{ALL_DOWN, ClassPolicy, ClusterPolicy, Defaults, WEIGHT_MAX};
use crate::rules::{self, Rule};
use crate::settings::{ClientSettings, Redirect, RedirectTo};
use crate::table::{Host, PathMatch, RouteBackend, Target};

use super::claims::Claims;
use super::local::{self, Candidate};
use super::merge::{self, Part};
use super::{HostOutcome, access, canary, certificate, defaults, stale};

/// Compiles one host of one pool. [`HostKey::CatchAll`] is the pool's catch-all (rule S-12 steps 2 and 3).
pub fn compute_host(inputs: &Inputs, pool: &PoolName, host: &HostKey) -> HostOutcome {
    let mut compiled = Host::new(pool.clone(), host.clone());
    let (mut findings, mut routes, mut default) = (Vec::new(), Vec::new(), Vec::new());
    let mut declared = false;
    let mut offers = Vec::new();
    // Every cluster's table is complete before the merge, and clusters come in the order of their ids.
    for (id, cluster) in inputs.declaring(pool, host) {
        let presence = inputs.membership(id).lifecycle.presence();
        if presence == Presence::Nothing || (declared && !rules::on(Rule::UnionAcrossClusters)) {
            continue;
        }
        let claims = Claims::new(inputs, id, cluster, pool, host);
        findings.extend(claims.findings(id, host));
        let table = local::table(host, &claims.mains, claims.has_host_wide_patterns());
        findings.extend(table.losers.iter().map(|loser| loser.finding(id, host)));
        let canaries = canary::assign(host, &claims.canaries, &table.slots);
        findings.extend(canaries.findings(id, host));
        if presence != Presence::Table || claims.mains.is_empty() {
            continue;
        }
        declared = true;
        let seat = Seat::new(inputs, id);
        let shown = (id, cluster, seat.policy.priority);
        findings.extend(access::findings((id, cluster), host, &claims.mains));
        offers.extend(certificate::offer(shown, host, &claims.mains, inputs.now(), &mut findings));
        default.extend(defaults::choose(host, &claims.mains).map(|(ingress, declared, named)| {
            seat.part(PathMatch::Prefix("".into()), (ingress, declared), named, host)
        }));
        routes.extend(table.slots.iter().map(|slot| {
            let mut part = seat.slot(slot, host);
            part.canary = canaries.of(slot).map(|(rule, canary)| (rule.clone(), seat.backend(&canary)));
            part
        }));
        // Several Ingresses may declare the host to go to: one speaks for all.
        routes.extend(claims.mains.iter().find_map(|claim| seat.redirect(claim.ingress, claim.declared, host)));
    }
    compiled.routes = merge::routes(host, routes, &mut findings);
    let default = merge::one(host, default, &mut findings);
    if let Some(default) = default {
        (compiled.default, compiled.default_client) = (default.backends, default.client);
        compiled.default_strategy = default.strategy;
    }
    compiled.certificate = match host {
        HostKey::CatchAll => certificate::of_pool(inputs, pool, &mut findings),
        HostKey::Exact(_) | HostKey::Wildcard(_) | HostKey::Any => certificate::choose(offers),
    };
    stale::settle(inputs, &mut compiled);
    if host == &HostKey::CatchAll && !rules::on(Rule::DefaultsPool) {
        compiled.default.truncate(1);
    }
    compiled.default.shrink_to_fit();
    let is_there = declared || has_certificate(inputs, pool, host);
    HostOutcome { host: is_there.then_some(compiled), findings }
}

/// Whether the host is the catch-all of a pool that the policy gives a certificate, so that it is there without a backend.
pub(crate) fn has_certificate(inputs: &Inputs, pool: &PoolName, host: &HostKey) -> bool {
    *host == HostKey::CatchAll && inputs.policy().pools.get(pool).is_some_and(|pool| pool.certificate.is_some())
}

/// Whether a cluster in the table declares the host, so that it is served.
pub(crate) fn is_declared(inputs: &Inputs, pool: &PoolName, host: &HostKey) -> bool {
    inputs.declaring(pool, host).any(|(id, cluster)| {
        inputs.membership(id).lifecycle.is_in_table() && !Claims::new(inputs, id, cluster, pool, host).mains.is_empty()
    })
}

/// Who declares something.
type By<'a> = (&'a Ingress, &'a Declared);

/// A cluster's part in the routes of a host.
struct Seat<'a> {
    cluster: &'a ClusterId,
    membership: Membership,
    policy: &'a ClusterPolicy,
    defaults: &'a Defaults,
    classes: &'a BTreeMap<String, ClassPolicy>,
}

impl<'a> Seat<'a> {
    fn new(inputs: &'a Inputs, cluster: &'a ClusterId) -> Self {
        let policy = inputs.policy();
        Self {
            cluster,
            membership: inputs.membership(cluster),
            policy: policy.cluster(cluster),
            defaults: &policy.defaults,
            classes: &policy.classes,
        }
    }

    fn slot(&self, slot: &Candidate<'_>, host: &HostKey) -> Part {
        self.part(slot.path.clone(), (slot.ingress, slot.declared), &slot.entry.backend, host)
    }

    fn part(&self, path: PathMatch, by: By<'_>, named: &NamedBackend, host: &HostKey) -> Part {
        let (ingress, declared) = by;
        Part {
            path,
            rank: (self.policy.priority, self.cluster.clone()),
            backend: self.target(ingress, declared, named),
            client: self.client(ingress, declared.client(host)),
            strategy: declared.traffic.strategy.unwrap_or(self.defaults.strategy),
            canary: None,
        }
    }

    /// What a host that only sends clients elsewhere does.
    fn redirect(&self, ingress: &Ingress, declared: &Declared, host: &HostKey) -> Option<Part> {
        let Some(Extra::RedirectTo(to)) = declared.extra(host) else { return None };
        let redirect = Redirect { to: RedirectTo::Host(to.clone()), status: 308 };
        let part = self.part(PathMatch::Prefix("".into()), (ingress, declared), &NamedBackend::Nothing, host);
        let (hsts, redirect) = (part.client.hsts, Some(redirect));
        Some(Part { client: Arc::new(ClientSettings { redirect, hsts, ..ClientSettings::default() }), ..part })
    }

    fn backend(&self, candidate: &Candidate<'_>) -> RouteBackend {
        self.target(candidate.ingress, candidate.declared, &candidate.entry.backend)
    }

    fn target(&self, ingress: &Ingress, declared: &Declared, named: &NamedBackend) -> RouteBackend {
        let target = match named {
            NamedBackend::Port { .. } => self.backend_id(ingress, named).map_or(Target::Nothing, Target::Backend),
            NamedBackend::Nothing => Target::Nothing,
            NamedBackend::Resource => Target::Resource,
        };
        RouteBackend {
            priority: declared.traffic.priority.unwrap_or(self.policy.priority),
            region: self.policy.region.as_str().into(),
            weigh_by_endpoints: declared.traffic.weigh_by_endpoints.unwrap_or(self.defaults.weigh_by_endpoints),
            upstream: declared.upstream.clone(),
            fallback: declared.fallback.as_ref().and_then(|named| self.backend_id(ingress, named)),
            ..RouteBackend::new(self.cluster.clone(), self.weight(declared), target, ingress.name.clone())
        }
    }

    /// `None`: it is no Service, or nothing may reach the cluster (rule D-3).
    fn backend_id(&self, ingress: &Ingress, named: &NamedBackend) -> Option<BackendId> {
        let NamedBackend::Port { name, port } = named else { return None };
        let is_reachable = self.membership.lifecycle.serves() || !rules::on(Rule::DrainedUnreachable);
        is_reachable.then(|| BackendId {
            cluster: self.cluster.clone(),
            service: ObjectName::new(ingress.name.namespace.clone(), name.clone()),
            port: port.clone(),
        })
    }

    /// The Ingress's share of what the cluster has at its step of a ramp. A small share stays one.
    fn weight(&self, declared: &Declared) -> u32 {
        let own = self.policy.weight.min(WEIGHT_MAX);
        let weight = declared.traffic.weight.map_or(own, |percent| (own * percent).div_ceil(100).min(WEIGHT_MAX));
        self.membership.weight(weight)
    }

    /// Secrets are the cluster's own; the rest is as the policy says.
    fn client(&self, ingress: &Ingress, client: &Arc<ClientSettings>) -> Arc<ClientSettings> {
        let hsts = class::choice(ingress).and_then(|choice| self.classes.get(&**choice.class)?.hsts);
        let all_down = client.all_down.as_ref().unwrap_or(&self.defaults.all_down);
        let all_down = Some(all_down.clone()).filter(|all_down| *all_down != ALL_DOWN);
        let access = &client.access;
        let is_own = access.basic.is_empty() && access.certificates.is_empty();
        if is_own && (&client.all_down, client.hsts) == (&all_down, hsts) {
            return client.clone();
        }
        let mut own = ClientSettings { all_down, hsts, ..ClientSettings::clone(client) };
        own.access.basic.iter_mut().for_each(|basic| basic.cluster = self.cluster.clone());
        own.access.certificates.iter_mut().for_each(|it| it.cluster = self.cluster.clone());
        Arc::new(own)
    }
}
