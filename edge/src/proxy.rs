//! One request, from its head to the end of its response.
//!
//! Request of a client → admitted ([`admit`]) → matched against the table → where the route has settings, these are
//! obeyed ([`rules`]) → headers rewritten ([`headers`]) → forwarded with retries ([`forward`]), edited for each cluster
//! ([`edit`]) → response streamed back ([`reply`]) or two connections joined ([`tunnel`]). A request sees one route from
//! begin to end, whatever changes in the table meanwhile. Nothing here blocks, parses configuration or knows where it
//! comes from.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use prometheus_client::metrics::counter::Counter;
use roadstead_routing::lookup;
use tokio_util::task::TaskTracker;

use crate::health::Clock;
use crate::listen::Client;
use crate::observe::access::{AccessLog, Entry};
use crate::observe::{Metrics, StatusLabel};
use crate::table::LiveTable;
use crate::upstream::{NamePolicy, Pool, Progress};
use crate::users::Users;

mod access;
mod admit;
mod asked;
pub mod canary;
mod certificate;
mod cookie;
mod cors;
mod course;
mod edit;
mod errors;
mod external;
mod forward;
mod headers;
mod rate;
mod redirect;
mod reply;
mod rules;
mod tunnel;

pub use external::AUTHENTICATION_TIMEOUT;
pub use headers::TrustedProxies;
pub use rate::Limiter;
pub use reply::ResponseBody;

use admit::{Admitted, Closing};
use course::Course;
use forward::{Answer, Outgoing};
use reply::{Completion, Instead, Problem};
use rules::Matched;

/// How long an endpoint may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an endpoint may take from the last byte of a request to the head of its response.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// What `Server` says when the backend sets none.
const SERVER: HeaderValue = HeaderValue::from_static("roadstead");

/// What can be set about forwarding, and what the workers of an edge share for it: clones share it too.
#[derive(Clone, Debug)]
pub struct Config {
    /// Unless a route says otherwise.
    pub connect_timeout: Duration,
    /// Unless a route says otherwise.
    pub response_timeout: Duration,
    pub authentication_timeout: Duration,
    pub trusted_proxies: TrustedProxies,
    pub access_log: AccessLog,
    pub retries: Retries,
    pub names: NamePolicy,
    pub users: Users,
    pub limiter: Limiter,
}

/// Whether a request goes to another endpoint when one could not be connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Retries {
    #[default]
    On,
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
            authentication_timeout: AUTHENTICATION_TIMEOUT,
            trusted_proxies: TrustedProxies::default(),
            access_log: AccessLog::Off,
            retries: Retries::On,
            names: NamePolicy::default(),
            users: Users::default(),
            limiter: Limiter::default(),
        }
    }
}

/// What all requests of one worker share.
pub struct Proxy {
    table: Arc<LiveTable>,
    pool: Rc<Pool>,
    clock: Clock,
    config: Config,
    metrics: Arc<Metrics>,
    /// By status class, resolved once: looking a label up takes a lock.
    requests: [Counter; 5],
    /// Tunnels, which outlive the request that opened them.
    tasks: TaskTracker,
}

impl Proxy {
    pub fn new(table: Arc<LiveTable>, clock: Clock, config: Config, metrics: Arc<Metrics>, tasks: TaskTracker) -> Self {
        let classes = [100, 200, 300, 400, 500].map(|code| StatusCode::from_u16(code).expect("a valid status code"));
        let requests = classes.map(|status| metrics.requests.get_or_create_owned(&StatusLabel::of(status)));
        let pool = Pool::new(config.names, metrics.clone());
        Self { table, pool, clock, config, metrics, requests, tasks }
    }

    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    pub fn trusts(&self, peer: SocketAddr) -> bool {
        self.config.trusted_proxies.contains(peer.ip())
    }

    /// Answers one request. Every failure is an answer too.
    pub async fn handle(&self, client: Rc<Client>, request: Request<Incoming>) -> Response<ResponseBody> {
        client.head_complete();
        let mut completion = Completion::begin(self, client.clone(), &request);
        let mut closing = Closing::KeepAlive;
        let answered = match admit::admit(&request, &client) {
            Ok(admitted) => {
                closing = admitted.closing;
                self.route(request, &admitted, &mut completion).await
            }
            Err(problem) => {
                self.metrics.requests_refused.inc();
                Err(problem.into())
            }
        };
        let mut response = match answered {
            Ok(response) => response.map(|body| body.until_end(completion)),
            Err(instead) => {
                if instead.closing() == Closing::Close {
                    closing = Closing::Close;
                }
                instead.until_end(completion)
            }
        };
        if closing == Closing::Close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        admitted: &Admitted<'_>,
        completion: &mut Completion,
    ) -> Result<Response<reply::Streaming>, Instead> {
        if !self.table.is_complete() {
            return Err(Problem::NoTable.into());
        }
        let path = lookup::request_path(request.uri().path());
        let found = self.table.find(&admitted.host, &path).ok_or(Problem::NotFound)?;
        let route = found.route();
        let Some(settings) = &route.settings else {
            drop(path);
            return self.exchange(request, admitted, &Course::plain(route), completion).await;
        };
        let matched = Matched { route, settings, groups: settings.groups(&path) };
        drop(path);
        self.follow(request, admitted, matched, completion).await
    }

