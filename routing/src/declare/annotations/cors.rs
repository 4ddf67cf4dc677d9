//! Cross-origin requests (row 8), with the defaults of ingress-nginx.

use std::sync::Arc;

use crate::settings::{Cors, Origin};

use super::reader::Reader;
use super::value;

const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS: &str =
    "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";
const MAX_AGE_SECONDS: u32 = 1_728_000;

pub(super) fn read(reader: &mut Reader<'_, '_>) -> Option<Cors> {
    let is_on = reader.flag("enable-cors").unwrap_or(false);
    let cors = Cors {
        origins: reader.value("cors-allow-origin", |it| value::list(it, origin)).unwrap_or_else(|| vec![Origin::Any]),
        methods: reader.value("cors-allow-methods", names).unwrap_or_else(|| METHODS.into()),
        headers: reader.value("cors-allow-headers", names).unwrap_or_else(|| HEADERS.into()),
        credentials: reader.flag("cors-allow-credentials").unwrap_or(true),
        expose: reader.value("cors-expose-headers", names),
        max_age_seconds: reader.value("cors-max-age", |it| value::number(it, 0..=u32::MAX)).unwrap_or(MAX_AGE_SECONDS),
    };
    is_on.then_some(cors)
}

fn origin(value: &str) -> Result<Origin, String> {
    if value == "*" {
        return Ok(Origin::Any);
    }
    let lower = value.to_ascii_lowercase();
    let not_one = || format!("{value:?} is no origin such as https://app.example.com or https://*.example.com");
    let (scheme, host) = lower.split_once("://").ok_or_else(not_one)?;
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
    };
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_scheme {
        return Err(not_one());
    }
    match host.strip_prefix("*.") {
        Some(suffix) if is_name(suffix) => {
            Ok(Origin::Subdomain(format!("{scheme}://").into(), format!(".{suffix}").into()))
        }
        None if is_name(host) => Ok(Origin::Exact(lower.into())),
        _ => Err(not_one()),
    }
}

/// Names of fields or methods between commas, as written.
fn names(value: &str) -> Result<Arc<str>, String> {
    value::list(value, value::token)?;
    Ok(value.into())
}
