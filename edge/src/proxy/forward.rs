//! Attempts: which endpoint, over which connection, and whether a failure may be tried again.
//!
//! Nothing is ever sent twice unless doing so cannot matter: a request whose sending began is repeated only if its
//! method is idempotent and it has no body. One of which nothing was sent may go elsewhere whatever it is.

use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, sleep_until};

use super::Proxy;
use super::reply::Problem;
use crate::balance::{self, Pick, Tried};
use crate::table::LiveRoute;
use crate::upstream::{Lease, Progress, RequestBody};

/// Endpoints that one idempotent request without a body is sent to at most.
pub const ATTEMPTS_MAX: u32 = 3;
/// Endpoints that any other request is tried on at most; a second one only if nothing was sent to the first.
pub const ATTEMPTS_ONCE_MAX: u32 = 2;

/// A request as it goes to endpoints.
pub(super) enum Outgoing {
    /// Idempotent and without a body: can be made anew for every attempt.
    Replayable { method: Method, uri: Uri, headers: HeaderMap },
    /// Can be sent once. `None` when it was.
    Once(Option<Request<RequestBody>>),
}

/// An endpoint's response.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    /// Index into the route's clusters.
    pub(super) cluster: usize,
    pub(super) attempts: u32,
}

/// All attempts failed.
pub(super) struct Failed {
    pub(super) problem: Problem,
    pub(super) attempts: u32,
}

/// Why one attempt failed.
enum AttemptError {
    /// Nothing was sent.
    Unreached,
    /// The connection ended after sending began and before a response did.
    Lost,
    /// Trying again would not help.
    Final(Problem),
}

impl Outgoing {
    pub(super) fn new(parts: Parts, body: Incoming, progress: &Progress) -> Self {
        let idempotent =
            matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        if body.is_end_stream() {
            if idempotent {
                return Outgoing::Replayable { method: parts.method, uri: parts.uri, headers: parts.headers };
            }
            return Outgoing::Once(Some(Request::from_parts(parts, RequestBody::Empty)));
        }
        let body = RequestBody::Streaming { body, progress: progress.clone() };
        Outgoing::Once(Some(Request::from_parts(parts, body)))
    }

    fn is_replayable(&self) -> bool {
        matches!(self, Outgoing::Replayable { .. })
    }

    fn take(&mut self) -> Option<Request<RequestBody>> {
        match self {
            Outgoing::Replayable { method, uri, headers } => {
                let mut request = Request::new(RequestBody::Empty);
                *request.method_mut() = method.clone();
                *request.uri_mut() = uri.clone();
                *request.headers_mut() = headers.clone();
                Some(request)
            }
            Outgoing::Once(request) => request.take(),
        }
    }

    /// Takes back what was not sent.
    fn restore(&mut self, unsent: Request<RequestBody>) {
        if let Outgoing::Once(request) = self {
            *request = Some(unsent);
        }
    }
}

impl Proxy {
    /// Sends the request to endpoints of the route until one answers or no further attempt is allowed.
    pub(super) async fn forward(
        &self,
        route: &LiveRoute,
        mut outgoing: Outgoing,
        progress: &Progress,
    ) -> Result<Answer, Failed> {
        let limit = if outgoing.is_replayable() { ATTEMPTS_MAX } else { ATTEMPTS_ONCE_MAX };
        let mut tried = Tried::default();
        let mut problem = Problem::Unserved(route.unserved);
        for attempts in 1..=limit {
            let Some(pick) = balance::pick(route, &tried, self.clock.now()) else {
                return Err(Failed { problem, attempts: attempts - 1 });
            };
            if attempts > 1 {
                self.metrics.retries.inc();
            }
            tried.add(&pick);
            match self.attempt(&pick, &mut outgoing, progress).await {
                Ok((response, lease)) => return Ok(Answer { response, lease, cluster: pick.cluster, attempts }),
                Err(AttemptError::Unreached) => problem = Problem::Unreached,
                Err(AttemptError::Lost) => {
                    self.metrics.upstream_failures.inc();
                    problem = Problem::Lost;
                    if !outgoing.is_replayable() {
                        return Err(Failed { problem, attempts });
                    }
                }
                Err(AttemptError::Final(problem)) => return Err(Failed { problem, attempts }),
            }
        }
        Err(Failed { problem, attempts: limit })
    }

    /// Tries one endpoint: over an idle connection, or over a new one if there is none or it turns out closed.
    async fn attempt(
        &self,
        pick: &Pick,
        outgoing: &mut Outgoing,
        progress: &Progress,
    ) -> Result<(Response<Incoming>, Lease), AttemptError> {
        if let Some(lease) = self.pool.reuse(&pick.endpoint) {
            match self.send(lease, outgoing, progress).await {
                // The endpoint closed the connection while it was idle: says nothing about the endpoint.
                Err(AttemptError::Unreached) => {}
                Err(AttemptError::Lost) if outgoing.is_replayable() => {}
                outcome => return outcome,
            }
        }
        let connected = self.pool.connect(&pick.endpoint).await;
        let lease = connected.map_err(|error| {
            pick.endpoint.health.failed(self.clock.now());
            tracing::debug!(endpoint = %pick.endpoint.address, %error, "Cannot connect");
            AttemptError::Unreached
        })?;
        self.send(lease, outgoing, progress).await
    }

    async fn send(
        &self,
        mut lease: Lease,
        outgoing: &mut Outgoing,
        progress: &Progress,
    ) -> Result<(Response<Incoming>, Lease), AttemptError> {
        let request = outgoing.take().ok_or(AttemptError::Final(Problem::Lost))?;
        progress.moved();
        let sending = std::pin::pin!(lease.sender.try_send_request(request));
        let Some(sent) = self.in_time(progress, sending).await else {
            self.metrics.upstream_timeouts.inc();
            return Err(AttemptError::Final(Problem::Timeout));
        };
        match sent {
            Ok(response) => {
                lease.endpoint.health.succeeded();
                Ok((response, lease))
            }
            Err(mut error) => {
                if let Some(unsent) = error.take_message() {
                    outgoing.restore(unsent);
                    return Err(AttemptError::Unreached);
                }
                let error = error.into_error();
                tracing::debug!(endpoint = %lease.endpoint.address, %error, "Request failed");
                Err(if error.is_user() {
                    AttemptError::Final(Problem::Bad("the request's body ended early"))
                } else if error.is_parse() {
                    AttemptError::Final(Problem::BadResponse)
                } else {
                    AttemptError::Lost
                })
            }
        }
    }

    /// Waits until `response_timeout` after the request last moved.
    async fn in_time<F: Future + Unpin>(&self, progress: &Progress, mut future: F) -> Option<F::Output> {
        loop {
            let deadline = progress.last() + self.config.response_timeout;
            tokio::select! {
                biased;
                output = &mut future => return Some(output),
                () = sleep_until(deadline) => {}
            }
            if progress.last() + self.config.response_timeout <= Instant::now() {
                return None;
            }
        }
    }
}
