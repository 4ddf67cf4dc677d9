//! Changes that no object asked for (a policy edit, or what a start finds different) go to one edge of a pool first.
//!
//! Changed hosts → the edge that tries them → after it has served them for a while, everybody. An edge that refuses one
//! keeps that one from the others until it takes it or the host changes; an edge that is lost with them keeps all of
//! them, until it is back, the change is taken back or a person decides. An edge without any table does not wait: it has
//! nothing else to serve. What is on trial is no history yet, so that a controller that restarts tries it again. All
//! replicas choose the same edge.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_proto::digest::Digest;
use roadstead_routing::id::HostKey;

use crate::store::Cause;

/// How long one edge serves what the others do not have yet.
pub const SOAK_MS: u64 = 5_000;
/// After a start, how long edges are waited for before a trial without any is over.
pub const EDGES_WITHIN_MS: u64 = 10_000;

#[derive(Default)]
pub struct Canary {
    /// With what the others have.
    hosts: BTreeMap<HostKey, Option<Digest>>,
    /// Those of them that the edge refused; the rest has passed meanwhile.
    refused: BTreeSet<HostKey>,
    edge: Option<String>,
    since_ms: u64,
    policy_rev: u64,
    cause: Option<Cause>,
    /// Since when the edge has everything.
    passed_ms: Option<u64>,
    /// The edge is gone.
    is_lost: bool,
}

/// As an operator sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Trying,
    Lost,
    /// All others have everything but what the edge refused.
    Refused,
}

/// Hosts that only one edge may have for now.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    pub hosts: &'a BTreeMap<HostKey, Option<Digest>>,
    pub edge: Option<&'a str>,
}

/// Hosts that everybody may have now, and why they changed.
pub type Passed = (Vec<HostKey>, Cause);

/// Why and when hosts change.
#[derive(Clone, Copy)]
pub struct Occasion {
    pub cause: Cause,
    pub policy_rev: u64,
    pub now_ms: u64,
}

/// What is known of a connected edge.
pub struct Seen {
    /// What it has is compared with what this policy leads to.
    pub policy_rev: u64,
    /// Hosts that it does not have in their newest version, refused ones included. `None`: unknown.
    pub unsettled: Option<BTreeSet<HostKey>>,
    pub refused: BTreeSet<HostKey>,
}

impl Trial<'_> {
    /// Whether `edge` must do without the new version of `host` for now.
    pub fn keeps(&self, host: &HostKey, edge: &str) -> bool {
        self.edge != Some(edge) && self.hosts.contains_key(host)
    }
}

impl Canary {
    /// A host went from one version to another.
    pub fn published(&mut self, host: &HostKey, (before, after): (Option<Digest>, Option<Digest>), on: Occasion) {
        self.refused.remove(host);
        if !on.cause.is_tried_first() {
            self.hosts.remove(host);
            return;
        }
        if self.hosts.is_empty() || (self.is_lost && !self.is_trying()) {
            self.refused.clear();
            (self.edge, self.is_lost, self.since_ms) = (None, false, on.now_ms);
        }
        let others = *self.hosts.entry(host.clone()).or_insert(before);
        if others == after {
            self.hosts.remove(host);
        }
        (self.policy_rev, self.passed_ms, self.cause) = (on.policy_rev, None, Some(on.cause));
    }

    /// A person says that the others shall have it. `None`: there is nothing on trial.
    pub fn release(&mut self) -> Option<Passed> {
        let all = std::mem::take(self);
        let cause = all.cause.filter(|_| !all.hosts.is_empty())?;
        Some((all.hosts.into_keys().collect(), cause))
    }

    pub fn keeps(&self, host: &HostKey) -> bool {
        self.hosts.contains_key(host)
    }

    pub fn policy_rev(&self) -> u64 {
        self.policy_rev
    }

    pub fn trial(&self) -> Option<Trial<'_>> {
        (!self.hosts.is_empty()).then_some(Trial { hosts: &self.hosts, edge: self.edge.as_deref() })
    }

    pub fn state(&self) -> Option<(State, usize, Option<&str>)> {
        let (all, refused) = (self.hosts.len(), self.refused.len());
        let (state, hosts) = match all - refused {
            0 if all == 0 => return None,
            0 => (State::Refused, refused),
            trying if self.is_lost => (State::Lost, trying),
            trying => (State::Trying, trying),
        };
        Some((state, hosts, self.edge.as_deref()))
    }

    /// Another replica has chosen this edge, for what a policy leads to. Replicas that chose apart take the first one;
    /// otherwise each could wait for an edge of the other.
    pub fn agree(&mut self, edge: &str, policy_rev: u64) {
        let is_first = self.edge.as_deref().is_none_or(|own| edge < own);
        if !self.hosts.is_empty() && policy_rev >= self.policy_rev && is_first {
            (self.edge, self.passed_ms) = (Some(edge.to_owned()), None);
        }
    }

    /// Moves the trial. `edges` are connected, here or elsewhere. What the guard holds is not waited for.
    pub fn advance(
        &mut self,
        edges: &BTreeSet<&str>,
        seen: impl FnOnce(&str) -> Option<Seen>,
        held: &BTreeSet<HostKey>,
        now_ms: u64,
    ) -> Option<Passed> {
        if self.hosts.is_empty() {
            return None;
        }
        let is_early = now_ms < self.since_ms + EDGES_WITHIN_MS;
        if self.edge.is_none() {
            match edges.first() {
                Some(first) => self.edge = Some((*first).to_owned()),
                None if is_early => return None,
                None => return self.release(),
            }
        }
        let name = self.edge.as_deref()?;
        self.is_lost = !edges.contains(name);
        let knows = |seen: &Seen| seen.policy_rev >= self.policy_rev;
        let Some((unsettled, refused)) =
            seen(name).filter(knows).and_then(|seen| Some((seen.unsettled?, seen.refused)))
        else {
            self.passed_ms = None;
            return None;
        };
        // What it takes after all is tried like the rest.
        self.refused.retain(|host| refused.contains(host) || unsettled.contains(host));
        let waits = |host: &&HostKey| unsettled.contains(*host) && !refused.contains(*host) && !held.contains(*host);
        if self.hosts.keys().any(|host| waits(&host)) {
            self.passed_ms = None;
            return None;
        }
        let passed_ms = *self.passed_ms.get_or_insert(now_ms);
        // Alone there is nobody to spare.
        let is_over = now_ms >= passed_ms + SOAK_MS || (edges.len() < 2 && !is_early);
        if is_over { self.pass(&refused) } else { None }
    }

    fn is_trying(&self) -> bool {
        self.hosts.len() > self.refused.len()
    }

    /// The edge has served everything but `refused` for long enough.
    fn pass(&mut self, refused: &BTreeSet<HostKey>) -> Option<Passed> {
        if !self.is_trying() {
            return None;
        }
        self.refused.extend(self.hosts.keys().filter(|host| refused.contains(*host)).cloned());
        let passed: Vec<HostKey> = self.hosts.keys().filter(|host| !self.refused.contains(*host)).cloned().collect();
        self.hosts.retain(|host, _| self.refused.contains(host));
        self.passed_ms = None;
        Some((passed, self.cause?))
    }
}

#[cfg(test)]
mod tests;
