//! The agent's metrics, prefix `roadstead_agent_`. Labels are kinds, never names.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use roadstead_routing::id::Kind;

use crate::core::Core;
use crate::reduce::Observation;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

impl From<Kind> for KindLabel {
    fn from(kind: Kind) -> Self {
        Self { kind: kind.as_str() }
    }
}

#[derive(Clone, Default)]
pub struct Metrics {
    reported: Family<KindLabel, Gauge>,
    complete: Family<KindLabel, Gauge>,
    list_failures: Family<KindLabel, Counter>,
    watch_events: Family<KindLabel, Counter>,
    last_event_age: Gauge<f64, AtomicU64>,
    pub deltas_sent: Counter,
    unacked: Gauge,
    connected: Gauge,
    pub connections: Counter,
    pub status_writes: Counter,
    pub status_write_failures: Counter,
    pub events_created: Counter,
    pub event_failures: Counter,
    events_dropped: Gauge,
}

impl Metrics {
    /// Registers all of them, under the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("roadstead_agent");
        registry.register("reported_objects", "Objects reported to the controller", metrics.reported.clone());
        registry.register(
            "list_complete",
            "1 while what is missing of the kind is known to be gone",
            metrics.complete.clone(),
        );
        registry.register("list_failures", "Lists that failed", metrics.list_failures.clone());
        registry.register("watch_events", "Objects listed, changed or deleted", metrics.watch_events.clone());
        registry.register(
            "last_event_age_seconds",
            "Since anything was heard from the Kubernetes API",
            metrics.last_event_age.clone(),
        );
        registry.register("deltas_sent", "Deltas sent to a controller", metrics.deltas_sent.clone());
        registry.register("deltas_unacked", "Deltas not acknowledged yet", metrics.unacked.clone());
        registry.register("controller_connected", "1 while a controller has welcomed us", metrics.connected.clone());
        registry.register("controller_connections", "Streams opened to controllers", metrics.connections.clone());
        registry.register("status_writes", "Statuses applied", metrics.status_writes.clone());
        registry.register("status_write_failures", "Statuses refused", metrics.status_write_failures.clone());
        registry.register("events_created", "Kubernetes Events created", metrics.events_created.clone());
        registry.register("event_failures", "Kubernetes Events refused", metrics.event_failures.clone());
        registry.register(
            "events_dropped",
            "Findings without an Event: too many waited",
            metrics.events_dropped.clone(),
        );
        metrics
    }

    pub fn observed(&self, kind: Kind, observation: &Observation) {
        match observation {
            Observation::Failed(_) => drop(self.list_failures.get_or_create(&kind.into()).inc()),
            Observation::Seen(_) | Observation::Unreadable(_) | Observation::Deleted(_) => {
                self.watch_events.get_or_create(&kind.into()).inc();
            }
            Observation::ListStarted | Observation::Listed | Observation::Bookmark => {}
        }
    }

    /// Copies what the core knows. `heard`: since anything came from the Kubernetes API.
    pub fn refresh(&self, core: &Core, heard: Duration) {
        for kind in Kind::ALL {
            let count = core.reducer().reported().count(kind);
            self.reported.get_or_create(&kind.into()).set(i64::try_from(count).unwrap_or(i64::MAX));
            self.complete.get_or_create(&kind.into()).set(i64::from(core.reducer().complete(kind)));
        }
        self.last_event_age.set(heard.as_secs_f64());
        self.unacked.set(i64::try_from(core.session().unacked()).unwrap_or(i64::MAX));
        self.connected.set(i64::from(core.session().is_welcomed()));
        self.events_dropped.set(i64::try_from(core.events().dropped()).unwrap_or(i64::MAX));
    }
}
