//! Any settings survive the wire, none of them cost a byte, and what is out of bounds is named.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Strategy;
use roadstead_routing::id::{BackendId, HostKey, PortRef};
use roadstead_routing::settings::{CanaryRule, HeaderRule, HeaderValue, Retry, Rewrite, UpstreamSettings};
use roadstead_routing::table::{
    Backend, BackendProtocol, Canary, ExternalName, Host, PathMatch, Route, RouteBackend, Target,
};

use super::*;
use crate::resource::{backend_from_wire, backend_to_wire, host_from_wire, host_to_wire};

fn words() -> impl Strategy<Value = Arc<str>> {
    "[ -~]{0,8}".prop_map(Arc::from)
}

fn network() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(address, prefix)| IpNet::new(address.into(), prefix).unwrap());
    let v6 = (any::<[u8; 16]>(), 0u8..=128).prop_map(|(address, prefix)| IpNet::new(address.into(), prefix).unwrap());
    prop_oneof![v4, v6]
}

fn name() -> impl Strategy<Value = ObjectName> {
    (words(), words()).prop_map(|(namespace, name)| ObjectName { namespace, name })
}

fn access() -> impl Strategy<Value = Access> {
    let form = prop_oneof![Just(UsersForm::File), Just(UsersForm::Map)];
    let basic = (words(), words(), name(), form).prop_map(|(realm, cluster, secret, form)| BasicAuth {
        realm,
        cluster: (&*cluster).into(),
        secret,
        form,
    });
    let external = (words(), option::of(words()), option::of(words()), vec(words(), 0..3))
        .prop_map(|(url, method, signin, response_headers)| ExternalAuth { url, method, signin, response_headers });
    let need = proptest::sample::select(vec![
        CertificateNeed::Required,
        CertificateNeed::Optional,
        CertificateNeed::Unverified,
    ]);
    let certificate =
        (words(), name(), need, any::<u8>(), any::<bool>()).prop_map(|(cluster, secret, need, depth, pass)| {
            ClientCertificate { cluster: (&*cluster).into(), secret, need, depth, pass }
        });
    let networks = (vec(vec(network(), 0..3), 0..3), vec(network(), 0..3));
    (any::<bool>(), networks, vec(basic, 0..2), vec(external, 0..2), vec(certificate, 0..2)).prop_map(
        |(is_irreconcilable, (allow, deny), basic, external, certificates)| Access {
            is_irreconcilable,
            allow,
            deny,
            basic,
            external,
            certificates,
        },
    )
}

fn redirect() -> impl Strategy<Value = Redirect> {
    let to = prop_oneof![words().prop_map(RedirectTo::Url), words().prop_map(RedirectTo::Host)];
    (to, 300u16..=308).prop_map(|(to, status)| Redirect { to, status })
}

fn rate() -> impl Strategy<Value = RateLimit> {
    (any::<[u32; 4]>(), vec(network(), 0..3)).prop_map(|([per_second, per_minute, connections, burst], exempt)| {
        RateLimit { per_second, per_minute, connections, burst, exempt }
    })
}

fn cors() -> impl Strategy<Value = Cors> {
    let origin = prop_oneof![
        Just(Origin::Any),
        words().prop_map(Origin::Exact),
        (words(), words()).prop_map(|(before, after)| Origin::Subdomain(before, after)),
    ];
    let texts = (words(), words(), option::of(words()));
    (vec(origin, 0..3), texts, any::<bool>(), any::<u32>()).prop_map(
        |(origins, (methods, headers, expose), credentials, max_age_seconds)| Cors {
            origins,
            methods,
            headers,
            credentials,
            expose,
            max_age_seconds,
        },
    )
}

fn affinity() -> impl Strategy<Value = Affinity> {
    let same_site = prop_oneof![Just(SameSite::None), Just(SameSite::Lax), Just(SameSite::Strict)];
    let texts = (words(), option::of(words()), option::of(words()));
    (texts, option::of(any::<u32>()), option::of(same_site), any::<[bool; 4]>()).prop_map(
        |(
            (cookie, path, domain),
            max_age_seconds,
            same_site,
            [secure, change_on_failure, is_balanced, forgets_canary],
        )| Affinity {
            cookie,
            path,
            domain,
            max_age_seconds,
            same_site,
            secure,
            change_on_failure,
            is_balanced,
            forgets_canary,
        },
    )
}

fn hash_by() -> impl Strategy<Value = HashBy> {
    prop_oneof![
        Just(HashBy::RequestUri),
        Just(HashBy::RemoteAddress),
        Just(HashBy::Host),
        words().prop_map(HashBy::Header),
        words().prop_map(HashBy::Argument),
        words().prop_map(HashBy::Cookie),
    ]
}

