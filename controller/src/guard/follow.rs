//! Several replicas: each judges for itself, with the same function over the same history, and may come to another
//! moment or order. So that nobody's edges lose what another replica holds, all obey stored Holds, and one replica owns
//! each of them: the one that opened it, or the clerk once that one is gone. Decisions are final wherever they are made.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::id::ClusterId;

use super::hold::{Hold, State};
use super::{Guard, lasts};
use crate::core::message::Output;
use crate::core::turn::Turn;
use crate::guard::kept::Keep;
use crate::store::KeepsNews;
use crate::store::queue::Request;

/// A replica that is not the clerk waits this long before it stores a Hold of its own: the clerk's for the same scope
/// comes first, if there is one.
pub const OWN_AFTER_MS: u64 = 3_000;

/// Whether this replica writes what it knows of a Hold. A decision is written by whoever was asked.
pub(super) fn writes(hold: &Hold, turn: &Turn) -> bool {
    let is_own = hold.owner == turn.replica;
    match hold.state {
        State::Open | State::Resolved => {
            let is_clerk = turn.token.is_some();
            (is_own && (is_clerk || turn.now_ms >= hold.since_ms + OWN_AFTER_MS)) || (is_clerk && hold.owner.is_empty())
        }
        State::Approved | State::Discarded => true,
    }
}

impl Guard {
    /// What is stored: Holds and overrides of all replicas.
    pub(crate) fn follow(&mut self, news: KeepsNews, turn: &mut Turn) {
        let KeepsNews { holds, overrides, .. } = news;
        let stored: BTreeSet<String> = overrides.iter().map(|it| it.id.clone()).collect();
        self.unsaved.retain(|id| !stored.contains(id));
        self.lifted.retain(|id| stored.contains(id));
        let before = std::mem::take(&mut self.overrides);
        let own = before.iter().filter(|(id, _)| self.unsaved.contains(*id)).map(|(id, it)| (id.clone(), it.clone()));
        self.overrides = own.collect();
        let lifted = &self.lifted;
        let others = overrides.into_iter().filter(|it| !lifted.contains(&it.id) && turn.now_ms < it.expires_ms);
        self.overrides.extend(others.map(|it| (it.id.clone(), it)));
        self.rejudge |= before != self.overrides;
        let stored: BTreeSet<String> = holds.iter().map(|hold| hold.id.clone()).collect();
        self.resolved.retain(|id| stored.contains(id));
        // Stored Holds are told all at once: what is not among them is obeyed no more.
        let obeyed = std::mem::take(&mut self.obeyed);
        for hold in holds {
            // What was read before a Hold was resolved here says that it is open.
            if !(hold.is_open() && self.resolved.contains(&hold.id)) {
                self.follow_hold(&hold, turn);
            }
        }
        self.rejudge |= obeyed != self.obeyed;
        let is_over = |hold: &&mut Hold| hold.owner != turn.replica && hold.is_open() && !stored.contains(&hold.id);
        for hold in self.holds.values_mut().filter(is_over) {
            (hold.state, hold.closed_ms) = (State::Resolved, Some(turn.now_ms));
            self.touched.insert(hold.id.clone());
            self.rejudge = true;
        }
        self.write(turn);
    }

    /// Nobody else owns a Hold any more whose owner is gone; called on becoming the clerk.
    pub(crate) fn own_all(&mut self, turn: &mut Turn) {
        for hold in self.holds.values_mut().filter(|hold| hold.is_open()) {
            hold.owner.clone_from(&turn.replica);
            self.touched.insert(hold.id.clone());
        }
        let unsaved = self.overrides.values().filter(|it| self.unsaved.contains(&it.id));
        let keeps = unsaved.map(|it| Request::Keep(Keep::Override(it.clone())));
        turn.out.extend(keeps.map(Output::Store));
        self.write(turn);
    }

    /// Clusters that are on their way out.
    pub(crate) fn set_leaving(&mut self, leaving: BTreeSet<ClusterId>) {
        self.rejudge |= leaving != self.leaving;
        self.leaving = leaving;
    }

