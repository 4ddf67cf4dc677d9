//! Who may send requests, and how many (rows 7, 13, 14, 19, 25). What cannot be read lets nobody in (rule N-6).

use std::sync::Arc;

use crate::finding::Severity;
use crate::id::ObjectName;
use crate::object::Ingress;
use crate::settings::{Access, BasicAuth, CertificateNeed, ClientCertificate, ExternalAuth, RateLimit, UsersForm};

use super::reader::Reader;
use super::value;

const RATE_MAX: u32 = 1_000_000;
/// Certificates of a chain above the client's.
const DEPTH_MAX: u32 = 10;
const BURST: u32 = 5;
/// Bytes of a realm.
const REALM_MAX: usize = 256;

/// Something was asked for that cannot be read.
struct Unreadable;

pub(super) fn read(ingress: &Ingress, reader: &mut Reader<'_, '_>) -> Access {
    match requirements(ingress, reader) {
        Ok(access) => access,
        Err(Unreadable) => Access { is_irreconcilable: true, ..Access::default() },
    }
}

/// Reads everything before it fails, so that every mistake is reported at once.
fn requirements(ingress: &Ingress, reader: &mut Reader<'_, '_>) -> Result<Access, Unreadable> {
    let old = networks(reader, "whitelist-source-range");
    let allow = networks(reader, "allowlist-source-range").or(old);
    let deny = networks(reader, "denylist-source-range");
    let (basic, external) = (basic(ingress, reader), external(reader));
    let certificate = certificate(ingress, reader);
    let mut access = Access::default();
    access.allow.extend(allow.transpose()?);
    access.deny = deny.transpose()?.unwrap_or_default();
    access.basic.extend(basic?);
    access.external.extend(external?);
    access.certificates.extend(certificate?);
    Ok(access)
}

fn networks(reader: &mut Reader<'_, '_>, name: &str) -> Option<Result<Vec<ipnet::IpNet>, Unreadable>> {
    let networks = reader.checked(name, |it| value::list(it, value::network))?;
    Some(networks.map_err(|()| Unreadable).map(|mut networks| {
        networks.sort();
        networks.dedup();
        networks
    }))
}

fn basic(ingress: &Ingress, reader: &mut Reader<'_, '_>) -> Result<Option<BasicAuth>, Unreadable> {
    let kind = reader.checked("auth-type", |it| match it {
        "basic" => Ok(()),
        _ => Err("only basic is supported".to_owned()),
    });
    let secret = reader.checked("auth-secret", |it| secret(ingress, it));
    let form = reader.value("auth-secret-type", |it| match it {
        "auth-file" => Ok(UsersForm::File),
        "auth-map" => Ok(UsersForm::Map),
        _ => Err("it must be auth-file or auth-map".to_owned()),
    });
    let realm = reader.value("auth-realm", realm).unwrap_or_else(|| "Authentication Required".into());
    let Some(kind) = kind else { return Ok(None) };
    kind.map_err(|()| Unreadable)?;
    let Some(Ok(secret)) = secret else {
        reader.note("auth-type", Severity::Error, "without a readable auth-secret nobody may enter");
        return Err(Unreadable);
    };
    Ok(Some(BasicAuth { realm, cluster: "".into(), secret, form: form.unwrap_or_default() }))
}

/// `name` or `namespace/name`; only the Ingress's own namespace (rule N-3).
fn secret(ingress: &Ingress, text: &str) -> Result<ObjectName, String> {
    let (namespace, name) = text.split_once('/').unwrap_or((&ingress.name.namespace, text));
    if *namespace != *ingress.name.namespace {
        return Err("the Secret must be in the Ingress's own namespace".to_owned());
    }
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(is_name) {
        return Err("it must name a Secret".to_owned());
    }
    Ok(ObjectName::new(namespace, name))
}

fn realm(text: &str) -> Result<Arc<str>, String> {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    if text.len() > REALM_MAX || !text.bytes().all(is_plain) {
        return Err(format!("it must be at most {REALM_MAX} printable characters without quotes and backslashes"));
    }
    Ok(text.into())
}

fn external(reader: &mut Reader<'_, '_>) -> Result<Option<ExternalAuth>, Unreadable> {
    let url = reader.checked("auth-url", value::url);
    let method = reader.checked("auth-method", method);
    let signin = reader.value("auth-signin", value::url);
    let headers = reader.value("auth-response-headers", |it| value::list(it, value::header_name));
    let Some(url) = url else { return Ok(None) };
    let url = url.map_err(|()| Unreadable)?;
    let method = method.transpose().map_err(|()| Unreadable)?;
    Ok(Some(ExternalAuth { url, method, signin, response_headers: headers.unwrap_or_default() }))
}

fn certificate(ingress: &Ingress, reader: &mut Reader<'_, '_>) -> Result<Option<ClientCertificate>, Unreadable> {
    let secret = reader.checked("auth-tls-secret", |it| secret(ingress, it));
    let need = reader.checked("auth-tls-verify-client", |it| match it {
        "on" => Ok(Some(CertificateNeed::Required)),
        "optional" => Ok(Some(CertificateNeed::Optional)),
        "optional_no_ca" => Ok(Some(CertificateNeed::Unverified)),
        "off" => Ok(None),
        _ => Err("it must be on, off, optional or optional_no_ca".to_owned()),
    });
    let depth = reader.checked("auth-tls-verify-depth", |it| value::number(it, 1..=DEPTH_MAX));
    let pass = reader.flag("auth-tls-pass-certificate-to-upstream").unwrap_or(false);
    // Without it more clients could enter than somebody meant.
    if reader.refuses("auth-tls-match-cn", "it is refused, and without it nobody may enter") {
        return Err(Unreadable);
    }
    let Some(secret) = secret else { return Ok(None) };
    let secret = secret.map_err(|()| Unreadable)?;
    let need = need.transpose().map_err(|()| Unreadable)?.unwrap_or(Some(CertificateNeed::Required));
    let depth = depth.transpose().map_err(|()| Unreadable)?.and_then(|depth| u8::try_from(depth).ok()).unwrap_or(1);
    Ok(need.map(|need| ClientCertificate { cluster: "".into(), secret, need, depth, pass }))
}

/// The whole value is one method (the unanchored check of CVE-2026-1580).
fn method(text: &str) -> Result<Arc<str>, String> {
    const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
    if METHODS.contains(&text) { Ok(text.into()) } else { Err("it must be a method such as GET or POST".to_owned()) }
}

/// `None`: no limit.
pub(super) fn rate(reader: &mut Reader<'_, '_>) -> Option<RateLimit> {
    let mut number = |name: &str| reader.value(name, |it| value::number(it, 0..=RATE_MAX));
    let (per_second, per_minute) = (number("limit-rps").unwrap_or(0), number("limit-rpm").unwrap_or(0));
    let connections = number("limit-connections").unwrap_or(0);
    let burst = reader.value("limit-burst-multiplier", |it| value::number(it, 1..=1_000)).unwrap_or(BURST);
    let old = reader.value("limit-whitelist", |it| value::list(it, value::network));
    let exempt = reader.value("limit-allowlist", |it| value::list(it, value::network)).or(old).unwrap_or_default();
    let limit = RateLimit { per_second, per_minute, connections, burst, exempt };
    (per_second > 0 || per_minute > 0 || connections > 0).then_some(limit)
}
