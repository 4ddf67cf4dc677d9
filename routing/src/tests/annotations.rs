//! Annotations one by one: what each says, and what is reported of values that are none (rows 1 to 24, rule N-1).

use std::time::Duration;

use crate::declare::{Declared, declare};
use crate::finding::{Code, Severity};
use crate::id::{ClusterId, HostKey, ObjectName, PortRef};
use crate::object::{Ingress, IngressRule, IngressTls};
use crate::policy::Strategy;
use crate::settings::{
    Access, AllDown, Balance, BasicAuth, CertificateNeed, ClientCertificate, ClientSettings, Cors, ExternalAuth,
    HashBy, Origin, RateLimit, Redirect, RedirectTo, SameSite, UpstreamSettings, UsersForm,
};
use crate::table::BackendProtocol;

const HOST: &str = "h.ex.com";

fn host() -> HostKey {
    HostKey::Exact(HOST.into())
}

/// An Ingress with these annotations, names without prefix.
fn read(annotations: &[(&str, &str)]) -> Declared {
    let mut ingress = Ingress { name: ObjectName::new("shop", "web"), ..Ingress::default() };
    ingress.rules.push(IngressRule { host: HOST.into(), paths: Some(Vec::new()) });
    for (name, value) in annotations {
        let key = if name.contains('/') { (*name).to_owned() } else { format!("nginx.ingress.kubernetes.io/{name}") };
        ingress.annotations.insert(key.into(), (*value).into());
    }
    declare(&ingress)
}

fn client(annotations: &[(&str, &str)]) -> ClientSettings {
    assert_eq!(codes(annotations), [], "{annotations:?}");
    ClientSettings::clone(read(annotations).client(&host()))
}

fn upstream(annotations: &[(&str, &str)]) -> UpstreamSettings {
    assert_eq!(codes(annotations), [], "{annotations:?}");
    UpstreamSettings::clone(&read(annotations).upstream)
}

fn codes(annotations: &[(&str, &str)]) -> Vec<(Code, Severity)> {
    let found = read(annotations).findings(&ClusterId::from("one"), &ObjectName::new("shop", "web"));
    found.into_iter().map(|finding| (finding.code, finding.severity)).collect()
}

#[test]
fn without_annotations_nothing_is_set() {
    assert_eq!((client(&[]), upstream(&[])), (ClientSettings::default(), UpstreamSettings::default()));
}

#[test]
fn values_that_are_none_are_reported_and_change_nothing() {
    let bad = [
        ("use-regex", "yes"),
        ("rewrite-target", "/$0"),
        ("rewrite-target", "relative"),
        ("rewrite-target", "/a b"),
        ("proxy-body-size", "8x"),
        ("proxy-body-size", "-1"),
        ("proxy-read-timeout", "0"),
        ("proxy-read-timeout", "1.5"),
        ("proxy-connect-timeout", "99999999"),
        ("backend-protocol", "FCGI"),
        ("upstream-vhost", "$host"),
        ("x-forwarded-prefix", "api"),
        ("ssl-redirect", "1"),
        ("app-root", "//evil.example.com"),
        ("all-down", "200"),
        ("all-down", "/sorry"),
        ("all-down", "javascript:alert(1)"),
        ("weigh-by-endpoints", "1"),
        ("permanent-redirect", "javascript:alert(1)"),
        ("permanent-redirect", "https://$host/x"),
        ("permanent-redirect-code", "200"),
        ("cors-allow-origin", "example.com"),
        ("cors-allow-origin", "https://*.*.com"),
        ("cors-allow-methods", "GET;DROP"),
        ("cors-max-age", "-5"),
        ("affinity", "ip"),
        ("affinity-mode", "sticky"),
        ("affinity-canary-behavior", "always"),
        ("session-cookie-name", "a b"),
        ("session-cookie-path", "/;Secure"),
        ("session-cookie-domain", "a;b"),
        ("session-cookie-samesite", "lax"),
        ("upstream-hash-by", "$request_uri$host"),
        ("upstream-hash-by", "${request_uri}"),
        ("load-balance", "least_conn"),
        ("limit-rps", "many"),
        ("limit-burst-multiplier", "0"),
        ("server-alias", "a.ex.com b.ex.com"),
        ("canary-weight", "ten"),
        ("canary-by-header", "X Y"),
        ("proxy-next-upstream-tries", "99"),
        ("roadstead.dev/strategy", "fastest"),
        ("roadstead.dev/weight", "5000"),
        ("roadstead.dev/priority", "-1"),
    ];
    for (name, value) in bad {
        assert_eq!(codes(&[(name, value)]), [(Code::InvalidAnnotation, Severity::Warning)], "{name}: {value}");
        let declared = read(&[(name, value)]);
        assert_eq!(**declared.client(&host()), ClientSettings::default(), "{name}: {value}");
        assert_eq!(*declared.upstream, UpstreamSettings::default(), "{name}: {value}");
    }
}

