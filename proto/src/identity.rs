//! Who a peer is, from its certificate: a URI subject alternative name `roadstead:IDENTITY`.
//! The identity alone decides what a peer may do; what it claims in messages must agree with it.

use std::fmt;

use roadstead_routing::id::{ClusterId, PoolName};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const SCHEME: &str = "roadstead:";
/// Bytes of one id within an identity.
pub const ID_BYTES_MAX: usize = 63;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Identity {
    /// `cluster/ID`: may report the objects of exactly this cluster.
    Cluster(ClusterId),
    /// `pool/NAME/edge/ID`: may receive the table of exactly this pool.
    Edge { pool: PoolName, edge: String },
    /// `controller/ID`: may serve agents and edges, and exchange deltas with its peers.
    Controller(String),
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the certificate cannot be parsed: {0}")]
    Malformed(String),
    #[error("the certificate has no URI subject alternative name `roadstead:…`")]
    Missing,
    #[error("the certificate has more than one `roadstead:` identity")]
    Ambiguous,
    #[error(
        "`{0}` is not an identity: expected cluster/ID, pool/NAME/edge/ID or controller/ID, ids of a-z, 0-9, `-` and `.`"
    )]
    Invalid(String),
}

impl Identity {
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let parts: Vec<&str> = text.split('/').collect();
        let identity = match parts[..] {
            ["cluster", id] if valid_id(id) => Identity::Cluster(id.into()),
            ["pool", pool, "edge", edge] if valid_id(pool) && valid_id(edge) => {
                Identity::Edge { pool: pool.into(), edge: edge.to_owned() }
            }
            ["controller", id] if valid_id(id) => Identity::Controller(id.to_owned()),
            _ => return Err(IdentityError::Invalid(text.to_owned())),
        };
        Ok(identity)
    }

    /// Reads the one identity of an X.509 certificate in DER.
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| IdentityError::Malformed(error.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| IdentityError::Malformed(error.to_string()))?
            .ok_or(IdentityError::Missing)?;
        let mut identities = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
            _ => None,
        });
        let text = identities.next().ok_or(IdentityError::Missing)?;
        if identities.next().is_some() {
            return Err(IdentityError::Ambiguous);
        }
        Self::parse(text)
    }

    /// The URI to put into a certificate.
    pub fn to_uri(&self) -> String {
        format!("{SCHEME}{self}")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Cluster(id) => write!(f, "cluster/{id}"),
            Identity::Edge { pool, edge } => write!(f, "pool/{pool}/edge/{edge}"),
            Identity::Controller(id) => write!(f, "controller/{id}"),
        }
    }
}

fn valid_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_have_one_text_form() {
        for text in ["cluster/eu-west", "pool/public/edge/e1", "controller/c.0"] {
            assert_eq!(Identity::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "cluster/", "cluster/a/b", "cluster/A", "pool/p/edge/", "pool/p", "admin/x", "cluster/a b"] {
            assert!(Identity::parse(text).is_err(), "{text} must be refused");
        }
        assert!(Identity::parse(&format!("cluster/{}", "a".repeat(ID_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn rubbish_is_not_a_certificate() {
        assert!(matches!(Identity::from_certificate(b"not DER"), Err(IdentityError::Malformed(_))));
    }
}
