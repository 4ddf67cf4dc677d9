//! What one pool published in the last 10 minutes (rule B-7).
//!
//! What goes out + the time → the baseline: everything that was published at any moment of the window. Only
//! withdrawals are remembered, and these the guard itself keeps few. The caller's time may be any count of
//! milliseconds that does not go backwards; where it does, it stands still.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::id::HostKey;
use crate::rules::{self, Rule};

use super::summary::Next;
use super::{Context, Scope, Split, Summary, Trip, Units, apply, judge};

/// How long a withdrawal counts, in milliseconds: 10 minutes, in which somebody notices and reacts.
pub const WINDOW_MS: u64 = 10 * 60 * 1_000;
/// Withdrawals remembered for one pool. Those above the guard's limits are expected ones, such as the drain of a large
/// cluster; with more of them the oldest are forgotten early.
pub const WINDOW_LOSSES_MAX: usize = 200_000;
/// Withdrawals remembered for one host. With more of them the oldest two become one that counts as long as the younger.
pub const HOST_LOSSES_MAX: usize = 16;

/// One pool's published summary, and the baseline against which the next one is judged.
#[derive(Clone, Debug)]
pub struct Window {
    published: Summary,
    /// `published` and everything in `losses`.
    baseline: Summary,
    /// What hosts were before they lost something, and when they did, oldest first.
    losses: BTreeMap<HostKey, VecDeque<(u64, Arc<Units>)>>,
    /// The times of `losses`: one for each.
    times: BTreeSet<(u64, HostKey)>,
    losses_max: usize,
    now_ms: u64,
}

impl Window {
    /// Begins with what is published, or with an edge's last good configuration.
    pub fn new(published: Summary) -> Self {
        Self::bounded(published, WINDOW_LOSSES_MAX)
    }

    pub(crate) fn bounded(published: Summary, losses_max: usize) -> Self {
        let (baseline, losses, times) = (published.clone(), BTreeMap::new(), BTreeSet::new());
        Self { published, baseline, losses, times, losses_max, now_ms: 0 }
    }

    pub fn published(&self) -> &Summary {
        &self.published
    }

    /// Everything that was published at any moment of the window that ends now.
    pub fn baseline(&mut self, now_ms: u64) -> &Summary {
        self.forget(now_ms);
        &self.baseline
    }

    /// What really went out; `None`: the host is gone.
    pub fn publish(&mut self, now_ms: u64, host: &HostKey, units: Option<Units>) {
        self.forget(now_ms);
        let before = self.published.shared(host).cloned();
        if before.as_deref() == units.as_ref() {
            return;
        }
        let loses = Units::loses(before.as_deref(), units.as_ref());
        self.published.set(host, units.map(Arc::new));
        match before.filter(|_| loses) {
            Some(before) => self.remember(host, before),
            None => self.rebase(host),
        }
    }

    /// A withdrawal of an earlier process: what the host was at `at_ms`, before it lost something. To be called in the
    /// order of time and before the first [`Self::publish`]; without it the count starts afresh with each process.
    pub fn recall(&mut self, at_ms: u64, host: &HostKey, before: Units) {
        self.forget(at_ms);
        self.remember(host, Arc::new(before));
    }

    /// What [`super::guard`] says about the baseline and the published hosts with `changes`, without looking at hosts
    /// that stay as they are. Changes that withdraw nothing never trip, whatever happened before.
    pub fn judge(&mut self, now_ms: u64, changes: &BTreeMap<HostKey, Option<Units>>, context: &Context) -> Vec<Trip> {
        self.forget(now_ms);
        if !changes.iter().any(|(host, after)| Units::loses(self.published.get(host), after.as_ref())) {
            return Vec::new();
        }
        let differing: BTreeSet<&HostKey> = self.losses.keys().chain(changes.keys()).collect();
        judge(&self.baseline, &Next::new(&self.published, changes), differing.into_iter(), context)
    }

    /// Judges `changes` and tells apart what may be published. What is held may have made up for what flows, so the rest
    /// is judged again until it passes. Every trip is named once, with all its hosts.
    pub fn review<T>(
        &mut self,
        now_ms: u64,
        changes: BTreeMap<HostKey, Option<T>>,
        context: &Context,
        units: impl Fn(&T) -> Units,
    ) -> (Vec<Trip>, Split<T>) {
        let mut tripped: BTreeMap<Scope, Trip> = BTreeMap::new();
        let mut split = Split { flow: changes, held: BTreeMap::new() };
        loop {
            let proposed =
                split.flow.iter().map(|(host, change)| (host.clone(), change.as_ref().map(&units))).collect();
            let trips = self.judge(now_ms, &proposed, context);
            let Split { flow, mut held } = apply(&trips, &self.published, split.flow, &units);
            split.flow = flow;
            for trip in trips {
                let known = tripped.entry(trip.scope.clone()).or_insert_with(|| trip.clone());
                known.hosts.extend(trip.hosts);
                known.count = known.hosts.len();
            }
            if held.is_empty() {
                return (tripped.into_values().collect(), split);
            }
            split.held.append(&mut held);
        }
    }

    fn remember(&mut self, host: &HostKey, before: Arc<Units>) {
        if !rules::on(Rule::WindowRemembers) {
            return self.rebase(host);
        }
        let losses = self.losses.entry(host.clone()).or_default();
        match losses.back_mut().filter(|(at, _)| *at == self.now_ms) {
            Some((_, units)) => *units = Arc::new(units.union(&before)),
            None => {
                losses.push_back((self.now_ms, before));
                self.times.insert((self.now_ms, host.clone()));
            }
        }
        if losses.len() > HOST_LOSSES_MAX
            && let Some((at, oldest)) = losses.pop_front()
            && let Some((_, next)) = losses.front_mut()
        {
            *next = Arc::new(next.union(&oldest));
            self.times.remove(&(at, host.clone()));
        }
        if self.times.len() > self.losses_max {
            self.forget_oldest();
        }
        self.rebase(host);
    }

    /// Lets go of what is older than the window.
    fn forget(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        while self.times.first().is_some_and(|(at, _)| at + WINDOW_MS <= self.now_ms) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, host)) = self.times.pop_first() else { return };
        if let Some(losses) = self.losses.get_mut(&host) {
            losses.pop_front();
            if losses.is_empty() {
                self.losses.remove(&host);
            }
        }
        self.rebase(&host);
    }

    /// Brings one host of the baseline up to date.
    fn rebase(&mut self, host: &HostKey) {
        let published = self.published.shared(host).cloned();
        let past = self.losses.get(host).into_iter().flatten().map(|(_, units)| units.clone());
        let whole = published.into_iter().chain(past).reduce(|whole, part| Arc::new(whole.union(&part)));
        self.baseline.set(host, whole);
    }
}
