//! Requests from clients that never retry, spread over the edges.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use roadstead_testkit::load::{Load, Pace, Report as LoadReport, Running, Sample, Target};

use crate::fleet::Fleet;

/// Over all edges. Slow enough for two cores, fast enough that a gap of a few milliseconds is seen.
const REQUESTS_PER_SECOND: f64 = 400.0;
const CONNECTIONS_PER_EDGE: usize = 4;
const REQUESTS_MAX: u64 = 100_000;
const RUN_MAX: Duration = Duration::from_secs(120);

/// What to send, and which application must answer.
pub struct Plan {
    edges: Vec<SocketAddr>,
    host: &'static str,
    service: &'static str,
    requests: u64,
}

impl Plan {
    /// The shop's front page, which every cluster serves.
    pub fn shop(fleet: &mut Fleet) -> Self {
        Self { edges: fleet.edges(), host: "shop.example.com", service: "web", requests: REQUESTS_MAX }
    }

    /// The host that only `us-east` serves.
    pub fn docs(fleet: &mut Fleet) -> Self {
        Self { host: "docs.example.com", service: "docs", ..Self::shop(fleet) }
    }

    pub fn requests(self, requests: u64) -> Self {
        Self { requests, ..self }
    }

    pub fn edges(self, edges: &[SocketAddr]) -> Self {
        Self { edges: edges.to_vec(), ..self }
    }
}

/// A run in the background: one load per edge.
pub struct Traffic(Vec<Running>);

impl Traffic {
    pub fn start(plan: Plan) -> Self {
        let Plan { edges, host, service, requests } = plan;
        let share = edges.len() as u64;
        let run = |edge: SocketAddr| {
            let mut load = Load::new(Target::get(edge, host, "/"), CONNECTIONS_PER_EDGE, requests / share);
            load.pace = Pace::PerSecond(REQUESTS_PER_SECOND / share as f64);
            load.duration_max = RUN_MAX;
            load.is_misrouted =
                Arc::new(move |sample: &Sample| sample.status == 200 && sample.echo["service"] != service);
            load.start()
        };
        Self(edges.into_iter().map(run).collect())
    }

    /// Waits until so many requests have been sent.
    pub async fn sent(&self, requests: u64) -> anyhow::Result<()> {
        let count = || self.0.iter().map(Running::sent).sum::<u64>();
        let all = async {
            while count() < requests {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(RUN_MAX, all).await.with_context(|| format!("send {requests} requests, sent {}", count()))
    }

    /// Waits until so many more have been sent.
    pub async fn sent_more(&self, requests: u64) -> anyhow::Result<()> {
        self.sent(self.0.iter().map(Running::sent).sum::<u64>() + requests).await
    }

    /// Lets the requests in flight end and sends no more.
    pub async fn stop(self) -> Report {
        let mut report = Report::default();
        for running in self.0 {
            report = report.and(Report(running.stop().await));
        }
        report
    }

    /// Waits until every planned request has been sent and answered.
    pub async fn finish(self) -> Report {
        let mut report = Report::default();
        for running in self.0 {
            report = report.and(Report(running.finish().await));
        }
        report
    }
}

/// What the requests of one step came to.
#[derive(Clone, Debug, Default)]
pub struct Report(pub LoadReport);

impl Report {
    pub fn and(mut self, other: Self) -> Self {
        let (report, other) = (&mut self.0, other.0);
        report.sent += other.sent;
        report.failed += other.failed;
        report.misrouted += other.misrouted;
        report.errors.extend(other.errors);
        for (cluster, count) in other.by_cluster {
            *report.by_cluster.entry(cluster).or_default() += count;
        }
        for (pod, at) in other.last_seen {
            let last = report.last_seen.entry(pod).or_insert(at);
            *last = (*last).max(at);
        }
        self
    }

    pub fn by_cluster(&self, cluster: &str) -> u64 {
        self.0.by_cluster.get(cluster).copied().unwrap_or_default()
    }

    pub fn last_answer_of_pod(&self, cluster: &str, pod: &str) -> Option<Instant> {
        self.0.last_seen(&format!("{cluster}/{pod}"))
    }

    pub fn last_answer_of_cluster(&self, cluster: &str) -> Option<Instant> {
        let prefix = format!("{cluster}/");
        self.0.last_seen.iter().filter(|(pod, _)| pod.starts_with(&prefix)).map(|(_, at)| *at).max()
    }
}

/// Status of one request on a connection of its own; 0 if there was no answer.
pub async fn status(edge: SocketAddr, host: &str, path: &str) -> u16 {
    Target::get(edge, host, path).once().await.map_or(0, |answer| answer.status)
}

/// The Service that answered one request on a connection of its own; empty if none did.
pub async fn service(edge: SocketAddr, host: &str, path: &str) -> String {
    let answer = Target::get(edge, host, path).once().await;
    answer.and_then(|answer| answer.echo["service"].as_str().map(str::to_owned)).unwrap_or_default()
}
