//! Responses on their way to the client: an endpoint's, streamed, or our own when there is none.
//!
//! Our own say which of our reasons applies and nothing about addresses. A streamed body gives its connection back to
//! the pool at its end and drops it when it is abandoned.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus_client::metrics::counter::Counter;
use roadstead_routing::settings::AllDown;
use tokio::time::{Sleep, sleep};

use super::admit::Closing;
use super::forward::{Answer, Failed};
use super::rate::AtOnce;
use super::{SERVER, headers, redirect};
use crate::listen::Client;
use crate::observe::access::Entry;
use crate::table::LiveRoute;
use crate::upstream::{BodyError, Lease, Pool};

/// Why the edge answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The request is refused for what it is.
    Bad(&'static str),
    Method,
    /// There is no table yet.
    NoTable,
    NotFound,
    /// A route without anything that can serve it (rules S-11, M-1): 503, or 404.
    Unserved(u16),
    Unreached,
    Lost,
    BadResponse,
    Timeout,
    /// The body is larger than allowed.
    TooLarge,
    /// The client asks too often.
    Limited,
    /// The client may not.
    Forbidden,
    /// The client has not said who it is, or not truly.
    Unauthorized,
    /// It cannot be found out who the client is.
    Unauthenticated,
    /// The client shows no certificate that the route takes.
    NoCertificate,
    /// The route is for connections to its own name.
    Misdirected,
}

impl Problem {
    /// Whether the client's connection is closed: it may mean something else by its bytes, or has more of them.
    fn closing(self) -> Closing {
        match self {
            Problem::Bad(_) | Problem::Method | Problem::TooLarge => Closing::Close,
            _ => Closing::KeepAlive,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Problem::Bad(_) | Problem::NoCertificate => StatusCode::BAD_REQUEST,
            Problem::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Problem::Method => StatusCode::METHOD_NOT_ALLOWED,
            Problem::NotFound | Problem::Unserved(404) => StatusCode::NOT_FOUND,
            Problem::NoTable | Problem::Unserved(_) | Problem::Unauthenticated => StatusCode::SERVICE_UNAVAILABLE,
            Problem::Unreached | Problem::Lost | Problem::BadResponse => StatusCode::BAD_GATEWAY,
            Problem::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Problem::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::Limited => StatusCode::TOO_MANY_REQUESTS,
            Problem::Forbidden => StatusCode::FORBIDDEN,
            Problem::Unauthorized => StatusCode::UNAUTHORIZED,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Problem::Bad(reason) => reason,
            Problem::Method => "this method is not forwarded",
            Problem::NoTable => "this edge has no routes yet",
            Problem::NotFound => "no route for this host and path",
            Problem::Unserved(404) => "the route leads to a resource that cannot be served",
            Problem::Unserved(_) => "no endpoint is available for this route",
            Problem::Unreached => "no endpoint accepted the connection",
            Problem::Lost => "the endpoint closed the connection before it answered",
            Problem::BadResponse => "the endpoint's answer is not valid HTTP",
            Problem::Timeout => "the endpoint did not answer in time",
            Problem::TooLarge => "the request's body is larger than this route takes",
            Problem::Limited => "more requests than this route takes from one client",
            Problem::Forbidden => "this client may not use this route",
            Problem::Unauthorized => "this route asks who you are",
            Problem::Unauthenticated => "nobody can say who may use this route",
            Problem::NoCertificate => "this route asks for a certificate of the client that it knows the authority of",
            Problem::Misdirected => "this route asks for certificates, so connect to its own name",
        }
    }
}

/// What the edge answers instead of an endpoint.
pub(super) struct Instead {
    response: Box<Response<Full<Bytes>>>,
    /// `None`: nothing is wrong.
    pub(super) problem: Option<Problem>,
}

impl From<Problem> for Instead {
    fn from(problem: Problem) -> Self {
        let status = problem.status();
        let text = format!("{} {}\n", status.as_u16(), problem.text());
        let mut instead = Self { problem: Some(problem), ..Self::empty(status) };
        *instead.response.body_mut() = Full::new(text.into());
        instead.set(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        instead
    }
}

impl Instead {
    /// What a route answers that could not answer otherwise (rule E-2).
    pub(super) fn failed(problem: Problem, all_down: Option<&AllDown>) -> Self {
        let is_down = matches!(problem, Problem::Unserved(503) | Problem::Unreached);
        match all_down.filter(|_| is_down) {
            None => problem.into(),
            Some(AllDown::Status(status)) => {
                let mut instead = Self::from(problem);
                *instead.response.status_mut() = StatusCode::from_u16(*status).unwrap_or(problem.status());
                *instead.response.body_mut() = Full::new(format!("{status} {}\n", problem.text()).into());
                instead
            }
            Some(AllDown::Redirect(url)) => {
                let mut instead = Self { problem: Some(problem), ..Self::empty(StatusCode::FOUND) };
                instead.set(header::LOCATION, redirect::location(url));
                instead
            }
        }
    }

    /// One without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        let mut response = Box::new(Response::new(Full::default()));
        *response.status_mut() = status;
        response.headers_mut().insert(header::SERVER, SERVER);
        Self { response, problem: None }
    }

    pub(super) fn closing(&self) -> Closing {
        self.problem.map_or(Closing::KeepAlive, Problem::closing)
    }

    pub(super) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers_mut().insert(name, value);
    }

    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.response.headers_mut()
    }

    pub(super) fn until_end(self, mut completion: Completion) -> Response<ResponseBody> {
        completion.status(self.response.status());
        self.response.map(|body| ResponseBody::Own { body, completion })
    }
}

