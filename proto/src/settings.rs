//! Settings of routes to and from the wire: what concerns the client's leg here, the upstream leg in [`upstream`],
//! canaries in [`canary`].
//!
//! Settings that nobody set become nothing at all on the wire. Out of the wire every number, list and text is bounded.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use roadstead_routing::id::ObjectName;
use roadstead_routing::policy::Hsts;
use roadstead_routing::policy::Strategy;
use roadstead_routing::settings::{
    Access, Affinity, AllDown, Balance, BasicAuth, CertificateNeed, ClientCertificate, ClientSettings, Cors,
    ExternalAuth, HashBy, Origin, RateLimit, Redirect, RedirectTo, SameSite, UsersForm,
};
use roadstead_routing::table::SecretId;

use crate::object::{ObjectError, address_from_wire, address_to_wire};
use crate::resource::ResourceError;
use crate::wire;

pub(crate) mod canary;
pub(crate) mod upstream;

#[cfg(test)]
mod tests;

/// Entries of one list of a route's settings, those of all clusters together.
pub const SETTINGS_LIST_MAX: usize = 4_096;
/// Bytes of one text of a route's settings.
pub const SETTINGS_TEXT_BYTES_MAX: usize = roadstead_routing::limit::ANNOTATION_BYTES_MAX;

pub(crate) fn strategy_to_wire(strategy: Strategy) -> i32 {
    match strategy {
        Strategy::Spread => wire::Strategy::Spread,
        Strategy::Failover => wire::Strategy::Failover,
        Strategy::Nearest => wire::Strategy::Nearest,
    }
    .into()
}

pub(crate) fn strategy_from_wire(strategy: wire::Strategy) -> Strategy {
    match strategy {
        wire::Strategy::Spread => Strategy::Spread,
        wire::Strategy::Failover => Strategy::Failover,
        wire::Strategy::Nearest => Strategy::Nearest,
    }
}

pub(crate) fn secret_ref_to_wire(id: &SecretId) -> wire::SecretRef {
    wire::SecretRef {
        cluster: id.cluster.to_string(),
        namespace: id.secret.namespace.to_string(),
        name: id.secret.name.to_string(),
    }
}

pub(crate) fn secret_ref_from_wire(secret: wire::SecretRef) -> Result<SecretId, ResourceError> {
    let namespace = text("secret namespace", secret.namespace)?;
    let secret_name = ObjectName { namespace, name: text("secret name", secret.name)? };
    Ok(SecretId { cluster: secret.cluster.as_str().into(), secret: secret_name })
}

/// `None` if nobody set anything.
pub(crate) fn client_to_wire(client: &ClientSettings) -> Option<wire::ClientSettings> {
    if *client == ClientSettings::default() {
        return None;
    }
    let field = |(name, value): &(Arc<str>, Arc<str>)| wire::Field { name: name.to_string(), value: value.to_string() };
    Some(wire::ClientSettings {
        https_redirect: client.https_redirect,
        redirect: client.redirect.as_ref().map(redirect_to_wire),
        app_root: client.app_root.as_ref().map(ToString::to_string),
        access: (client.access != Access::default()).then(|| access_to_wire(&client.access)),
        rate: client.rate.as_ref().map(rate_to_wire),
        cors: client.cors.as_ref().map(cors_to_wire),
        affinity: client.affinity.as_ref().map(affinity_to_wire),
        hash_by: client.hash_by.as_ref().map(hash_by_to_wire),
        balance: match client.balance {
            Balance::RoundRobin => wire::Balance::RoundRobin,
            Balance::Ewma => wire::Balance::Ewma,
        }
        .into(),
        response_headers: client.response_headers.iter().map(field).collect(),
        all_down: client.all_down.as_ref().map(all_down_to_wire),
        hsts: client.hsts.map(hsts_to_wire),
    })
}

pub(crate) fn client_from_wire(client: Option<wire::ClientSettings>) -> Result<Arc<ClientSettings>, ResourceError> {
    let Some(client) = client else { return Ok(Arc::default()) };
    let balance = match client.balance() {
        wire::Balance::RoundRobin => Balance::RoundRobin,
        wire::Balance::Ewma => Balance::Ewma,
    };
    let field = |field: wire::Field| {
        Ok((text("response_headers name", field.name)?, text("response_headers value", field.value)?))
    };
    Ok(Arc::new(ClientSettings {
        https_redirect: client.https_redirect,
        redirect: client.redirect.map(redirect_from_wire).transpose()?,
        app_root: optional("app_root", client.app_root)?,
        access: client.access.map(access_from_wire).transpose()?.unwrap_or_default(),
        rate: client.rate.map(rate_from_wire).transpose()?,
        cors: client.cors.map(cors_from_wire).transpose()?,
        affinity: client.affinity.map(affinity_from_wire).transpose()?,
        hash_by: client.hash_by.map(hash_by_from_wire).transpose()?,
        balance,
        response_headers: list("response_headers", client.response_headers, field)?,
        all_down: client.all_down.map(all_down_from_wire).transpose()?,
        hsts: client.hsts.map(hsts_from_wire),
    }))
}

