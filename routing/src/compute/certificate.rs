//! Which certificate a host shows (rules L-1 to L-5, M-9), and which a pool shows for all others (rule L-1).
//!
//! The `tls` entries of the Ingresses that declare the host → one Secret of each cluster → one of all. What is out of its
//! time is shown rather than nothing, and said.

use std::cmp::Reverse;

use crate::finding::{Code, Finding, Severity};
use crate::id::{ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName};
use crate::inputs::{Cluster, Inputs};
use crate::membership::Presence;
use crate::object::{Certificate, Ingress, SecretContent};
use crate::rules::{self, Rule};
use crate::table::SecretId;

use super::claims::Claim;
use super::local::older;

/// What one cluster would show.
pub(super) struct Offer {
    pub(super) id: SecretId,
    is_valid: bool,
    not_after: i64,
    /// Of the cluster (rule M-9).
    rank: (u32, ClusterId),
}

/// A `tls` entry that is about the host.
struct Entry<'a> {
    ingress: &'a Ingress,
    secret: ObjectName,
    /// Naming the host itself comes before a wildcard above it, and that before naming none.
    closeness: u8,
}

/// The oldest valid certificate that covers the host; if none is valid, the one that ends last (rule L-2).
pub(super) fn offer(
    cluster: (&ClusterId, &Cluster, u32),
    host: &HostKey,
    mains: &[Claim<'_>],
    now: i64,
    findings: &mut Vec<Finding>,
) -> Option<Offer> {
    let (id, held, priority) = cluster;
    let mut covering = Vec::new();
    for entry in entries(host, mains) {
        match usable(held, &entry, host) {
            Ok(certificate) => covering.push((entry, certificate)),
            Err(Some(problem)) => findings.push(finding(id, entry.ingress, problem)),
            Err(None) => {}
        }
    }
    let valid = covering.iter().find(|(_, certificate)| certificate.is_valid_at(now));
    let latest = || {
        let out_of_time = covering.iter().min_by_key(|(_, certificate)| Reverse(certificate.not_after));
        out_of_time.filter(|_| rules::on(Rule::ExpiredStays))
    };
    let (entry, certificate) = valid.or_else(latest)?;
    if valid.is_none() {
        let text = format!(
            "the certificate of Secret {} for host {host} is out of its time; it is shown all the same",
            entry.secret
        );
        findings.push(finding(id, entry.ingress, (Code::CertificateExpired, text)));
    }
    Some(Offer {
        id: SecretId { cluster: id.clone(), secret: entry.secret.clone() },
        is_valid: valid.is_some(),
        not_after: certificate.not_after,
        rank: (priority, id.clone()),
    })
}

/// Of those that are valid the one that ends last, then by the order of clusters; without a valid one the same.
pub(super) fn choose(offers: Vec<Offer>) -> Option<SecretId> {
    let latest = |offer: &Offer| if rules::on(Rule::CertificateLatest) { Reverse(offer.not_after) } else { Reverse(0) };
    let best = offers.into_iter().min_by(|a, b| {
        let order = |offer: &Offer| (Reverse(offer.is_valid), latest(offer));
        order(a).cmp(&order(b)).then_with(|| a.rank.cmp(&b.rank))
    });
    best.map(|offer| offer.id)
}

/// What a pool shows clients that name no host with a certificate, if the policy names a Secret for it (rule L-1).
pub(super) fn of_pool(inputs: &Inputs, pool: &PoolName, findings: &mut Vec<Finding>) -> Option<SecretId> {
    let id = inputs.policy().pools.get(pool)?.certificate.as_ref()?;
    let mut complain = |code, why: String| {
        findings.push(Finding {
            cluster: id.cluster.clone(),
            object: Some(ObjectKey { kind: Kind::Secret, name: id.secret.clone() }),
            code,
            severity: Severity::Error,
            message: format!("the default certificate of pool {pool}, Secret {}, {why}", id.secret),
            remedy: "Put a valid certificate, with its key, into the Secret, or name another one in the policy."
                .to_owned(),
        });
    };
    if inputs.membership(&id.cluster).lifecycle.presence() == Presence::Nothing {
        return None;
    }
    match inputs.cluster(&id.cluster).and_then(|cluster| cluster.secret(&id.secret)).map(|secret| &secret.content) {
        Some(SecretContent::Certificate(certificate)) => {
            if !certificate.is_valid_at(inputs.now()) {
                complain(Code::CertificateExpired, "is out of its time; it is shown all the same".to_owned());
            }
            Some(id.clone())
        }
        Some(SecretContent::Values(_)) => {
            complain(Code::CertificateUnusable, "is not of type kubernetes.io/tls".to_owned());
            None
        }
        Some(SecretContent::Unusable(why)) => {
            complain(Code::CertificateUnusable, format!("cannot be used: {why}"));
            None
        }
        None => {
            complain(Code::CertificateMissing, "does not exist".to_owned());
            None
        }
    }
}

/// In the order in which they are asked.
fn entries<'a>(host: &HostKey, mains: &[Claim<'a>]) -> Vec<Entry<'a>> {
    let mut by_age: Vec<&Claim<'a>> = mains.iter().collect();
    by_age.sort_by(|a, b| rules::ordered(Rule::CertificateOldestValid, older(a.ingress, b.ingress)));
    let about = |claim: &&Claim<'a>| {
        let ingress = claim.ingress;
        let named = claim.declared.tls.iter().filter(|tls| tls.names(host));
        let entry = |tls: &crate::declare::DeclaredTls| {
            let secret = ObjectName::new(ingress.name.namespace.clone(), tls.secret.clone()?);
            let closeness = if tls.hosts.contains(host) { 0 } else { 1 + u8::from(tls.hosts.is_empty()) };
            Some(Entry { ingress, secret, closeness })
        };
        named.filter_map(entry).collect::<Vec<_>>()
    };
    let mut entries: Vec<Entry<'a>> = by_age.iter().flat_map(about).collect();
    entries.sort_by_key(
        |entry| if rules::on(Rule::CertificateExactFirst) { entry.closeness } else { 2 - entry.closeness },
    );
    entries
}

