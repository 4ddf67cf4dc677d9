//! The clerk turns time into data: steps of activations and drains, how stale a cluster is, whether its pod addresses can
//! still be trusted.
//!
//! One cluster's row + the database's time + what the policy says → the row as it should be. Pure; one replica at a time
//! does it, within the transaction that shows it holds the lease, and every replica routes by the rows.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::id::ClusterId;
use roadstead_routing::membership::{Lifecycle, Liveness, Membership};

use crate::store::{LifecycleAnswer, LifecycleChange, MemberRow, Ramp};

/// Percent of one step: every step is a change of every host that the cluster has a part in.
pub const STEP_PERCENT: u64 = 5;
/// Without a stream for this long a cluster is stale.
pub const STALE_AFTER_MS: u64 = crate::ingest::HEARTBEAT_TIMEOUT_MS;

/// What the clerk must know besides the rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// After how many milliseconds without a stream a cluster's word has expired. Absent: never.
    pub hold_for_ms: BTreeMap<ClusterId, u64>,
    /// After how many milliseconds without a stream a cluster's pod addresses may be those of others.
    pub doubt_after_ms: u64,
    /// Clusters at 0 % of a drain of which every connected edge knows it.
    pub drained: BTreeSet<ClusterId>,
}

/// The row as it should be at `now_ms`; `is_live`: somebody holds the cluster's stream.
pub fn step(cluster: &ClusterId, row: &MemberRow, is_live: bool, terms: &Terms, now_ms: u64) -> MemberRow {
    let mut next = row.clone();
    next.membership.liveness = liveness(row, is_live, terms.hold_for_ms.get(cluster).copied(), now_ms);
    let is_gone = |lost_ms: u64| !is_live && now_ms.saturating_sub(lost_ms) >= terms.doubt_after_ms;
    next.membership.is_doubtful = row.lost_ms.is_some_and(is_gone);
    if let Some(ramp) = row.ramp {
        let to = target(row.membership.lifecycle);
        next.membership.percent = percent(ramp, to, now_ms);
        if next.membership.percent == to {
            next.ramp = None;
        }
    }
    let Membership { lifecycle, percent, .. } = next.membership;
    if lifecycle == Lifecycle::Draining && percent == 0 && next.ramp.is_none() && terms.drained.contains(cluster) {
        next.membership.lifecycle = Lifecycle::Drained;
        next.changed_ms = now_ms;
    }
    next
}

/// What a person asks for, if it may follow where the cluster stands.
pub fn change(row: &MemberRow, change: &LifecycleChange, now_ms: u64) -> LifecycleAnswer {
    use Lifecycle::{Active, Drained, Draining, Joining, Offline, Removed};
    let from = row.membership.lifecycle;
    let follows = match change.to {
        Active => true,
        Draining => matches!(from, Active | Draining),
        // A drain that need not be waited for.
        Drained => from == Draining,
        Offline => matches!(from, Drained | Joining),
        Removed => matches!(from, Joining | Drained | Offline),
        Joining => matches!(from, Removed | Offline),
    };
    if !follows {
        return LifecycleAnswer::NotFrom(from);
    }
    let from_percent = match (from, change.to) {
        (Active | Draining, _) => row.membership.percent,
        (_, Active) => 0,
        _ => row.membership.percent,
    };
    let is_ramp = matches!(change.to, Active | Draining) && change.seconds > 0;
    let percent = match change.to {
        Active | Draining if is_ramp => from_percent,
        Draining | Drained => 0,
        _ => 100,
    };
    LifecycleAnswer::Changed(MemberRow {
        membership: Membership { lifecycle: change.to, percent, ..row.membership },
        ramp: is_ramp.then_some(Ramp { since_ms: now_ms, from: from_percent, seconds: change.seconds }),
        lost_ms: row.lost_ms,
        changed_ms: now_ms,
        by: change.by.clone(),
        reason: change.reason.clone(),
    })
}

fn target(lifecycle: Lifecycle) -> u8 {
    if lifecycle == Lifecycle::Draining { 0 } else { 100 }
}

fn percent(ramp: Ramp, to: u8, now_ms: u64) -> u8 {
    let (whole, elapsed) = ((ramp.seconds * 1_000).max(1), now_ms.saturating_sub(ramp.since_ms));
    if elapsed >= whole {
        return to;
    }
    let span = u64::from(ramp.from.abs_diff(to));
    let moved = span * elapsed / whole / STEP_PERCENT * STEP_PERCENT;
    let moved = u8::try_from(moved).unwrap_or(100);
    if to > ramp.from { ramp.from + moved } else { ramp.from - moved }
}

fn liveness(row: &MemberRow, is_live: bool, hold_for_ms: Option<u64>, now_ms: u64) -> Liveness {
    let Some(lost_ms) = row.lost_ms.filter(|_| !is_live) else { return Liveness::Fresh };
    let gone_ms = now_ms.saturating_sub(lost_ms);
    if hold_for_ms.is_some_and(|hold| gone_ms >= hold) {
        Liveness::Expired
    } else if gone_ms >= STALE_AFTER_MS {
        Liveness::Stale
    } else {
        Liveness::Fresh
    }
}

#[cfg(test)]
mod tests;
