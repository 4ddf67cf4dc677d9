//! Mutual TLS for every gRPC link, from three PEM files. There is no plaintext option.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// The files of one peer: its certificate chain, its private key, and the authority that signed the other side.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{flag} {path}: cannot read it: {reason}")]
    Unreadable { flag: &'static str, path: String, reason: String },
    #[error("{flag} {path}: no PEM block `{expected}` in it")]
    NotPem { flag: &'static str, path: String, expected: &'static str },
    #[error("{flag} {path}: {source}")]
    Identity { flag: &'static str, path: String, source: crate::identity::IdentityError },
}

/// What [`TlsFiles::load`] found, checked.
pub struct TlsMaterial {
    pub identity: crate::identity::Identity,
    authority: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl TlsFiles {
    /// Reads and checks the three files. Errors name the flag (`--tls-cert`, `--tls-key`, `--tls-ca`).
    pub fn load(&self) -> Result<TlsMaterial, TlsError> {
        let certificate = read_pem("--tls-cert", &self.certificate, "CERTIFICATE")?;
        let key = read_pem("--tls-key", &self.key, "PRIVATE KEY")?;
        let authority = read_pem("--tls-ca", &self.authority, "CERTIFICATE")?;
        let identity = leaf_identity(&certificate).map_err(|source| TlsError::Identity {
            flag: "--tls-cert",
            path: self.certificate.display().to_string(),
            source,
        })?;
        Ok(TlsMaterial { identity, authority, certificate, key })
    }
}

impl TlsMaterial {
    /// For a listener: peers must present a certificate of our authority.
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .client_ca_root(Certificate::from_pem(&self.authority))
    }

    /// For a dialled link: the server must present a certificate of our authority for the dialled name.
    pub fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .ca_certificate(Certificate::from_pem(&self.authority))
    }

    /// As [`Self::client`], but where the certificate is for another name than the one dialled: that one.
    pub fn client_of(&self, name: Option<&str>) -> ClientTlsConfig {
        match name {
            Some(name) => self.client().domain_name(name),
            None => self.client(),
        }
    }
}

fn read_pem(flag: &'static str, path: &Path, expected: &'static str) -> Result<Vec<u8>, TlsError> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| TlsError::Unreadable {
        flag,
        path: shown.clone(),
        reason: error.to_string(),
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let found = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(expected));
    if found { Ok(bytes) } else { Err(TlsError::NotPem { flag, path: shown, expected }) }
}

fn leaf_identity(pem: &[u8]) -> Result<crate::identity::Identity, crate::identity::IdentityError> {
    use crate::identity::{Identity, IdentityError};
    let (_, block) =
        x509_parser::pem::parse_x509_pem(pem).map_err(|error| IdentityError::Malformed(error.to_string()))?;
    Identity::from_certificate(&block.contents)
}
