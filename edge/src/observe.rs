//! What the edge counts, and what it says about itself on the probe listener.
//!
//! Metrics have the prefix `roadstead_edge_` and never carry host names. [`status`] is the page `/status`.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub mod access;
pub mod status;

/// Shared by all workers and tasks.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub connections: Gauge,
    pub connections_total: Counter,
    pub requests: Family<StatusLabel, Counter>,
    pub requests_refused: Counter,
    pub requests_limited: Counter,
    pub requests_unauthenticated: Counter,
    pub upstream_connects: Counter,
    pub upstream_connect_failures: Counter,
    pub upstream_failures: Counter,
    pub upstream_timeouts: Counter,
    pub retries: Counter,
    pub tunnels: Gauge,
    pub table_hosts: Gauge,
    pub table_backends: Gauge,
    pub updates_applied: Counter,
    pub updates_rejected: Counter,
    pub resources_applied: Counter,
    pub resources_refused: Counter,
    pub resources_guarded: Counter,
    pub controller_connected: Gauge,
    pub controller_reconnects: Counter,
    pub last_update_timestamp_seconds: Gauge,
    pub position_epoch: Family<ClusterLabel, Gauge>,
    pub position_seq: Family<ClusterLabel, Gauge>,
    pub last_good_bytes: Gauge,
    pub last_good_failures: Counter,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct StatusLabel {
    pub class: StatusClass,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct ClusterLabel {
    pub cluster: String,
}

/// The first digit of a response's status.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StatusClass(u16);

impl StatusLabel {
    pub fn of(status: http::StatusCode) -> Self {
        Self { class: StatusClass(status.as_u16() / 100) }
    }
}

impl EncodeLabelValue for StatusClass {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        fmt::Write::write_fmt(encoder, format_args!("{}xx", self.0))
    }
}

impl Metrics {
    /// Registers every metric, so that each is there from the first scrape on.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let edge = registry.sub_registry_with_prefix("roadstead_edge");
        metrics.register_traffic(edge);
        metrics.register_config(edge);
        metrics
    }

    fn register_traffic(&self, edge: &mut Registry) {
        edge.register("connections", "Open client connections", self.connections.clone());
        edge.register("connections_accepted", "Client connections accepted", self.connections_total.clone());
        edge.register("requests", "Requests answered, by status class", self.requests.clone());
        edge.register(
            "requests_refused",
            "Requests refused for what they are, whatever the table says",
            self.requests_refused.clone(),
        );
        edge.register(
            "requests_limited",
            "Requests refused because their client sent too many",
            self.requests_limited.clone(),
        );
        edge.register(
            "requests_unauthenticated",
            "Requests refused because it could not be found out who sent them",
            self.requests_unauthenticated.clone(),
        );
        edge.register("upstream_connects", "Connections tried to endpoints", self.upstream_connects.clone());
        edge.register(
            "upstream_connect_failures",
            "Connections to endpoints that could not be made",
            self.upstream_connect_failures.clone(),
        );
        edge.register(
            "upstream_failures",
            "Connections to endpoints that failed before a response began",
            self.upstream_failures.clone(),
        );
        edge.register(
            "upstream_timeouts",
            "Requests that an endpoint did not answer in time",
            self.upstream_timeouts.clone(),
        );
        edge.register("retries", "Attempts beyond a request's first", self.retries.clone());
        edge.register("tunnels", "Open upgraded connections", self.tunnels.clone());
    }

    fn register_config(&self, edge: &mut Registry) {
        edge.register("table_hosts", "Hosts in the table", self.table_hosts.clone());
        edge.register("table_backends", "Backends in the table", self.table_backends.clone());
        edge.register("updates_applied", "Updates applied", self.updates_applied.clone());
        edge.register("updates_rejected", "Updates refused as a whole", self.updates_rejected.clone());
        edge.register("resources_applied", "Resources applied or removed", self.resources_applied.clone());
        edge.register("resources_refused", "Resources refused alone", self.resources_refused.clone());
        edge.register(
            "resources_guarded",
            "Changes of hosts refused by this edge's guard, because too much would be withdrawn at once",
            self.resources_guarded.clone(),
        );
        edge.register(
            "controller_connected",
            "Whether a controller is connected: 0 or 1",
            self.controller_connected.clone(),
        );
        edge.register("controller_reconnects", "Attempts to reach a controller", self.controller_reconnects.clone());
        edge.register(
            "last_update_timestamp_seconds",
            "When the last Update was applied",
            self.last_update_timestamp_seconds.clone(),
        );
        edge.register("position_epoch", "Position applied, epoch, by cluster", self.position_epoch.clone());
        edge.register(
            "position_seq",
            "Position applied, sequence number within the epoch, by cluster; compare with the controller's",
            self.position_seq.clone(),
        );
        edge.register("last_good_bytes", "Bytes of the last good table on disk", self.last_good_bytes.clone());
        edge.register(
            "last_good_failures",
            "Times the last good table could not be written; serving goes on",
            self.last_good_failures.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_the_prefix_and_status_classes() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.requests.get_or_create(&StatusLabel::of(http::StatusCode::BAD_GATEWAY)).inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("roadstead_edge_requests_total{class=\"5xx\"} 1"), "{text}");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        assert!(samples.clone().count() > 15 && samples.clone().all(|line| line.starts_with("roadstead_edge_")));
    }
}
