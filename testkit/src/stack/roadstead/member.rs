//! One process of the stack with its addresses: ended and started again with the same command line.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use http::StatusCode;

use super::probe;
use crate::stack::{Process, Ready, Spec};

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A controller, an edge or an agent.
#[derive(Debug)]
pub struct Member {
    process: Process,
    addresses: Addresses,
}

/// Where a member listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) observe: SocketAddr,
    pub(super) http: Option<SocketAddr>,
    pub(super) https: Option<SocketAddr>,
    pub(super) grpc: Option<SocketAddr>,
    pub(super) api: Option<SocketAddr>,
}

impl Member {
    pub(super) async fn spawn(spec: Spec, addresses: Addresses) -> anyhow::Result<Self> {
        Ok(Self { process: Process::spawn(spec).await?, addresses })
    }

    /// `controller-1`, `edge-NAME`, `agent-CLUSTER`.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Where an edge takes requests.
    pub fn http(&self) -> Option<SocketAddr> {
        self.addresses.http
    }

    /// Where an edge takes HTTPS requests, if it does.
    pub fn https(&self) -> Option<SocketAddr> {
        self.addresses.https
    }

    /// Where a controller takes streams.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.addresses.grpc
    }

    /// Where a controller's admin API is.
    pub fn api(&self) -> Option<SocketAddr> {
        self.addresses.api
    }

    /// Where `/livez`, `/readyz` and `/metrics` are, and a controller's `/status`.
    pub fn observe(&self) -> SocketAddr {
        self.addresses.observe
    }

    /// `None` after it was ended.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Whether it runs. One that ended by itself is noticed here.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What it logs, over all its lives.
    pub fn log(&self) -> &Path {
        self.process.log_path()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = self.process.log_tail();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Starts it if it does not run. Does not wait until it is ready.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        if !self.is_running() {
            self.process.start_again().await?;
        }
        Ok(())
    }

    /// Sets an environment variable of its further starts.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.process.set_env(name, value);
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// SIGTERM, and waits until it is gone; it is killed if that takes too long.
    pub async fn terminate(&mut self) {
        self.process.terminate().await;
    }

    /// Ends it as [`Self::terminate`] does and starts it again.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.terminate().await;
        self.start().await
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open and get no answer.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// If it ends or does not become ready: with what it last said and the end of its log.
    pub async fn wait_ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let Err(why) = Ready::Readyz(self.observe()).check().await else { return Ok(()) };
            if !self.is_running() {
                bail!("{} ended; end of its log:\n{}", self.name(), self.process.log_tail());
            }
            if start.elapsed() >= within {
                let (name, log) = (self.name(), self.process.log_tail());
                bail!("{name} is not ready after {} s: {why}; end of its log:\n{log}", within.as_secs());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// What it answers to a GET of `path` at its observe address.
    ///
    /// # Errors
    /// If it does not answer, or with another status than 200.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        match probe::get(self.observe(), path).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, body) => bail!("{}{path}: {status}: {}", self.name(), body.trim()),
        }
    }

    /// `/metrics`, in Prometheus' text format.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        self.get("/metrics").await
    }
}
