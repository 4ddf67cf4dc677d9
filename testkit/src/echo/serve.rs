//! The listener and the answer of an echo backend.
//!
//! In: a loopback address and an identity. Out: served connections until it is killed; then all of them are reset.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::Socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{Echo, Identity};

/// Connections at once; further ones wait in the accept queue.
pub const CONNECTIONS_MAX: usize = 4096;
/// Largest request body; a larger one is answered with 413.
pub const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What every connection needs to answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) identity: Arc<Identity>,
    pub(crate) requests: Arc<AtomicU64>,
    pub(crate) delay: Duration,
}

/// A bound listener with its connections.
#[derive(Debug)]
pub(crate) struct Running {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(wanted: SocketAddr, answer: Answer) -> io::Result<Self> {
        if !wanted.ip().is_loopback() {
            let message = format!("echo backends listen on loopback only, not on {wanted}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let listener = TcpListener::bind(wanted).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, answer)) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn kill(mut self) {
        self.task.abort();
        // The only outcome of an aborted task is that it ended.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, answer: Answer) {
    // Owned by this task: aborting it drops, and so resets, every connection.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, answer.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connection(stream: TcpStream, answer: Answer) {
    // Without it every small answer waits for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut reset = ResetOnDrop(stream.as_fd().try_clone_to_owned().ok().map(Socket::from));
    let service = service_fn(move |request| respond(answer.clone(), request));
    // A client that goes away is no concern of a backend.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
    reset.0 = None;
}

/// A second handle of a connection's socket: if the connection is dropped unfinished, it is reset instead of closed.
struct ResetOnDrop(Option<Socket>);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            // If the peer is gone already there is nothing to reset.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

async fn respond(answer: Answer, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    answer.requests.fetch_add(1, Ordering::Relaxed);
    let (head, mut body) = request.into_parts();
    let mut body_bytes: u64 = 0;
    while let Some(Ok(frame)) = body.frame().await {
        body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if body_bytes > BODY_BYTES_MAX {
            let mut refused = Response::new(Full::default());
            *refused.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            return Ok(refused);
        }
    }
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str().to_owned()).or_default().push(text);
    }
    let echo = Echo {
        path: head.uri.to_string(),
        host: headers.get("host").and_then(|hosts| hosts.first()).cloned().unwrap_or_default(),
        method: head.method.to_string(),
        proto: format!("{:?}", head.version),
        headers,
        body_bytes,
        identity: Identity::clone(&answer.identity),
    };
    let json = serde_json::to_vec(&echo).expect("must serialise: strings and numbers only");
    let mut response = Response::new(Full::new(Bytes::from(json)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}
