//! What annotations ask for, as typed values within bounds (rule N-1).
//!
//! Annotations of one Ingress → [`Settings`]. Those of the client's leg belong to a route and are merged
//! over clusters ([`merge`], rule M-7); those of the upstream leg belong to each cluster's part in a route. Nothing
//! here is text that somebody later expands, but for [`Rewrite`], whose only variables are groups of its pattern.

mod merge;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::declare::all_down;
use crate::id::{ClusterId, ObjectName};
use crate::policy::Hsts;
use crate::table::BackendProtocol;

pub use merge::{loses, merge};

/// Everything that one Ingress sets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    pub client: ClientSettings,
    pub upstream: UpstreamSettings,
}

/// What happens to a request before a cluster is chosen, and to its response. Redirects and cross-origin preflights, which
/// say only what the settings say, are answered before access control, everything else after it (rule N-6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ClientSettings {
    /// A request over HTTP is answered 308 with the same URL over HTTPS (rule L-6).
    pub https_redirect: bool,
    /// Every request is answered so.
    pub redirect: Option<Redirect>,
    /// A request for exactly `/` is answered 302 with this path.
    pub app_root: Option<Arc<str>>,
    /// Who may send requests.
    pub access: Access,
    pub rate: Option<RateLimit>,
    pub cors: Option<Cors>,
    pub affinity: Option<Affinity>,
    /// Requests with equal values go to the same endpoint as long as it lives. Affinity comes first.
    pub hash_by: Option<HashBy>,
    pub balance: Balance,
    /// Fields added to the response.
    pub response_headers: Vec<(Arc<str>, Arc<str>)>,
    /// Instead of 503 and 502 when no endpoint takes a request (rule E-2). `None`: those.
    pub all_down: Option<AllDown>,
    /// Told over HTTPS only (rule L-6).
    pub hsts: Option<Hsts>,
}

/// What clients get while nobody can serve them: a status, or another place. Written as `503` or as a URL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "AllDownText", into = "AllDownText")]
pub enum AllDown {
    /// 400 to 599.
    Status(u16),
    /// 302 with this absolute URL.
    Redirect(Arc<str>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum AllDownText {
    Number(u16),
    Text(String),
}

impl TryFrom<AllDownText> for AllDown {
    type Error = String;

    fn try_from(text: AllDownText) -> Result<Self, String> {
        match text {
            AllDownText::Number(status) => all_down(&status.to_string()),
            AllDownText::Text(text) => all_down(&text),
        }
    }
}

impl From<AllDown> for AllDownText {
    fn from(all_down: AllDown) -> Self {
        match all_down {
            AllDown::Status(status) => AllDownText::Number(status),
            AllDown::Redirect(url) => AllDownText::Text(url.to_string()),
        }
    }
}

/// All that is in here is required at once, so requirements of several clusters are joined (rule M-7).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Access {
    /// Requirements that nobody can meet together: every request is answered 403.
    pub is_irreconcilable: bool,
    /// The client must be in one network of each list; else 403.
    pub allow: Vec<Vec<IpNet>>,
    /// The client must be in none; else 403. Sorted.
    pub deny: Vec<IpNet>,
    pub basic: Vec<BasicAuth>,
    pub external: Vec<ExternalAuth>,
    pub certificates: Vec<ClientCertificate>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Redirect {
    pub to: RedirectTo,
    /// 300 to 308.
    pub status: u16,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RedirectTo {
    /// Absolute, or a path.
    Url(Arc<str>),
    /// The same URL at another host.
    Host(Arc<str>),
}

/// HTTP Basic authentication against a Secret; without it or when its users cannot be read nobody passes: 503.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BasicAuth {
    pub realm: Arc<str>,
    pub cluster: ClusterId,
    /// In the Ingress's own namespace (rule N-3).
    pub secret: ObjectName,
    pub form: UsersForm,
}

/// The client must show a certificate that an authority signed: over TLS, at the name of the host (rule L-8). Else 400; 421
/// at another name; 503 while nobody knows the authorities.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientCertificate {
    pub cluster: ClusterId,
    /// Its key `ca.crt` holds the authorities. In the Ingress's own namespace (rule N-3).
    pub secret: ObjectName,
    pub need: CertificateNeed,
    /// Certificates between the client's and an authority's, and that one.
    pub depth: u8,
    /// Whether endpoints get the certificate itself.
    pub pass: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum CertificateNeed {
    #[default]
    Required,
    /// Who shows none passes too.
    Optional,
    /// Everybody passes; endpoints are told what was shown.
    Unverified,
}

/// How a Secret holds users.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum UsersForm {
    /// One key, `auth`, with lines `user:hash`.
    #[default]
    File,
    /// One key for each user, with the hash.
    Map,
}

/// Every request is first sent, without its body, to another server: 2xx lets it pass, 401 and 403 are passed on,
/// anything else and no answer at all denies it (rule N-6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExternalAuth {
    /// `http` or `https`, absolute.
    pub url: Arc<str>,
    /// `GET` if absent.
    pub method: Option<Arc<str>>,
    /// Where a client that got 401 is redirected to, with `?rd=` and the URL it asked for.
    pub signin: Option<Arc<str>>,
    /// Fields of the server's answer that the endpoint gets. Lower case.
    pub response_headers: Vec<Arc<str>>,
}

