//! Where a cluster stands: its lifecycle, its ramp and how fresh its word is, as data that somebody with a clock keeps.
//!
//! [`Membership`] → what the cluster contributes to the table (rules D-1 to D-5):
//! - **D-1** Active and draining clusters serve with `ceil(weight × percent / 100)`. A weight of 0 still is a last
//!   resort, for requests that nobody else can take.
//! - **D-2** Joining and removed clusters are not in the table at all. A weight of 0 would not do: a host or a longer
//!   path that only a joining cluster declares takes requests away from clusters that serve them (rules S-3, M-4).
//! - **D-3** Drained and offline clusters keep their slots, but nothing reaches them, not even as a last resort: a
//!   person was told that the cluster may be switched off. A route that only such clusters have answers 503.
//! - **D-4** A cluster whose word has expired serves with weight 0.
//! - **D-5** Staleness never takes the last backend: without another backend of weight, the expired ones keep theirs.

use std::fmt;

use crate::rules::{self, Rule};

/// Joining → active → draining → drained → offline → removed. The texts are stored and sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Lifecycle {
    /// Its objects are known and its findings are shown, but nothing is routed by them yet (rule D-2).
    Joining,
    #[default]
    Active,
    /// On its way out, step by step.
    Draining,
    /// Safe to switch off (rule D-3).
    Drained,
    /// Switched off.
    Offline,
    /// Its objects are still kept but mean nothing (rule D-2).
    Removed,
}

/// How much of a cluster is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    /// Nothing, not even findings.
    Nothing,
    /// Findings only.
    Findings,
    Table,
}

/// How fresh the cluster's word is. A statement about its agent, never about its pods.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Liveness {
    #[default]
    Fresh,
    /// The agent is gone. Changes no route.
    Stale,
    /// The agent has been gone for longer than the policy's `hold_for` (rules D-4, D-5).
    Expired,
}

/// One cluster's standing. The default, active at 100 % and fresh, is that of a cluster nobody has spoken about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Membership {
    pub lifecycle: Lifecycle,
    /// The step of an activation or drain ramp, 0 to 100; more counts as 100. Means nothing but in
    /// [`Lifecycle::Active`] and [`Lifecycle::Draining`].
    pub percent: u8,
    pub liveness: Liveness,
    /// Nobody has reported its pods for so long that others may have their addresses (rule R-6).
    pub is_doubtful: bool,
}

impl Default for Membership {
    fn default() -> Self {
        Self { lifecycle: Lifecycle::Active, percent: PERCENT_MAX, liveness: Liveness::Fresh, is_doubtful: false }
    }
}

const PERCENT_MAX: u8 = 100;

impl Lifecycle {
    pub const ALL: [Lifecycle; 6] = [
        Lifecycle::Joining,
        Lifecycle::Active,
        Lifecycle::Draining,
        Lifecycle::Drained,
        Lifecycle::Offline,
        Lifecycle::Removed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Lifecycle::Joining => "joining",
            Lifecycle::Active => "active",
            Lifecycle::Draining => "draining",
            Lifecycle::Drained => "drained",
            Lifecycle::Offline => "offline",
            Lifecycle::Removed => "removed",
        }
    }

    pub fn parse(text: &str) -> Option<Lifecycle> {
        Lifecycle::ALL.into_iter().find(|lifecycle| lifecycle.as_str() == text)
    }

    /// Whether the cluster has a place in the table (rule D-2).
    pub fn is_in_table(self) -> bool {
        self.presence() == Presence::Table
    }

    pub(crate) fn presence(self) -> Presence {
        match self {
            Lifecycle::Removed => Presence::Nothing,
            Lifecycle::Joining if rules::on(Rule::JoiningOutOfTable) => Presence::Findings,
            _ => Presence::Table,
        }
    }

    /// Whether requests may reach the cluster (rules D-1, D-3).
    pub fn serves(self) -> bool {
        matches!(self, Lifecycle::Active | Lifecycle::Draining)
    }

    /// Whether the cluster is on its way out, or out: what it loses is meant.
    pub fn is_leaving(self) -> bool {
        !matches!(self, Lifecycle::Joining | Lifecycle::Active)
    }
}

impl Liveness {
    pub const ALL: [Liveness; 3] = [Liveness::Fresh, Liveness::Stale, Liveness::Expired];

    pub fn as_str(self) -> &'static str {
        match self {
            Liveness::Fresh => "fresh",
            Liveness::Stale => "stale",
            Liveness::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<Liveness> {
        Liveness::ALL.into_iter().find(|liveness| liveness.as_str() == text)
    }
}

impl Membership {
    /// The weight with which the cluster serves, given its weight in the policy (rules D-1, D-3). Rounded up, so that
    /// a ramp that has begun sends something.
    pub fn weight(self, weight: u32) -> u32 {
        if !self.lifecycle.serves() {
            return 0;
        }
        let (whole, percent) = (u64::from(PERCENT_MAX), u64::from(self.percent.min(PERCENT_MAX)));
        let product = u64::from(weight) * percent;
        let share = if rules::on(Rule::RampRoundsUp) { product.div_ceil(whole) } else { product / whole };
        u32::try_from(share).unwrap_or(weight)
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
