//! Which endpoint a request goes to (rows 11, 12, 21, 22), and how clusters share requests.

use std::sync::Arc;

use crate::policy::{PRIORITY_MAX, Strategy};
use crate::settings::{Affinity, Balance, ClientSettings, HashBy, SameSite};

use super::reader::Reader;
use super::{Traffic, value};

const COOKIE: &str = "INGRESSCOOKIE";
/// A cluster's weight times ten.
const WEIGHT_PERCENT_MAX: u32 = 1_000;

pub(super) fn read(reader: &mut Reader<'_, '_>, client: &mut ClientSettings) {
    client.affinity = affinity(reader);
    client.hash_by = reader.value("upstream-hash-by", hash_by);
    client.balance = reader
        .value("load-balance", |it| match it {
            "round_robin" => Ok(Balance::RoundRobin),
            "ewma" => Ok(Balance::Ewma),
            _ => Err("it must be round_robin or ewma".to_owned()),
        })
        .unwrap_or_default();
}

/// `None`: off. The cookie's other annotations are read all the same, so that mistakes in them are reported.
fn affinity(reader: &mut Reader<'_, '_>) -> Option<Affinity> {
    let is_on =
        reader.value("affinity", |it| if it == "cookie" { Ok(()) } else { Err("it must be cookie".to_owned()) });
    let is_balanced = reader.value("affinity-mode", |it| match it {
        "balanced" => Ok(true),
        "persistent" => Ok(false),
        _ => Err("it must be balanced or persistent".to_owned()),
    });
    let forgets_canary = reader.value("affinity-canary-behavior", |it| match it {
        "sticky" => Ok(false),
        "legacy" => Ok(true),
        _ => Err("it must be sticky or legacy".to_owned()),
    });
    let expires = reader.value("session-cookie-expires", |it| value::number(it, 0..=u32::MAX));
    let max_age = reader.value("session-cookie-max-age", |it| value::number(it, 0..=u32::MAX));
    let affinity = Affinity {
        cookie: reader.value("session-cookie-name", value::token).unwrap_or_else(|| COOKIE.into()),
        path: reader.value("session-cookie-path", cookie_path),
        domain: reader.value("session-cookie-domain", cookie_domain),
        max_age_seconds: max_age.or(expires),
        same_site: reader.value("session-cookie-samesite", |it| match it {
            "None" => Ok(SameSite::None),
            "Lax" => Ok(SameSite::Lax),
            "Strict" => Ok(SameSite::Strict),
            _ => Err("it must be None, Lax or Strict".to_owned()),
        }),
        secure: reader.flag("session-cookie-secure").unwrap_or(false),
        change_on_failure: reader.flag("session-cookie-change-on-failure").unwrap_or(false),
        is_balanced: is_balanced.unwrap_or(true),
        forgets_canary: forgets_canary.unwrap_or(false),
    };
    is_on.map(|()| affinity)
}

fn cookie_path(text: &str) -> Result<Arc<str>, String> {
    value::path(text)
        .and_then(|path| if path.contains(';') { Err("it must not contain ;".to_owned()) } else { Ok(path) })
}

fn cookie_domain(text: &str) -> Result<Arc<str>, String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if text.is_empty() || text.len() > 253 || !text.bytes().all(is_part) {
        return Err("it must be a DNS name".to_owned());
    }
    Ok(text.into())
}

/// A closed list: no expressions (row 21).
fn hash_by(text: &str) -> Result<HashBy, String> {
    let not_one = || {
        "it must be $request_uri, $remote_addr, $host, $http_NAME, $arg_NAME or $cookie_NAME, and nothing else"
            .to_owned()
    };
    let name = text.strip_prefix('$').ok_or_else(not_one)?;
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_' || it == b'-');
    match name {
        "request_uri" => return Ok(HashBy::RequestUri),
        "remote_addr" | "binary_remote_addr" => return Ok(HashBy::RemoteAddress),
        "host" | "http_host" => return Ok(HashBy::Host),
        _ => {}
    }
    let (kind, word) = name.split_once('_').filter(|(_, word)| is_word(word)).ok_or_else(not_one)?;
    match kind {
        "http" => Ok(HashBy::Header(word.to_ascii_lowercase().replace('_', "-").into())),
        "arg" => Ok(HashBy::Argument(word.into())),
        "cookie" => Ok(HashBy::Cookie(word.into())),
        _ => Err(not_one()),
    }
}

pub(super) fn traffic(reader: &mut Reader<'_, '_>) -> Traffic {
    Traffic {
        strategy: reader.value("strategy", |it| match it {
            "spread" => Ok(Strategy::Spread),
            "failover" => Ok(Strategy::Failover),
            "nearest" => Ok(Strategy::Nearest),
            _ => Err("it must be spread, failover or nearest".to_owned()),
        }),
        weight: reader.value("weight", |it| value::number(it, 0..=WEIGHT_PERCENT_MAX)),
        priority: reader.value("priority", |it| value::number(it, 0..=PRIORITY_MAX)),
        weigh_by_endpoints: reader.flag("weigh-by-endpoints"),
    }
}