fn hsts_to_wire(hsts: Hsts) -> wire::Hsts {
    let Hsts { max_age, include_subdomains, preload } = hsts;
    wire::Hsts { max_age_seconds: max_age, include_subdomains, preload }
}

fn hsts_from_wire(hsts: wire::Hsts) -> Hsts {
    let wire::Hsts { max_age_seconds, include_subdomains, preload } = hsts;
    Hsts { max_age: max_age_seconds, include_subdomains, preload }
}

fn all_down_to_wire(all_down: &AllDown) -> wire::AllDown {
    let answer = match all_down {
        AllDown::Status(status) => wire::all_down::Answer::Status((*status).into()),
        AllDown::Redirect(url) => wire::all_down::Answer::Redirect(url.to_string()),
    };
    wire::AllDown { answer: Some(answer) }
}

fn all_down_from_wire(all_down: wire::AllDown) -> Result<AllDown, ResourceError> {
    match all_down.answer.ok_or(ResourceError::Missing("all_down answer"))? {
        wire::all_down::Answer::Status(code) => Ok(AllDown::Status(status("all_down status", code, 400..=599)?)),
        wire::all_down::Answer::Redirect(url) => Ok(AllDown::Redirect(text("all_down redirect", url)?)),
    }
}

fn redirect_to_wire(redirect: &Redirect) -> wire::Redirect {
    let to = match &redirect.to {
        RedirectTo::Url(url) => wire::redirect::To::Url(url.to_string()),
        RedirectTo::Host(host) => wire::redirect::To::Host(host.to_string()),
    };
    wire::Redirect { to: Some(to), status: redirect.status.into() }
}

fn redirect_from_wire(redirect: wire::Redirect) -> Result<Redirect, ResourceError> {
    let to = match redirect.to.ok_or(ResourceError::Missing("redirect to"))? {
        wire::redirect::To::Url(url) => RedirectTo::Url(text("redirect url", url)?),
        wire::redirect::To::Host(host) => RedirectTo::Host(text("redirect host", host)?),
    };
    Ok(Redirect { to, status: status("redirect status", redirect.status, 300..=308)? })
}

fn access_to_wire(access: &Access) -> wire::Access {
    wire::Access {
        irreconcilable: access.is_irreconcilable,
        allow: access.allow.iter().map(|networks| wire::Networks { networks: networks_to_wire(networks) }).collect(),
        deny: networks_to_wire(&access.deny),
        basic: access.basic.iter().map(basic_to_wire).collect(),
        external: access.external.iter().map(external_to_wire).collect(),
        certificates: access.certificates.iter().map(certificate_to_wire).collect(),
    }
}

fn access_from_wire(access: wire::Access) -> Result<Access, ResourceError> {
    Ok(Access {
        is_irreconcilable: access.irreconcilable,
        allow: list("access allow", access.allow, |one| networks_from_wire("access allow", one.networks))?,
        deny: networks_from_wire("access deny", access.deny)?,
        basic: list("access basic", access.basic, basic_from_wire)?,
        external: list("access external", access.external, external_from_wire)?,
        certificates: list("access certificates", access.certificates, certificate_from_wire)?,
    })
}

fn basic_to_wire(basic: &BasicAuth) -> wire::BasicAuth {
    let secret = SecretId { cluster: basic.cluster.clone(), secret: basic.secret.clone() };
    wire::BasicAuth {
        realm: basic.realm.to_string(),
        secret: Some(secret_ref_to_wire(&secret)),
        form: match basic.form {
            UsersForm::File => wire::UsersForm::File,
            UsersForm::Map => wire::UsersForm::Map,
        }
        .into(),
    }
}

fn basic_from_wire(basic: wire::BasicAuth) -> Result<BasicAuth, ResourceError> {
    let form = match basic.form() {
        wire::UsersForm::File => UsersForm::File,
        wire::UsersForm::Map => UsersForm::Map,
    };
    let secret = secret_ref_from_wire(basic.secret.ok_or(ResourceError::Missing("access basic secret"))?)?;
    let realm = text("access basic realm", basic.realm)?;
    Ok(BasicAuth { realm, cluster: secret.cluster, secret: secret.secret, form })
}

