//! From trips to what is withheld (rule B-6).

use std::collections::{BTreeMap, BTreeSet};

use crate::id::HostKey;
use crate::rules::{self, Rule};

use super::{Summary, Trip, Units};

/// Proposed changes, told apart. `None`: the host is to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split<T> {
    pub flow: BTreeMap<HostKey, Option<T>>,
    /// Not to be published: these hosts keep their compiled form.
    pub held: BTreeMap<HostKey, Option<T>>,
}

/// Holds those changes of affected hosts that would take a unit away from what is `published`; everything else flows,
/// also a change that gives an affected host something back. What flows must be judged again if anything is held:
/// [`super::Window::review`] does both.
pub fn apply<T>(
    trips: &[Trip],
    published: &Summary,
    changes: BTreeMap<HostKey, Option<T>>,
    units: impl Fn(&T) -> Units,
) -> Split<T> {
    let affected: BTreeSet<&HostKey> = trips.iter().flat_map(|trip| trip.hosts.keys()).collect();
    let is_held = |host: &HostKey, change: &Option<T>| {
        affected.contains(host) && {
            let after = change.as_ref().map(&units);
            Units::loses(published.get(host), after.as_ref()) || !rules::on(Rule::HeldOnlyIfLosing)
        }
    };
    let (held, flow) = changes.into_iter().partition(|(host, change)| is_held(host, change));
    Split { flow, held }
}
