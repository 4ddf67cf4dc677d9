//! One cluster's table of one host (rules I-1, I-2, S-9, S-10).
//!
//! The entries of all Ingresses that declare the host → one winner for each canonical path, and the losers with the
//! reason. Ages are compared here and only here: clocks of different clusters are never compared (rule M-1).

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::declare::{Declared, Entry};
use crate::finding::{Code, Finding, Severity};
use crate::id::{ClusterId, HostKey, Kind, ObjectKey};
use crate::limit;
use crate::lookup;
use crate::object::{Ingress, PathType};
use crate::policy::ClassMode;
use crate::rules::{self, Rule};
use crate::table::PathMatch;

use super::claims::Claim;

/// An entry with the Ingress that declares it.
#[derive(Clone)]
pub(super) struct Candidate<'a> {
    pub(super) ingress: &'a Ingress,
    pub(super) declared: &'a Declared,
    pub(super) entry: &'a Entry,
    /// As it matches here, which a class may decide.
    pub(super) path: PathMatch,
}

pub(super) struct Loser<'a> {
    candidate: Candidate<'a>,
    winner: Candidate<'a>,
    reason: Reason,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The same host, type and path (rule I-2).
    Conflict,
    /// Another spelling of the same canonical path (rules S-9, S-10).
    Shadowed,
}

#[derive(Default)]
pub(super) struct LocalTable<'a> {
    /// The winners, in no particular order.
    pub(super) slots: Vec<Candidate<'a>>,
    pub(super) losers: Vec<Loser<'a>>,
}

/// `patterns`: every path of an Ingress that follows ingress-nginx is a pattern.
pub(super) fn table<'a>(host: &HostKey, mains: &[Claim<'a>], patterns: bool) -> LocalTable<'a> {
    let mut table = LocalTable::default();
    let mut identities: BTreeMap<(PathType, &Arc<str>), Vec<Candidate<'a>>> = BTreeMap::new();
    for claim in mains {
        let is_pattern = patterns && claim.mode == ClassMode::NginxCompat;
        for entry in claim.declared.entries(host) {
            // What is no expression cannot be asked for in ingress-nginx either.
            let Some(path) = (if is_pattern { as_pattern(entry) } else { Some(entry.path.clone()) }) else { continue };
            let candidate = Candidate { ingress: claim.ingress, declared: claim.declared, entry, path };
            identities.entry((entry.path_type, &entry.written)).or_default().push(candidate);
        }
    }
    let mut slots: BTreeMap<PathMatch, Vec<Candidate<'a>>> = BTreeMap::new();
    for mut equal in identities.into_values() {
        equal.sort_by(age_order);
        let winner = table.settle(&equal, Reason::Conflict);
        slots.entry(winner.path.clone()).or_default().push(winner);
    }
    for mut candidates in slots.into_values() {
        candidates.sort_by(slot_order);
        let winner = table.settle(&candidates, Reason::Shadowed);
        table.slots.push(winner);
        if !rules::on(Rule::LocalWinnerFirst) {
            table.slots.extend(candidates[1..].iter().cloned());
        }
    }
    table.losers = bounded(table.losers);
    table
}

impl<'a> LocalTable<'a> {
    /// The first candidate wins.
    fn settle(&mut self, candidates: &[Candidate<'a>], reason: Reason) -> Candidate<'a> {
        let lost =
            |candidate: &Candidate<'a>| Loser { candidate: candidate.clone(), winner: candidates[0].clone(), reason };
        self.losers.extend(candidates[1..].iter().map(lost));
        candidates[0].clone()
    }
}

/// As ingress-nginx has it: the path as written, whatever its type.
fn as_pattern(entry: &Entry) -> Option<PathMatch> {
    match &entry.path {
        PathMatch::Regex(_) => Some(entry.path.clone()),
        _ => lookup::compile(&entry.written).ok().map(|_| PathMatch::Regex(entry.written.clone())),
    }
}

impl Candidate<'_> {
    /// Rule C-4: the same host is given.
    pub(super) fn is_same_entry(&self, other: &Candidate<'_>) -> bool {
        (self.entry.path_type, &self.entry.written) == (other.entry.path_type, &other.entry.written)
    }
}

/// Rule I-2: the oldest Ingress, then by namespace and name, then in spec order.
fn age_order(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    older(a.ingress, b.ingress).then_with(|| rules::ordered(Rule::TieBySpecOrder, a.entry.order.cmp(&b.entry.order)))
}

pub(super) fn older(a: &Ingress, b: &Ingress) -> Ordering {
    rules::ordered(Rule::OldestWins, a.meta.created_at.cmp(&b.meta.created_at))
        .then_with(|| rules::ordered(Rule::TieByName, a.name.cmp(&b.name)))
}

/// Rule S-10 among entries of one canonical path: `/foo/` before `/foo` (S-9), Prefix before ImplementationSpecific,
/// then by age.
fn slot_order(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let length = |candidate: &Candidate<'_>| Reverse(candidate.entry.written.len());
    rules::ordered(Rule::SlashFormPriority, length(a).cmp(&length(b)))
        .then_with(|| rules::ordered(Rule::PrefixOverImpl, a.entry.path_type.cmp(&b.entry.path_type)))
        .then_with(|| age_order(a, b))
}

/// At most [`limit::FINDINGS_PER_OBJECT_MAX`] findings for each Ingress.
fn bounded(mut losers: Vec<Loser<'_>>) -> Vec<Loser<'_>> {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    losers.retain(|loser| {
        let count = counts.entry(&loser.candidate.ingress.name).or_default();
        *count += 1;
        *count <= limit::FINDINGS_PER_OBJECT_MAX
    });
    losers
}

impl Loser<'_> {
    pub(super) fn finding(&self, cluster: &ClusterId, host: &HostKey) -> Finding {
        let Candidate { ingress, entry, .. } = &self.candidate;
        let winner = &self.winner.ingress.name;
        let (code, severity, why) = match self.reason {
            Reason::Conflict if *winner == ingress.name => {
                (Code::PathConflict, Severity::Warning, "is declared earlier in the same Ingress".to_owned())
            }
            Reason::Conflict => (
                Code::PathConflict,
                Severity::Warning,
                format!("belongs to Ingress {winner}, which is older or first by name"),
            ),
            Reason::Shadowed => {
                let why = format!("never matches: path {} of Ingress {winner} has priority", self.winner.entry.written);
                (Code::PathShadowed, Severity::Info, why)
            }
        };
        Finding {
            cluster: cluster.clone(),
            object: Some(ObjectKey { kind: Kind::Ingress, name: ingress.name.clone() }),
            code,
            severity,
            message: format!("path {} of host {host} {why}", entry.written),
            remedy: "Remove one of the two entries or give them different paths.".to_owned(),
        }
    }
}