/// What the client is sent.
pub enum ResponseBody {
    Own { body: Full<Bytes>, completion: Completion },
    Endpoint { body: Streaming, completion: Completion },
}

/// An endpoint's body, with the connection it comes over.
pub struct Streaming {
    body: Incoming,
    /// `None` once the connection was given back, or if it must not be.
    lease: Option<(Lease, Rc<Pool>)>,
    idle_for: Option<Duration>,
    /// How long the next part may take.
    patience: Option<Patience>,
}

struct Patience {
    limit: Duration,
    over: Pin<Box<Sleep>>,
    is_waiting: bool,
}

/// Notes the end of a request, however it ends: counts it, logs it, and lets the connection wait for the next.
pub struct Completion {
    client: Rc<Client>,
    requests: [Counter; 5],
    entry: Option<Box<Entry>>,
    begun: Instant,
    status: StatusCode,
    bytes: u64,
    complete: bool,
    at_once: Option<AtOnce>,
}

impl Streaming {
    pub(super) fn pooled(body: Incoming, lease: Lease, pool: Rc<Pool>, idle_for: Option<Duration>) -> Self {
        let mut streaming = Self { body, lease: Some((lease, pool)), idle_for, patience: None };
        if streaming.body.is_end_stream() {
            streaming.give_back();
        }
        streaming
    }

    pub(super) fn unpooled(body: Incoming) -> Self {
        Self { body, lease: None, idle_for: None, patience: None }
    }

    /// Lets no part of the body take longer than this.
    pub(super) fn with_patience(mut self, limit: Option<Duration>) -> Self {
        self.patience = limit.map(|limit| Patience { limit, over: Box::pin(sleep(limit)), is_waiting: false });
        self
    }

    pub(super) fn until_end(self, mut completion: Completion) -> ResponseBody {
        completion.complete = self.body.is_end_stream();
        ResponseBody::Endpoint { body: self, completion }
    }

    fn give_back(&mut self) {
        if let Some((lease, pool)) = self.lease.take() {
            pool.give_back(lease, self.idle_for);
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx).map_err(BodyError::Http);
        if let Some(patience) = &mut self.patience
            && patience.is_over(polled.is_ready(), cx)
        {
            self.lease = None;
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        }
        match &polled {
            Poll::Ready(None) => self.give_back(),
            // A server stops polling when the announced length was sent, so the end is noticed here.
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.give_back(),
            Poll::Ready(Some(Err(_))) => self.lease = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }
}

impl Patience {
    /// Counts from when the client could take a part and there was none: one that reads slowly is no slow endpoint.
    fn is_over(&mut self, has_moved: bool, cx: &mut Context<'_>) -> bool {
        if has_moved {
            self.is_waiting = false;
            return false;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.over.as_mut().reset(tokio::time::Instant::now() + self.limit);
        }
        self.over.as_mut().poll(cx).is_ready()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (polled, at_end, completion) = match self.get_mut() {
            ResponseBody::Own { body, completion } => {
                let polled = Pin::new(&mut *body).poll_frame(cx).map_err(|never| match never {});
                (polled, body.is_end_stream(), completion)
            }
            ResponseBody::Endpoint { body, completion } => {
                let polled = body.poll_frame(cx);
                (polled, body.body.is_end_stream(), completion)
            }
        };
        if let Poll::Ready(frame) = &polled {
            completion.complete = at_end || frame.is_none();
            if let Some(Ok(frame)) = frame {
                completion.bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Own { body, .. } => body.is_end_stream(),
            ResponseBody::Endpoint { body, .. } => body.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Own { body, .. } => body.size_hint(),
            ResponseBody::Endpoint { body, .. } => body.body.size_hint(),
        }
    }
}

impl Completion {
    pub(super) fn new(client: Rc<Client>, requests: [Counter; 5], entry: Option<Box<Entry>>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { client, requests, entry, begun: Instant::now(), status, bytes: 0, complete: false, at_once: None }
    }

    pub(super) fn status(&mut self, status: StatusCode) {
        self.status = status;
    }

    /// Counts as one of its client's requests at once until it ends.
    pub(super) fn hold(&mut self, at_once: Option<AtOnce>) {
        self.at_once = at_once;
    }

    pub(super) fn request_id(&mut self, headers: &HeaderMap) {
        if let Some(entry) = &mut self.entry {
            let id = headers.get(headers::X_REQUEST_ID).and_then(|id| id.to_str().ok());
            id.unwrap_or_default().clone_into(&mut entry.request_id);
        }
    }

    pub(super) fn forwarded(&mut self, route: &LiveRoute, outcome: &Result<Answer, Failed>) {
        let Some(entry) = &mut self.entry else { return };
        match outcome {
            Ok(answer) => {
                entry.attempts = answer.attempts;
                entry.cluster = route.clusters[answer.cluster].cluster.to_string();
                entry.endpoint = answer.lease.endpoint.address.to_string();
            }
            Err(failed) => entry.attempts = failed.attempts,
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.client.request_ended();
        self.at_once = None;
        let class = usize::from(self.status.as_u16() / 100).clamp(1, self.requests.len());
        self.requests[class - 1].inc();
        if let Some(mut entry) = self.entry.take() {
            entry.status = self.status.as_u16();
            entry.response_bytes = self.bytes;
            entry.duration = self.begun.elapsed();
            entry.complete = self.complete;
            entry.log();
        }
    }
}
