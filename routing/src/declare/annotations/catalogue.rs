//! What is said about annotations that nobody reads: refused, without effect, or unknown.

use std::collections::BTreeMap;

use crate::declare::{Declared, shortened};
use crate::finding::{Code, Severity};

/// Refused for good (rule N-1): each would let a tenant write what somebody executes, or reach beyond the Ingress.
const REFUSED: [&str; 11] = [
    "auth-snippet",
    "configuration-snippet",
    "enable-modsecurity",
    "enable-opentelemetry",
    "mirror-host",
    "mirror-request-body",
    "mirror-target",
    "modsecurity-snippet",
    "modsecurity-transaction-id",
    "server-snippet",
    "stream-snippet",
];

/// They tune how bytes flow, but not where to or for whom. Living without them is safe.
const TUNING: [&str; 15] = [
    "client-body-buffer-size",
    "connection-proxy-header",
    "enable-access-log",
    "enable-rewrite-log",
    "preserve-trailing-slash",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers-number",
    "proxy-busy-buffers-size",
    "proxy-http-version",
    "proxy-max-temp-file-size",
    "proxy-request-buffering",
    "service-upstream",
    "ssl-ciphers",
    "ssl-prefer-server-ciphers",
];

/// Those that change who may enter or what is encrypted: an Ingress that relies on them is not safe without.
const GUARDING: [&str; 2] = ["proxy-ssl", "ssl-passthrough"];

pub(super) fn report(left: BTreeMap<&str, (&str, &str)>, declared: &mut Declared) {
    // What switches off something that is not there anyway needs no word.
    for (name, (key, _)) in left.into_iter().filter(|(_, (_, value))| *value != "false") {
        let (severity, effect) = if REFUSED.contains(&name) {
            (Severity::Error, "it is refused")
        } else if GUARDING.iter().any(|prefix| name.starts_with(prefix)) {
            (Severity::Error, "it has no effect, and what it protects is not protected")
        } else if TUNING.contains(&name) {
            (Severity::Info, "it has no effect")
        } else {
            (Severity::Warning, "it has no effect")
        };
        let message = format!("annotation {} is not supported: {effect}", shortened(key));
        let remedy = "Remove the annotation or do without its effect.";
        declared.note(Code::UnsupportedAnnotation, severity, message, remedy);
    }
}
