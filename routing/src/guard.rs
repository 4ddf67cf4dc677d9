//! The blast-radius guard: how much of what is published may be withdrawn within a window, whatever the cause.
//!
//! Baseline + next summary of one pool + [`Context`] → [`Trip`]s; a trip → which changes are held. The controller asks
//! before it publishes and the edge before it obeys; both see the same hosts and so come to the same answer.
//!
//! - **B-1** Guarded units: a Host or a Route leaves the pool's table, or a cluster's last backend leaves a Host. What
//!   counts is hosts that lose a unit, once each. Endpoints are no units.
//! - **B-2** More than max(20, 5 %) of the hosts of the pool.
//! - **B-3** More than max(5, 30 %) of the hosts of one cluster, or of one namespace of a cluster.
//! - **B-4** A cluster, namespace or pool that goes from some hosts to none by inferred removals, however few.
//! - **B-5** What is expected (a drained cluster, `expect-removal`, an approved Hold) counts for nothing.
//! - **B-6** Affected hosts keep what they have; a change that withdraws nothing flows all the same.
//! - **B-7** The baseline is what was published at any moment of the last 10 minutes ([`Window`]), never the last
//!   message: many small withdrawals are judged as one, and what is new is protected at once.
//!
//! Percentages are of the baseline, so withdrawing more never makes a trip go away. No clock: the caller says the time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::id::{ClusterId, HostKey, PoolName};
use crate::rules::{self, Rule};

mod hold;
mod summary;
mod tally;
mod text;
mod units;
mod window;

pub use hold::{Split, apply};
pub use summary::Summary;
pub use text::ScopeText;
pub use units::{Slot, Unit, Units};
pub use window::{HOST_LOSSES_MAX, WINDOW_LOSSES_MAX, WINDOW_MS, Window};

use summary::Next;
use tally::{Tally, lost_by_scope};

/// Hosts of a pool that may always lose something within a window.
pub const POOL_HOSTS_MIN: usize = 20;
/// Share of a pool's hosts that may lose something within a window.
pub const POOL_PERCENT: usize = 5;
/// Hosts of one cluster or namespace that may always lose something within a window.
pub const SCOPE_HOSTS_MIN: usize = 5;
/// Share of the hosts of one cluster or namespace that may lose something within a window.
pub const SCOPE_PERCENT: usize = 30;

/// Hosts that the text of a [`Trip`] names.
const HOSTS_SHOWN_MAX: usize = 5;

/// Whose hosts are counted, within one pool.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    Pool,
    Cluster(ClusterId),
    /// A namespace of one cluster.
    Namespace(ClusterId, Arc<str>),
}

/// What the guard must know besides the two summaries. The default expects nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Whose hosts may go: drained and removed clusters, `expect-removal`. [`Scope::Pool`] lets everything go.
    pub expected: BTreeSet<Scope>,
    /// The hosts of approved Holds.
    pub approved: BTreeSet<HostKey>,
    /// Clusters of which an object was removed within the window because a list lacked it, not because it was seen
    /// being deleted.
    pub inferred: BTreeSet<ClusterId>,
}

/// A scope that would lose more than it may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trip {
    pub pool: PoolName,
    pub scope: Scope,
    pub why: Why,
    /// The affected hosts, which must keep their compiled form, and what each would lose.
    pub hosts: BTreeMap<HostKey, Vec<Unit>>,
    /// How many hosts of the scope may be affected.
    pub limit: usize,
    /// How many are.
    pub count: usize,
    /// Of how many in the baseline.
    pub of: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Why {
    /// More than the limit (rules B-2, B-3).
    Above,
    /// Nothing would be left, and nobody saw it being deleted (rule B-4).
    Emptied,
}

impl Scope {
    /// The cluster that the scope is or belongs to.
    pub fn cluster(&self) -> Option<&ClusterId> {
        match self {
            Scope::Pool => None,
            Scope::Cluster(cluster) | Scope::Namespace(cluster, _) => Some(cluster),
        }
    }