    fn follow_hold(&mut self, stored: &Hold, turn: &Turn) {
        if !lasts(stored, turn.now_ms) {
            return;
        }
        self.rename(stored);
        match self.holds.get_mut(&stored.id) {
            Some(known) if known.is_open() && !stored.is_open() => {
                // Only what was decided about is decided.
                let undecided: BTreeMap<_, _> = std::mem::take(&mut known.hosts)
                    .into_iter()
                    .filter(|(host, wanted)| stored.hosts.get(host) != Some(wanted))
                    .collect();
                *known = stored.clone();
                self.touched.insert(stored.id.clone());
                self.rejudge = true;
                if stored.state == State::Approved {
                    self.set_free(stored, &undecided);
                }
            }
            Some(known) if known.is_open() && known.owner != turn.replica => {
                // Its owner says which hosts are its; what waits here for it goes on waiting.
                let waiting: Vec<(String, Option<String>)> =
                    known.hosts.iter().map(|(host, wanted)| (host.clone(), wanted.clone())).collect();
                known.clone_from(stored);
                known.hosts.extend(waiting);
            }
            Some(_) => {}
            None => {
                self.rejudge = true;
                self.holds.insert(stored.id.clone(), stored.clone());
            }
        }
        // What was decided here is decided, although it may not be stored yet.
        let is_open = self.holds.get(&stored.id).is_some_and(Hold::is_open);
        if stored.is_open() && is_open {
            for host in stored.host_keys() {
                self.obeyed.insert((stored.pool.clone(), host), stored.id.clone());
            }
        } else if stored.state == State::Discarded {
            let pool = self.pool(&stored.pool);
            for host in stored.host_keys().filter(|host| pool.held.contains_key(host)).collect::<Vec<_>>() {
                pool.hold_of.insert(host, stored.id.clone());
            }
        }
    }

    /// The Hold is closed.
    pub(super) fn disobey(&mut self, id: &str) {
        let before = self.obeyed.len();
        self.obeyed.retain(|_, of| *of != id);
        self.rejudge |= self.obeyed.len() != before;
    }

    /// A Hold that this replica opened for the same reason as a stored one is that one.
    fn rename(&mut self, stored: &Hold) {
        if !stored.is_open() || self.holds.contains_key(&stored.id) {
            return;
        }
        let same = |hold: &&Hold| hold.is_open() && hold.pool == stored.pool && hold.scope == stored.scope;
        let Some(own) = self.holds.values().find(same).map(|hold| hold.id.clone()) else { return };
        let is_written = self.written.contains(&own);
        // Of two that are stored the older one stays; every replica says so.
        let is_younger = |hold: &Hold| (stored.since_ms, &stored.id) < (hold.since_ms, &hold.id);
        if is_written && !self.holds.get(&own).is_some_and(is_younger) {
            return;
        }
        let Some(mut hold) = self.holds.remove(&own) else { return };
        if is_written {
            let over = Hold {
                state: State::Resolved,
                hosts: BTreeMap::new(),
                closed_ms: Some(stored.since_ms),
                ..hold.clone()
            };
            self.holds.insert(own.clone(), over);
            self.touched.insert(own.clone());
        }
        for of in self.pool(&stored.pool).hold_of.values_mut().filter(|of| **of == own) {
            of.clone_from(&stored.id);
        }
        if !is_written {
            self.forgotten.insert(own);
        }
        (hold.id, hold.owner) = (stored.id.clone(), stored.owner.clone());
        hold.hosts.extend(stored.hosts.clone());
        self.touched.insert(hold.id.clone());
        self.holds.insert(hold.id.clone(), hold);
    }

    /// Hosts of an approved Hold that were not among what was approved wait for another decision.
    fn set_free(&mut self, approved: &Hold, undecided: &BTreeMap<String, Option<String>>) {
        let pool = self.pool(&approved.pool);
        let waits = |host: &str| undecided.contains_key(host);
        pool.hold_of.retain(|host, of| *of != approved.id || !waits(&host.to_string()));
    }
}