fn client() -> impl Strategy<Value = Arc<ClientSettings>> {
    let balance = prop_oneof![Just(Balance::RoundRobin), Just(Balance::Ewma)];
    let down = prop_oneof![(400..=599_u16).prop_map(AllDown::Status), words().prop_map(AllDown::Redirect)];
    let hsts = any::<(u32, bool, bool)>().prop_map(|(max_age, include_subdomains, preload)| Hsts {
        max_age,
        include_subdomains,
        preload,
    });
    let down = (option::of(down), option::of(hsts));
    let answers = (any::<bool>(), option::of(redirect()), option::of(words()), down);
    let choices = (option::of(affinity()), option::of(hash_by()), balance);
    let added = vec((words(), words()), 0..3);
    let client = (answers, access(), option::of(rate()), option::of(cors()), choices, added).prop_map(
        |(
            (https_redirect, redirect, app_root, (all_down, hsts)),
            access,
            rate,
            cors,
            (affinity, hash_by, balance),
            response_headers,
        )| {
            Arc::new(ClientSettings {
                https_redirect,
                redirect,
                app_root,
                access,
                rate,
                cors,
                affinity,
                hash_by,
                balance,
                response_headers,
                all_down,
                hsts,
            })
        },
    );
    prop_oneof![Just(Arc::default()), client]
}

fn milliseconds() -> impl Strategy<Value = Option<Duration>> {
    option::of(any::<u32>().prop_map(|ms| Duration::from_millis(ms.into())))
}

fn protocol() -> impl Strategy<Value = BackendProtocol> {
    use BackendProtocol::{H2, H2c, Http1, Https1};
    prop_oneof![Just(Http1), Just(Https1), Just(H2c), Just(H2)]
}

fn upstream() -> impl Strategy<Value = Arc<UpstreamSettings>> {
    let retry = (any::<[bool; 2]>(), vec(100u16..600, 0..3), any::<u32>(), milliseconds()).prop_map(
        |([on_error, on_timeout], on_status, tries, within)| Retry { on_error, on_timeout, on_status, tries, within },
    );
    let retry = prop_oneof![Just(Retry::default()), retry];
    let texts = (option::of(words()), option::of(words()), option::of(words()));
    let timeouts = (milliseconds(), milliseconds(), milliseconds());
    let errors = vec(300u16..600, 0..3);
    (texts, option::of(protocol()), option::of(any::<u64>()), timeouts, retry, errors).prop_map(
        |((template, host, forwarded_prefix), protocol, body_bytes_max, (connect, read, send), retry, errors)| {
            Arc::new(UpstreamSettings {
                rewrite: template.map(|template| Rewrite { template }),
                host,
                forwarded_prefix,
                protocol,
                body_bytes_max,
                connect_timeout: connect,
                read_timeout: read,
                send_timeout: send,
                retry,
                errors,
            })
        },
    )
}

fn part() -> impl Strategy<Value = RouteBackend> {
    let target = prop_oneof![Just(Target::Nothing), Just(Target::Resource)];
    let fallback = option::of((words(), name()).prop_map(|(cluster, service)| BackendId {
        cluster: (&*cluster).into(),
        service,
        port: PortRef::FIRST,
    }));
    let targets = (target, fallback);
    (words(), any::<[u32; 2]>(), words(), any::<bool>(), targets, name(), upstream()).prop_map(
        |(cluster, [weight, priority], region, weigh_by_endpoints, (target, fallback), ingress, upstream)| {
            RouteBackend {
                cluster: (&*cluster).into(),
                weight,
                priority,
                region,
                weigh_by_endpoints,
                target,
                fallback,
                ingress,
                upstream,
            }
        },
    )
}

fn canary() -> impl Strategy<Value = Canary> {
    let value = prop_oneof![
        Just(HeaderValue::Switch),
        words().prop_map(HeaderValue::Exact),
        words().prop_map(HeaderValue::Pattern),
    ];
    let header = (words(), value).prop_map(|(name, value)| HeaderRule { name, value });
    let rule = (option::of(header), option::of(words()), any::<[u32; 2]>())
        .prop_map(|(header, cookie, [weight, weight_total])| CanaryRule { header, cookie, weight, weight_total });
    (rule, vec(part(), 0..2)).prop_map(|(rule, backends)| Canary { rule, backends })
}

fn strategy() -> impl Strategy<Value = roadstead_routing::policy::Strategy> {
    use roadstead_routing::policy::Strategy::{Failover, Nearest, Spread};
    prop_oneof![Just(Spread), Just(Failover), Just(Nearest)]
}

