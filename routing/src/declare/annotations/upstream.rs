//! How endpoints are spoken to (rows 2, 4 to 6, 20, 23, 27).

use std::sync::Arc;

use crate::finding::Severity;
use crate::settings::{Retry, Rewrite, UpstreamSettings};

use super::reader::Reader;
use super::{protocol, value};

pub(super) fn read(reader: &mut Reader<'_, '_>) -> UpstreamSettings {
    UpstreamSettings {
        rewrite: reader.value("rewrite-target", rewrite),
        host: reader.value("upstream-vhost", host),
        forwarded_prefix: reader.value("x-forwarded-prefix", value::path),
        protocol: reader.value("backend-protocol", |name| {
            protocol(name).ok_or_else(|| "it must be HTTP, HTTPS, GRPC, GRPCS or AUTO_HTTP".to_owned())
        }),
        body_bytes_max: reader.value("proxy-body-size", value::size),
        connect_timeout: reader.value("proxy-connect-timeout", value::seconds),
        read_timeout: reader.value("proxy-read-timeout", value::seconds),
        send_timeout: reader.value("proxy-send-timeout", value::seconds),
        retry: retry(reader),
        errors: reader.value("custom-http-errors", errors).unwrap_or_default(),
    }
}

/// Groups are `$1` to `$9`; any other `$` is an error rather than a surprise.
fn rewrite(template: &str) -> Result<Rewrite, String> {
    let template = value::printable(template)?;
    let mut rest = &*template;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if !rest.starts_with(|digit: char| ('1'..='9').contains(&digit)) {
            return Err("$ must be followed by a digit from 1 to 9".to_owned());
        }
    }
    if !template.starts_with(['/', '$']) {
        return Err("it must begin with a slash or a group".to_owned());
    }
    Ok(Rewrite { template })
}

fn errors(codes: &str) -> Result<Vec<u16>, String> {
    let code = |code: &str| value::number(code, 300..=599).map(|code| u16::try_from(code).unwrap_or(u16::MAX));
    let mut codes = value::list(codes, code)?;
    codes.sort_unstable();
    codes.dedup();
    Ok(codes)
}

/// The Service that answers where the Ingress's own cannot, and instead of its errors. Of the Ingress's namespace.
pub(super) fn fallback(reader: &mut Reader<'_, '_>, errors: &[u16]) -> Option<Arc<str>> {
    let name = reader.value("default-backend", |name| {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match name.bytes().all(is_name) && (1..=63).contains(&name.len()) {
            true => Ok(Arc::from(name)),
            false => Err("it must name a Service of the same namespace".to_owned()),
        }
    });
    if name.is_none() && !errors.is_empty() {
        reader.note("custom-http-errors", Severity::Warning, "it has no effect without default-backend");
    }
    name
}

fn host(name: &str) -> Result<Arc<str>, String> {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(is_host) {
        return Err("it must be a host name without variables".to_owned());
    }
    Ok(name.into())
}

fn retry(reader: &mut Reader<'_, '_>) -> Retry {
    let mut retry = Retry::default();
    let conditions = reader.value("proxy-next-upstream", |value| Ok(value.to_owned()));
    if let Some(conditions) = conditions {
        (retry.on_error, retry.on_timeout) = (false, false);
        for condition in conditions.split_whitespace() {
            match condition {
                "error" | "invalid_header" => retry.on_error = true,
                "timeout" => retry.on_timeout = true,
                "off" => {}
                other => match other.strip_prefix("http_").and_then(|code| value::number(code, 400..=599).ok()) {
                    Some(code) => retry.on_status.extend(u16::try_from(code)),
                    None => {
                        let what = if other == "non_idempotent" {
                            "non_idempotent has no effect: a request that was begun is repeated only if it is idempotent"
                        } else {
                            "only error, timeout, invalid_header, off and http_CODE have an effect"
                        };
                        reader.note("proxy-next-upstream", Severity::Info, what);
                    }
                },
            }
        }
        retry.on_status.sort_unstable();
        retry.on_status.dedup();
    }
    retry.tries = reader.value("proxy-next-upstream-tries", |it| value::number(it, 0..=10)).unwrap_or(retry.tries);
    retry.within = reader
        .value("proxy-next-upstream-timeout", |it| if it == "0" { Ok(None) } else { value::seconds(it).map(Some) })
        .flatten();
    retry
}
