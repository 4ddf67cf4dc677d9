//! Every annotation of ingress-nginx and what becomes of it: one table.
//!
//! Name and value → [`Verdict`]. The verdicts are those of the annotations' section of the semantics; whether a value
//! is well-formed is said by routing's findings.

use Verdict::{AsIs, Differs, Ignored, Refused};

/// What becomes of an annotation, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Means the same.
    AsIs,
    /// Has its effect, with a difference.
    Differs(&'static str),
    /// Has no effect, and doing without it is safe.
    Ignored(&'static str),
    /// Has no effect, and somebody must decide what to do instead.
    Refused(&'static str),
}

/// What an annotation means whose name is unknown.
const UNKNOWN: Verdict = Ignored("not an annotation of ingress-nginx that is known here; it has no effect");
/// What annotations mean that switch something off which is off anyway.
const OFF: [&str; 3] = ["false", "off", "none"];

const PATTERNS: Verdict = Differs(
    "makes patterns of this Ingress's ImplementationSpecific paths only; of every path of the host, as in nginx, if the policy has the class in mode nginx-compat",
);
const SNIPPET: Verdict = Refused(
    "text for nginx is never taken: it ran with the proxy's rights; see docs/migrate.md for what replaces usual snippets",
);
const AUTHORITIES: Verdict = Differs(
    "the Secret must have a key ca.crt and any type but kubernetes.io/tls; only clients that connect to the host's own name are asked, others get 421",
);
const CERTIFICATE_NAMES: Verdict = Refused(
    "expressions over the names of clients are not taken; nobody is let in until it is removed: use an authority of its own for those clients, or check them in the application",
);
const UPSTREAM_TLS: Verdict = Ignored(
    "with backend-protocol HTTPS or GRPCS the connection is encrypted, but the endpoint's certificate is not verified and none is shown to it",
);
const WAF: Verdict = Refused("there is no web application firewall here; keep one in front or in the application");
const MIRROR: Verdict = Refused("requests are not mirrored");
const TELEMETRY: Verdict = Ignored("telemetry is set for a whole edge, not for an Ingress");
const BUFFERS: Verdict = Ignored("bodies are always streamed, so there are no buffers to size");
const STREAMED: Verdict = Differs("accepted without effect: bodies are always streamed");
const AUTH_CACHE: Verdict = Ignored("answers of the authentication server are not kept: every request is asked for");
const AUTH_CONNECTIONS: Verdict =
    Ignored("connections to the authentication server are kept open as the edge sees fit");
const RATE: Verdict = Differs("beyond the limit the answer is 429, where nginx says 503; each edge counts by itself");
const RATE_OF_BYTES: Verdict = Ignored("responses are not slowed down");
const GLOBAL_RATE: Verdict = Ignored("limits are counted by each edge; nothing is shared through memcached");
const COOKIE_PATTERN: Verdict = Ignored("cookies of the application are passed on as they are");
const SERVER_TLS: Verdict = Ignored("TLS versions and ciphers are set for a whole edge, and only safe ones can be");

/// By name without `nginx.ingress.kubernetes.io/`, sorted.
pub const CATALOGUE: &[(&str, Verdict)] = &[
    ("affinity", AsIs),
    ("affinity-canary-behavior", AsIs),
    ("affinity-mode", AsIs),
    ("allowlist-source-range", Differs("X-Forwarded-For is believed only from proxies that the edge is told to trust")),
    ("app-root", AsIs),
    ("auth-always-set-cookie", Ignored("cookies of the authentication server reach the client only with its refusals")),
    ("auth-cache-duration", AUTH_CACHE),
    ("auth-cache-key", AUTH_CACHE),
    ("auth-keepalive", AUTH_CONNECTIONS),
    ("auth-keepalive-requests", AUTH_CONNECTIONS),
    ("auth-keepalive-share-vars", AUTH_CONNECTIONS),
    ("auth-keepalive-timeout", AUTH_CONNECTIONS),
    ("auth-method", AsIs),
    (
        "auth-proxy-set-headers",
        Refused(
            "headers for the authentication server are not taken from a ConfigMap; the server gets the request's own",
        ),
    ),
    ("auth-realm", AsIs),
    ("auth-request-redirect", Ignored("the authentication server gets the URL as it was asked for")),
    ("auth-response-headers", AsIs),
    (
        "auth-secret",
        Differs("a Secret of another namespace is refused, and without a readable one nobody passes (503)"),
    ),
    ("auth-secret-type", AsIs),
    ("auth-signin", AsIs),
    ("auth-signin-redirect-param", Ignored("the parameter is always called rd")),
    ("auth-snippet", SNIPPET),
    ("auth-tls-error-page", Ignored("clients without a certificate get 400 with one line of text")),
    ("auth-tls-match-cn", CERTIFICATE_NAMES),
    ("auth-tls-pass-certificate-to-upstream", AsIs),
    ("auth-tls-secret", AUTHORITIES),
    ("auth-tls-verify-client", AsIs),
    ("auth-tls-verify-depth", AsIs),
    ("auth-type", AsIs),
    (
        "auth-url",
        Differs("if the authentication server does not answer, the request is denied; the URL has no nginx variables"),
    ),
    ("backend-protocol", AsIs),
    ("canary", AsIs),
    ("canary-by-cookie", AsIs),
    ("canary-by-header", AsIs),
    ("canary-by-header-pattern", AsIs),
    ("canary-by-header-value", AsIs),
    ("canary-weight", AsIs),
    ("canary-weight-total", AsIs),
    ("client-body-buffer-size", BUFFERS),
    ("configuration-snippet", SNIPPET),
    ("connection-proxy-header", Ignored("Connection is set as the protocol of the endpoint needs it")),
    ("cors-allow-credentials", AsIs),
    ("cors-allow-headers", AsIs),
    ("cors-allow-methods", AsIs),
    ("cors-allow-origin", AsIs),
    ("cors-expose-headers", AsIs),
    ("cors-max-age", AsIs),
    (
        "custom-headers",
        Ignored("no response gets fields from a ConfigMap; write them into roadstead.dev/response-headers"),
    ),
    (
        "custom-http-errors",
        Differs("only with default-backend on the same Ingress: there is no default backend for errors of everybody"),
    ),
    ("default-backend", Differs("it gets the request as the client sent it, without rewrites")),
    ("denylist-source-range", Differs("X-Forwarded-For is believed only from proxies that the edge is told to trust")),
    ("enable-access-log", Ignored("the access log is set for a whole edge")),
    ("enable-cors", AsIs),
    ("enable-global-auth", Ignored("there is no authentication for all Ingresses at once")),
    ("enable-modsecurity", WAF),
    ("enable-opentelemetry", TELEMETRY),
    ("enable-opentracing", TELEMETRY),
    ("enable-owasp-core-rules", WAF),
    ("enable-rewrite-log", Ignored("there is no such log; `roadstead explain` says how a path is read")),
    ("force-ssl-redirect", AsIs),
    ("from-to-www-redirect", AsIs),
    ("global-rate-limit", GLOBAL_RATE),
    ("global-rate-limit-ignored-cidrs", GLOBAL_RATE),
    ("global-rate-limit-key", GLOBAL_RATE),
    ("global-rate-limit-window", GLOBAL_RATE),
    ("http2-push-preload", Ignored("HTTP/2 push is gone from browsers")),
    ("limit-allowlist", AsIs),
    ("limit-burst-multiplier", AsIs),
    ("limit-connections", RATE),
    ("limit-rate", RATE_OF_BYTES),
    ("limit-rate-after", RATE_OF_BYTES),
    ("limit-rpm", RATE),
    ("limit-rps", RATE),
    ("limit-whitelist", AsIs),
    ("load-balance", Differs("ewma compares two endpoints chosen at random, and round_robin starts anew at each edge")),
    ("mirror-host", MIRROR),
    ("mirror-request-body", MIRROR),
    ("mirror-target", MIRROR),
    ("modsecurity-snippet", SNIPPET),
    ("modsecurity-transaction-id", WAF),
    ("opentelemetry-operation-name", TELEMETRY),
    ("opentelemetry-trust-incoming-span", TELEMETRY),
    ("opentracing-trust-incoming-span", TELEMETRY),
    ("permanent-redirect", AsIs),
    ("permanent-redirect-code", AsIs),
    ("preserve-trailing-slash", Ignored("redirects keep the path as it was asked for")),
    ("proxy-body-size", AsIs),
    ("proxy-buffer-size", STREAMED),
    ("proxy-buffering", STREAMED),
    ("proxy-buffers-number", BUFFERS),
    ("proxy-busy-buffers-size", BUFFERS),
    ("proxy-connect-timeout", AsIs),
    ("proxy-cookie-domain", COOKIE_PATTERN),
    ("proxy-cookie-path", COOKIE_PATTERN),
    ("proxy-http-version", Ignored("the protocol follows from backend-protocol and the Service's appProtocol")),
    ("proxy-max-temp-file-size", BUFFERS),
    ("proxy-next-upstream", Differs("only requests that may be repeated safely go to another endpoint")),
    ("proxy-next-upstream-timeout", AsIs),
    ("proxy-next-upstream-tries", AsIs),
    ("proxy-read-timeout", AsIs),
    ("proxy-redirect-from", Ignored("Location of the application reaches the client as it is")),
    ("proxy-redirect-to", Ignored("Location of the application reaches the client as it is")),
    ("proxy-request-buffering", STREAMED),
    ("proxy-send-timeout", AsIs),
    ("proxy-ssl-ciphers", UPSTREAM_TLS),
    ("proxy-ssl-name", UPSTREAM_TLS),
    ("proxy-ssl-protocols", UPSTREAM_TLS),
    ("proxy-ssl-secret", UPSTREAM_TLS),
    ("proxy-ssl-server-name", UPSTREAM_TLS),
    ("proxy-ssl-verify", UPSTREAM_TLS),
    ("proxy-ssl-verify-depth", UPSTREAM_TLS),
    ("relative-redirects", Ignored("redirects of the edge are absolute")),
    ("rewrite-target", PATTERNS),
    ("satisfy", Ignored("all requirements must be met, as with satisfy: all")),
    ("server-alias", AsIs),
    ("server-snippet", SNIPPET),
    ("service-upstream", Ignored("a Service's own address cannot be reached from outside its cluster: pods are asked")),
    ("session-cookie-change-on-failure", AsIs),
    ("session-cookie-conditional-samesite-none", Ignored("SameSite is set for all browsers alike")),
    ("session-cookie-domain", AsIs),
    ("session-cookie-expires", AsIs),
    ("session-cookie-hash", Ignored("the cookie's value is the edge's own")),
    ("session-cookie-max-age", AsIs),
    ("session-cookie-name", Differs("cookies that nginx gave out mean nothing here: each client is placed once more")),
    ("session-cookie-path", AsIs),
    ("session-cookie-samesite", AsIs),
    ("session-cookie-secure", AsIs),
    ("ssl-ciphers", SERVER_TLS),
    (
        "ssl-passthrough",
        Refused("TLS ends at the edge; a host whose TLS must reach the pod needs a load balancer for TCP"),
    ),
    ("ssl-prefer-server-ciphers", SERVER_TLS),
    ("ssl-redirect", AsIs),
    ("stream-snippet", SNIPPET),
    ("temporal-redirect", AsIs),
    ("temporal-redirect-code", AsIs),
    (
        "upstream-hash-by",
        Differs("one of $request_uri, $host, $remote_addr, $http_…, $arg_… or $cookie_…; no expressions"),
    ),
    ("upstream-hash-by-subset", Ignored("requests are spread over single endpoints, not over groups of them")),
    ("upstream-hash-by-subset-size", Ignored("requests are spread over single endpoints, not over groups of them")),
    ("upstream-vhost", AsIs),
    ("use-regex", PATTERNS),
    ("whitelist-source-range", Differs("X-Forwarded-For is believed only from proxies that the edge is told to trust")),
    ("x-forwarded-prefix", AsIs),
];

/// Values that mean something else than the annotation in general.
const VALUES: &[(&str, &str, Verdict)] = &[
    ("auth-type", "digest", Refused("only basic authentication is known; nobody would be asked for a password")),
    ("backend-protocol", "FCGI", Refused("FastCGI is not spoken; put a web server before the application")),
    ("satisfy", "all", AsIs),
    (
        "satisfy",
        "any",
        Refused("all requirements must be met: clients that passed by address alone will be asked for a password"),
    ),
];

/// What becomes of an annotation of ingress-nginx, named without its prefix.
pub fn verdict(name: &str, value: &str) -> Verdict {
    let found = CATALOGUE.binary_search_by(|(known, _)| (*known).cmp(name));
    let general = found.map_or(UNKNOWN, |at| CATALOGUE[at].1);
    let is = |(known, wanted, _): &&(&str, &str, Verdict)| *known == name && wanted.eq_ignore_ascii_case(value.trim());
    if let Some((_, _, special)) = VALUES.iter().find(is) {
        return *special;
    }
    let is_off = OFF.iter().any(|off| value.trim().eq_ignore_ascii_case(off));
    match general {
        Ignored(_) | Refused(_) if is_off && found.is_ok() => AsIs,
        other => other,
    }
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            AsIs => "as-is",
            Differs(_) => "differs",
            Ignored(_) => "ignored",
            Refused(_) => "refused",
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            AsIs => "",
            Differs(text) | Ignored(text) | Refused(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use roadstead_routing::declare::declare;
    use roadstead_routing::finding::Code;
    use roadstead_routing::object::Ingress;

    use super::*;

    #[test]
    fn the_catalogue_is_sorted_and_names_nothing_twice() {
        assert!(CATALOGUE.is_sorted_by(|a, b| a.0 < b.0));
        let known = |name: &str| CATALOGUE.iter().any(|(it, _)| *it == name);
        assert!(VALUES.iter().all(|(name, _, _)| known(name)));
    }

    /// What routing says of an Ingress with one annotation: whether nobody reads it.
    fn is_left_out(name: &str, value: &str) -> bool {
        let key = format!("{}{name}", crate::offline::migrate::behaviour::NGINX_PREFIX);
        let annotations = [(key.as_str().into(), value.into())].into();
        let ingress = Ingress { annotations, ..Ingress::default() };
        let findings = declare(&ingress).findings(&"a".into(), &ingress.name);
        findings.iter().any(|it| it.code == Code::UnsupportedAnnotation && it.message.contains(&key))
    }

    #[test]
    fn the_catalogue_says_what_routing_does() {
        for (name, verdict) in CATALOGUE {
            let has_effect = matches!(verdict, AsIs | Differs(_)) && *verdict != STREAMED;
            assert_eq!(!is_left_out(name, "x"), has_effect, "{name}");
        }
    }

    #[test]
    fn what_is_switched_off_asks_nobody_to_decide() {
        assert!(matches!(verdict("ssl-passthrough", "true"), Refused(_)));
        assert_eq!(verdict("ssl-passthrough", "false"), AsIs);
        assert_eq!(verdict("enable-modsecurity", "false"), AsIs);
        assert!(matches!(verdict("limit-rps", "10"), Differs(_)));
        assert!(matches!(verdict("no-such-thing", "false"), Ignored(_)));
    }

    #[test]
    fn some_values_are_worse_than_their_annotation() {
        assert_eq!(verdict("backend-protocol", "GRPC"), AsIs);
        assert!(matches!(verdict("backend-protocol", "fcgi"), Refused(_)));
        assert!(matches!(verdict("auth-type", "digest"), Refused(_)));
        assert!(matches!(verdict("satisfy", "any"), Refused(_)));
    }
}