#[test]
fn what_guards_and_cannot_be_read_lets_nobody_in() {
    let closed = [
        &[("allowlist-source-range", "10.0.0.0/33")][..],
        &[("whitelist-source-range", "office")],
        &[("denylist-source-range", "10.0.0.1,")],
        &[("auth-url", "ftp://auth.ex.com")],
        &[("auth-url", "http://$host/auth")],
        &[("auth-url", "http://auth.ex.com"), ("auth-method", "GET\u{a0}")],
        &[("auth-url", "http://auth.ex.com"), ("auth-method", "GETTER")],
        &[("auth-type", "digest"), ("auth-secret", "users")],
        &[("auth-type", "basic")],
        &[("auth-type", "basic"), ("auth-secret", "other/users")],
        &[("auth-type", "basic"), ("auth-secret", "../users")],
    ];
    for annotations in closed {
        let is_closed = read(annotations).client(&host()).access.is_irreconcilable;
        // An empty entry at the end of a list is none.
        let is_readable = annotations[0].1.ends_with(',');
        assert_eq!(is_closed, !is_readable, "{annotations:?}");
        assert_eq!(codes(annotations).is_empty(), is_readable, "{annotations:?}");
    }
}

#[test]
fn our_own_name_wins_over_its_twin() {
    let both = [("proxy-body-size", "1m"), ("roadstead.dev/proxy-body-size", "2m")];
    assert_eq!(upstream(&both).body_bytes_max, Some(2 << 20));
}

#[test]
fn https_redirects_follow_tls_unless_told_otherwise() {
    let with_tls = |hosts: &[&str], annotations: &[(&str, &str)]| {
        let mut ingress = Ingress::default();
        ingress.rules.push(IngressRule { host: HOST.into(), paths: None });
        let hosts = hosts.iter().map(|host| (*host).into()).collect();
        ingress.tls.push(IngressTls { hosts, secret_name: "".into() });
        for (name, value) in annotations {
            ingress.annotations.insert(format!("nginx.ingress.kubernetes.io/{name}").into(), (*value).into());
        }
        declare(&ingress).client(&host()).https_redirect
    };
    assert!(with_tls(&[HOST], &[]) && with_tls(&[], &[]) && with_tls(&["*.ex.com"], &[]));
    assert!(!with_tls(&["other.ex.com"], &[]) && !with_tls(&[HOST], &[("ssl-redirect", "false")]));
    assert!(client(&[("force-ssl-redirect", "true")]).https_redirect);
}

#[test]
fn redirects() {
    let url = |to: &str, status| Some(Redirect { to: RedirectTo::Url(to.into()), status });
    assert_eq!(client(&[("permanent-redirect", "https://a.ex.com/x")]).redirect, url("https://a.ex.com/x", 301));
    let coded = [("permanent-redirect", "/x"), ("permanent-redirect-code", "308")];
    assert_eq!(client(&coded).redirect, url("/x", 308));
    let both = [("permanent-redirect", "/p"), ("temporal-redirect", "/t")];
    assert_eq!(client(&both).redirect, url("/t", 302));
    assert_eq!(client(&[("app-root", "/app")]).app_root.as_deref(), Some("/app"));
}

