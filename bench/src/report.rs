//! What was measured, as numbers and as text. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::args::Propagation;
use crate::usage::Usage;

/// Exact percentiles over all samples of a series, in milliseconds. All zero if there are none.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Quantiles {
    pub samples: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Quantiles {
    pub fn of(latencies: &[Duration]) -> Self {
        let mut sorted = latencies.to_vec();
        sorted.sort_unstable();
        Self {
            samples: sorted.len(),
            p50_ms: percentile_ms(&sorted, 50),
            p99_ms: percentile_ms(&sorted, 99),
            max_ms: percentile_ms(&sorted, 100),
        }
    }
}

/// The smallest sample that at least `percent` of all samples do not exceed (nearest rank).
fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |latency| rounded(latency.as_secs_f64() * 1_000.0))
}

/// Three digits after the point: more would only be noise.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Everything one run found. The field names are those of the JSON report and stay.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    pub clusters: usize,
    pub hosts: usize,
    pub endpoints: usize,
    pub edges: usize,
    pub rate: f64,
    pub ingress_rate: f64,
    pub endpoint_p50_ms: f64,
    pub endpoint_p99_ms: f64,
    pub endpoint_max_ms: f64,
    pub ingress_p50_ms: f64,
    pub ingress_p99_ms: f64,
    pub ingress_max_ms: f64,
    /// Endpoint changes through the synthetic clusters' streams.
    pub samples: usize,
    pub ingress_samples: usize,
    pub agent_endpoint_p50_ms: f64,
    pub agent_endpoint_p99_ms: f64,
    pub agent_endpoint_max_ms: f64,
    pub agent_ingress_p50_ms: f64,
    pub agent_ingress_p99_ms: f64,
    pub agent_ingress_max_ms: f64,
    pub agent_endpoint_samples: usize,
    pub agent_ingress_samples: usize,
    /// Changes of any kind that some edge had not applied within ten seconds.
    pub lost: u64,
    /// Sampled changes that a request on a new connection showed, or did not show.
    pub confirmed: u64,
    pub unconfirmed: u64,
    /// From opening the streams until every edge had every host and backend.
    pub initial_sync_s: f64,
    pub measured_s: f64,
    /// At the end of the measurement, by process.
    pub rss_mib: BTreeMap<String, f64>,
    /// CPU seconds used during the measurement, by process.
    pub cpu_s: BTreeMap<String, f64>,
}

/// Latencies by series, as [`Report::new`] takes them.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllQuantiles {
    pub endpoint: Quantiles,
    pub ingress: Quantiles,
    pub agent_endpoint: Quantiles,
    pub agent_ingress: Quantiles,
}

impl Report {
    /// The settings of a run and its latencies; the other fields are zero.
    pub fn new(args: &Propagation, all: &AllQuantiles) -> Self {
        let AllQuantiles { endpoint, ingress, agent_endpoint, agent_ingress } = *all;
        Self {
            clusters: args.clusters,
            hosts: args.hosts,
            endpoints: args.endpoints,
            edges: args.edges,
            rate: args.rate,
            ingress_rate: args.ingress_rate,
            endpoint_p50_ms: endpoint.p50_ms,
            endpoint_p99_ms: endpoint.p99_ms,
            endpoint_max_ms: endpoint.max_ms,
            ingress_p50_ms: ingress.p50_ms,
            ingress_p99_ms: ingress.p99_ms,
            ingress_max_ms: ingress.max_ms,
            samples: endpoint.samples,
            ingress_samples: ingress.samples,
            agent_endpoint_p50_ms: agent_endpoint.p50_ms,
            agent_endpoint_p99_ms: agent_endpoint.p99_ms,
            agent_endpoint_max_ms: agent_endpoint.max_ms,
            agent_ingress_p50_ms: agent_ingress.p50_ms,
            agent_ingress_p99_ms: agent_ingress.p99_ms,
            agent_ingress_max_ms: agent_ingress.max_ms,
            agent_endpoint_samples: agent_endpoint.samples,
            agent_ingress_samples: agent_ingress.samples,
            ..Self::default()
        }
    }

    pub fn set_times(&mut self, initial_sync: Duration, measured: Duration) {
        self.initial_sync_s = rounded(initial_sync.as_secs_f64());
        self.measured_s = rounded(measured.as_secs_f64());
    }

