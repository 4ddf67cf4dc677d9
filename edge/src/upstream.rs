//! One worker's connections to endpoints.
//!
//! An endpoint → a connection that can take a request: an idle one, or a new one. Connections come back when their
//! response has been read to the end; one that failed in any way never does. Idle connections are dropped when they
//! are old, when there are too many, and when their endpoint left the table. It chooses no endpoint and retries nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::observe::Metrics;
use crate::table::LiveEndpoint;

mod body;

pub use body::{Progress, RequestBody};

#[cfg(test)]
mod tests;

/// How long a connection may wait for its next request. Servers commonly close after 60 s or more; being first
/// avoids most races with them. A `Keep-Alive: timeout` of the server's overrides it.
pub const IDLE_MAX: Duration = Duration::from_secs(50);
/// Idle connections kept to one endpoint by one worker.
pub const IDLE_PER_ENDPOINT_MAX: usize = 64;
/// Idle connections kept by one worker.
pub const IDLE_TOTAL_MAX: usize = 4_096;
/// How long a connection may take to become idle after its response was read, for example because the endpoint
/// answered before it had read the whole request.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// Bytes of a response's head. A larger one is answered with 502.
const RESPONSE_HEAD_BYTES_MAX: usize = 128 * 1024;
/// Header fields of a response.
const RESPONSE_HEADERS_MAX: usize = 256;

pub type Sender = http1::SendRequest<RequestBody>;

/// A connection in use by one request.
pub struct Lease {
    pub sender: Sender,
    pub endpoint: Arc<LiveEndpoint>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Handshake(#[from] hyper::Error),
}

/// The idle connections of one worker.
pub struct Pool {
    idle: RefCell<Idle>,
    connect_timeout: Duration,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Idle {
    by_address: HashMap<SocketAddr, IdleEndpoint>,
    total: usize,
}

struct IdleEndpoint {
    /// Dead when neither a table nor a request holds the endpoint any more.
    endpoint: Weak<LiveEndpoint>,
    /// The most recently used last: it is the least likely to be closed by the other side.
    connections: Vec<IdleConnection>,
}

struct IdleConnection {
    sender: Sender,
    expires: Instant,
}

impl Pool {
    pub fn new(connect_timeout: Duration, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), connect_timeout, metrics })
    }

    /// An idle connection to the endpoint, if there is one that is not known to be closed.
    pub fn reuse(&self, endpoint: &Arc<LiveEndpoint>) -> Option<Lease> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop(endpoint.address) {
            if connection.expires > now && connection.sender.is_ready() {
                return Some(Lease { sender: connection.sender, endpoint: endpoint.clone() });
            }
        }
        None
    }

    /// A new connection.
    ///
    /// # Errors
    /// If the endpoint does not accept it in time. Nothing was sent then.
    pub async fn connect(&self, endpoint: &Arc<LiveEndpoint>) -> Result<Lease, ConnectError> {
        self.metrics.upstream_connects.inc();
        let connected = tokio::time::timeout(self.connect_timeout, connect(endpoint.address)).await;
        let sender = connected.unwrap_or(Err(ConnectError::Timeout(self.connect_timeout)));
        let sender = sender.inspect_err(|_| {
            self.metrics.upstream_connect_failures.inc();
        })?;
        Ok(Lease { sender, endpoint: endpoint.clone() })
    }

    /// Takes a connection back whose response was read to the end. `idle_for` is what the endpoint said about how
    /// long it keeps idle connections.
    pub fn give_back(self: &Rc<Self>, lease: Lease, idle_for: Option<Duration>) {
        if lease.sender.is_closed() {
            return;
        }
        let idle_for = idle_for.unwrap_or(IDLE_MAX).min(IDLE_MAX);
        if lease.sender.is_ready() {
            self.idle.borrow_mut().push(lease, Instant::now() + idle_for);
            return;
        }
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let mut lease = lease;
            if let Ok(Ok(())) = tokio::time::timeout(SETTLE_MAX, lease.sender.ready()).await {
                pool.idle.borrow_mut().push(lease, Instant::now() + idle_for);
            }
        });
    }

    /// Drops idle connections that are old or closed, and those to endpoints that left the table. Called about once
    /// a second.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        idle.by_address.retain(|_, endpoint| {
            let in_table = endpoint.endpoint.strong_count() > 0;
            endpoint.connections.retain(|one| in_table && one.expires > now && !one.sender.is_closed());
            !endpoint.connections.is_empty()
        });
        idle.total = idle.by_address.values().map(|endpoint| endpoint.connections.len()).sum();
    }

    /// Idle connections of this worker.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().total
    }
}

impl Idle {
    fn pop(&mut self, address: SocketAddr) -> Option<IdleConnection> {
        let connection = self.by_address.get_mut(&address)?.connections.pop()?;
        self.total -= 1;
        Some(connection)
    }

    fn push(&mut self, lease: Lease, expires: Instant) {
        if self.total >= IDLE_TOTAL_MAX {
            return;
        }
        let entry = self
            .by_address
            .entry(lease.endpoint.address)
            .or_insert_with(|| IdleEndpoint { endpoint: Weak::new(), connections: Vec::new() });
        // Several backends may share an address; the latest user is the one whose life matters.
        entry.endpoint = Arc::downgrade(&lease.endpoint);
        if entry.connections.len() < IDLE_PER_ENDPOINT_MAX {
            entry.connections.push(IdleConnection { sender: lease.sender, expires });
            self.total += 1;
        }
    }
}

async fn connect(address: SocketAddr) -> Result<Sender, ConnectError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
        .max_headers(RESPONSE_HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    // What ends the connection is reported to the request that uses it, if one does.
    tokio::task::spawn_local(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}
