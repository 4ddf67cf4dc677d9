//! Certificates for tests: one authority, and leaves with identities.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use roadstead_proto::tls::TlsFiles;
use tempfile::TempDir;

/// An authority and the files of its leaves, which live as long as it does.
pub struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { directory: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), pem }
    }

    /// The files of a leaf with this identity that is also valid for 127.0.0.1.
    pub fn issue(&self, identity: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, identity);
        params.use_authority_key_identifier_extension = true;
        let uri = format!("roadstead:{identity}").try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri), SanType::IpAddress("127.0.0.1".parse().unwrap())];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let name = identity.replace('/', "-");
        TlsFiles {
            certificate: self.write(&format!("{name}.crt"), &certificate.pem()),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
            authority: self.write("ca.crt", &self.pem),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}
