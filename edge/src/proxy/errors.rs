//! Errors of endpoints that a route's fallback answers instead (row 27).
//!
//! A request as its endpoint got it + what that answered → a request to the fallback, which says in its header fields what
//! went wrong, as ingress-nginx does. What the fallback answers is the answer, its status included.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Uri, header};

use super::forward::{Answer, Outgoing};
use super::headers;
use crate::table::LiveRoute;

const CODE: HeaderName = HeaderName::from_static("x-code");
const FORMAT: HeaderName = HeaderName::from_static("x-format");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const NAMESPACE: HeaderName = HeaderName::from_static("x-namespace");
const SERVICE: HeaderName = HeaderName::from_static("x-service-name");
const PORT: HeaderName = HeaderName::from_static("x-service-port");

/// What is kept of a request in case it fails.
pub(super) struct Complaint {
    /// What was asked for.
    uri: Uri,
    /// The head of a request to the fallback.
    head: Parts,
}

impl Complaint {
    /// `None`: no error of the route matters.
    pub(super) fn of(route: &LiveRoute, parts: &Parts) -> Option<Self> {
        let mut upstreams = route.clusters.iter().filter_map(|cluster| cluster.upstream.as_ref());
        if upstreams.all(|upstream| upstream.errors.is_empty()) {
            return None;
        }
        let mut head = parts.clone();
        for name in
            [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE, header::EXPECT]
        {
            head.headers.remove(name);
        }
        (head.method, head.uri) = (Method::GET, Uri::from_static("/"));
        Some(Self { uri: parts.uri.clone(), head })
    }

    /// `None`: the answer is what the client is to get.
    pub(super) fn about(self, route: &LiveRoute, answer: &Answer) -> Option<Outgoing> {
        let status = answer.response.status();
        let cluster = &route.clusters[answer.cluster];
        let errors = &cluster.upstream.as_ref()?.errors;
        if errors.binary_search(&status.as_u16()).is_err() {
            return None;
        }
        let mut head = self.head;
        let id = &cluster.backend.as_ref()?.id;
        let format = head.headers.get(header::ACCEPT).cloned();
        let text = |text: &str| HeaderValue::from_str(text).ok();
        for (name, value) in [
            (CODE, text(status.as_str())),
            (FORMAT, format),
            (ORIGINAL_URI, text(&self.uri.to_string())),
            (NAMESPACE, text(&id.service.namespace)),
            (SERVICE, text(&id.service.name)),
            (PORT, text(&id.port.to_string())),
        ] {
            headers::put(&mut head.headers, name, value);
        }
        Some(Outgoing::without_body(head))
    }
}
