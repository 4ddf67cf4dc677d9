//! One cluster's default backend for a host (rules S-12, M-6).

use crate::declare::{Declared, NamedBackend};
use crate::id::HostKey;
use crate::object::Ingress;
use crate::rules::{self, Rule};

use super::local::older;

/// The default of the oldest Ingress that declares `host` and has one. For the catch-all, Ingresses without rules are
/// asked first.
pub(super) fn choose<'a>(
    host: &HostKey,
    declaring: &[(&'a Ingress, &'a Declared)],
) -> Option<(&'a Ingress, &'a NamedBackend)> {
    if *host != HostKey::CatchAll && !rules::on(Rule::DefaultOwnFirst) {
        return None;
    }
    let rules_first = |declared: &Declared| {
        *host == HostKey::CatchAll && !declared.rules_free && rules::on(Rule::DefaultRulesFreeFirst)
    };
    let with_default = declaring.iter().filter(|(_, declared)| declared.default.is_some());
    let chosen =
        with_default.min_by(|(a, of_a), (b, of_b)| rules_first(of_a).cmp(&rules_first(of_b)).then_with(|| older(a, b)));
    chosen.and_then(|(ingress, declared)| Some((*ingress, declared.default.as_ref()?)))
}
