//! The listener of a simulated API server.
//!
//! In: a loopback address. Out: served connections until it is stopped; stopping closes every connection at once, as when
//! the process dies. What a request means is decided in `http`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::cluster::Cluster;
use super::http;

/// Connections at once; further ones wait in the accept queue.
pub const CONNECTIONS_MAX: usize = 4096;

/// A running listener. Dropping it closes everything.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    /// Binds and serves. Refuses addresses that are not loopback.
    pub(crate) async fn start(cluster: Arc<Cluster>, wanted: SocketAddr) -> io::Result<Self> {
        if !wanted.ip().is_loopback() {
            let message = format!("the simulated API server listens on loopback only, not on {wanted}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let listener = TcpListener::bind(wanted).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(cluster, listener, address)) })
    }

    /// The bound address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and all connections, and waits until they are closed.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        // The only outcome of an aborted task is that it ended.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The join set owns all connections: when this task is aborted, they are dropped with it.
async fn accept(cluster: Arc<Cluster>, listener: TcpListener, address: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(Arc::clone(&cluster), stream, address));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connection(cluster: Arc<Cluster>, stream: TcpStream, address: SocketAddr) {
    // Without it every small answer waits for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| http::serve(Arc::clone(&cluster), address.to_string(), request));
    let served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}
