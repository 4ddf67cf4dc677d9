//! Which canary takes a part of which slot (rule C-4).

use crate::finding::{Code, Finding, Severity};
use crate::id::{ClusterId, HostKey, Kind, ObjectKey};
use crate::rules::{self, Rule};
use crate::settings::CanaryRule;

use super::claims::Claim;
use super::local::{Candidate, older};

#[derive(Default)]
pub(super) struct Canaries<'a> {
    /// At most one for each slot.
    assigned: Vec<(&'a CanaryRule, Candidate<'a>)>,
    /// Entries without effect, with the reason.
    ignored: Vec<(Candidate<'a>, &'static str)>,
}

/// The oldest canary with the same host, path type and path as a slot of the cluster takes part in it.
pub(super) fn assign<'a>(host: &HostKey, canaries: &[Claim<'a>], slots: &[Candidate<'a>]) -> Canaries<'a> {
    let mut by_age: Vec<&Claim<'a>> = canaries.iter().collect();
    by_age.sort_by(|a, b| older(a.ingress, b.ingress));
    let mut found = Canaries::default();
    for claim in by_age {
        let Some(rule) = &claim.declared.canary else { continue };
        for entry in claim.declared.entries(host) {
            let candidate =
                Candidate { ingress: claim.ingress, declared: claim.declared, entry, path: entry.path.clone() };
            let is_main = slots.iter().any(|slot| slot.is_same_entry(&candidate));
            if !is_main && rules::on(Rule::CanaryNeedsMain) {
                found.ignored.push((candidate, "no other Ingress serves the same host, path and path type"));
            } else if found.of(&candidate).is_some() {
                found.ignored.push((candidate, "an older canary takes part in the same path"));
            } else {
                found.assigned.push((rule, candidate));
            }
        }
    }
    found
}

impl<'a> Canaries<'a> {
    pub(super) fn of(&self, slot: &Candidate<'_>) -> Option<(&'a CanaryRule, Candidate<'a>)> {
        self.assigned.iter().find(|(_, canary)| canary.is_same_entry(slot)).cloned()
    }

    pub(super) fn findings(&self, cluster: &ClusterId, host: &HostKey) -> impl Iterator<Item = Finding> {
        self.ignored.iter().map(move |(candidate, why)| Finding {
            cluster: cluster.clone(),
            object: Some(ObjectKey { kind: Kind::Ingress, name: candidate.ingress.name.clone() }),
            code: Code::CanaryIgnored,
            severity: Severity::Warning,
            message: format!("path {} of host {host}: {why}; the canary has no effect", candidate.entry.written),
            remedy: "Give the canary exactly the host, path and path type of the Ingress it is for.".to_owned(),
        })
    }
}
