//! Metrics, one struct per stage, registered with a registry that is passed in. Names are
//! `roadstead_controller_<stage>_…`; no host names, no object names as labels.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Shared by reference counting: a clone counts into the same numbers.
#[derive(Clone, Default)]
pub struct Metrics {
    pub ingest: IngestMetrics,
    pub store: StoreMetrics,
    pub world: WorldMetrics,
    pub compute: ComputeMetrics,
    pub publish: PublishMetrics,
    pub status: StatusMetrics,
}

#[derive(Clone, Default)]
pub struct IngestMetrics {
    pub deltas: Counter,
    /// Objects and removals that were applied.
    pub objects: Counter,
    /// Objects that were not let in.
    pub refused: Counter,
    pub count_mismatches: Counter,
    pub live: Gauge,
    pub stale: Gauge,
}

#[derive(Clone)]
pub struct StoreMetrics {
    commits: Counter,
    items: Counter,
    errors: Counter,
    rejected: Counter,
    commit_seconds: Histogram,
    pub queued: Gauge,
    pub away: Gauge,
}

#[derive(Clone, Default)]
pub struct WorldMetrics {
    pub objects: Gauge,
    pub clusters: Gauge,
}

#[derive(Clone)]
pub struct ComputeMetrics {
    hosts: Counter,
    backends: Counter,
    pub violations: Counter,
    pub turn_seconds: Histogram,
}

#[derive(Clone, Default)]
pub struct PublishMetrics {
    updates: Counter,
    upserts: Counter,
    removals: Counter,
    /// Resources that edges refused.
    pub refused: Counter,
    pub hosts: Gauge,
    pub backends: Gauge,
    pub edges: Gauge,
    /// Holds that wait for a decision.
    pub holds: Gauge,
    /// Seconds, as a fraction: how long the last load and first computation took.
    pub start_seconds: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Default)]
pub struct StatusMetrics {
    pub findings: Gauge,
    pub waiting: Gauge,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("roadstead_controller");
        self.ingest.register(registry.sub_registry_with_prefix("ingest"));
        self.store.register(registry.sub_registry_with_prefix("store"));
        self.world.register(registry.sub_registry_with_prefix("world"));
        self.compute.register(registry.sub_registry_with_prefix("compute"));
        self.publish.register(registry.sub_registry_with_prefix("publish"));
        self.status.register(registry.sub_registry_with_prefix("status"));
    }
}

impl IngestMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("deltas", "Deltas received from agents", self.deltas.clone());
        registry.register("objects", "Objects and removals applied", self.objects.clone());
        registry.register("refused", "Objects not let in", self.refused.clone());
        registry.register("count_mismatches", "Full lists after which counts differed", self.count_mismatches.clone());
        registry.register("clusters_live", "Clusters with a live agent", self.live.clone());
        registry.register("clusters_stale", "Clusters that lost their agent", self.stale.clone());
    }
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            commits: Counter::default(),
            items: Counter::default(),
            errors: Counter::default(),
            rejected: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            queued: Gauge::default(),
            away: Gauge::default(),
        }
    }
}

impl StoreMetrics {
    pub fn committed(&self, items: usize, took: Duration) {
        self.commits.inc();
        self.items.inc_by(items as u64);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    pub fn failed(&self) {
        self.errors.inc();
    }

    pub fn rejected(&self) {
        self.rejected.inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("commits", "Transactions committed", self.commits.clone());
        registry.register("items", "Objects and host versions written", self.items.clone());
        registry.register("errors", "Attempts that failed because the database was away", self.errors.clone());
        registry.register("rejected", "Objects that the database refused", self.rejected.clone());
        registry.register_with_unit("commit", "Time of one commit", Unit::Seconds, self.commit_seconds.clone());
        registry.register("queued", "Objects and host versions that wait", self.queued.clone());
        registry.register("away", "1 while nothing can be stored", self.away.clone());
    }
}

impl WorldMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("objects", "Objects of all clusters", self.objects.clone());
        registry.register("clusters", "Clusters that ever reported", self.clusters.clone());
    }
}

impl Default for ComputeMetrics {
    fn default() -> Self {
        Self {
            hosts: Counter::default(),
            backends: Counter::default(),
            violations: Counter::default(),
            turn_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 18)),
        }
    }
}

impl ComputeMetrics {
    pub fn computed(&self, hosts: usize, backends: usize) {
        self.hosts.inc_by(hosts as u64);
        self.backends.inc_by(backends as u64);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("hosts", "Hosts computed", self.hosts.clone());
        registry.register("backends", "Backends computed", self.backends.clone());
        registry.register(
            "violations",
            "Invariants broken by a computed host or the first table",
            self.violations.clone(),
        );
        registry.register_with_unit("turn", "Time of one turn of the core", Unit::Seconds, self.turn_seconds.clone());
    }
}

impl PublishMetrics {
    pub fn sent(&self, upserts: usize, removals: usize) {
        self.updates.inc();
        self.upserts.inc_by(upserts as u64);
        self.removals.inc_by(removals as u64);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("updates", "Updates sent to edges", self.updates.clone());
        registry.register("upserts", "Resources sent to edges", self.upserts.clone());
        registry.register("removals", "Removals sent to edges", self.removals.clone());
        registry.register("refused", "Resources that edges refused", self.refused.clone());
        registry.register("hosts", "Hosts published, over all pools", self.hosts.clone());
        registry.register("backends", "Backends published, over all pools", self.backends.clone());
        registry.register("edges", "Edges connected", self.edges.clone());
        registry.register("holds", "Holds that wait for a decision", self.holds.clone());
        registry.register_with_unit(
            "start",
            "Time of the last load and first computation",
            Unit::Seconds,
            self.start_seconds.clone(),
        );
    }
}

impl StatusMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("findings", "Findings, over all clusters", self.findings.clone());
        registry.register("waiting", "Ingresses whose status waits for edges", self.waiting.clone());
    }
}
