//! Worker threads: each accepts connections on its own listener and serves them on its own runtime.
//!
//! Told to stop, a worker accepts what the kernel has already completed for it (closing a listener resets those),
//! closes idle connections, lets requests finish for up to [`DRAIN_MAX`] and ends.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    CONNECTIONS_PER_WORKER_MAX, Client, ClientIo, DRAIN_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT, HEADERS_MAX, HeadWatch,
    KEEP_ALIVE_TIMEOUT, Tls,
};
use crate::health::Clock;
use crate::observe::Metrics;
use crate::proxy::{Config, Proxy};
use crate::table::LiveTable;

/// How often idle upstream connections are looked through.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// How often a connection is checked for a head that takes too long.
const WATCH_PERIOD: Duration = Duration::from_secs(5);
/// How long a connection that has not sent anything may live on when the edge stops.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);
/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    pub table: Arc<LiveTable>,
    pub clock: Clock,
    pub config: Config,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
}

/// The running worker threads.
pub struct Workers(Vec<JoinHandle<()>>);

impl Workers {
    /// Starts one thread per listener.
    ///
    /// # Errors
    /// If a thread or its runtime cannot be created; workers already started are told to stop.
    pub fn start(listeners: Vec<TcpListener>, shared: &Shared) -> io::Result<Self> {
        Self::start_each(listeners, shared, None)
    }