/// `Err(None)`: not for this host, and not said to be.
fn usable<'c>(
    cluster: &'c Cluster,
    entry: &Entry<'_>,
    host: &HostKey,
) -> Result<&'c Certificate, Option<(Code, String)>> {
    let secret = &entry.secret;
    let missing = || Some((Code::CertificateMissing, format!("Secret {secret} for host {host} does not exist")));
    match &cluster.secret(secret).ok_or_else(missing)?.content {
        SecretContent::Certificate(certificate) if covers(certificate, host) => Ok(certificate),
        SecretContent::Certificate(_) if entry.closeness == 2 => Err(None),
        SecretContent::Certificate(_) => {
            let why = format!("the certificate of Secret {secret} is not for host {host}");
            Err(Some((Code::CertificateUnusable, why)))
        }
        SecretContent::Values(_) => {
            let why = format!("Secret {secret} for host {host} is not of type kubernetes.io/tls");
            Err(Some((Code::CertificateUnusable, why)))
        }
        SecretContent::Unusable(why) => Err(Some((Code::CertificateUnusable, format!("Secret {secret}: {why}")))),
    }
}

fn covers(certificate: &Certificate, host: &HostKey) -> bool {
    let is_above = |name: &str, host: &str| {
        let suffix = name.strip_prefix("*.");
        suffix.is_some_and(|suffix| host.split_once('.').is_some_and(|(_, rest)| rest == suffix))
    };
    let covers = |name: &str| match host {
        HostKey::Exact(host) => *name == **host || is_above(name, host),
        HostKey::Wildcard(suffix) => name.strip_prefix("*.").is_some_and(|it| *it == **suffix),
        HostKey::Any | HostKey::CatchAll => false,
    };
    certificate.names.iter().any(|name| covers(name)) || !rules::on(Rule::CertificateCovers)
}

fn finding(cluster: &ClusterId, ingress: &Ingress, (code, why): (Code, String)) -> Finding {
    let effect = if code == Code::CertificateExpired { "" } else { "; another certificate is shown" };
    Finding {
        cluster: cluster.clone(),
        object: Some(ObjectKey { kind: Kind::Ingress, name: ingress.name.clone() }),
        code,
        severity: Severity::Warning,
        message: format!("{why}{effect}"),
        remedy: "Put a valid certificate for the host, with its key, into the Secret.".to_owned(),
    }
}
