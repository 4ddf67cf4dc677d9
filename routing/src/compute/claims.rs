//! Which Ingresses of one cluster declare a host, and in which role (rules M-8, C-4; rows 17, 18).
//!
//! Everybody who names the host → those who may (grants) → mains and canaries. Whoever declares it by a rule comes
//! before aliases, and aliases before hosts that only redirect.

use crate::declare::{Declared, Extra};
use crate::finding::{Code, Finding, Severity};
use crate::grant;
use crate::id::{ClusterId, HostKey, Kind, ObjectKey, PoolName};
use crate::inputs::{Cluster, Inputs};
use crate::object::Ingress;
use crate::policy::ClassMode;
use crate::rules::{self, Rule};

/// An Ingress that names a host.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) ingress: &'a Ingress,
    pub(super) declared: &'a Declared,
    pub(super) mode: ClassMode,
}

#[derive(Default)]
pub(super) struct Claims<'a> {
    /// By name.
    pub(super) mains: Vec<Claim<'a>>,
    /// By name.
    pub(super) canaries: Vec<Claim<'a>>,
    pub(super) refused: Vec<Claim<'a>>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(
        inputs: &'a Inputs,
        id: &ClusterId,
        cluster: &'a Cluster,
        pool: &PoolName,
        host: &HostKey,
    ) -> Self {
        let policy = inputs.policy();
        let mut claims = Claims::default();
        for (ingress, served) in cluster.declaring(pool, host) {
            let mode = policy.classes.get(&*served.class).map(|class| class.mode).unwrap_or_default();
            let claim = Claim { ingress, declared: &served.declared, mode };
            if !grant::allows(&policy.grants, host, id, &ingress.name.namespace) {
                claims.refused.push(claim);
            } else if claim.declared.canary.is_some() {
                claims.canaries.push(claim);
            } else {
                claims.mains.push(claim);
            }
        }
        let first = claims.mains.iter().map(|claim| claim.rank(host)).min();
        if rules::on(Rule::AliasYields) {
            claims.mains.retain(|claim| Some(claim.rank(host)) == first);
        }
        claims
    }

    /// Whether paths are patterns for all of its mains that follow ingress-nginx (rule S-16).
    pub(super) fn has_host_wide_patterns(&self) -> bool {
        self.mains.iter().any(|claim| claim.mode == ClassMode::NginxCompat && claim.declared.has_patterns)
    }

    pub(super) fn findings(&self, cluster: &ClusterId, host: &HostKey) -> Vec<Finding> {
        let says_so = |claim: &&Claim<'_>| *host != HostKey::CatchAll || claim.declared.rules_free;
        let refused = self.refused.iter().filter(says_so).map(|claim| Finding {
            cluster: cluster.clone(),
            object: Some(ObjectKey { kind: Kind::Ingress, name: claim.ingress.name.clone() }),
            code: Code::HostNotGranted,
            severity: Severity::Error,
            message: format!(
                "host {host} is granted to others: neither {cluster} nor namespace {} may declare it; it is not served \
                 from here",
                claim.ingress.name.namespace
            ),
            remedy: "Use another host, or have the platform team add a grant to the policy.".to_owned(),
        });
        refused.collect()
    }
}

impl Claim<'_> {
    fn rank(&self, host: &HostKey) -> u8 {
        match self.declared.extra(host) {
            None => 0,
            Some(Extra::Alias(_)) => 1,
            Some(Extra::RedirectTo(_)) => 2,
        }
    }
}