    /// [`Self::start`], for connections that are encrypted.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_secured(listeners: Vec<TcpListener>, shared: &Shared, tls: &Tls) -> io::Result<Self> {
        Self::start_each(listeners, shared, Some(tls))
    }

    /// These and others as one.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    fn start_each(listeners: Vec<TcpListener>, shared: &Shared, tls: Option<&Tls>) -> io::Result<Self> {
        let name = if tls.is_some() { "tls-worker" } else { "worker" };
        let start = |(index, listener)| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (shared, tls) = (shared.clone(), tls.cloned());
            let thread = std::thread::Builder::new().name(format!("{name}-{index}"));
            thread.spawn(move || {
                // A worker that panics takes the edge down: connections that the kernel gives it would hang.
                let _stop_all = shared.stop.clone().drop_guard();
                LocalSet::new().block_on(&runtime, run(listener, shared, tls));
            })
        };
        let started: io::Result<Vec<_>> = listeners.into_iter().enumerate().map(start).collect();
        started.map(Self).inspect_err(|_| shared.stop.cancel())
    }

    /// Waits until all workers have ended, which they do only when told to stop or when one panics.
    pub async fn ended(self) -> Result<(), WorkerPanicked> {
        let joining = tokio::task::spawn_blocking(move || {
            let joined: Vec<_> = self.0.into_iter().map(JoinHandle::join).collect();
            joined.into_iter().collect::<Result<Vec<()>, _>>().map_or(Err(WorkerPanicked), |_| Ok(()))
        });
        joining.await.unwrap_or(Err(WorkerPanicked))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a worker thread panicked")]
pub struct WorkerPanicked;

/// One worker's connections.
struct Worker {
    proxy: Proxy,
    shared: Shared,
    tls: Option<Tls>,
    tasks: TaskTracker,
    connections: Cell<usize>,
    /// Told whenever a connection ends.
    ended: Notify,
}

async fn run(listener: TcpListener, shared: Shared, tls: Option<Tls>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a nonblocking listener on a fresh runtime");
    let tasks = TaskTracker::new();
    let Shared { table, clock, config, metrics, stop } = shared.clone();
    let proxy = Proxy::new(table, clock, config, metrics, tasks.clone());
    let worker = Rc::new(Worker { proxy, shared, tls, tasks, connections: Cell::new(0), ended: Notify::new() });
    let sweeping = tokio::task::spawn_local(sweep(worker.clone()));
    accept_until(&worker, &listener, &stop).await;
    if let Err(error) = accept_queued(&worker, listener) {
        tracing::warn!(%error, "Connections that were not accepted yet are lost");
    }
    worker.tasks.close();
    if tokio::time::timeout(DRAIN_MAX, worker.tasks.wait()).await.is_err() {
        tracing::warn!(connections = worker.connections.get(), "Closing connections that did not finish in time");
    }
    sweeping.abort();
}

async fn sweep(worker: Rc<Worker>) {
    let mut period = tokio::time::interval(SWEEP_PERIOD);
    loop {
        period.tick().await;
        worker.proxy.pool().sweep();
    }
}

async fn accept_until(worker: &Rc<Worker>, listener: &tokio::net::TcpListener, stop: &CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = accept(worker, listener) => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => worker.serve(stream, peer),
            Err(error) => {
                tracing::warn!(%error, "Cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Accepts when there is room for one more connection.
async fn accept(worker: &Worker, listener: &tokio::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    while worker.connections.get() >= CONNECTIONS_PER_WORKER_MAX {
        worker.ended.notified().await;
    }
    listener.accept().await
}

/// Takes over the connections that the kernel has completed but nobody has accepted. Asks the kernel itself: the
/// runtime knows of new connections only after it has polled for them.
fn accept_queued(worker: &Rc<Worker>, listener: tokio::net::TcpListener) -> io::Result<()> {
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                worker.serve(TcpStream::from_std(stream)?, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

impl Worker {
    fn serve(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        self.connections.set(self.connections.get() + 1);
        self.shared.metrics.connections.inc();
        self.shared.metrics.connections_total.inc();
        let worker = self.clone();
        self.tasks.spawn_local(async move {
            if let Err(error) = worker.serve_connection(stream, peer).await {
                tracing::debug!(%error, "Connection ended");
            }
            worker.shared.metrics.connections.dec();
            worker.connections.set(worker.connections.get() - 1);
            worker.ended.notify_one();
        });
    }

    async fn serve_connection(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) -> Result<(), ConnectionError> {
        stream.set_nodelay(true)?;
        let local_port = stream.local_addr()?.port();
        let client = || {
            let watch = HeadWatch::accepted();
            (Client::new(peer, local_port, self.proxy.trusts(peer), watch.clone()), watch)
        };
        match &self.tls {
            None => self.converse(stream, client()).await,
            Some(tls) => {
                let (stream, shown) = tokio::select! {
                    accepted = tls.accept(stream) => accepted?,
                    () = self.told_to_stop_shaking_hands() => return Ok(()),
                };
                let (client, watch) = client();
                self.converse(stream, (client.over_tls(shown), watch)).await
            }
        }
    }

    /// Serves the requests of a connection.
    async fn converse(
        self: &Rc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        (client, watch): (Client, Arc<HeadWatch>),
    ) -> Result<(), ConnectionError> {
        let client = Rc::new(client);
        let service = service_fn(|request| {
            let (worker, client) = (self.clone(), client.clone());
            async move { Ok::<_, Infallible>(worker.proxy.handle(client, request).await) }
        });
        let io = TokioIo::new(ClientIo::new(stream, watch.clone()));
        let mut connection = std::pin::pin!(server().serve_connection(io, service).with_upgrades());
        let mut period = tokio::time::interval(WATCH_PERIOD);
        let mut told_to_stop = std::pin::pin!(self.told_to_stop(&watch));
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended.map_err(ConnectionError::Http),
                () = &mut told_to_stop, if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = period.tick() => {
                    if watch.is_overdue(HEAD_TIMEOUT) {
                        return Err(ConnectionError::HeadTimeout);
                    }
                }
            }
        }
    }
}

impl Worker {
    /// As with a first request, a handshake that has begun is given a moment.
    async fn told_to_stop_shaking_hands(&self) {
        self.shared.stop.cancelled().await;
        tokio::time::sleep(FIRST_REQUEST_GRACE).await;
    }

    /// Returns when a connection is to end after its current request. hyper closes one at once on which nothing was
    /// read yet, although its first request may be waiting in the kernel: such a one is given a moment.
    async fn told_to_stop(&self, watch: &HeadWatch) {
        self.shared.stop.cancelled().await;
        if !watch.has_begun() {
            tokio::time::sleep(FIRST_REQUEST_GRACE).await;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(hyper::Error),
    #[error("the client took too long to send a request's head")]
    HeadTimeout,
}

fn server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        // hyper's timer runs while a connection is idle too; the shorter limit for a head that has begun is ours.
        .header_read_timeout(KEEP_ALIVE_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    server
}
