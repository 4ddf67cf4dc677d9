//! One worker's connections to endpoints.
//!
//! An endpoint → a connection that can take a request: an idle one, or a new one. Connections come back when their
//! response has been read to the end; one that failed in any way never does. Those of HTTP/2 are shared ([`shared`]).
//! Idle connections are dropped when they are old, when there are too many, and when their endpoint left the table.
//! It chooses no endpoint and retries nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::observe::Metrics;
use crate::table::LiveEndpoint;

mod body;
mod name;
mod protocol;
mod shared;
mod tls;

pub use body::{BodyError, Progress, RequestBody};
pub use name::{Name, NamePolicy};
pub use protocol::Protocol;

use shared::{InFlight, Shared};
use tls::Tls;

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

/// The part of a connection that takes requests.
pub enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<RequestBody>),
    /// Many, of which this is one.
    Http2(http2::SendRequest<RequestBody>, InFlight),
}

/// A connection in use by one request.
pub struct Lease {
    sender: Sender,
    pub protocol: Protocol,
    pub endpoint: Arc<LiveEndpoint>,
}

impl Lease {
    /// # Errors
    /// As hyper's: with the request if nothing of it was sent.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender, _) => sender.try_send_request(request).await,
        }
    }
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
    tls: Tls,
    names: NamePolicy,
    metrics: Arc<Metrics>,
}

/// Who is spoken to, and how.
type Peer = (SocketAddr, Option<Arc<str>>, Protocol);

#[derive(Default)]
struct Idle {
    by_peer: HashMap<Peer, IdleEndpoint>,
    /// Of those that are not shared.
    total: usize,
}

struct IdleEndpoint {
    /// Dead when neither a table nor a request holds the endpoint any more.
    endpoint: Weak<LiveEndpoint>,
    /// The most recently used last: it is the least likely to be closed by the other side.
    connections: Vec<IdleConnection>,
    shared: Vec<Shared>,
}

struct IdleConnection {
    sender: http1::SendRequest<RequestBody>,
    expires: Instant,
}

