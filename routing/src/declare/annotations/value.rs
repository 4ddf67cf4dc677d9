//! Readers of single values, each anchored and bounded (rule N-1).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::settings::AllDown;

/// Entries of one list.
pub(super) const LIST_MAX: usize = 256;
/// A day: longer times are a mistake.
const SECONDS_MAX: u32 = 24 * 60 * 60;

pub(super) fn number(value: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let number = value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()));
    let out_of_range = || format!("it must be a number from {} to {}", range.start(), range.end());
    number.filter(|number| range.contains(number)).ok_or_else(out_of_range)
}

/// A status, or where else to go (rule E-2).
pub(crate) fn all_down(value: &str) -> Result<AllDown, String> {
    if let Ok(status) = number(value, 400..=599) {
        return Ok(AllDown::Status(u16::try_from(status).unwrap_or(503)));
    }
    let neither = |_| "it must be a status from 400 to 599 or an http or https URL".to_owned();
    url(value).map(AllDown::Redirect).map_err(neither)
}

/// Whole seconds, with or without `s`.
pub(super) fn seconds(value: &str) -> Result<Duration, String> {
    let number = number(value.strip_suffix('s').unwrap_or(value), 1..=SECONDS_MAX)?;
    Ok(Duration::from_secs(number.into()))
}

/// `8m`: bytes, with `k`, `m` or `g` for powers of 1024.
pub(super) fn size(value: &str) -> Result<u64, String> {
    let (digits, unit) = match value.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&value[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&value[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&value[..at], 1 << 30),
        _ => (value, 1),
    };
    let number: Option<u64> = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| "it must be a size such as 512k, 8m or 1g".to_owned())
}

/// Entries between commas, none of them empty.
pub(super) fn list<T>(value: &str, entry: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let entries: Vec<&str> = value.split(',').map(str::trim_ascii).filter(|entry| !entry.is_empty()).collect();
    if entries.is_empty() || entries.len() > LIST_MAX {
        return Err(format!("it must have 1 to {LIST_MAX} entries"));
    }
    entries.into_iter().map(entry).collect()
}

/// `10.0.0.0/8` or one address.
pub(super) fn network(value: &str) -> Result<IpNet, String> {
    let parsed = value.parse().ok().or_else(|| value.parse().ok().map(|address: std::net::IpAddr| address.into()));
    parsed.map(|network: IpNet| network.trunc()).ok_or_else(|| format!("{value:?} is no network such as 10.0.0.0/8"))
}

/// A token of RFC 9110: the name of a header field, a method, a cookie.
pub(super) fn token(value: &str) -> Result<Arc<str>, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if value.is_empty() || value.len() > 256 || !value.bytes().all(is_token) {
        return Err(format!("{value:?} is not made of letters, digits and -_.!#$%&'*+^`|~ alone"));
    }
    Ok(value.into())
}

pub(super) fn header_name(value: &str) -> Result<Arc<str>, String> {
    token(&value.to_ascii_lowercase())
}

/// Printable ASCII without spaces: what may stand in a URL.
pub(super) fn printable(value: &str) -> Result<Arc<str>, String> {
    if value.is_empty() || value.len() > 2_048 || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it must be 1 to 2048 printable ASCII characters without spaces".to_owned());
    }
    Ok(value.into())
}

pub(super) fn path(value: &str) -> Result<Arc<str>, String> {
    if !value.starts_with('/') || value.starts_with("//") {
        return Err("it must be a path that begins with one slash".to_owned());
    }
    printable(value)
}

/// An absolute URL over HTTP or HTTPS, without variables.
pub(super) fn url(value: &str) -> Result<Arc<str>, String> {
    let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    };
    if !host.is_some_and(is_host) {
        return Err("it must be an http:// or https:// URL with a host and no variables in it".to_owned());
    }
    printable(value)
}
