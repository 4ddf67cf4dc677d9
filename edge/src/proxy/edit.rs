//! What one cluster's endpoints are to see of a request: another path, another host, another version of HTTP.
//!
//! A request as all endpoints could get it + the settings of the cluster it goes to → the request as it is sent. Done
//! anew for every attempt, because clusters may differ (rule M-7).

use std::net::SocketAddr;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use roadstead_routing::settings::UpstreamSettings;

use crate::table::Groups;
use crate::upstream::{Protocol, RequestBody};

const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// What a path cannot have. `%` can: it begins what is encoded already.
const NOT_IN_A_PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}').add(b'\\');

/// How a request is changed for one attempt.
#[derive(Clone, Copy)]
pub(super) struct Edit<'a> {
    pub(super) upstream: Option<&'a UpstreamSettings>,
    pub(super) protocol: Protocol,
    pub(super) groups: &'a Groups,
    /// Whom the request goes to: what HTTP/2 is told where the client named no host.
    pub(super) address: SocketAddr,
}

impl Edit<'_> {
    /// Whether it changes nothing.
    pub(super) fn is_nothing(self) -> bool {
        self.upstream.is_none() && !self.protocol.is_http2()
    }

    pub(super) fn apply(self, request: &mut Request<RequestBody>) {
        if let Some(upstream) = self.upstream {
            edit_head(upstream, self.groups, request);
        }
        if self.protocol.is_http2() {
            self.to_http2(request);
        }
    }

    /// HTTP/2 has the host in its target, no connection to speak about, and switches no protocols.
    fn to_http2(self, request: &mut Request<RequestBody>) {
        let host = request.headers_mut().remove(header::HOST);
        for name in [header::CONNECTION, header::UPGRADE] {
            request.headers_mut().remove(name);
        }
        // Servers of gRPC refuse who does not say it; to all others it says that trailers are passed on, which they are.
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        let named = host.as_ref().and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
        let authority = named.map_or_else(|| self.address.to_string(), str::to_owned);
        let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let absolute = Uri::builder().scheme(self.protocol.scheme()).authority(authority).path_and_query(target);
        if let Ok(uri) = absolute.build() {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = Version::HTTP_2;
    }
}

fn edit_head(upstream: &UpstreamSettings, groups: &Groups, request: &mut Request<RequestBody>) {
    if let Some(uri) = upstream.rewrite.as_ref().and_then(|it| rewritten(&it.template, groups, request.uri())) {
        *request.uri_mut() = uri;
    }
    let fields = [(header::HOST, &upstream.host), (X_FORWARDED_PREFIX, &upstream.forwarded_prefix)];
    for (name, value) in fields {
        if let Some(value) = value.as_ref().and_then(|value| HeaderValue::from_str(value).ok()) {
            request.headers_mut().insert(name, value);
        }
    }
}

/// `None` if that makes no path; then the client's stays.
fn rewritten(template: &str, groups: &Groups, uri: &Uri) -> Option<Uri> {
    let path = percent_encode(fill(template, groups).as_bytes(), NOT_IN_A_PATH).to_string();
    if !path.starts_with('/') {
        return None;
    }
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    target.parse::<PathAndQuery>().ok().map(Uri::from)
}

