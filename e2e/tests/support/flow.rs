//! Requests from clients that never retry, and what they saw.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roadstead_testkit::load::{Load, Pace, Report, Running, Sample, Target};

use super::WITHIN;

/// Fewer requests than this prove nothing.
pub const SENT_MIN: u64 = 500;

const REQUESTS_PER_SECOND: f64 = 500.0;
const CONNECTIONS: usize = 4;
const REQUESTS_MAX: u64 = 200_000;
const DURATION_MAX: Duration = Duration::from_secs(120);
/// Requests by which one sees who answers. Ten pods that share them are all among the answers but once in a billion.
const LOOK: u64 = 200;

/// Requests for a host's `/` through one edge.
pub struct Flow(Running);

impl Flow {
    /// Answers of another Service than `service` count as misrouted.
    pub fn start(edge: SocketAddr, host: &str, service: &'static str) -> Self {
        Self::expecting(edge, host, move |sample| sample.echo["service"] == service)
    }

    /// Answers that are not as `is_right` says count as misrouted.
    pub fn expecting(edge: SocketAddr, host: &str, is_right: impl Fn(&Sample) -> bool + Send + Sync + 'static) -> Self {
        let mut load = Load::new(Target::get(edge, host, "/"), CONNECTIONS, REQUESTS_MAX);
        load.pace = Pace::PerSecond(REQUESTS_PER_SECOND);
        load.duration_max = DURATION_MAX;
        load.is_misrouted = Arc::new(move |sample: &Sample| sample.status == 200 && !is_right(sample));
        Self(load.start())
    }

    /// Waits until so many more requests have been sent.
    ///
    /// # Errors
    /// If they are not in time.
    pub async fn more(&self, requests: u64) -> anyhow::Result<()> {
        let wanted = self.0.sent() + requests;
        crate::until(WITHIN, &format!("{wanted} requests are sent"), async || self.0.sent() >= wanted).await
    }

    /// Sends no more, after at least [`SENT_MIN`] requests; none may have failed or gone astray.
    ///
    /// # Errors
    /// What the clients saw.
    pub async fn stop_clean(self) -> anyhow::Result<Report> {
        let report = self.stop().await?;
        let Report { failed, misrouted, errors, .. } = &report;
        anyhow::ensure!(*failed == 0 && *misrouted == 0, "{}: {errors:?}", seen_by_clients(&report));
        Ok(report)
    }

    /// The end of a control run, after at least [`SENT_MIN`] requests: some must have failed or gone astray, or what the
    /// run went without protects from nothing.
    ///
    /// # Errors
    /// If clients noticed nothing.
    pub async fn stop_hurt(self) -> anyhow::Result<Report> {
        let report = self.stop().await?;
        let seen = seen_by_clients(&report);
        anyhow::ensure!(report.failed + report.misrouted > 0, "the control run hurt nobody: {seen}");
        Ok(report)
    }

    #[expect(clippy::print_stdout, reason = "what every test with requests reports")]
    async fn stop(self) -> anyhow::Result<Report> {
        crate::until(WITHIN, "enough requests are sent", async || self.0.sent() >= SENT_MIN).await?;
        let report = self.0.stop().await;
        println!("{}", seen_by_clients(&report));
        Ok(report)
    }
}

fn seen_by_clients(report: &Report) -> String {
    let Report { sent, failed, misrouted, .. } = report;
    format!("sent {sent}, failed {failed}, misrouted {misrouted}")
}

/// Status of one request on a connection of its own; 0 if there was no answer.
pub async fn status(edge: SocketAddr, host: &str) -> u16 {
    Target::get(edge, host, "/").once().await.map_or(0, |answer| answer.status)
}

/// The Service that answers one request on a connection of its own; empty if none does.
pub async fn service(edge: SocketAddr, host: &str) -> String {
    let answer = Target::get(edge, host, "/").once().await;
    answer.and_then(|it| it.echo["service"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// The clusters that answer a handful of requests; something else if one of these fails.
pub async fn clusters(edge: SocketAddr, host: &str) -> BTreeSet<String> {
    let report = Load::new(Target::get(edge, host, "/"), 1, 12).run().await;
    unless_failed(&report, report.by_cluster.keys().cloned())
}

/// The pods that answer a good number of requests, as `CLUSTER/POD`; something else if one of these fails.
pub async fn pods(edge: SocketAddr, host: &str) -> BTreeSet<String> {
    let report = Load::new(Target::get(edge, host, "/"), 1, LOOK).run().await;
    unless_failed(&report, report.by_pod.keys().cloned())
}

fn unless_failed(report: &Report, names: impl Iterator<Item = String>) -> BTreeSet<String> {
    if report.failed > 0 { BTreeSet::from([format!("{} failed", report.failed)]) } else { names.collect() }
}
