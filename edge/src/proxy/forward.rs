//! Attempts: which endpoint, over which connection, and whether a failure may be tried again.
//!
//! Nothing is ever sent twice unless doing so cannot matter: a request whose sending began is repeated only if its
//! method is idempotent and it has no body. One of which nothing was sent may go elsewhere whatever it is.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use roadstead_routing::settings::{Retry, UpstreamSettings};
use tokio::time::{Instant, sleep_until};

use super::course::Course;
use super::edit::Edit;
use super::reply::Problem;
use super::{Proxy, Retries};
use crate::balance::{self, Pick, Tried};
use crate::upstream::{ConnectError, Lease, Progress, RequestBody};

/// Endpoints that one idempotent request without a body is sent to at most.
pub const ATTEMPTS_MAX: u32 = 3;
/// Endpoints that any other request is tried on at most; a second one only if nothing was sent to the first.
pub const ATTEMPTS_ONCE_MAX: u32 = 2;
/// Endpoints that a route may ask to have an idempotent request sent to at most.
pub const ATTEMPTS_ASKED_MAX: u32 = 10;

/// How often at most it is looked at whether a request moves.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(10);

/// A request as it goes to endpoints.
pub(super) enum Outgoing {
    /// Idempotent and without a body: can be made anew for every attempt.
    Replayable(Head),
    /// Can be sent once.
    Once {
        /// `None` when it was sent.
        request: Option<Request<RequestBody>>,
        /// What it was before it was edited for one cluster.
        unedited: Option<Box<Head>>,
    },
}

#[derive(Clone)]
pub(super) struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
}

impl Head {
    fn of(request: &Request<RequestBody>) -> Self {
        let (method, headers) = (request.method().clone(), request.headers().clone());
        Self { method, uri: request.uri().clone(), version: request.version(), headers }
    }

    fn with(self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        request
    }
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
    Unreached(Failure),
    /// The connection ended after sending began and before a response did.
    Lost,
    /// No response began in time.
    TimedOut,
    /// Trying again would not help.
    Final(Problem),
}

impl Outgoing {
    pub(super) fn new(parts: Parts, body: Incoming, progress: &Progress) -> Self {
        let idempotent =
            matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        let body = if body.is_end_stream() {
            if idempotent {
                return Outgoing::without_body(parts);
            }
            RequestBody::Empty
        } else {
            RequestBody::streaming(body, progress)
        };
        Outgoing::Once { request: Some(Request::from_parts(parts, body)), unedited: None }
    }

    /// One that can be made anew. Its method must be idempotent.
    pub(super) fn without_body(parts: Parts) -> Self {
        let Parts { method, uri, version, headers, .. } = parts;
        Outgoing::Replayable(Head { method, uri, version, headers })
    }

    fn is_replayable(&self) -> bool {
        matches!(self, Outgoing::Replayable(_))
    }

    fn take(&mut self, edit: Edit<'_>) -> Option<Request<RequestBody>> {
        let mut taken = match self {
            Outgoing::Replayable(head) => head.clone().with(RequestBody::Empty),
            Outgoing::Once { request, unedited } => {
                let request = request.take()?;
                *unedited = (!edit.is_nothing()).then(|| Box::new(Head::of(&request)));
                request
            }
        };
        edit.apply(&mut taken);
        Some(taken)
    }

    /// Takes back what was not sent.
    fn restore(&mut self, unsent: Request<RequestBody>) {
        if let Outgoing::Once { request, unedited } = self {
            *request = Some(match unedited.take() {
                Some(head) => head.with(unsent.into_body()),
                None => unsent,
            });
        }
    }
}

/// What one attempt goes by.
#[derive(Clone, Copy)]
struct Terms<'a> {
    edit: Edit<'a>,
    connect_timeout: Duration,
    /// From the last byte of the request on.
    read_timeout: Duration,
    /// From any other byte of the request on.
    send_timeout: Duration,
    /// `None`: any.
    body_bytes_max: Option<u64>,
    /// `None`: the route does not say.
    retry: Option<&'a Retry>,
}

impl Terms<'_> {
    /// Attempts that a request may make in all.
    fn tries(&self, outgoing: &Outgoing) -> u32 {
        let asked = self.retry.map_or(0, |retry| retry.tries);
        match (outgoing.is_replayable(), asked) {
            (true, 0) => ATTEMPTS_MAX,
            (true, asked) => asked.min(ATTEMPTS_ASKED_MAX),
            (false, 0) => ATTEMPTS_ONCE_MAX,
            (false, asked) => asked.min(ATTEMPTS_ONCE_MAX),
        }
    }
}

