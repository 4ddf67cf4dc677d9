//! The process `roadstead-echo`: the pods of one Service.
//!
//! In: command line. Out: one listener per pod until SIGINT or SIGTERM. Killing the process kills the pods.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

use super::{EchoBackend, EchoOptions, Identity};
use crate::exit;

/// Pods in one process.
pub const PODS_MAX: usize = 1000;

/// Echo backends for demos and tests; each answers who it is and what it received.
#[derive(Debug, Parser)]
#[command(name = "roadstead-echo")]
pub struct Args {
    /// Cluster id to answer with.
    #[arg(long)]
    cluster: String,
    /// Namespace to answer with.
    #[arg(long, default_value = "default")]
    namespace: String,
    /// Service to answer with.
    #[arg(long)]
    service: String,
    /// Pods as NAME=ADDRESS:PORT, separated by commas; addresses of 127.0.0.0/8.
    #[arg(long, value_delimiter = ',', required = true)]
    pods: Vec<Pod>,
    /// Milliseconds to wait before every answer.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
}

/// One value of `--pods`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pod {
    name: String,
    address: SocketAddr,
}

impl FromStr for Pod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or("NAME=ADDRESS:PORT is wanted")?;
        let address = address.parse().map_err(|_| format!("{address:?} is not ADDRESS:PORT"))?;
        Ok(Self { name: name.to_owned(), address })
    }
}

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// More pods than one process may have.
    #[error("--pods: {0} pods, but at most {PODS_MAX} fit into one process")]
    TooMany(usize),
    /// An address cannot be used.
    #[error("--pods {pod}={address}: {source}")]
    Listen {
        /// The pod.
        pod: String,
        /// Its address as given.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs until it is told to stop.
///
/// # Errors
/// A pod's address cannot be used.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let Args { cluster, namespace, service, pods, delay_ms } = args;
    if pods.len() > PODS_MAX {
        return Err(CommandError::TooMany(pods.len()));
    }
    let options = EchoOptions { delay: Duration::from_millis(delay_ms) };
    let mut backends = Vec::with_capacity(pods.len());
    for Pod { name, address } in pods {
        let identity = Identity {
            cluster: cluster.clone(),
            namespace: namespace.clone(),
            ingress: String::new(),
            service: service.clone(),
            pod: name.clone(),
        };
        let backend = EchoBackend::start(identity, address, options).await;
        backends.push(backend.map_err(|source| CommandError::Listen { pod: name, address, source })?);
    }
    tracing::info!(cluster.id = cluster, service, pods = backends.len(), "the echo backends are ready");
    exit::requested().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_names_with_addresses() {
        let pod: Pod = "pod-a=127.1.0.1:8080".parse().expect("valid");
        assert_eq!((pod.name.as_str(), pod.address.to_string().as_str()), ("pod-a", "127.1.0.1:8080"));
        for bad in ["pod-a", "pod-a=127.0.0.1", "pod-a=host:80"] {
            assert!(bad.parse::<Pod>().is_err(), "{bad}");
        }
    }
}
