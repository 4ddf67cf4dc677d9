//! Fault switches of one simulated API server.
//!
//! In: settings from a test or from `PUT /__faults`. Out: the verdict on one request. Settings stay until they are changed;
//! counted ones (throttling) run out by themselves. In-process access by the test itself is never subject to faults.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::kind::Kind;

/// Key that means "every resource".
pub const ALL: &str = "*";

/// All switches. The keys of the maps are plural resource names (`ingresses`) or [`ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultSettings {
    /// The next requests get 429.
    pub throttle: BTreeMap<String, Throttle>,
    /// One page of every list fails; for a streaming list see `cut_initial_events`.
    pub fail_list_page: BTreeMap<String, FailPage>,
    /// A streaming list breaks off after so many objects.
    pub cut_initial_events: BTreeMap<String, usize>,
    /// Every request for the resource is answered with 403.
    pub forbidden: BTreeSet<String>,
    /// Milliseconds to wait before an answer.
    pub slow_ms: BTreeMap<String, u64>,
    /// Lists, streaming ones too, succeed with nothing in them.
    pub empty_lists: BTreeSet<String>,
    /// `sendInitialEvents` is refused with 422, as servers before 1.32 do.
    pub no_streaming_lists: bool,
    /// Objects are neither decoded nor validated, as if an older server had stored them.
    pub accept_invalid: bool,
    /// Connections are closed without an answer. For refused connections stop the server instead.
    pub outage: bool,
}

/// 429 for a number of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// Requests still to refuse.
    pub requests: u32,
    /// Seconds for `Retry-After`.
    pub retry_after_s: u32,
}

/// A failing page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailPage {
    /// Page, counted from 1. The pages before it succeed.
    pub page: u32,
    /// HTTP status, 500 or above.
    pub status: u16,
}

impl FaultSettings {
    /// Counts a request and decides whether it is refused.
    pub(crate) fn check(&mut self, kind: &'static Kind) -> Result<(), Failure> {
        for key in [kind.resource, ALL] {
            if let Some(throttle) = self.throttle.get_mut(key)
                && throttle.requests > 0
            {
                throttle.requests -= 1;
                return Err(Failure::throttled(throttle.retry_after_s));
            }
        }
        if [kind.resource, ALL].iter().any(|key| self.forbidden.contains(*key)) {
            return Err(Failure::forbidden(kind, "", "the fault switch says so"));
        }
        Ok(())
    }

    /// Decides whether this page of a list fails.
    pub(crate) fn check_page(&self, kind: &Kind, page: u32) -> Result<(), Failure> {
        match of(&self.fail_list_page, kind) {
            Some(fault) if fault.page == page => {
                Err(Failure::new(fault.status, "InternalError", "etcdserver: request timed out (fault switch)"))
            }
            _ => Ok(()),
        }
    }

    /// Milliseconds to wait before answering.
    pub(crate) fn delay_ms(&self, kind: &Kind) -> u64 {
        of(&self.slow_ms, kind).copied().unwrap_or(0)
    }

    /// After how many objects a streaming list breaks off.
    pub(crate) fn cut_after(&self, kind: &Kind) -> Option<usize> {
        of(&self.cut_initial_events, kind).copied()
    }

    /// Whether lists pretend to be empty.
    pub(crate) fn is_list_empty(&self, kind: &Kind) -> bool {
        [kind.resource, ALL].iter().any(|key| self.empty_lists.contains(*key))
    }
}

fn of<'a, T>(settings: &'a BTreeMap<String, T>, kind: &Kind) -> Option<&'a T> {
    settings.get(kind.resource).or_else(|| settings.get(ALL))
}