impl Pool {
    pub fn new(names: NamePolicy, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), tls: Tls::default(), names, metrics })
    }

    /// A connection to the endpoint that can take a request and is not known to be closed, if there is one.
    pub fn reuse(&self, endpoint: &Arc<LiveEndpoint>, protocol: Protocol) -> Option<Lease> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        let peer = peer(endpoint, protocol);
        let lease = |sender| Lease { sender, protocol, endpoint: endpoint.clone() };
        if protocol.is_http2() {
            let shared = &mut idle.by_peer.get_mut(&peer)?.shared;
            return shared.iter_mut().find_map(|one| one.join(now)).map(lease);
        }
        while let Some(connection) = idle.pop(&peer) {
            if connection.expires > now && connection.sender.is_ready() {
                return Some(lease(Sender::Http1(connection.sender)));
            }
        }
        None
    }

    /// A new connection.
    ///
    /// # Errors
    /// If the endpoint does not accept it in time. Nothing was sent then.
    pub async fn connect(
        &self,
        endpoint: &Arc<LiveEndpoint>,
        protocol: Protocol,
        within: Duration,
    ) -> Result<Lease, ConnectError> {
        self.metrics.upstream_connects.inc();
        let connected = tokio::time::timeout(within, self.dial(endpoint, protocol)).await;
        let sender = connected.unwrap_or(Err(ConnectError::Timeout(within)));
        let sender = sender.inspect_err(|_| {
            self.metrics.upstream_connect_failures.inc();
        })?;
        Ok(Lease { sender, protocol, endpoint: endpoint.clone() })
    }

    async fn dial(&self, endpoint: &Arc<LiveEndpoint>, protocol: Protocol) -> Result<Sender, ConnectError> {
        let stream = match &endpoint.name {
            None => TcpStream::connect(endpoint.address).await?,
            Some(name) => {
                let addresses = name.resolve(endpoint.address.port(), self.names).await?;
                TcpStream::connect(addresses.as_slice()).await?
            }
        };
        stream.set_nodelay(true)?;
        let host = endpoint.name.as_ref().map(Name::as_str);
        match protocol {
            Protocol::Http1 => Ok(Sender::Http1(http1(stream).await?)),
            Protocol::Https1 | Protocol::VerifiedHttps1 => {
                Ok(Sender::Http1(http1(self.tls.connect(stream, host, protocol).await?).await?))
            }
            Protocol::H2c => self.share(endpoint, protocol, shared::http2(stream).await?),
            Protocol::H2 => {
                let stream = self.tls.connect(stream, host, protocol).await?;
                self.share(endpoint, protocol, shared::http2(stream).await?)
            }
        }
    }

    /// Lets other requests use the connection from now on.
    fn share(
        &self,
        endpoint: &Arc<LiveEndpoint>,
        protocol: Protocol,
        sender: http2::SendRequest<RequestBody>,
    ) -> Result<Sender, ConnectError> {
        let (shared, first) = Shared::new(sender, Instant::now());
        let mut idle = self.idle.borrow_mut();
        let entry = idle.entry(endpoint, protocol);
        if entry.shared.len() < IDLE_PER_ENDPOINT_MAX {
            entry.shared.push(shared);
        }
        Ok(first)
    }

    /// Takes a connection back whose response was read to the end. `idle_for` is what the endpoint said about how
    /// long it keeps idle connections.
    pub fn give_back(self: &Rc<Self>, lease: Lease, idle_for: Option<Duration>) {
        let Lease { sender: Sender::Http1(mut sender), protocol, endpoint } = lease else { return };
        if sender.is_closed() {
            return;
        }
        let idle_for = idle_for.unwrap_or(IDLE_MAX).min(IDLE_MAX);
        if sender.is_ready() {
            self.idle.borrow_mut().push(&endpoint, protocol, sender, Instant::now() + idle_for);
            return;
        }
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            if let Ok(Ok(())) = tokio::time::timeout(SETTLE_MAX, sender.ready()).await {
                pool.idle.borrow_mut().push(&endpoint, protocol, sender, Instant::now() + idle_for);
            }
        });
    }

    /// Drops idle connections that are old or closed, and those to endpoints that left the table. Called about once
    /// a second.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        idle.by_peer.retain(|_, endpoint| {
            let in_table = endpoint.endpoint.strong_count() > 0;
            endpoint.connections.retain(|one| in_table && one.expires > now && !one.sender.is_closed());
            endpoint.shared.retain(|one| in_table && one.is_worth_keeping(now));
            !endpoint.connections.is_empty() || !endpoint.shared.is_empty()
        });
        idle.total = idle.by_peer.values().map(|endpoint| endpoint.connections.len()).sum();
    }

    /// Idle connections of this worker.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().total
    }
}

impl Idle {
    fn pop(&mut self, peer: &Peer) -> Option<IdleConnection> {
        let connection = self.by_peer.get_mut(peer)?.connections.pop()?;
        self.total -= 1;
        Some(connection)
    }

    fn push(
        &mut self,
        endpoint: &Arc<LiveEndpoint>,
        protocol: Protocol,
        sender: http1::SendRequest<RequestBody>,
        expires: Instant,
    ) {
        if self.total >= IDLE_TOTAL_MAX {
            return;
        }
        let entry = self.entry(endpoint, protocol);
        if entry.connections.len() < IDLE_PER_ENDPOINT_MAX {
            entry.connections.push(IdleConnection { sender, expires });
            self.total += 1;
        }
    }

    fn entry(&mut self, endpoint: &Arc<LiveEndpoint>, protocol: Protocol) -> &mut IdleEndpoint {
        let entry = self.by_peer.entry(peer(endpoint, protocol)).or_insert_with(|| IdleEndpoint {
            endpoint: Weak::new(),
            connections: Vec::new(),
            shared: Vec::new(),
        });
        // Several backends may share an address; the latest user is the one whose life matters.
        entry.endpoint = Arc::downgrade(endpoint);
        entry
    }
}

fn peer(endpoint: &LiveEndpoint, protocol: Protocol) -> Peer {
    (endpoint.address, endpoint.name.as_ref().map(Name::shared), protocol)
}

async fn http1<S>(stream: S) -> Result<http1::SendRequest<RequestBody>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
        .max_headers(RESPONSE_HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    // What ends the connection is reported to the request that uses it, if one does.
    tokio::task::spawn_local(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}
