//! Connections of HTTP/2, which many requests use at once.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ConnectError, IDLE_MAX, RESPONSE_HEAD_BYTES_MAX, RequestBody, Sender};

/// Requests at once over one connection. Endpoints commonly allow 100 or more; one that allows fewer lets them wait.
const REQUESTS_AT_ONCE_MAX: usize = 100;
/// How often an endpoint is asked whether it is still there, and how long it may take to say so.
const PING_PERIOD: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Counts a request of a shared connection while it lives.
#[derive(Clone)]
pub struct InFlight(Rc<()>);

pub(super) struct Shared {
    sender: http2::SendRequest<RequestBody>,
    in_flight: InFlight,
    used: Instant,
}

impl Shared {
    /// A new connection and its first request.
    pub(super) fn new(sender: http2::SendRequest<RequestBody>, now: Instant) -> (Self, Sender) {
        let in_flight = InFlight(Rc::new(()));
        let first = Sender::Http2(sender.clone(), in_flight.clone());
        (Self { sender, in_flight, used: now }, first)
    }

    /// One more request, unless the connection is closed or has enough of them.
    pub(super) fn join(&mut self, now: Instant) -> Option<Sender> {
        if self.sender.is_closed() || self.requests() >= REQUESTS_AT_ONCE_MAX {
            return None;
        }
        self.used = now;
        Some(Sender::Http2(self.sender.clone(), self.in_flight.clone()))
    }

    pub(super) fn is_worth_keeping(&self, now: Instant) -> bool {
        !self.sender.is_closed() && (self.requests() > 0 || now < self.used + IDLE_MAX)
    }

    fn requests(&self) -> usize {
        Rc::strong_count(&self.in_flight.0) - 1
    }
}

/// Runs the parts of a connection on this worker's thread.
#[derive(Clone, Copy)]
struct Local;

impl<F> Executor<F> for Local
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

pub(super) async fn http2<S>(stream: S) -> Result<http2::SendRequest<RequestBody>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_PERIOD)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(RESPONSE_HEAD_BYTES_MAX as u32)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}
