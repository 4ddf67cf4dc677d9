//! Cross-origin requests: what browsers are told about who may use a route.
//!
//! A route's settings and the `Origin` of a request → header fields of the response. Only an origin that was named is
//! repeated to the client; nobody's is reflected.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request};
use roadstead_routing::settings::{Cors, Origin};

/// Whether the edge answers by itself.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ORIGIN)
}

/// Sets the fields of a response; those of the endpoint are replaced.
pub(super) fn set(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if !cors.origins.contains(&Origin::Any) {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
    let Some(allowed) = allowed(cors, origin) else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if cors.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    } else {
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    }
    let texts = [(ACCESS_CONTROL_ALLOW_METHODS, &cors.methods), (ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers)];
    let expose = cors.expose.iter().map(|expose| (ACCESS_CONTROL_EXPOSE_HEADERS, expose));
    for (name, text) in texts.into_iter().chain(expose) {
        set_text(headers, name, text);
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age_seconds));
}

fn set_text(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// What `Access-Control-Allow-Origin` says; `None`: the origin may not.
fn allowed(cors: &Cors, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    if cors.origins.contains(&Origin::Any) {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = origin?;
    let text = origin.to_str().ok()?.to_ascii_lowercase();
    let matches = |allowed: &Origin| match allowed {
        Origin::Any => true,
        Origin::Exact(exact) => text == **exact,
        Origin::Subdomain(before, after) => {
            let label = text.strip_prefix(&**before).and_then(|rest| rest.strip_suffix(&**after));
            label.is_some_and(|label| !label.is_empty() && label.bytes().all(is_of_label))
        }
    };
    cors.origins.iter().any(matches).then(|| origin.clone())
}

fn is_of_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: Vec<Origin>) -> Cors {
        let (methods, headers) = ("GET, PUT".into(), "X-A".into());
        Cors { origins, methods, headers, credentials: true, expose: Some("X-B".into()), max_age_seconds: 60 }
    }

    fn allowed_origin(cors: &Cors, origin: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://endpoint"));
        set(cors, Some(&HeaderValue::from_static(origin)), &mut headers);
        headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_named_origins_are_repeated() {
        let named = cors(vec![
            Origin::Exact("https://a.example.com".into()),
            Origin::Subdomain("https://".into(), ".example.org:8443".into()),
        ]);
        for origin in ["https://a.example.com", "https://x.example.org:8443", "https://A.example.com"] {
            assert_eq!(allowed_origin(&named, origin).as_deref(), Some(origin));
        }
        for origin in [
            "https://evil.com",
            "http://a.example.com",
            "https://a.example.com.evil.com",
            "https://.example.org:8443",
            "https://x.y.example.org:8443",
            "https://evil.com/.example.org:8443",
            "null",
        ] {
            assert_eq!(allowed_origin(&named, origin), None, "{origin}");
        }
    }

    #[test]
    fn any_origin_is_never_a_particular_one() {
        assert_eq!(allowed_origin(&cors(vec![Origin::Any]), "https://evil.com").as_deref(), Some("*"));
    }

    #[test]
    fn fields_say_what_was_asked_for() {
        let mut headers = HeaderMap::new();
        set(&cors(vec![Origin::Any]), None, &mut headers);
        let mut fields: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "access-control-allow-credentials: true",
                "access-control-allow-headers: X-A",
                "access-control-allow-methods: GET, PUT",
                "access-control-allow-origin: *",
                "access-control-expose-headers: X-B",
                "access-control-max-age: 60",
            ]
        );
    }
}
