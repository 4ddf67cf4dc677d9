//! The access log: one event per request, through the process's log (JSON lines with `--log-format json`).

use std::time::Duration;

/// The `target` of access log events, by which a log filter can tell them from everything else.
pub const TARGET: &str = "roadstead_edge::access";

/// Whether requests are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccessLog {
    #[default]
    Off,
    On,
}

/// One request, when its response has ended.
#[derive(Debug, Default)]
pub struct Entry {
    pub client: String,
    pub method: String,
    pub host: String,
    pub target: String,
    pub request_id: String,
    pub status: u16,
    /// The cluster that answered; empty if none did.
    pub cluster: String,
    /// The endpoint that answered; empty if none did.
    pub endpoint: String,
    pub attempts: u32,
    pub response_bytes: u64,
    pub duration: Duration,
    /// Whether the response was sent to its end.
    pub complete: bool,
}

impl Entry {
    pub fn log(&self) {
        tracing::info!(
            target: TARGET,
            client = self.client,
            method = self.method,
            host = self.host,
            request.target = self.target,
            request.id = self.request_id,
            status = self.status,
            cluster.id = self.cluster,
            endpoint = self.endpoint,
            attempts = self.attempts,
            response.bytes = self.response_bytes,
            duration.ms = self.duration.as_secs_f64() * 1_000.0,
            complete = self.complete,
            "Request",
        );
    }
}
