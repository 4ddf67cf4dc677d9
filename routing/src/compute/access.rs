//! Secrets that say who may enter and cannot: nobody does, and the Ingress says why (rule N-6).

use crate::finding::{Code, Finding, Severity};
use crate::id::{ClusterId, HostKey, Kind, ObjectKey, ObjectName};
use crate::inputs::Cluster;
use crate::object::SecretContent;

use super::claims::Claim;

/// The key of a Secret with authorities.
const AUTHORITIES: &str = "ca.crt";

pub(super) fn findings(
    (id, cluster): (&ClusterId, &Cluster),
    host: &HostKey,
    mains: &[Claim<'_>],
) -> impl Iterator<Item = Finding> {
    mains.iter().flat_map(move |claim| {
        let access = &claim.declared.client(host).access;
        let basic = access.basic.iter().map(|it| (&it.secret, None));
        let certificates = access.certificates.iter().map(|it| (&it.secret, Some(AUTHORITIES)));
        let finding = |(secret, key): (&ObjectName, Option<&str>)| {
            let why = why_useless(cluster, secret, key)?;
            Some(Finding {
                cluster: id.clone(),
                object: Some(ObjectKey { kind: Kind::Ingress, name: claim.ingress.name.clone() }),
                code: Code::AccessSecretMissing,
                severity: Severity::Error,
                message: format!("host {host}: Secret {secret} is to say who may enter, and {why}; nobody may"),
                remedy: "Create or correct the Secret; its type must not be kubernetes.io/tls.".to_owned(),
            })
        };
        basic.chain(certificates).filter_map(finding).collect::<Vec<_>>()
    })
}

/// `key`: what it must have; `None`: anything.
fn why_useless(cluster: &Cluster, secret: &ObjectName, key: Option<&str>) -> Option<String> {
    match cluster.secret(secret).map(|secret| &secret.content) {
        None => Some("does not exist".to_owned()),
        Some(SecretContent::Values(values)) => {
            let key = key.filter(|key| !values.contains_key(*key))?;
            Some(format!("has no key {key}"))
        }
        Some(SecretContent::Certificate(_) | SecretContent::Unusable(_)) => Some("holds no such thing".to_owned()),
    }
}