fn certificate_to_wire(certificate: &ClientCertificate) -> wire::ClientCertificate {
    let secret = SecretId { cluster: certificate.cluster.clone(), secret: certificate.secret.clone() };
    wire::ClientCertificate {
        secret: Some(secret_ref_to_wire(&secret)),
        need: match certificate.need {
            CertificateNeed::Required => wire::CertificateNeed::Required,
            CertificateNeed::Optional => wire::CertificateNeed::Optional,
            CertificateNeed::Unverified => wire::CertificateNeed::Unverified,
        }
        .into(),
        depth: certificate.depth.into(),
        pass: certificate.pass,
    }
}

/// A need that this version does not know would let in whom it cannot judge: it is refused.
fn certificate_from_wire(certificate: wire::ClientCertificate) -> Result<ClientCertificate, ResourceError> {
    let need = match wire::CertificateNeed::try_from(certificate.need) {
        Ok(wire::CertificateNeed::Required) => CertificateNeed::Required,
        Ok(wire::CertificateNeed::Optional) => CertificateNeed::Optional,
        Ok(wire::CertificateNeed::Unverified) => CertificateNeed::Unverified,
        Err(_) => return Err(ResourceError::Missing("a known access certificates need")),
    };
    let secret = certificate.secret.ok_or(ResourceError::Missing("access certificates secret"))?;
    let SecretId { cluster, secret } = secret_ref_from_wire(secret)?;
    let depth = u8::try_from(certificate.depth).unwrap_or(u8::MAX);
    Ok(ClientCertificate { cluster, secret, need, depth, pass: certificate.pass })
}

fn external_to_wire(external: &ExternalAuth) -> wire::ExternalAuth {
    wire::ExternalAuth {
        url: external.url.to_string(),
        method: external.method.as_ref().map(ToString::to_string),
        signin: external.signin.as_ref().map(ToString::to_string),
        response_headers: external.response_headers.iter().map(ToString::to_string).collect(),
    }
}

fn external_from_wire(external: wire::ExternalAuth) -> Result<ExternalAuth, ResourceError> {
    const HEADERS: &str = "access external response_headers";
    Ok(ExternalAuth {
        url: text("access external url", external.url)?,
        method: optional("access external method", external.method)?,
        signin: optional("access external signin", external.signin)?,
        response_headers: list(HEADERS, external.response_headers, |name| text(HEADERS, name))?,
    })
}

fn rate_to_wire(rate: &RateLimit) -> wire::RateLimit {
    wire::RateLimit {
        per_second: rate.per_second,
        per_minute: rate.per_minute,
        connections: rate.connections,
        burst: rate.burst,
        exempt: networks_to_wire(&rate.exempt),
    }
}

fn rate_from_wire(rate: wire::RateLimit) -> Result<RateLimit, ResourceError> {
    Ok(RateLimit {
        per_second: rate.per_second,
        per_minute: rate.per_minute,
        connections: rate.connections,
        burst: rate.burst,
        exempt: networks_from_wire("rate exempt", rate.exempt)?,
    })
}

fn cors_to_wire(cors: &Cors) -> wire::Cors {
    use wire::origin::Origin as WireOrigin;
    let origin = |origin: &Origin| match origin {
        Origin::Any => WireOrigin::Any(wire::Any {}),
        Origin::Exact(exact) => WireOrigin::Exact(exact.to_string()),
        Origin::Subdomain(before, after) => {
            WireOrigin::Subdomain(wire::Subdomain { before: before.to_string(), after: after.to_string() })
        }
    };
    wire::Cors {
        origins: cors.origins.iter().map(|one| wire::Origin { origin: Some(origin(one)) }).collect(),
        methods: cors.methods.to_string(),
        headers: cors.headers.to_string(),
        credentials: cors.credentials,
        expose: cors.expose.as_ref().map(ToString::to_string),
        max_age_seconds: cors.max_age_seconds,
    }
}

fn cors_from_wire(cors: wire::Cors) -> Result<Cors, ResourceError> {
    use wire::origin::Origin as WireOrigin;
    const ORIGINS: &str = "cors origins";
    let origin = |origin: wire::Origin| {
        Ok(match origin.origin.ok_or(ResourceError::Missing(ORIGINS))? {
            WireOrigin::Any(_) => Origin::Any,
            WireOrigin::Exact(exact) => Origin::Exact(text(ORIGINS, exact)?),
            WireOrigin::Subdomain(one) => Origin::Subdomain(text(ORIGINS, one.before)?, text(ORIGINS, one.after)?),
        })
    };
    Ok(Cors {
        origins: list(ORIGINS, cors.origins, origin)?,
        methods: text("cors methods", cors.methods)?,
        headers: text("cors headers", cors.headers)?,
        credentials: cors.credentials,
        expose: optional("cors expose", cors.expose)?,
        max_age_seconds: cors.max_age_seconds,
    })
}

