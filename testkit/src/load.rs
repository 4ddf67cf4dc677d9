//! An HTTP/1.1 load client that never retries.
//!
//! In: a target, a rate or a number of busy connections, limits in count and time. Out: a [`Report`] of every request sent. A
//! request whose fate is in doubt counts as failed. Answers must be those of `echo` to be counted by cluster and pod.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

mod connection;
mod report;

pub use report::{LoadError, Report, Sample};

use connection::Connection;
use report::Totals;

/// Connections of one run.
pub const CONNECTIONS_MAX: usize = 1000;

/// What to send where.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address to connect to.
    pub address: SocketAddr,
    /// `Host` header.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Method.
    pub method: http::Method,
    /// Body of every request.
    pub body: bytes::Bytes,
}

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// As long as the server keeps them open.
    KeepAlive,
    /// A new one for every request.
    NewPerRequest,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each connection sends its next request when it has the answer to the last.
    Closed,
    /// So many requests a second over all connections, on a fixed schedule. Latency counts from the scheduled time, so that a
    /// slow server cannot hide by slowing the client down.
    PerSecond(f64),
}

/// One run.
#[derive(Clone)]
pub struct Load {
    /// Where to.
    pub target: Target,
    /// Parallel connections, at most [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// How connections are used.
    pub reuse: Reuse,
    /// When requests are sent.
    pub pace: Pace,
    /// Stop after so many requests.
    pub requests_max: u64,
    /// Stop sending after this time.
    pub duration_max: Duration,
    /// An unanswered request fails after this time.
    pub timeout: Duration,
    /// Whether an answer came from the wrong place.
    pub is_misrouted: Arc<dyn Fn(&Sample) -> bool + Send + Sync>,
}

/// A run in the background.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    workers: JoinSet<Totals>,
    started: Instant,
}

/// What the connections of one run share.
#[derive(Debug, Default)]
struct Shared {
    issued: AtomicU64,
    sent: AtomicU64,
    stop: AtomicBool,
    wake: tokio::sync::Notify,
}

impl Target {
    /// GET of a path.
    pub fn get(address: SocketAddr, host: impl Into<String>, path: impl Into<String>) -> Self {
        Self { address, host: host.into(), path: path.into(), method: http::Method::GET, body: bytes::Bytes::new() }
    }

    /// Sends one request on a connection of its own; `None` if no complete answer came.
    pub async fn once(self) -> Option<Sample> {
        let answer = Arc::new(std::sync::Mutex::new(None));
        let keep = Arc::clone(&answer);
        let mut load = Load::new(self, 1, 1);
        load.is_misrouted = Arc::new(move |sample| {
            *keep.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(sample.clone());
            false
        });
        load.run().await;
        answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

impl Load {
    /// A closed loop with keep-alive; every answer is in the right place.
    pub fn new(target: Target, connections: usize, requests_max: u64) -> Self {
        Self {
            target,
            connections,
            reuse: Reuse::KeepAlive,
            pace: Pace::Closed,
            requests_max,
            duration_max: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            is_misrouted: Arc::new(|_| false),
        }
    }

    /// Runs to its end.
    pub async fn run(self) -> Report {
        self.start().finish().await
    }

    /// Starts in the background.
    ///
    /// # Panics
    /// More than [`CONNECTIONS_MAX`] connections were asked for, or none.
    pub fn start(self) -> Running {
        assert!((1..=CONNECTIONS_MAX).contains(&self.connections), "1 to {CONNECTIONS_MAX} connections");
        let shared = Arc::new(Shared::default());
        let started = Instant::now();
        let load = Arc::new(self);
        let mut workers = JoinSet::new();
        for _ in 0..load.connections {
            workers.spawn(work(Arc::clone(&load), Arc::clone(&shared), started));
        }
        Running { shared, workers, started }
    }
}

impl Running {
    /// Requests sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Lets the requests in flight end, sends no more, and reports.
    pub async fn stop(self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake.notify_waiters();
        self.finish().await
    }

    /// Waits for the limits of the run, and reports.
    pub async fn finish(mut self) -> Report {
        let mut totals = Totals::default();
        while let Some(worker) = self.workers.join_next().await {
            match worker {
                Ok(part) => totals.merge(part),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        totals.into_report(self.started.elapsed())
    }
}

/// One connection: takes the next request number, waits for its time, sends, records.
async fn work(load: Arc<Load>, shared: Arc<Shared>, started: Instant) -> Totals {
    let mut totals = Totals::default();
    let mut connection = None;
    loop {
        // Before the flag is read, so that a stop in between still wakes it.
        let stopped = shared.wake.notified();
        let number = shared.issued.fetch_add(1, Ordering::Relaxed);
        if number >= load.requests_max || shared.stop.load(Ordering::Relaxed) {
            return totals;
        }
        let scheduled = match load.pace {
            Pace::Closed => Instant::now(),
            Pace::PerSecond(rate) => started + Duration::from_secs_f64(number as f64 / rate),
        };
        if scheduled.duration_since(started) >= load.duration_max || started.elapsed() >= load.duration_max {
            return totals;
        }
        if scheduled > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(scheduled.into()) => {}
                () = stopped => return totals,
            }
        }
        shared.sent.fetch_add(1, Ordering::Relaxed);
        let result = Connection::exchange(&mut connection, &load).await;
        if load.reuse == Reuse::NewPerRequest {
            connection = None;
        }
        totals.record(scheduled, started, result, load.is_misrouted.as_ref());
    }
}

/// Counts by name.
pub type Counts = BTreeMap<String, u64>;
