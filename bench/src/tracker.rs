//! Which changes are under way, which edges have applied them, and how long completed ones took.
//!
//! Changes begun and applications seen → latencies. Pure: times come in as nanoseconds since the Unix epoch, the clock
//! that edges stamp their applications with.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::oneshot;

/// What kind of change, and which way it takes. Each is reported apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Series {
    /// The first synchronisation: everything appears for the first time.
    Load,
    /// One address of a slice, sent on a synthetic cluster's stream.
    Endpoint,
    /// One path of an Ingress, sent on a synthetic cluster's stream.
    Ingress,
    /// One address of a slice, written to a Kubernetes API that a real agent watches.
    AgentEndpoint,
    /// One path of an Ingress, written to that Kubernetes API.
    AgentIngress,
}

impl Series {
    /// All but the first synchronisation.
    pub const MEASURED: [Series; 4] = [Series::Endpoint, Series::Ingress, Series::AgentEndpoint, Series::AgentIngress];

    pub fn is_ingress(self) -> bool {
        matches!(self, Series::Ingress | Series::AgentIngress)
    }
}

/// A change that is about to be made.
#[derive(Debug)]
pub struct Change {
    /// The resource that edges will report: `backend/…` or `host/…`.
    pub key: String,
    pub series: Series,
    pub scheduled_nanos: u64,
    /// Told when the last edge has applied the change. The key then stays occupied until [`Tracker::release`].
    pub done: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
pub struct Tracker {
    edges: usize,
    under_way: HashMap<String, Pending>,
    latencies: BTreeMap<Series, Vec<Duration>>,
    lost: BTreeMap<Series, u64>,
}

#[derive(Debug)]
enum Pending {
    Change {
        change: Change,
        applied_nanos: Vec<Option<u64>>,
    },
    /// Complete, but being confirmed by a request: the key must not change meanwhile.
    Occupied,
}

impl Tracker {
    pub fn new(edges: usize) -> Self {
        Self { edges, under_way: HashMap::new(), latencies: BTreeMap::new(), lost: BTreeMap::new() }
    }

    /// Whether a change of `key` may begin: one at a time, or an application could not be attributed.
    pub fn is_free(&self, key: &str) -> bool {
        !self.under_way.contains_key(key)
    }

    /// Must be called before the change is sent, and only for a free key.
    pub fn begin(&mut self, change: Change) {
        let applied_nanos = vec![None; self.edges];
        let replaced = self.under_way.insert(change.key.clone(), Pending::Change { change, applied_nanos });
        debug_assert!(replaced.is_none(), "two changes of one key under way");
    }

    /// Edge number `edge` has applied a new version of `key`. Applications that no change waits for are ignored.
    pub fn applied(&mut self, edge: usize, key: &str, nanos: u64) {
        let Some(Pending::Change { change, applied_nanos }) = self.under_way.get_mut(key) else { return };
        if nanos < change.scheduled_nanos {
            return;
        }
        applied_nanos[edge].get_or_insert(nanos);
        let Some(last) =
            applied_nanos.iter().copied().collect::<Option<Vec<u64>>>().and_then(|all| all.into_iter().max())
        else {
            return;
        };
        let latency = Duration::from_nanos(last - change.scheduled_nanos);
        self.latencies.entry(change.series).or_default().push(latency);
        let is_awaited = change.done.take().is_some_and(|done| done.send(()).is_ok());
        if is_awaited {
            self.under_way.insert(key.to_owned(), Pending::Occupied);
        } else {
            self.under_way.remove(key);
        }
    }

    pub fn release(&mut self, key: &str) {
        if matches!(self.under_way.get(key), Some(Pending::Occupied)) {
            self.under_way.remove(key);
        }
    }

