//! What a route asks for beyond forwarding, prepared once so that requests need not.
//!
//! A route's settings → [`RouteSettings`], or nothing for the many routes that set nothing: for these a request pays
//! one branch.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Uri};
use regex::bytes::Regex;
use roadstead_routing::id::{ClusterId, HostKey};
use roadstead_routing::settings::{CanaryRule, ClientSettings, ExternalAuth};
use roadstead_routing::table::{ExternalName, PathMatch, Route, RouteBackend};

use super::{LiveEndpoint, LiveRoute};
use crate::upstream::Protocol;

/// A route's settings. [`LiveRoute::settings`] is `None` where all are as if nobody had set any.
pub struct RouteSettings {
    pub client: Arc<ClientSettings>,
    pub canary: Option<LiveCanary>,
    /// Servers of `client.access.external`, in its order; `None`: its URL cannot be used, so nobody passes.
    pub authenticators: Vec<Option<Authenticator>>,
    /// What responses get of `client.response_headers`.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// The route's pattern, if a rewrite refers to its groups.
    pub(super) pattern: Option<Regex>,
    /// Tells routes apart, also after a change of the table.
    pub id: u64,
}

/// Takes a part of a route's requests.
pub struct LiveCanary {
    pub rule: CanaryRule,
    pub route: LiveRoute,
}

/// A server that says who may pass.
pub struct Authenticator {
    pub endpoint: Arc<LiveEndpoint>,
    pub method: Method,
    /// Path and query.
    pub target: Uri,
    pub host: HeaderValue,
}

impl Authenticator {
    /// `None` if the URL or method is none.
    pub(super) fn new(auth: &ExternalAuth) -> Option<Self> {
        let url: Uri = auth.url.parse().ok()?;
        let (protocol, port) = match url.scheme_str()? {
            "http" => (Protocol::Http1, 80),
            "https" => (Protocol::VerifiedHttps1, 443),
            _ => return None,
        };
        let name = ExternalName { host: url.host()?.into(), port: url.port_u16().unwrap_or(port) };
        let authority = url.authority()?.as_str().rsplit('@').next()?;
        Some(Self {
            // Its mark is never shown to anybody, so it needs no cluster.
            endpoint: LiveEndpoint::external(&ClusterId::from(""), &name, protocol),
            method: auth.method.as_deref().unwrap_or("GET").parse().ok()?,
            target: url.path_and_query().map_or("/", |it| it.as_str()).parse().ok()?,
            host: HeaderValue::from_str(authority).ok()?,
        })
    }
}

/// The groups of a route's pattern in one request's path: `$1` is the first.
#[derive(Clone, Debug, Default)]
pub struct Groups(Vec<String>);

impl Groups {
    /// The text of group 1 to 9; empty if it took no part.
    pub fn get(&self, number: usize) -> &str {
        number.checked_sub(1).and_then(|index| self.0.get(index)).map_or("", String::as_str)
    }
}

impl RouteSettings {
    /// `None` if nothing is set.
    pub(super) fn new(
        client: &Arc<ClientSettings>,
        canary: Option<LiveCanary>,
        pattern: Option<Regex>,
        id: u64,
    ) -> Option<Box<Self>> {
        if canary.is_none() && pattern.is_none() && **client == ClientSettings::default() {
            return None;
        }
        let authenticators = client.access.external.iter().map(Authenticator::new).collect();
        let field =
            |(name, value): &(Arc<str>, Arc<str>)| Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?));
        let response_headers = client.response_headers.iter().filter_map(field).collect();
        Some(Box::new(Self { client: client.clone(), canary, authenticators, response_headers, pattern, id }))
    }

    /// `path` is as `routing::lookup::request_path` returns it.
    pub fn groups(&self, path: &str) -> Groups {
        let captures = self.pattern.as_ref().and_then(|pattern| pattern.captures(path.as_bytes()));
        let Some(captures) = captures else { return Groups::default() };
        let text = |bytes: Option<regex::bytes::Match<'_>>| {
            bytes.map(|found| String::from_utf8_lossy(found.as_bytes()).into_owned()).unwrap_or_default()
        };
        Groups(captures.iter().skip(1).take(9).map(text).collect())
    }
}

/// Whether rewrites of the route refer to groups of its pattern.
pub(super) fn needs_groups(route: &Route) -> bool {
    let refers = |part: &RouteBackend| part.upstream.rewrite.as_ref().is_some_and(|it| it.template.contains('$'));
    route.all_backends().any(refers)
}

pub(super) fn id(host: &HostKey, path: Option<&PathMatch>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (host, path).hash(&mut hasher);
    hasher.finish()
}
