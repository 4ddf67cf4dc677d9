//! Secrets on the wire: certificates with their keys, and values that may be users. Never shown.

use std::fmt;
use std::sync::Arc;

use roadstead_routing::id::ObjectName;
use roadstead_routing::limit;
use roadstead_routing::object::{Certificate, Hidden, Meta, Secret, SecretContent};

use super::{ObjectError, at_most};
use crate::wire;
use wire::secret::Content;

pub(super) fn secret_to_wire(secret: &Secret) -> wire::Secret {
    let content = match &secret.content {
        SecretContent::Certificate(certificate) => Content::Certificate(wire::Certificate {
            names: certificate.names.iter().map(ToString::to_string).collect(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            chain: certificate.chain.to_vec(),
            key: certificate.key.0.to_vec(),
        }),
        SecretContent::Values(values) => {
            let value = |(key, value): (&Arc<str>, &Hidden)| wire::SecretValue {
                key: key.to_string(),
                value: value.0.to_vec(),
            };
            Content::Values(wire::SecretValues { values: values.iter().map(value).collect() })
        }
        SecretContent::Unusable(why) => Content::Unusable(why.to_string()),
    };
    wire::Secret { content: Some(content) }
}

pub(super) fn secret_from_wire(name: ObjectName, meta: Meta, secret: wire::Secret) -> Result<Secret, ObjectError> {
    let content = match secret.content.ok_or(ObjectError::Missing { field: "secret" })? {
        Content::Certificate(certificate) => {
            at_most("secret.names", certificate.names.len(), limit::CERTIFICATE_NAMES_MAX)?;
            SecretContent::Certificate(Certificate {
                names: certificate.names.into_iter().map(Into::into).collect(),
                not_before: certificate.not_before,
                not_after: certificate.not_after,
                chain: certificate.chain.into(),
                key: Hidden(certificate.key.into()),
            })
        }
        Content::Values(values) => {
            at_most("secret.values", values.values.len(), limit::SECRET_VALUES_MAX)?;
            let pairs = values.values.into_iter().map(|pair| (pair.key.into(), Hidden(pair.value.into())));
            SecretContent::Values(pairs.collect())
        }
        Content::Unusable(why) => SecretContent::Unusable(why.into()),
    };
    Ok(Secret { name, meta, content })
}

impl fmt::Debug for wire::Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl fmt::Debug for wire::SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretValue").field("key", &self.key).finish_non_exhaustive()
    }
}
