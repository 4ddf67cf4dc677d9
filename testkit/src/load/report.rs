//! What a load run adds up to.
//!
//! In: the outcome of each request. Out: counts, the first errors, latencies, when each pod was last seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Counts;
use super::connection::Answer;

/// Errors and misrouted answers kept with their text.
pub const ERRORS_MAX: usize = 20;

/// One answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// HTTP status.
    pub status: u16,
    /// Cluster that answered; empty if the answer is not an echo.
    pub cluster: String,
    /// Pod that answered; empty if the answer is not an echo.
    pub pod: String,
    /// The echo, or null.
    pub echo: Value,
    /// From the scheduled time to the last byte.
    pub latency: Duration,
    /// When the last byte came.
    pub at: Instant,
}

/// One request that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// What went wrong.
    pub text: String,
    /// When, since the start of the run.
    pub after: Duration,
}

/// The sum of a run. `sent = ok + failed`; misrouted answers are counted apart and may be ok.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Answered with 2xx or 3xx.
    pub ok: u64,
    /// No complete answer, or 4xx or 5xx.
    pub failed: u64,
    /// Answers that the caller's predicate refused.
    pub misrouted: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Answers by cluster.
    pub by_cluster: Counts,
    /// Answers by pod, as `cluster/pod`.
    pub by_pod: Counts,
    /// The first errors in order of time.
    pub errors: Vec<LoadError>,
    /// When each pod (`cluster/pod`) answered last.
    pub last_seen: BTreeMap<String, Instant>,
    /// Latencies of all answers, sorted.
    pub latencies: Vec<Duration>,
    /// From the first to the last request.
    pub duration: Duration,
}

impl Report {
    /// The latency that this share of the answers (0.0 to 1.0) did not exceed; zero without answers.
    pub fn latency(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * share.clamp(0.0, 1.0)).round() as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }

    /// When a pod, named `cluster/pod`, answered last.
    pub fn last_seen(&self, pod: &str) -> Option<Instant> {
        self.last_seen.get(pod).copied()
    }

    /// The share of all answers that came from a cluster, 0.0 to 1.0.
    pub fn share(&self, cluster: &str) -> f64 {
        let all: u64 = self.by_cluster.values().sum();
        let one = self.by_cluster.get(cluster).copied().unwrap_or(0);
        if all == 0 { 0.0 } else { one as f64 / all as f64 }
    }
}

/// A report in the making, one per connection.
#[derive(Debug, Default)]
pub(crate) struct Totals(Report);

impl Totals {
    pub(crate) fn record(
        &mut self,
        scheduled: Instant,
        started: Instant,
        outcome: Result<Answer, String>,
        is_misrouted: &(dyn Fn(&Sample) -> bool + Send + Sync),
    ) {
        let at = Instant::now();
        let report = &mut self.0;
        report.sent += 1;
        let answer = match outcome {
            Ok(answer) => answer,
            Err(text) => {
                report.failed += 1;
                return self.note(text, at.duration_since(started));
            }
        };
        let echo: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |field: &str| echo[field].as_str().unwrap_or_default().to_owned();
        let (cluster, pod) = (text("cluster"), text("pod"));
        let sample = Sample { status: answer.status, cluster, pod, echo, latency: at.duration_since(scheduled), at };
        *report.by_status.entry(sample.status).or_default() += 1;
        report.latencies.push(sample.latency);
        if !sample.pod.is_empty() {
            let name = format!("{}/{}", sample.cluster, sample.pod);
            *report.by_cluster.entry(sample.cluster.clone()).or_default() += 1;
            *report.by_pod.entry(name.clone()).or_default() += 1;
            report.last_seen.insert(name, at);
        }
        let is_ok = (200..400).contains(&sample.status);
        if is_ok {
            report.ok += 1;
        } else {
            report.failed += 1;
        }
        if is_misrouted(&sample) {
            report.misrouted += 1;
            self.note(format!("misrouted to {}/{}", sample.cluster, sample.pod), at.duration_since(started));
        } else if !is_ok {
            let body = String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]).into_owned();
            self.note(format!("status {}: {body}", sample.status), at.duration_since(started));
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        let (report, other) = (&mut self.0, other.0);
        report.sent += other.sent;
        report.ok += other.ok;
        report.failed += other.failed;
        report.misrouted += other.misrouted;
        for (status, count) in other.by_status {
            *report.by_status.entry(status).or_default() += count;
        }
        for (into, from) in [(&mut report.by_cluster, other.by_cluster), (&mut report.by_pod, other.by_pod)] {
            for (name, count) in from {
                *into.entry(name).or_default() += count;
            }
        }
        for (pod, at) in other.last_seen {
            let last = report.last_seen.entry(pod).or_insert(at);
            *last = (*last).max(at);
        }
        report.errors.extend(other.errors);
        report.latencies.extend(other.latencies);
    }

    pub(crate) fn into_report(self, duration: Duration) -> Report {
        let mut report = self.0;
        report.errors.sort_by_key(|error| error.after);
        report.errors.truncate(ERRORS_MAX);
        report.latencies.sort();
        report.duration = duration;
        report
    }

    /// Each connection keeps its own first errors; the merge keeps the first of all.
    fn note(&mut self, text: String, after: Duration) {
        if self.0.errors.len() < ERRORS_MAX {
            self.0.errors.push(LoadError { text, after });
        }
    }
}