fn affinity_to_wire(affinity: &Affinity) -> wire::Affinity {
    let same_site = affinity.same_site.map(|same_site| match same_site {
        SameSite::None => wire::SameSite::None,
        SameSite::Lax => wire::SameSite::Lax,
        SameSite::Strict => wire::SameSite::Strict,
    });
    wire::Affinity {
        cookie: affinity.cookie.to_string(),
        path: affinity.path.as_ref().map(ToString::to_string),
        domain: affinity.domain.as_ref().map(ToString::to_string),
        max_age_seconds: affinity.max_age_seconds,
        same_site: same_site.map(Into::into),
        secure: affinity.secure,
        change_on_failure: affinity.change_on_failure,
        balanced: affinity.is_balanced,
        forgets_canary: affinity.forgets_canary,
    }
}

fn affinity_from_wire(affinity: wire::Affinity) -> Result<Affinity, ResourceError> {
    let same_site = affinity.same_site.is_some().then(|| match affinity.same_site() {
        wire::SameSite::None => SameSite::None,
        wire::SameSite::Lax => SameSite::Lax,
        wire::SameSite::Strict => SameSite::Strict,
    });
    Ok(Affinity {
        cookie: text("affinity cookie", affinity.cookie)?,
        path: optional("affinity path", affinity.path)?,
        domain: optional("affinity domain", affinity.domain)?,
        max_age_seconds: affinity.max_age_seconds,
        same_site,
        secure: affinity.secure,
        change_on_failure: affinity.change_on_failure,
        is_balanced: affinity.balanced,
        forgets_canary: affinity.forgets_canary,
    })
}

fn hash_by_to_wire(hash_by: &HashBy) -> wire::HashBy {
    use wire::hash_by::By;
    let by = match hash_by {
        HashBy::RequestUri => By::RequestUri(wire::RequestUri {}),
        HashBy::RemoteAddress => By::RemoteAddress(wire::RemoteAddress {}),
        HashBy::Host => By::Host(wire::RequestHost {}),
        HashBy::Header(name) => By::Header(name.to_string()),
        HashBy::Argument(name) => By::Argument(name.to_string()),
        HashBy::Cookie(name) => By::Cookie(name.to_string()),
    };
    wire::HashBy { by: Some(by) }
}

fn hash_by_from_wire(hash_by: wire::HashBy) -> Result<HashBy, ResourceError> {
    use wire::hash_by::By;
    Ok(match hash_by.by.ok_or(ResourceError::Missing("hash_by"))? {
        By::RequestUri(_) => HashBy::RequestUri,
        By::RemoteAddress(_) => HashBy::RemoteAddress,
        By::Host(_) => HashBy::Host,
        By::Header(name) => HashBy::Header(text("hash_by header", name)?),
        By::Argument(name) => HashBy::Argument(text("hash_by argument", name)?),
        By::Cookie(name) => HashBy::Cookie(text("hash_by cookie", name)?),
    })
}

fn networks_to_wire(networks: &[IpNet]) -> Vec<wire::Network> {
    let network = |network: &IpNet| wire::Network {
        address: address_to_wire(network.addr()),
        prefix: network.prefix_len().into(),
    };
    networks.iter().map(network).collect()
}

fn networks_from_wire(field: &'static str, networks: Vec<wire::Network>) -> Result<Vec<IpNet>, ResourceError> {
    list(field, networks, |network| {
        let address: IpAddr = address_from_wire(&network.address)?;
        let prefix = u8::try_from(network.prefix).ok().and_then(|prefix| IpNet::new(address, prefix).ok());
        prefix.ok_or_else(|| invalid(field, format!("{address}/{}", network.prefix)))
    })
}

pub(crate) fn list<W, T>(
    field: &'static str,
    entries: Vec<W>,
    entry: impl FnMut(W) -> Result<T, ResourceError>,
) -> Result<Vec<T>, ResourceError> {
    if entries.len() > SETTINGS_LIST_MAX {
        return Err(ObjectError::TooMany { field, found: entries.len(), max: SETTINGS_LIST_MAX }.into());
    }
    entries.into_iter().map(entry).collect()
}

pub(crate) fn text(field: &'static str, text: String) -> Result<Arc<str>, ResourceError> {
    if text.len() > SETTINGS_TEXT_BYTES_MAX {
        return Err(invalid(field, format!("{} bytes, more than {SETTINGS_TEXT_BYTES_MAX}", text.len())));
    }
    Ok(text.into())
}

fn optional(field: &'static str, value: Option<String>) -> Result<Option<Arc<str>>, ResourceError> {
    value.map(|value| text(field, value)).transpose()
}

fn status(field: &'static str, number: u32, allowed: std::ops::RangeInclusive<u16>) -> Result<u16, ResourceError> {
    let status = u16::try_from(number).ok().filter(|status| allowed.contains(status));
    status.ok_or_else(|| invalid(field, number.to_string()))
}

fn invalid(field: &'static str, value: String) -> ResourceError {
    ObjectError::Invalid { field, value }.into()
}
