//! Any value of any annotation: no panic, and nothing that leaves bounds or could end a header line.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use roadstead_routing::declare::declare;
use roadstead_routing::id::HostKey;
use roadstead_routing::object::{Ingress, IngressRule};
use roadstead_routing::settings::RedirectTo;

const NAMES: [&str; 40] = [
    "affinity", "allowlist-source-range", "app-root", "auth-method", "auth-realm", "auth-response-headers",
    "auth-secret", "auth-signin", "auth-type", "auth-url", "backend-protocol", "canary", "canary-by-cookie",
    "canary-by-header", "canary-by-header-pattern", "canary-by-header-value", "canary-weight", "canary-weight-total",
    "cors-allow-headers", "cors-allow-methods", "cors-allow-origin", "cors-expose-headers", "enable-cors",
    "from-to-www-redirect", "limit-rps", "permanent-redirect", "proxy-body-size", "proxy-next-upstream",
    "proxy-read-timeout", "rewrite-target", "server-alias", "session-cookie-domain", "session-cookie-name",
    "session-cookie-path", "strategy", "temporal-redirect", "upstream-hash-by", "upstream-vhost", "use-regex",
    "x-forwarded-prefix",
];

fuzz_target!(|input: (Vec<(u8, String)>, String)| {
    let (annotations, host) = input;
    let named = annotations.into_iter().map(|(name, value)| {
        (format!("roadstead.dev/{}", NAMES[usize::from(name) % NAMES.len()]).into(), value.into())
    });
    let rules = vec![IngressRule { host: host.into(), paths: None }];
    let ingress = Ingress { annotations: named.collect::<BTreeMap<_, _>>(), rules, ..Ingress::default() };
    let declared = declare(&ingress);
    let client = declared.client(&HostKey::Any);
    let safe = |text: &str| assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?}");
    if let Some(redirect) = &client.redirect {
        assert!((300..=308).contains(&redirect.status));
        match &redirect.to {
            RedirectTo::Url(to) | RedirectTo::Host(to) => safe(to),
        }
    }
    client.app_root.iter().for_each(|it| safe(it));
    for basic in &client.access.basic {
        safe(&basic.realm);
    }
    for external in &client.access.external {
        safe(&external.url);
        external.response_headers.iter().for_each(|it| safe(it));
    }
    if let Some(cors) = &client.cors {
        [&cors.methods, &cors.headers].into_iter().chain(&cors.expose).for_each(|it| safe(it));
    }
    if let Some(affinity) = &client.affinity {
        safe(&affinity.cookie);
        affinity.path.iter().chain(&affinity.domain).for_each(|it| safe(it));
    }
});
