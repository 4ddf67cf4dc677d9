//! Which statuses to write, and when. Pure: `now` is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use roadstead_proto::wire;
use roadstead_routing::id::ObjectName;
use roadstead_routing::limit::OBJECTS_PER_CLUSTER_MAX;

use super::Address;
use crate::reduce::Reducer;

/// Writes that may be on their way at once.
pub const IN_FLIGHT_MAX: usize = 64;
/// How long to wait before doing again what was done before: doubles each time up to [`REPEAT_MAX`].
const REPEAT_MIN: Duration = Duration::from_secs(5);
const REPEAT_MAX: Duration = Duration::from_secs(600);
/// A status that stayed as wished for this long starts over without waiting.
const CALM_AFTER: Duration = Duration::from_secs(1_200);

/// One server-side apply on `ingresses/status`. No address: withdraw our entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StatusWrite {
    pub ingress: ObjectName,
    pub addresses: Vec<Address>,
}

/// See the module's head.
#[derive(Default)]
pub struct StatusPlanner {
    /// What the controller wishes, by Ingress. An Ingress without an entry is left alone while it is ours.
    wishes: BTreeMap<ObjectName, Vec<Address>>,
    /// Ingresses to look at.
    due: BTreeSet<ObjectName>,
    attempts: BTreeMap<ObjectName, Attempts>,
    in_flight: BTreeSet<ObjectName>,
}

struct Attempts {
    addresses: Vec<Address>,
    count: u32,
    last: Duration,
}

impl Attempts {
    /// When the same may be tried again.
    fn next(&self) -> Duration {
        let factor = 1 << self.count.saturating_sub(1).min(16);
        self.last + (REPEAT_MIN * factor).min(REPEAT_MAX)
    }
}

impl StatusPlanner {
    /// Takes the controller's wishes; those it does not mention stay.
    pub fn wish(&mut self, statuses: wire::DesiredStatuses) {
        for status in statuses.statuses {
            let name = ObjectName::new(status.namespace, status.name);
            let addresses = status.addresses.iter().filter_map(|text| Address::parse(text)).collect();
            if self.wishes.len() < OBJECTS_PER_CLUSTER_MAX || self.wishes.contains_key(&name) {
                self.wishes.insert(name.clone(), addresses);
                self.due.insert(name);
            }
        }
    }

    /// Ingresses that changed, appeared, vanished, or became or ceased to be ours.
    pub fn look_at(&mut self, ingresses: impl IntoIterator<Item = ObjectName>) {
        self.due.extend(ingresses);
    }

    /// A write ended, well or not. Whether it helped, the watch will say.
    pub fn written(&mut self, ingress: &ObjectName) {
        self.in_flight.remove(ingress);
    }

    /// The writes to begin now. Only call it once the policy is known and the lists are complete: before that, an
    /// Ingress may only seem not to be ours.
    pub fn plan(&mut self, now: Duration, reducer: &Reducer) -> Vec<StatusWrite> {
        if self.wishes.len() >= OBJECTS_PER_CLUSTER_MAX {
            self.wishes.retain(|name, _| reducer.ingress(name).is_some());
        }
        let mut writes = Vec::new();
        for name in std::mem::take(&mut self.due) {
            match self.judge(&name, reducer) {
                // The wish stays: an Ingress created again in time may look unchanged to the controller.
                Judgement::Gone => drop(self.attempts.remove(&name)),
                Judgement::Fine => {
                    // Kept for a while, so that a rival writer does not make us forget how often we tried.
                    if self.attempts.get(&name).is_some_and(|attempts| now >= attempts.last + CALM_AFTER) {
                        self.attempts.remove(&name);
                    }
                }
                Judgement::Write { addresses, rival } => {
                    if self.may_write(now, &name, &addresses) {
                        self.note(now, &name, &addresses, rival.as_deref());
                        writes.push(StatusWrite { ingress: name, addresses });
                    } else {
                        self.due.insert(name);
                    }
                }
            }
        }
        writes
    }

    fn judge(&self, name: &ObjectName, reducer: &Reducer) -> Judgement {
        let Some((_, seen, managed)) = reducer.ingress(name) else { return Judgement::Gone };
        let rival = seen.other_manager.clone();
        match self.wishes.get(name).filter(|wish| managed && !wish.is_empty()) {
            Some(wish) if seen.shows(wish) => Judgement::Fine,
            Some(wish) => Judgement::Write { addresses: wish.clone(), rival },
            None if seen.ours && (!managed || self.wishes.contains_key(name)) => {
                Judgement::Write { addresses: Vec::new(), rival }
            }
            None => Judgement::Fine,
        }
    }

    fn may_write(&self, now: Duration, name: &ObjectName, addresses: &[Address]) -> bool {
        let repeated = self.attempts.get(name).filter(|attempts| attempts.addresses == addresses);
        !self.in_flight.contains(name)
            && self.in_flight.len() < IN_FLIGHT_MAX
            && repeated.is_none_or(|attempts| now >= attempts.next())
    }

    fn note(&mut self, now: Duration, name: &ObjectName, addresses: &[Address], rival: Option<&str>) {
        self.in_flight.insert(name.clone());
        let fresh = || Attempts { addresses: addresses.to_vec(), count: 0, last: now };
        let attempts = self.attempts.entry(name.clone()).or_insert_with(fresh);
        if attempts.addresses != addresses {
            *attempts = fresh();
        }
        attempts.count = attempts.count.saturating_add(1);
        attempts.last = now;
        if attempts.count == 3 {
            tracing::warn!(
                ingress = %name,
                "The status of Ingress {name} does not stay as written; another writer may be {}. Repeating ever more slowly",
                rival.unwrap_or("unknown"),
            );
        }
    }
}

enum Judgement {
    /// The Ingress does not exist.
    Gone,
    /// Nothing to do.
    Fine,
    Write {
        addresses: Vec<Address>,
        rival: Option<String>,
    },
}
