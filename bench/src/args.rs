//! What to measure. Command line → [`Propagation`], checked; nothing is started here.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "roadstead-bench", about = "Measure Roadstead with real processes on this machine")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// How long a change takes from the scheduled send until the last of all edges has applied it.
    Propagation(Propagation),
    /// What a full build and one changed Ingress cost, in worlds of several sizes.
    Compute(Compute),
}

#[derive(clap::Args, Clone, Debug)]
pub struct Compute {
    /// Clusters; each host is served by two of them, or by one if there is only one.
    #[arg(long, default_value_t = 20)]
    pub clusters: usize,
    /// Sizes of the worlds, ascending.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000", value_name = "HOSTS,…")]
    pub hosts: Vec<usize>,
    #[arg(long, default_value_t = 10)]
    pub endpoints_per_host: usize,
    /// Changed Ingresses to measure in each world.
    #[arg(long, default_value_t = 2_000)]
    pub changes: usize,
    /// Also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Compute {
    /// # Errors
    /// Names the flag whose value makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.clusters >= 1, "--clusters: at least one is needed");
        ensure!(self.changes >= 1, "--changes: at least one is needed");
        ensure!(self.endpoints_per_host >= 2, "--endpoints-per-host: every Service needs one, so at least 2");
        ensure!(!self.hosts.is_empty() && self.hosts.iter().all(|hosts| *hosts >= 1), "--hosts: sizes from 1");
        let most = self.hosts.iter().max().copied().unwrap_or_default() * self.endpoints_per_host;
        ensure!((most as u64) < u64::from(ADDRESSES_MAX), "--hosts needs more addresses than 127.0.0.0/8 has");
        Ok(())
    }
}

#[derive(clap::Args, Clone, Debug)]
pub struct Propagation {
    /// Synthetic clusters, each one real agent stream.
    #[arg(long, default_value_t = 20)]
    pub clusters: usize,
    /// Hosts; each is served by two clusters, or by one if there is only one.
    #[arg(long, default_value_t = 2_000)]
    pub hosts: usize,
    /// Endpoints of all clusters together.
    #[arg(long, default_value_t = 20_000)]
    pub endpoints: usize,
    /// Endpoint changes per second over all clusters; a change replaces one address of one EndpointSlice.
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// Ingress changes per second over all clusters; a change edits one path.
    #[arg(long, default_value_t = 5.0)]
    pub ingress_rate: f64,
    /// Endpoint changes to measure at least. With --ingress-samples this decides how long the measurement takes.
    #[arg(long, default_value_t = 10_000)]
    pub endpoint_samples: u64,
    /// Ingress changes to measure at least: 500 at 5/s take 100 s.
    #[arg(long, default_value_t = 500)]
    pub ingress_samples: u64,
    /// Edge processes. A change counts as applied when the last of them has it.
    #[arg(long, default_value_t = 4)]
    pub edges: usize,
    /// Hosts of the one cluster that runs a real agent against a simulated Kubernetes API.
    #[arg(long, default_value_t = 20)]
    pub agent_hosts: usize,
    /// Endpoint changes per second written to that Kubernetes API.
    #[arg(long, default_value_t = 10.0)]
    pub agent_rate: f64,
    /// Ingress changes per second written to that Kubernetes API.
    #[arg(long, default_value_t = 1.0)]
    pub agent_ingress_rate: f64,
    /// Seconds after which the whole run is given up.
    #[arg(long, default_value_t = 600)]
    pub deadline_s: u64,
    /// Order in which objects are changed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Keep the working folder (logs, certificates, policy) here instead of a temporary one that is removed.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

impl Propagation {
    /// # Errors
    /// Names the flag whose value makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.clusters >= 1, "--clusters: at least one is needed");
        ensure!(self.hosts >= 1, "--hosts: at least one is needed");
        ensure!(self.edges >= 1, "--edges: at least one is needed");
        ensure!(self.agent_hosts >= 1, "--agent-hosts: at least one is needed");
        let services = self.hosts * self.clusters.min(2);
        ensure!(self.endpoints >= services, "--endpoints: every Service needs one, so at least {services}");
        let rates = [self.rate, self.ingress_rate, self.agent_rate, self.agent_ingress_rate];
        ensure!(rates.iter().all(|rate| *rate > 0.0 && *rate <= RATE_MAX), "rates must be above 0, up to {RATE_MAX}/s");
        let changes = (self.rate + self.agent_rate) * self.duration().as_secs_f64();
        ensure!(
            self.endpoints as f64 + changes < f64::from(ADDRESSES_MAX),
            "--endpoints and the changes need more addresses than 127.0.0.0/8 has"
        );
        Ok(())
    }

    /// How long changes are made: until both kinds have the samples asked for.
    pub fn duration(&self) -> Duration {
        let endpoints = self.endpoint_samples as f64 / self.rate;
        let ingresses = self.ingress_samples as f64 / self.ingress_rate;
        Duration::from_secs_f64(endpoints.max(ingresses).max(1.0))
    }
}

const RATE_MAX: f64 = 100_000.0;
/// First of the addresses that endpoints get; everything below belongs to the processes of the run.
pub const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const ADDRESSES_MAX: u32 = u32::from_be_bytes([127, 255, 255, 254]) - u32::from_be_bytes(FIRST_ADDRESS.octets());

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Propagation {
        let parsed = Cli::try_parse_from(["bench", "propagation"].iter().chain(arguments)).expect("must parse").command;
        let Command::Propagation(args) = parsed else { panic!("propagation was asked for") };
        args
    }

    #[test]
    fn duration_is_what_the_slower_kind_needs() {
        assert_eq!(parse(&[]).duration(), Duration::from_secs(100));
        assert_eq!(parse(&["--ingress-samples", "10"]).duration(), Duration::from_secs(50));
    }

    #[test]
    fn refuses_fewer_endpoints_than_services() {
        assert!(parse(&["--hosts", "10", "--endpoints", "20"]).check().is_ok());
        let error = parse(&["--hosts", "10", "--endpoints", "19"]).check().expect_err("must be refused");
        assert!(error.to_string().starts_with("--endpoints"), "{error}");
        assert!(parse(&["--clusters", "1", "--hosts", "10", "--endpoints", "10"]).check().is_ok());
    }

    #[test]
    fn refuses_more_addresses_than_loopback_has() {
        assert!(parse(&["--endpoints", "16700000"]).check().is_err());
    }
}
