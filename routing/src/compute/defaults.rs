//! One cluster's default backend for a host (rules S-12, M-6).

use crate::declare::{Declared, NamedBackend};
use crate::id::HostKey;
use crate::object::Ingress;
use crate::rules::{self, Rule};

use super::claims::Claim;
use super::local::older;

/// The default of the oldest Ingress that declares `host` and has one. For the catch-all, Ingresses without rules are
/// asked first.
pub(super) fn choose<'a>(host: &HostKey, mains: &[Claim<'a>]) -> Option<(&'a Ingress, &'a Declared, &'a NamedBackend)> {
    if *host != HostKey::CatchAll && !rules::on(Rule::DefaultOwnFirst) {
        return None;
    }
    let rules_first = |declared: &Declared| {
        *host == HostKey::CatchAll && !declared.rules_free && rules::on(Rule::DefaultRulesFreeFirst)
    };
    let with_default = mains.iter().filter(|claim| claim.declared.default.is_some());
    let chosen = with_default.min_by(|a, b| {
        rules_first(a.declared).cmp(&rules_first(b.declared)).then_with(|| older(a.ingress, b.ingress))
    })?;
    Some((chosen.ingress, chosen.declared, chosen.declared.default.as_ref()?))
}