    /// Sends the request to an endpoint of the route and turns its answer into ours.
    async fn exchange(
        &self,
        mut request: Request<Incoming>,
        admitted: &Admitted<'_>,
        course: &Course<'_>,
        completion: &mut Completion,
    ) -> Result<Response<reply::Streaming>, Instead> {
        let fallback = course.to_fallback();
        if let Some(fallback) = fallback.as_ref().filter(|_| course.route.is_empty()) {
            return Box::pin(self.exchange(request, admitted, fallback, completion)).await;
        }
        let upgrade = headers::upgrade(&request);
        let client_side = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        self.rewrite(&mut parts, admitted, upgrade);
        completion.request_id(&parts.headers);
        let progress = Progress::start();
        let complaint = fallback.as_ref().and_then(|_| errors::Complaint::of(course.route, &parts));
        let outgoing = Outgoing::new(parts, body, &progress);
        let mut answer = self.forward(course, outgoing, &progress).await;
        completion.forwarded(course.route, &answer);
        let mut course = course;
        if let (Some(fallback), Some(complaint)) = (&fallback, complaint)
            && let Ok(failed) = &answer
            && let Some(request) = complaint.about(course.route, failed)
            && let Ok(instead) = self.forward(fallback, request, &Progress::start()).await
        {
            (answer, course) = (Ok(instead), fallback);
        }
        let Answer { mut response, lease, cluster, .. } =
            answer.map_err(|failed| Instead::failed(failed.problem, course.all_down))?;
        completion.status(response.status());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let client_side = client_side.ok_or(Problem::BadResponse)?;
            return Ok(self.switch(client_side, response));
        }
        let idle_for = headers::keep_alive_timeout(response.headers());
        headers::strip_hop_by_hop(response.headers_mut());
        response.headers_mut().entry(header::SERVER).or_insert(SERVER);
        if let Some(cookie) = course.cookie(cluster, &lease.endpoint, self.clock.now()) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        *response.version_mut() = Version::HTTP_11;
        let patience = course.route.clusters[cluster].upstream.as_ref().and_then(|upstream| upstream.read_timeout);
        Ok(response
            .map(|body| reply::Streaming::pooled(body, lease, self.pool.clone(), idle_for).with_patience(patience)))
    }

    /// Makes the head that endpoints see of the head that the client sent.
    fn rewrite(&self, parts: &mut Parts, admitted: &Admitted<'_>, upgrade: Option<HeaderValue>) {
        parts.version = Version::HTTP_11;
        parts.uri = origin_form(&parts.uri);
        headers::strip_hop_by_hop(&mut parts.headers);
        headers::set_forwarded(&mut parts.headers, admitted, &self.config.trusted_proxies);
        if let Some(protocol) = upgrade {
            headers::set_upgrade(&mut parts.headers, protocol);
        }
    }

    /// Answers 101 and joins the two connections once both sides have switched.
    fn switch(
        &self,
        client_side: hyper::upgrade::OnUpgrade,
        mut response: Response<Incoming>,
    ) -> Response<reply::Streaming> {
        let upstream_side = hyper::upgrade::on(&mut response);
        let tunnels = self.metrics.tunnels.clone();
        self.tasks.spawn_local(tunnel::join(client_side, upstream_side, tunnels));
        let protocol = response.headers().get(header::UPGRADE).cloned();
        headers::strip_hop_by_hop(response.headers_mut());
        if let Some(protocol) = protocol {
            headers::set_upgrade(response.headers_mut(), protocol);
        }
        response.map(reply::Streaming::unpooled)
    }
}

/// The request target as an origin server expects it: path and query as the client wrote them.
fn origin_form(uri: &Uri) -> Uri {
    if uri.authority().is_none() {
        return uri.clone();
    }
    let path_and_query = uri.path_and_query().map_or("/", |it| it.as_str());
    path_and_query.parse().unwrap_or_else(|_| uri.clone())
}

impl Completion {
    /// Reads from the request what the access log will say, if there is one.
    fn begin(proxy: &Proxy, client: Rc<Client>, request: &Request<Incoming>) -> Self {
        let entry = (proxy.config.access_log == AccessLog::On).then(|| {
            let host = request.headers().get(header::HOST);
            Box::new(Entry {
                client: client.peer.ip().to_canonical().to_string(),
                method: request.method().to_string(),
                host: host.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()).unwrap_or_default(),
                target: request.uri().to_string(),
                ..Entry::default()
            })
        });
        Completion::new(client, proxy.requests.clone(), entry)
    }
}