    /// Gives up changes that were scheduled more than `after` before `now_nanos`: they count as lost.
    pub fn expire(&mut self, now_nanos: u64, after: Duration) {
        let before = now_nanos.saturating_sub(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let lost = &mut self.lost;
        self.under_way.retain(|_, pending| match pending {
            Pending::Change { change, .. } if change.scheduled_nanos < before => {
                *lost.entry(change.series).or_default() += 1;
                false
            }
            Pending::Change { .. } | Pending::Occupied => true,
        });
    }

    /// Changes that no edge, or not every edge, has applied yet.
    pub fn waiting(&self) -> usize {
        self.under_way.values().filter(|pending| matches!(pending, Pending::Change { .. })).count()
    }

    /// Some of the keys that are waited for, with the edges that have not applied them.
    pub fn missing(&self, at_most: usize) -> Vec<(String, Vec<usize>)> {
        let waiting = self.under_way.iter().filter_map(|(key, pending)| match pending {
            Pending::Change { applied_nanos, .. } => {
                let edges = applied_nanos.iter().enumerate().filter(|(_, at)| at.is_none()).map(|(edge, _)| edge);
                Some((key.clone(), edges.collect()))
            }
            Pending::Occupied => None,
        });
        waiting.take(at_most).collect()
    }

    /// How long the completed changes of a series took, in the order of completion.
    pub fn latencies(&self, series: Series) -> &[Duration] {
        self.latencies.get(&series).map_or(&[], Vec::as_slice)
    }

    pub fn lost(&self, series: Series) -> u64 {
        self.lost.get(&series).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, scheduled_nanos: u64) -> Change {
        Change { key: key.to_owned(), series: Series::Endpoint, scheduled_nanos, done: None }
    }

    #[test]
    fn a_change_takes_until_the_last_edge_has_it() {
        let mut tracker = Tracker::new(3);
        tracker.begin(change("a", 100));
        tracker.applied(0, "a", 150);
        tracker.applied(2, "a", 400);
        assert!(tracker.latencies(Series::Endpoint).is_empty());
        tracker.applied(1, "a", 300);
        assert_eq!(tracker.latencies(Series::Endpoint), [Duration::from_nanos(300)]);
        assert!(tracker.is_free("a"));
    }

    #[test]
    fn an_edge_counts_once_and_by_its_first_application() {
        let mut tracker = Tracker::new(2);
        tracker.begin(change("a", 100));
        tracker.applied(0, "a", 150);
        tracker.applied(0, "a", 900);
        assert_eq!(tracker.waiting(), 1);
        tracker.applied(1, "a", 120);
        assert_eq!(tracker.latencies(Series::Endpoint), [Duration::from_nanos(50)]);
    }

    #[test]
    fn applications_from_before_the_change_and_of_other_keys_do_not_count() {
        let mut tracker = Tracker::new(1);
        tracker.begin(change("a", 100));
        tracker.applied(0, "a", 99);
        tracker.applied(0, "b", 200);
        assert_eq!(tracker.missing(5), [("a".to_owned(), vec![0])]);
    }

    #[test]
    fn what_is_not_applied_in_time_is_lost_and_frees_its_key() {
        let mut tracker = Tracker::new(1);
        tracker.begin(change("old", 1_000));
        tracker.begin(change("new", 5_000));
        tracker.expire(6_001, Duration::from_nanos(5_000));
        assert_eq!((tracker.lost(Series::Endpoint), tracker.waiting()), (1, 1));
        assert!(tracker.is_free("old") && !tracker.is_free("new"));
    }

    #[test]
    fn a_key_that_is_being_confirmed_stays_occupied_until_released() {
        let mut tracker = Tracker::new(1);
        let (done, mut told) = oneshot::channel();
        tracker.begin(Change { done: Some(done), ..change("a", 100) });
        assert!(told.try_recv().is_err());
        tracker.applied(0, "a", 150);
        assert!(told.try_recv().is_ok());
        assert!(!tracker.is_free("a"));
        tracker.expire(u64::MAX, Duration::ZERO);
        assert_eq!((tracker.lost(Series::Endpoint), tracker.waiting()), (0, 0));
        tracker.release("a");
        assert!(tracker.is_free("a"));
    }
}