/// One request's attempts so far.
struct Attempts {
    begun: Instant,
    count: u32,
    tried: Tried,
}

impl Attempts {
    /// Whether another may follow one that failed so.
    fn may_go_on(&self, terms: &Terms<'_>, outgoing: &Outgoing, failure: Failure) -> bool {
        let in_time = |retry: &Retry| retry.within.is_none_or(|within| self.begun.elapsed() < within);
        let is_asked_for = match (terms.retry, failure) {
            (Some(retry), Failure::Error) => retry.on_error && in_time(retry),
            (Some(retry), Failure::ConnectTimeout | Failure::Timeout) => retry.on_timeout && in_time(retry),
            (Some(retry), Failure::Status(status)) => retry.on_status.contains(&status.as_u16()) && in_time(retry),
            (None, Failure::Error | Failure::ConnectTimeout) => true,
            (None, Failure::Timeout | Failure::Status(_)) => false,
        };
        is_asked_for && self.count < terms.tries(outgoing)
    }
}

/// What went wrong with an attempt that another may follow.
#[derive(Clone, Copy)]
enum Failure {
    Error,
    ConnectTimeout,
    /// Of an answer.
    Timeout,
    Status(StatusCode),
}

impl Proxy {
    /// Sends the request to endpoints of the route until one answers or no further attempt is allowed.
    pub(super) async fn forward(
        &self,
        course: &Course<'_>,
        mut outgoing: Outgoing,
        progress: &Progress,
    ) -> Result<Answer, Failed> {
        let route = course.route;
        let mut attempts = Attempts { begun: Instant::now(), count: 0, tried: Tried::default() };
        let mut problem = Problem::Unserved(route.unserved);
        // An answer that the route counts as a failure is still better than none.
        let mut unwanted: Option<Answer> = None;
        while let Some(pick) = balance::pick(route, course.choice, &attempts.tried, self.clock.now()) {
            attempts.count += 1;
            if attempts.count > 1 {
                self.metrics.retries.inc();
            }
            attempts.tried.add(&pick);
            let terms = self.terms(course, &pick);
            let (failed, failure) = match self.attempt(&pick, &mut outgoing, progress, terms).await {
                Ok((response, lease)) => {
                    if course.is_timed() {
                        pick.endpoint.latency.note(progress.last().elapsed(), self.clock.now());
                    }
                    let status = response.status();
                    let answer = Answer { response, lease, cluster: pick.cluster, attempts: attempts.count };
                    let is_unwanted =
                        outgoing.is_replayable() && attempts.may_go_on(&terms, &outgoing, Failure::Status(status));
                    if !is_unwanted {
                        return Ok(answer);
                    }
                    unwanted = Some(answer);
                    continue;
                }
                Err(AttemptError::Final(problem)) => (problem, None),
                Err(AttemptError::Unreached(failure)) if self.config.retries == Retries::On => {
                    (Problem::Unreached, Some(failure))
                }
                Err(AttemptError::Unreached(_)) => (Problem::Unreached, None),
                Err(AttemptError::TimedOut) => (Problem::Timeout, outgoing.is_replayable().then_some(Failure::Timeout)),
                Err(AttemptError::Lost) => {
                    self.metrics.upstream_failures.inc();
                    (Problem::Lost, outgoing.is_replayable().then_some(Failure::Error))
                }
            };
            problem = failed;
            if !failure.is_some_and(|failure| attempts.may_go_on(&terms, &outgoing, failure)) {
                break;
            }
        }
        unwanted.ok_or(Failed { problem, attempts: attempts.count })
    }