/// Of each client address, at each edge. Beyond it: 429.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RateLimit {
    /// Requests per second; 0: no limit.
    pub per_second: u32,
    /// Requests per minute; 0: no limit.
    pub per_minute: u32,
    /// Requests at once; 0: no limit.
    pub connections: u32,
    /// So many times the rate may come at once.
    pub burst: u32,
    /// Clients without a limit.
    pub exempt: Vec<IpNet>,
}

/// Cross-origin requests: OPTIONS with `Origin` is answered 204, all others get the fields.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cors {
    pub origins: Vec<Origin>,
    pub methods: Arc<str>,
    pub headers: Arc<str>,
    pub credentials: bool,
    pub expose: Option<Arc<str>>,
    pub max_age_seconds: u32,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Origin {
    Any,
    /// `scheme://host[:port]`, lower case.
    Exact(Arc<str>),
    /// `scheme://*.suffix[:port]`: what comes before and after the `*`, which is one label.
    Subdomain(Arc<str>, Arc<str>),
}

/// A client keeps to one endpoint by a cookie.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Affinity {
    pub cookie: Arc<str>,
    pub path: Option<Arc<str>>,
    pub domain: Option<Arc<str>>,
    pub max_age_seconds: Option<u32>,
    pub same_site: Option<SameSite>,
    pub secure: bool,
    /// The client moves to another endpoint after one failed, for good.
    pub change_on_failure: bool,
    /// Endpoints that come later take over a share of the clients.
    pub is_balanced: bool,
    /// Whether the canary took a client is decided anew for each of its requests, and not once.
    pub forgets_canary: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SameSite {
    None,
    Lax,
    Strict,
}

/// What requests are spread by. A closed list (row 21): no expressions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HashBy {
    RequestUri,
    RemoteAddress,
    Host,
    /// Lower case.
    Header(Arc<str>),
    Argument(Arc<str>),
    Cookie(Arc<str>),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Balance {
    #[default]
    RoundRobin,
    /// The one of two endpoints that answered faster lately.
    Ewma,
}

/// How a cluster's endpoints are spoken to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UpstreamSettings {
    pub rewrite: Option<Rewrite>,
    /// `Host` that endpoints see.
    pub host: Option<Arc<str>>,
    pub forwarded_prefix: Option<Arc<str>>,
    /// Overrides what the Service says.
    pub protocol: Option<BackendProtocol>,
    /// Bytes of a request's body; more is answered 413. `Some(0)`: no limit. `None`: as the edge is set.
    pub body_bytes_max: Option<u64>,
    pub connect_timeout: Option<Duration>,
    /// From the last byte of the request to the head of the response, and between parts of the response.
    pub read_timeout: Option<Duration>,
    /// Between parts of the request.
    pub send_timeout: Option<Duration>,
    pub retry: Retry,
    /// Statuses of endpoints that the route's fallback answers instead (row 27). Sorted.
    pub errors: Vec<u16>,
}

/// When a request may go to another endpoint (row 23). Never one that was begun and is not idempotent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Retry {
    pub on_error: bool,
    pub on_timeout: bool,
    /// Statuses of an answer that count as a failure. Sorted.
    pub on_status: Vec<u16>,
    /// Attempts in all; 0: as many as the edge allows.
    pub tries: u32,
    /// No further attempt after this; `None`: no limit.
    pub within: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { on_error: true, on_timeout: true, on_status: Vec::new(), tries: 0, within: None }
    }
}

/// The path that endpoints see: `$1` to `$9` are groups of the route's pattern, everything else is literal. The query
/// stays.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rewrite {
    pub template: Arc<str>,
}

/// Another Ingress takes a part of a route's requests (rules C-1 to C-4).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CanaryRule {
    pub header: Option<HeaderRule>,
    /// `always` and `never` decide, anything else does not.
    pub cookie: Option<Arc<str>>,
    /// Of `weight_total`.
    pub weight: u32,
    /// At least 100.
    pub weight_total: u32,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HeaderRule {
    /// Lower case.
    pub name: Arc<str>,
    pub value: HeaderValue,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HeaderValue {
    /// `always` and `never` decide.
    Switch,
    /// Exactly this one decides for the canary, no other value does.
    Exact(Arc<str>),
    /// A value that the pattern finds decides for the canary.
    Pattern(Arc<str>),
}
