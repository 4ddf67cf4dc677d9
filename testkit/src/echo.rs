//! Echo backends: small HTTP/1.1 servers that say who they are and what they received.
//!
//! In: an identity and a loopback address (any of 127.0.0.0/8, so that every pod can have its own). Out: JSON answers, a count
//! of requests, and a handle that kills the backend abruptly or restarts it on the same address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod command;
mod serve;

pub use serve::{BODY_BYTES_MAX, CONNECTIONS_MAX};

/// Who a backend says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Cluster id.
    pub cluster: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Ingress, where a test names one; otherwise empty.
    #[serde(default)]
    pub ingress: String,
    /// Service.
    pub service: String,
    /// Pod.
    pub pod: String,
}

/// What a backend answers, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Path and query as received.
    pub path: String,
    /// `Host` header.
    pub host: String,
    /// Method.
    pub method: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub proto: String,
    /// All headers by lower-case name, in order of arrival.
    pub headers: std::collections::BTreeMap<String, Vec<String>>,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// Who answers.
    #[serde(flatten)]
    pub identity: Identity,
}

/// How a backend behaves besides its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EchoOptions {
    /// Wait before every answer.
    pub delay: Duration,
}

/// A running (or killed) backend. Dropping it resets all connections.
#[derive(Debug)]
pub struct EchoBackend {
    identity: Arc<Identity>,
    options: EchoOptions,
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    running: Option<serve::Running>,
}

impl EchoBackend {
    /// Binds and serves; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is taken or not loopback.
    pub async fn start(identity: Identity, address: SocketAddr, options: EchoOptions) -> io::Result<Self> {
        let mut backend =
            Self { identity: Arc::new(identity), options, address, requests: Arc::default(), running: None };
        backend.start_again().await?;
        Ok(backend)
    }

    /// Address it listens on, also while killed.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Requests it has answered or begun to answer, over all its lives.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Dies as a killed pod does: the listener is closed and every connection is reset, requests in flight included.
    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill().await;
        }
    }

    /// Comes back on the same address.
    ///
    /// # Errors
    /// The address was taken meanwhile.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.kill().await;
        let answer = serve::Answer {
            identity: Arc::clone(&self.identity),
            requests: Arc::clone(&self.requests),
            delay: self.options.delay,
        };
        let running = serve::Running::start(self.address, answer).await?;
        self.address = running.address();
        self.running = Some(running);
        Ok(())
    }
}