#[test]
fn what_clients_get_while_nobody_serves() {
    assert_eq!(client(&[("all-down", "404")]).all_down, Some(AllDown::Status(404)));
    let url = "https://status.example.com/?from=shop";
    assert_eq!(client(&[("all-down", url)]).all_down, Some(AllDown::Redirect(url.into())));
}

#[test]
fn networks_are_lists_of_their_own() {
    let access =
        client(&[("whitelist-source-range", "10.0.0.0/8, 192.0.2.7"), ("denylist-source-range", "10.1.0.0/16")]).access;
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<ipnet::IpNet>>();
    assert_eq!(access.allow, [nets(&["10.0.0.0/8", "192.0.2.7/32"])]);
    assert_eq!(access.deny, nets(&["10.1.0.0/16"]));
}

#[test]
fn basic_and_external_authentication() {
    let basic = [
        ("auth-type", "basic"),
        ("auth-secret", "shop/users"),
        ("auth-secret-type", "auth-map"),
        ("auth-realm", "Shop"),
    ];
    let wanted = BasicAuth {
        realm: "Shop".into(),
        cluster: "".into(),
        secret: ObjectName::new("shop", "users"),
        form: UsersForm::Map,
    };
    assert_eq!(client(&basic).access, Access { basic: vec![wanted], ..Access::default() });
    let external = [
        ("auth-url", "https://auth.ex.com/check"),
        ("auth-method", "HEAD"),
        ("auth-signin", "https://login.ex.com"),
        ("auth-response-headers", "X-User, X-Groups"),
    ];
    let wanted = ExternalAuth {
        url: "https://auth.ex.com/check".into(),
        method: Some("HEAD".into()),
        signin: Some("https://login.ex.com".into()),
        response_headers: vec!["x-user".into(), "x-groups".into()],
    };
    assert_eq!(client(&external).access, Access { external: vec![wanted], ..Access::default() });
}

#[test]
fn cors_has_the_defaults_of_ingress_nginx() {
    let cors = client(&[("enable-cors", "true")]).cors.unwrap();
    assert_eq!(
        (&*cors.methods, cors.credentials, cors.max_age_seconds),
        ("GET, PUT, POST, DELETE, PATCH, OPTIONS", true, 1_728_000)
    );
    assert_eq!((cors.origins, cors.expose), (vec![Origin::Any], None));
    let own = [
        ("enable-cors", "true"),
        ("cors-allow-origin", "https://App.ex.com:8443, https://*.ex.com"),
        ("cors-allow-credentials", "false"),
        ("cors-expose-headers", "X-A"),
        ("cors-max-age", "60"),
    ];
    let Cors { origins, credentials, expose, max_age_seconds, .. } = client(&own).cors.unwrap();
    let suffixed = Origin::Subdomain("https://".into(), ".ex.com".into());
    assert_eq!(origins, [Origin::Exact("https://app.ex.com:8443".into()), suffixed]);
    assert_eq!((credentials, expose.as_deref(), max_age_seconds), (false, Some("X-A"), 60));
    assert_eq!(client(&[("cors-max-age", "60")]).cors, None, "only enable-cors turns it on");
}

#[test]
fn errors_and_who_answers_instead() {
    let both = [("default-backend", "sorry"), ("custom-http-errors", "503, 404,404")];
    assert_eq!(upstream(&both).errors, [404, 503]);
    let ports: Vec<_> = read(&both).service_ports().map(|(name, port)| (name.to_string(), port.clone())).collect();
    assert_eq!(ports, [("sorry".to_owned(), PortRef::FIRST)]);
    assert_eq!(codes(&[("custom-http-errors", "404")]), [(Code::UnsupportedAnnotation, Severity::Warning)]);
    for bad in [("default-backend", "other/sorry"), ("default-backend", ""), ("custom-http-errors", "200")] {
        assert_eq!(codes(&[bad]), [(Code::InvalidAnnotation, Severity::Warning)], "{bad:?}");
    }
}

