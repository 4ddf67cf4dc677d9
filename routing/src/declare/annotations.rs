//! Annotations of one Ingress (rules S-16, N-1): each is read as a typed value or reported, never ignored in silence.

use crate::finding::{Code, Severity};
use crate::limit;
use crate::object::Ingress;

use super::{Declared, shortened};

const NGINX_PREFIX: &str = "nginx.ingress.kubernetes.io/";
const OWN_PREFIX: &str = "roadstead.dev/";

/// What an ImplementationSpecific path of an Ingress is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PathSyntax {
    Prefix,
    Regex,
}

/// Annotations that tune how traffic flows but not where it goes or who may send it. Living without them is safe.
const TUNING: [&str; 16] = [
    "client-body-buffer-size",
    "enable-access-log",
    "load-balance",
    "proxy-body-size",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers-number",
    "proxy-connect-timeout",
    "proxy-http-version",
    "proxy-max-temp-file-size",
    "proxy-next-upstream",
    "proxy-next-upstream-timeout",
    "proxy-next-upstream-tries",
    "proxy-read-timeout",
    "proxy-request-buffering",
    "proxy-send-timeout",
];

/// Reads the annotations of both families. Whatever has no effect becomes a finding on `declared`.
pub(super) fn read(ingress: &Ingress, declared: &mut Declared) -> PathSyntax {
    let mut syntax = PathSyntax::Prefix;
    for (key, value) in &ingress.annotations {
        let name = key.strip_prefix(NGINX_PREFIX);
        if name.is_none() && !key.starts_with(OWN_PREFIX) {
            continue;
        }
        match (name, &**value) {
            (Some("use-regex"), "true") => syntax = PathSyntax::Regex,
            (Some("use-regex"), "false") => {}
            (Some("use-regex"), _) => invalid(key, "it must be \"true\" or \"false\"", declared),
            (Some("rewrite-target"), value) => match check_text(value) {
                Ok(()) => {
                    syntax = PathSyntax::Regex;
                    unsupported(key, Severity::Warning, "paths match as patterns, but nothing is rewritten", declared);
                }
                Err(why) => invalid(key, &why, declared),
            },
            (Some(name), _) if TUNING.contains(&name) => unsupported(key, Severity::Info, "no effect", declared),
            _ => unsupported(key, Severity::Warning, "no effect", declared),
        }
    }
    syntax
}

fn check_text(value: &str) -> Result<(), String> {
    if value.len() > limit::ANNOTATION_BYTES_MAX {
        return Err(format!("it is longer than {} bytes", limit::ANNOTATION_BYTES_MAX));
    }
    if value.chars().any(char::is_control) {
        return Err("it contains a control character".into());
    }
    Ok(())
}

fn invalid(key: &str, why: &str, declared: &mut Declared) {
    let message = format!("annotation {}: {why}; it is ignored", shortened(key));
    declared.note(Code::InvalidAnnotation, Severity::Warning, message, "Correct the value or remove the annotation.");
}

fn unsupported(key: &str, severity: Severity, effect: &str, declared: &mut Declared) {
    let message = format!("annotation {} is not supported: {effect}", shortened(key));
    declared.note(Code::UnsupportedAnnotation, severity, message, "Remove the annotation or do without its effect.");
}
