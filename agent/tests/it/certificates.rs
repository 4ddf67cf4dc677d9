//! A certificate authority and leaf certificates for one test, as files.

use std::path::{Path, PathBuf};

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use roadstead_proto::tls::TlsFiles;

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    /// Writes `ca.crt` into `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(directory.join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, directory: directory.to_owned() }
    }

    /// A certificate for `identity` that is also valid for 127.0.0.1.
    pub(crate) fn issue(&self, identity: &str) -> TlsFiles {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let uri = format!("roadstead:{identity}");
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri).unwrap()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |extension: &str| self.directory.join(format!("{}.{extension}", identity.replace('/', "-")));
        std::fs::write(file("crt"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        TlsFiles { certificate: file("crt"), key: file("key"), authority: self.directory.join("ca.crt") }
    }
}