    /// How many of `hosts` may be affected. A share is rounded down.
    fn limit(&self, hosts: usize) -> usize {
        let (allowance, share, least, percent) = match self {
            Scope::Pool => (Rule::PoolAllowance, Rule::PoolShare, POOL_HOSTS_MIN, POOL_PERCENT),
            Scope::Cluster(_) | Scope::Namespace(..) => {
                (Rule::ScopeAllowance, Rule::ScopeShare, SCOPE_HOSTS_MIN, SCOPE_PERCENT)
            }
        };
        let least = if rules::on(allowance) { least } else { 0 };
        let share = if rules::on(share) { hosts * percent / 100 } else { 0 };
        least.max(share)
    }
}

/// What would be withdrawn too much by going from `baseline` to `next`. Sorted by scope; empty: publish. In proportion
/// to the size of the pool; [`Window::judge`] is the same in proportion to what changed.
pub fn guard(baseline: &Summary, next: &Summary, context: &Context) -> Vec<Trip> {
    let unchanged = BTreeMap::new();
    judge(baseline, &Next::new(next, &unchanged), baseline.hosts(), context)
}

/// [`guard`] for `hosts` only: all others must be equal in both.
fn judge<'a>(
    baseline: &Summary,
    next: &Next<'_>,
    hosts: impl Iterator<Item = &'a HostKey>,
    context: &Context,
) -> Vec<Trip> {
    let mut tally = Tally::new();
    for host in hosts {
        let Some(before) = baseline.get(host) else { continue };
        if context.approved.contains(host) && rules::on(Rule::ExpectedUncounted) {
            continue;
        }
        for (scope, units) in lost_by_scope(before, next.get(host), context) {
            tally.entry(scope).or_default().insert(host.clone(), units);
        }
    }
    let emptied: BTreeSet<Scope> =
        tally.keys().filter(|scope| is_emptied(scope, next, &tally, context)).cloned().collect();
    let trip = |(scope, hosts): (Scope, BTreeMap<HostKey, Vec<Unit>>)| {
        let (count, of) = (hosts.len(), baseline.total(&scope));
        let limit = scope.limit(of);
        let why = match emptied.contains(&scope) {
            true => Why::Emptied,
            false if count > limit => Why::Above,
            false => return None,
        };
        Some(Trip { pool: baseline.pool().clone(), scope, why, hosts, limit, count, of })
    };
    tally.into_iter().filter_map(trip).collect()
}

/// Rule B-4, for a scope that loses something.
fn is_emptied(scope: &Scope, next: &Next<'_>, tally: &Tally, context: &Context) -> bool {
    let is_inferred = |cluster: &ClusterId| context.inferred.contains(cluster);
    let inferred = match scope.cluster() {
        Some(cluster) => is_inferred(cluster),
        // Somebody who loses hosts in this pool does so without having been seen to.
        None => tally.keys().filter_map(Scope::cluster).any(is_inferred),
    };
    let inferred = inferred || !rules::on(Rule::EmptiedOnlyIfInferred);
    inferred && next.total(scope) == 0 && rules::on(Rule::EmptiedTrips)
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Pool => f.write_str("pool"),
            Scope::Cluster(cluster) => write!(f, "cluster {cluster}"),
            Scope::Namespace(cluster, namespace) => write!(f, "namespace {namespace} of cluster {cluster}"),
        }
    }
}

/// One sentence for a person on call.
impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, scope, why, hosts, limit, count, of } = self;
        match scope {
            Scope::Pool => write!(f, "pool {pool}")?,
            Scope::Cluster(_) | Scope::Namespace(..) => write!(f, "{scope} in pool {pool}")?,
        }
        match why {
            Why::Above => write!(
                f,
                " would lose hosts, routes or last backends on {count} of {of} hosts within {} minutes, more than \
                 {limit}: ",
                WINDOW_MS / 60_000
            )?,
            Why::Emptied => write!(
                f,
                " would be left with none of {of} hosts, by objects that a list lacked and that nobody saw being \
                 deleted: "
            )?,
        }
        for (at, (host, units)) in hosts.iter().take(HOSTS_SHOWN_MAX).enumerate() {
            let comma = if at == 0 { "" } else { "; " };
            write!(f, "{comma}{host}")?;
            let units: Vec<String> = units.iter().take(HOSTS_SHOWN_MAX).map(ToString::to_string).collect();
            write!(f, " ({})", units.join(", "))?;
        }
        match hosts.len().saturating_sub(HOSTS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