    /// Memory now, and CPU time since `before`. Both have the same process names.
    pub fn set_usage(&mut self, before: &BTreeMap<String, Usage>, after: &BTreeMap<String, Usage>) {
        for (name, after) in after {
            let cpu_before_s = before.get(name).map_or(0.0, |usage| usage.cpu_s);
            self.rss_mib.insert(name.clone(), rounded(after.rss_mib));
            self.cpu_s.insert(name.clone(), rounded(after.cpu_s - cpu_before_s));
        }
    }

    /// # Errors
    /// Says what went wrong if a change was lost, or reported as applied when requests did not show it.
    pub fn verdict(&self) -> Result<(), String> {
        if self.lost == 0 && self.unconfirmed == 0 {
            return Ok(());
        }
        Err(format!("{} changes lost, {} not confirmed by requests", self.lost, self.unconfirmed))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} clusters, {} hosts, {} endpoints, {} edges; initial sync {:.1} s; measured {:.0} s",
            self.clusters, self.hosts, self.endpoints, self.edges, self.initial_sync_s, self.measured_s
        )?;
        writeln!(
            f,
            "\n{:<34}{:>9}{:>11}{:>11}{:>11}",
            "change, to the last edge", "samples", "p50 ms", "p99 ms", "max ms"
        )?;
        let series = [
            (
                "endpoint, synthetic clusters",
                self.samples,
                self.endpoint_p50_ms,
                self.endpoint_p99_ms,
                self.endpoint_max_ms,
            ),
            (
                "Ingress, synthetic clusters",
                self.ingress_samples,
                self.ingress_p50_ms,
                self.ingress_p99_ms,
                self.ingress_max_ms,
            ),
            (
                "endpoint, Kubernetes API + agent",
                self.agent_endpoint_samples,
                self.agent_endpoint_p50_ms,
                self.agent_endpoint_p99_ms,
                self.agent_endpoint_max_ms,
            ),
            (
                "Ingress, Kubernetes API + agent",
                self.agent_ingress_samples,
                self.agent_ingress_p50_ms,
                self.agent_ingress_p99_ms,
                self.agent_ingress_max_ms,
            ),
        ];
        for (name, samples, p50, p99, max) in series {
            writeln!(f, "{name:<34}{samples:>9}{p50:>11.2}{p99:>11.2}{max:>11.2}")?;
        }
        writeln!(
            f,
            "\nlost {}, confirmed by a request {}, not confirmed {}",
            self.lost, self.confirmed, self.unconfirmed
        )?;
        writeln!(f, "\n{:<34}{:>9}{:>11}", "process", "RSS MiB", "CPU s")?;
        for (name, rss_mib) in &self.rss_mib {
            let cpu_s = self.cpu_s.get(name).copied().unwrap_or_default();
            writeln!(f, "{name:<34}{rss_mib:>9.1}{cpu_s:>11.1}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_samples_and_not_interpolated() {
        let all = Quantiles::of(&millis((1..=200).rev()));
        assert_eq!(all, Quantiles { samples: 200, p50_ms: 100.0, p99_ms: 198.0, max_ms: 200.0 });
        assert_eq!(Quantiles::of(&millis([7])), Quantiles { samples: 1, p50_ms: 7.0, p99_ms: 7.0, max_ms: 7.0 });
        assert_eq!(Quantiles::of(&[]), Quantiles::default());
    }

    #[test]
    fn one_outlier_in_a_hundred_is_in_the_maximum_and_not_in_p99() {
        let all = Quantiles::of(&millis((0..99).map(|_| 1).chain([500])));
        assert_eq!((all.p99_ms, all.max_ms), (1.0, 500.0));
    }

    #[test]
    fn anything_lost_or_unconfirmed_fails_the_run() {
        assert!(Report::default().verdict().is_ok());
        assert!(Report { lost: 1, ..Report::default() }.verdict().is_err());
        assert!(Report { unconfirmed: 1, ..Report::default() }.verdict().is_err());
    }

    #[test]
    fn the_json_report_has_the_promised_keys() {
        let mut report = Report::default();
        let usage = |cpu_s| BTreeMap::from([("controller".to_owned(), Usage { rss_mib: 12.5, cpu_s })]);
        report.set_usage(&usage(1.5), &usage(4.0));
        let json = serde_json::to_value(&report).expect("must serialise");
        for key in ["endpoint_p50_ms", "endpoint_p99_ms", "ingress_p50_ms", "ingress_p99_ms", "samples", "rss_mib"] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!(json["rss_mib"]["controller"], 12.5);
        assert_eq!(json["cpu_s"]["controller"], 2.5);
        assert!(report.to_string().contains("controller"));
    }
}