#[test]
fn fields_of_responses() {
    let text = "X-Frame-Options: DENY\n\n  referrer-policy:  no-referrer \nx-frame-options: SAMEORIGIN";
    let fields = client(&[("roadstead.dev/response-headers", text)]).response_headers;
    let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(fields, [("referrer-policy", "no-referrer"), ("x-frame-options", "SAMEORIGIN")]);
    let many = (0..33).map(|number| format!("x-{number}: y\n")).collect::<String>();
    for bad in ["DENY", "a b: c", ": x", "Content-Length: 0", "x: \u{7f}", "x: é", "x: a\rb: c", &many] {
        let annotation = [("roadstead.dev/response-headers", bad)];
        assert_eq!(codes(&annotation), [(Code::InvalidAnnotation, Severity::Warning)], "{bad:?}");
        assert!(read(&annotation).client(&host()).response_headers.is_empty(), "{bad:?}");
    }
}

#[test]
fn limits() {
    let limit = client(&[("limit-rps", "5"), ("limit-connections", "2"), ("limit-whitelist", "10.0.0.0/8")]).rate;
    let exempt = vec!["10.0.0.0/8".parse().unwrap()];
    assert_eq!(limit, Some(RateLimit { per_second: 5, per_minute: 0, connections: 2, burst: 5, exempt }));
    assert_eq!(client(&[("limit-rps", "0"), ("limit-burst-multiplier", "9")]).rate, None);
}

#[test]
fn affinity_and_hashing() {
    let affinity = client(&[("affinity", "cookie")]).affinity.unwrap();
    assert_eq!((&*affinity.cookie, affinity.is_balanced, affinity.secure), ("INGRESSCOOKIE", true, false));
    let own = [
        ("affinity", "cookie"),
        ("affinity-mode", "persistent"),
        ("session-cookie-name", "route"),
        ("session-cookie-max-age", "60"),
        ("session-cookie-samesite", "Lax"),
        ("session-cookie-secure", "true"),
    ];
    let affinity = client(&own).affinity.unwrap();
    assert_eq!((&*affinity.cookie, affinity.is_balanced, affinity.secure), ("route", false, true));
    assert_eq!((affinity.max_age_seconds, affinity.same_site), (Some(60), Some(SameSite::Lax)));
    assert!(!affinity.forgets_canary, "sticky is the default");
    let legacy = client(&[("affinity", "cookie"), ("affinity-canary-behavior", "legacy")]).affinity.unwrap();
    assert!(legacy.forgets_canary);
    let by = |value| client(&[("upstream-hash-by", value)]).hash_by;
    assert_eq!(by("$http_x_user_id"), Some(HashBy::Header("x-user-id".into())));
    assert_eq!(by("$cookie_sid"), Some(HashBy::Cookie("sid".into())));
    assert_eq!(by("$arg_q"), Some(HashBy::Argument("q".into())));
    assert_eq!((by("$request_uri"), by("$remote_addr")), (Some(HashBy::RequestUri), Some(HashBy::RemoteAddress)));
    assert_eq!(client(&[("load-balance", "ewma")]).balance, Balance::Ewma);
}