fn host() -> impl Strategy<Value = Host> {
    let route = (words(), vec(part(), 0..3), option::of(canary()), client(), strategy()).prop_map(
        |(path, backends, canary, client, strategy)| Route {
            path: PathMatch::Prefix(path),
            backends,
            canary,
            client,
            strategy,
        },
    );
    let certificate = (words(), name()).prop_map(|(cluster, secret)| SecretId { cluster: (&*cluster).into(), secret });
    let default = (vec(part(), 0..2), client(), strategy());
    (vec(route, 0..3), default, option::of(certificate)).prop_map(
        |(routes, (default, default_client, default_strategy), certificate)| Host {
            routes,
            default,
            default_client,
            default_strategy,
            certificate,
            ..Host::new("public".into(), HostKey::Any)
        },
    )
}

fn backend() -> impl Strategy<Value = Backend> {
    let name = (words(), any::<u16>()).prop_map(|(host, port)| ExternalName { host, port });
    (option::of(name), protocol()).prop_map(|(external_name, protocol)| {
        let service = ObjectName::new("shop", "web");
        let id = BackendId { cluster: "eu".into(), service, port: PortRef::Number(80) };
        Backend { external_name, protocol, ..Backend::empty(id) }
    })
}

proptest! {
    #[test]
    fn settings_survive_the_wire(host in host(), backend in backend()) {
        let decode = |bytes: &[u8]| <wire::Host as prost::Message>::decode(bytes).unwrap();
        let bytes = prost::Message::encode_to_vec(&host_to_wire(&host));
        prop_assert_eq!(host_from_wire(decode(&bytes)), Ok(host));
        prop_assert_eq!(backend_from_wire(backend_to_wire(&backend)), Ok(backend));
    }
}

#[test]
fn settings_that_nobody_set_are_not_on_the_wire() {
    assert_eq!(client_to_wire(&ClientSettings::default()), None);
    assert_eq!(upstream::upstream_to_wire(&UpstreamSettings::default()), None);
    assert_eq!(strategy_to_wire(roadstead_routing::policy::Strategy::default()), 0);
}

fn refused(client: wire::ClientSettings) -> String {
    client_from_wire(Some(client)).unwrap_err().to_string()
}

#[test]
fn what_is_out_of_bounds_is_named() {
    let network = |address: &[u8], prefix| wire::Network { address: address.to_vec(), prefix };
    let access = |deny: Vec<wire::Network>| wire::ClientSettings {
        access: Some(wire::Access { deny, ..wire::Access::default() }),
        ..wire::ClientSettings::default()
    };
    assert_eq!(
        refused(access(vec![network(&[10, 0, 0, 0], 8); SETTINGS_LIST_MAX + 1])),
        "access deny has 4097 entries, more than 4096"
    );
    assert_eq!(
        refused(access(vec![network(&[10, 0, 0, 0], 33)])),
        "access deny has a value that is not allowed: 10.0.0.0/33"
    );
    assert_eq!(refused(access(vec![network(&[10], 8)])), "address has a value that is not allowed: 1 bytes");
    let app_root = Some("/".repeat(SETTINGS_TEXT_BYTES_MAX + 1));
    assert_eq!(
        refused(wire::ClientSettings { app_root, ..wire::ClientSettings::default() }),
        "app_root has a value that is not allowed: 8193 bytes, more than 8192"
    );
    for status in [0, 299, 309, 70_000] {
        let to = Some(wire::redirect::To::Url("/".into()));
        let redirect = Some(wire::Redirect { to, status });
        let refused = refused(wire::ClientSettings { redirect, ..wire::ClientSettings::default() });
        assert_eq!(refused, format!("redirect status has a value that is not allowed: {status}"));
    }
    let retry = Some(wire::Retry { on_status: vec![502, 99], ..wire::Retry::default() });
    let refused = upstream::upstream_from_wire(Some(wire::UpstreamSettings { retry, ..Default::default() }));
    assert_eq!(refused.unwrap_err().to_string(), "upstream retry on_status has a value that is not allowed: 99");
}

#[test]
fn incomplete_settings_say_what_is_missing() {
    let default = wire::ClientSettings::default;
    let cases = [
        (wire::ClientSettings { redirect: Some(wire::Redirect::default()), ..default() }, "redirect to is missing"),
        (wire::ClientSettings { hash_by: Some(wire::HashBy::default()), ..default() }, "hash_by is missing"),
    ];
    for (client, expected) in cases {
        assert_eq!(refused(client), expected);
    }
}