    fn terms<'a>(&self, course: &'a Course<'_>, pick: &Pick) -> Terms<'a> {
        let upstream = course.route.clusters[pick.cluster].upstream.as_deref();
        let asked = |timeout: fn(&UpstreamSettings) -> Option<Duration>| upstream.and_then(timeout);
        let protocol = pick.endpoint.spoken(upstream.and_then(|upstream| upstream.protocol));
        // A gateway makes of the request what the Ingress says (rule R-4).
        let edited = upstream.filter(|_| !pick.endpoint.is_gateway);
        let response_timeout = self.config.response_timeout;
        Terms {
            edit: Edit { upstream: edited, protocol, groups: &course.groups, address: pick.endpoint.address },
            connect_timeout: asked(|it| it.connect_timeout).unwrap_or(self.config.connect_timeout),
            read_timeout: asked(|it| it.read_timeout).unwrap_or(response_timeout),
            send_timeout: asked(|it| it.send_timeout).unwrap_or(response_timeout),
            body_bytes_max: upstream.and_then(|upstream| upstream.body_bytes_max).filter(|max| *max > 0),
            retry: upstream.map(|upstream| &upstream.retry).filter(|retry| **retry != Retry::default()),
        }
    }

    /// Tries one endpoint: over an idle connection, or over a new one if there is none or it turns out closed.
    async fn attempt(
        &self,
        pick: &Pick,
        outgoing: &mut Outgoing,
        progress: &Progress,
        terms: Terms<'_>,
    ) -> Result<(Response<Incoming>, Lease), AttemptError> {
        let protocol = terms.edit.protocol;
        if let Some(lease) = self.pool.reuse(&pick.endpoint, protocol) {
            match self.send(lease, outgoing, progress, terms).await {
                // The endpoint closed the connection while it was idle: says nothing about the endpoint.
                Err(AttemptError::Unreached(_)) => {}
                Err(AttemptError::Lost) if outgoing.is_replayable() => {}
                outcome => return outcome,
            }
        }
        let connected = self.pool.connect(&pick.endpoint, protocol, terms.connect_timeout).await;
        let lease = connected.map_err(|error| {
            pick.endpoint.health.failed(self.clock.now());
            tracing::debug!(endpoint = %pick.endpoint.address, %error, "Cannot connect");
            AttemptError::Unreached(match error {
                ConnectError::Timeout(_) => Failure::ConnectTimeout,
                ConnectError::Io(_) | ConnectError::Handshake(_) => Failure::Error,
            })
        })?;
        self.send(lease, outgoing, progress, terms).await
    }

    async fn send(
        &self,
        mut lease: Lease,
        outgoing: &mut Outgoing,
        progress: &Progress,
        terms: Terms<'_>,
    ) -> Result<(Response<Incoming>, Lease), AttemptError> {
        let mut request = outgoing.take(terms.edit).ok_or(AttemptError::Final(Problem::Lost))?;
        if request.body_mut().exceeds(terms.body_bytes_max.unwrap_or(u64::MAX)) {
            return Err(AttemptError::Final(Problem::TooLarge));
        }
        progress.moved();
        let sent = {
            let sending = std::pin::pin!(lease.send(request));
            in_time(progress, terms, sending).await
        };
        let Some(sent) = sent else {
            self.metrics.upstream_timeouts.inc();
            return Err(AttemptError::TimedOut);
        };
        match sent {
            Ok(response) => {
                lease.endpoint.health.succeeded();
                Ok((response, lease))
            }
            Err(mut error) => {
                if let Some(unsent) = error.take_message() {
                    outgoing.restore(unsent);
                    return Err(AttemptError::Unreached(Failure::Error));
                }
                let error = error.into_error();
                tracing::debug!(endpoint = %lease.endpoint.address, %error, "Request failed");
                Err(if progress.is_too_large() {
                    AttemptError::Final(Problem::TooLarge)
                } else if error.is_user() {
                    AttemptError::Final(Problem::Bad("the request's body ended early"))
                } else if error.is_parse() {
                    AttemptError::Final(Problem::BadResponse)
                } else {
                    AttemptError::Lost
                })
            }
        }
    }
}

/// Waits until the request has not moved for as long as it may.
async fn in_time<F: Future + Unpin>(progress: &Progress, terms: Terms<'_>, mut future: F) -> Option<F::Output> {
    let deadline = || progress.last() + if progress.is_sending() { terms.send_timeout } else { terms.read_timeout };
    // Which of the two it is may change during the wait.
    let look_again = terms.send_timeout.min(terms.read_timeout).max(LOOK_AGAIN_MIN);
    loop {
        tokio::select! {
            biased;
            output = &mut future => return Some(output),
            () = sleep_until(deadline().min(Instant::now() + look_again)) => {}
        }
        if deadline() <= Instant::now() {
            return None;
        }
    }
}