#[test]
fn the_upstream_leg() {
    let settings = upstream(&[
        ("rewrite-target", "/api/$1"),
        ("upstream-vhost", "internal.svc:8080"),
        ("x-forwarded-prefix", "/shop"),
        ("backend-protocol", "grpcs"),
        ("proxy-body-size", "0"),
        ("proxy-connect-timeout", "5"),
        ("proxy-read-timeout", "120s"),
        ("proxy-next-upstream", "error http_502 http_503"),
        ("proxy-next-upstream-tries", "2"),
        ("proxy-next-upstream-timeout", "3"),
    ]);
    assert_eq!(settings.rewrite.map(|it| it.template.to_string()).as_deref(), Some("/api/$1"));
    assert_eq!(
        (settings.host.as_deref(), settings.forwarded_prefix.as_deref()),
        (Some("internal.svc:8080"), Some("/shop"))
    );
    assert_eq!((settings.protocol, settings.body_bytes_max), (Some(BackendProtocol::H2), Some(0)));
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        (settings.connect_timeout, settings.read_timeout, settings.send_timeout),
        (seconds(5), seconds(120), None)
    );
    let retry = settings.retry;
    assert_eq!((retry.on_error, retry.on_timeout, &retry.on_status[..]), (true, false, &[502, 503][..]));
    assert_eq!((retry.tries, retry.within), (2, seconds(3)));
}

#[test]
fn certificates_of_clients() {
    let secret = ("auth-tls-secret", "shop/ca");
    let certificates = |more: &[(&str, &str)]| client(&[&[secret], more].concat()).access.certificates;
    let plain = ClientCertificate {
        cluster: "".into(),
        secret: ObjectName::new("shop", "ca"),
        need: CertificateNeed::Required,
        depth: 1,
        pass: false,
    };
    assert_eq!(certificates(&[]), std::slice::from_ref(&plain));
    let all = [
        ("auth-tls-verify-client", "optional"),
        ("auth-tls-verify-depth", "3"),
        ("auth-tls-pass-certificate-to-upstream", "true"),
    ];
    let wanted = ClientCertificate { need: CertificateNeed::Optional, depth: 3, pass: true, ..plain.clone() };
    assert_eq!(certificates(&all), [wanted]);
    let unverified = ClientCertificate { need: CertificateNeed::Unverified, ..plain };
    assert_eq!(certificates(&[("auth-tls-verify-client", "optional_no_ca")]), [unverified]);
    assert_eq!(certificates(&[("auth-tls-verify-client", "off")]), []);
}

/// Whatever of it cannot be read: nobody enters, rather than everybody.
#[test]
fn what_is_asked_of_certificates_and_cannot_be_read_closes_the_door() {
    for bad in [
        ("auth-tls-secret", "other/ca"),
        ("auth-tls-secret", ""),
        ("auth-tls-verify-client", "yes"),
        ("auth-tls-verify-depth", "0"),
        ("auth-tls-match-cn", "CN=ann"),
    ] {
        let annotations: Vec<_> =
            [("auth-tls-secret", "ca")].into_iter().filter(|it| it.0 != bad.0).chain([bad]).collect();
        assert!(read(&annotations).client(&host()).access.is_irreconcilable, "{bad:?}");
        assert_eq!(codes(&annotations).len(), 1, "{bad:?}");
    }
}

#[test]
fn sharing_among_clusters() {
    let declared = read(&[
        ("roadstead.dev/strategy", "failover"),
        ("roadstead.dev/weight", "50"),
        ("roadstead.dev/priority", "2"),
    ]);
    let traffic = declared.traffic;
    assert_eq!((traffic.strategy, traffic.weight, traffic.priority), (Some(Strategy::Failover), Some(50), Some(2)));
}

#[test]
fn what_nobody_reads_is_named_by_how_much_it_matters() {
    let severity = |name| codes(&[(name, "x")]);
    let unsupported = |severity| vec![(Code::UnsupportedAnnotation, severity)];
    for name in ["configuration-snippet", "server-snippet", "mirror-target", "ssl-passthrough", "proxy-ssl-verify"] {
        assert_eq!(severity(name), unsupported(Severity::Error), "{name}");
    }
    assert_eq!(severity("proxy-buffering"), unsupported(Severity::Info));
    assert_eq!(severity("no-such-thing"), unsupported(Severity::Warning));
    assert_eq!(severity("example.com/anything"), []);
    assert_eq!(codes(&[("ssl-passthrough", "false")]), [], "nothing is switched on");
}