/// Replaces `$1` to `$9`; everything else stands for itself.
fn fill(template: &str, groups: &Groups) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let digit = rest[at + 1..].chars().next().and_then(|next| next.to_digit(10)).filter(|digit| *digit > 0);
        rest = match digit {
            Some(digit) => {
                filled.push_str(groups.get(digit as usize));
                &rest[at + 2..]
            }
            None => {
                filled.push('$');
                &rest[at + 1..]
            }
        };
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roadstead_routing::endpoints::Locality;
    use roadstead_routing::id::{HostKey, ObjectName};
    use roadstead_routing::settings::Rewrite;
    use roadstead_routing::table::{Host, PathMatch, Route, RouteBackend, Target};

    use super::*;
    use crate::table::{CompiledHost, HostChange, LiveTable, TableWriter};

    fn address() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 80))
    }

    fn template(template: &str) -> UpstreamSettings {
        UpstreamSettings { rewrite: Some(Rewrite { template: template.into() }), ..UpstreamSettings::default() }
    }

    /// The target that endpoints of a route with this pattern and template see.
    fn target(pattern: &str, upstream: &UpstreamSettings, target: &str) -> String {
        let table = LiveTable::new();
        let mut writer = TableWriter::new(table.clone(), Locality::default());
        let part = RouteBackend::new("eu".into(), 1, Target::Nothing, ObjectName::new("shop", "web"));
        let part = RouteBackend { upstream: upstream.clone().into(), ..part };
        let routes = vec![Route::new(PathMatch::Regex(pattern.into()), vec![part])];
        let host = Host { routes, ..Host::new("p".into(), HostKey::Any) };
        writer.change_hosts(vec![HostChange::Put(Box::new(CompiledHost::new(host).unwrap()))]);
        let uri: Uri = target.parse().unwrap();
        let path = roadstead_routing::lookup::request_path(uri.path()).into_owned();
        let found = table.find("", &path).unwrap();
        let groups = found.route().settings.as_ref().map(|it| it.groups(&path)).unwrap_or_default();
        let mut request = Request::new(RequestBody::Empty);
        *request.uri_mut() = uri;
        Edit { upstream: Some(upstream), protocol: Protocol::Http1, groups: &groups, address: address() }
            .apply(&mut request);
        request.uri().to_string()
    }

    #[test]
    fn groups_of_the_pattern_make_the_path_and_the_query_stays() {
        for (pattern, text, asked, expected) in [
            ("/api(/|$)(.*)", "/$2", "/api/v1/x?y=1&$2", "/v1/x?y=1&$2"),
            ("/api(/|$)(.*)", "/$2", "/api", "/"),
            ("/(a)?(b)", "/$1-$2-$3-$9", "/b", "/-b--"),
            ("/x", "/plain", "/x/more", "/plain"),
            ("/(.*)", "/$1$", "/x", "/x$"),
            ("/(.*)", "/$0$a$$1", "/x", "/$0$a$x"),
            ("/(.*)", "/q?x=$1#f", "/v?z", "/q%3Fx=v%23f?z"),
            ("/(.*)", "/a b\\{$1}", "/v", "/a%20b%5C%7Bv%7D"),
            ("/(.*)", "/é", "/v", "/%C3%A9"),
            ("/API/(.*)", "/$1", "/api/%41/../%7e%2fx", "/~%2Fx"),
        ] {
            assert_eq!(target(pattern, &template(text), asked), expected, "{pattern} {text} {asked}");
        }
    }

    #[test]
    fn what_makes_no_path_leaves_the_clients() {
        for text in ["$1", "", "x/$1", "http://evil/"] {
            assert_eq!(target("/a/(.*)", &template(text), "/a/b?c"), "/a/b?c", "{text}");
        }
    }

    proptest! {
        /// Whatever templates and requests contain, the result is a path without a control character.
        #[test]
        fn a_rewrite_makes_a_path(text in "[ -~\\r\\n\\t$1-9/é]{0,12}", path in "/[a-z%./A-F0-9]{0,12}") {
            let Ok(_) = path.parse::<Uri>() else { return Ok(()) };
            let rewritten = target("/(.*)", &template(&text), &path);
            prop_assert!(rewritten.starts_with('/') && rewritten.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }

    #[test]
    fn http2_has_the_host_in_its_target() {
        let mut request = Request::new(RequestBody::Empty);
        *request.uri_mut() = "/x?y".parse().unwrap();
        for (name, value) in [(header::HOST, "a.example.com:8080"), (header::UPGRADE, "x")] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let edit = Edit { upstream: None, protocol: Protocol::H2c, groups: &Groups::default(), address: address() };
        edit.apply(&mut request);
        assert_eq!(request.uri(), "http://a.example.com:8080/x?y");
        assert_eq!(request.headers().keys().collect::<Vec<_>>(), ["te"]);
        *request.uri_mut() = "/x".parse().unwrap();
        edit.apply(&mut request);
        assert_eq!(request.uri(), "http://10.0.0.1:80/x", "a client need not name a host");
    }
}
