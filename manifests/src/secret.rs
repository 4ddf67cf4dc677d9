//! Secret → routing's. A certificate is checked here, once, and no longer where it is shown: it can be read, its key
//! belongs to it, and the names and times are known (rules L-2, L-3). No message ever holds a part of the Secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as api;
use roadstead_routing::limit::{CERTIFICATE_NAMES_MAX, SECRET_VALUES_MAX};
use roadstead_routing::object::{Certificate, Hidden, Object, Secret, SecretContent};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::meta::{meta, name};

const TLS: &str = "kubernetes.io/tls";
/// Bytes of a chain or key; a longer one is refused rather than cut.
const PEM_BYTES_MAX: usize = 256 * 1024;

pub(crate) fn convert(secret: &api::Secret) -> Object {
    let mut data = secret.data.clone().unwrap_or_default();
    // A manifest may hold plain text instead; the API server never does.
    data.extend(
        secret.string_data.iter().flatten().map(|(key, text)| (key.clone(), ByteString(text.clone().into_bytes()))),
    );
    let content = match secret.type_.as_deref() {
        Some(TLS) => {
            certificate(&data).map_or_else(|why| SecretContent::Unusable(why.into()), SecretContent::Certificate)
        }
        _ if data.len() > SECRET_VALUES_MAX => SecretContent::Unusable("it has too many keys".into()),
        _ => SecretContent::Values(values(data)),
    };
    Object::Secret(Arc::new(Secret { name: name(&secret.metadata), meta: meta(&secret.metadata), content }))
}

fn values(data: BTreeMap<String, ByteString>) -> BTreeMap<Arc<str>, Hidden> {
    data.into_iter().map(|(key, value)| (key.into(), Hidden(value.0.into()))).collect()
}

fn certificate(data: &BTreeMap<String, ByteString>) -> Result<Certificate, &'static str> {
    let part = |key: &str| data.get(key).map(|value| value.0.as_slice()).filter(|value| !value.is_empty());
    let pem = part("tls.crt").ok_or("it has no tls.crt")?;
    let key = part("tls.key").ok_or("it has no tls.key")?;
    if pem.len().max(key.len()) > PEM_BYTES_MAX {
        return Err("its certificate or key is too large");
    }
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| "tls.crt is not PEM")?;
    let leaf = chain.first().ok_or("tls.crt holds no certificate")?.clone();
    let der = PrivateKeyDer::from_pem_slice(key).map_err(|_| "tls.key holds no private key in PEM")?;
    let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| "tls.crt is not an X.509 certificate")?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let matching = CertifiedKey::from_der(chain.clone(), der, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "tls.key does not belong to tls.crt",
        _ => "tls.key is of a kind that cannot be used",
    });
    matching?;
    let (validity, names) = (parsed.validity(), names(&parsed));
    Ok(Certificate {
        names,
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        chain: pem.into(),
        key: Hidden(key.into()),
    })
}

/// The DNS names among the subject's alternative names. A common name has not counted for years.
fn names(certificate: &X509Certificate<'_>) -> Vec<Arc<str>> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|names| &names.value.general_names);
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
        _ => None,
    });
    dns.take(CERTIFICATE_NAMES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::yaml::from_yaml;

    fn read(secret: &Value) -> SecretContent {
        let converted = from_yaml(&secret.to_string()).pop().unwrap().unwrap();
        let Object::Secret(secret) = converted.object else { panic!("a Secret") };
        secret.content.clone()
    }

    fn tls(chain: &str, key: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "type": TLS, "metadata": {"name": "web"},
            "stringData": {"tls.crt": chain, "tls.key": key}})
    }

    fn made(names: &[&str]) -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_certificate_is_read_with_its_names_and_times() {
        let made = made(&["A.example.com", "*.b.example.com"]);
        let SecretContent::Certificate(it) = read(&tls(&made.cert.pem(), &made.signing_key.serialize_pem())) else {
            panic!("a certificate")
        };
        assert_eq!(it.names.iter().map(|name| &**name).collect::<Vec<_>>(), ["a.example.com", "*.b.example.com"]);
        assert!(it.not_before < it.not_after);
        let shown = format!("{it:?}");
        assert!(shown.contains("(hidden)") && !shown.contains("PRIVATE"), "{shown}");
    }

    #[test]
    fn what_is_no_certificate_says_why() {
        let (one, other) = (made(&["a.example.com"]), made(&["a.example.com"]));
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let cases = [
            (tls("", &key), "it has no tls.crt"),
            (tls(&chain, ""), "it has no tls.key"),
            (tls("rubbish", &key), "tls.crt holds no certificate"),
            (tls(&chain, "rubbish"), "tls.key holds no private key in PEM"),
            (tls(&chain, &other.signing_key.serialize_pem()), "tls.key does not belong to tls.crt"),
        ];
        for (secret, why) in cases {
            assert_eq!(read(&secret), SecretContent::Unusable(why.into()));
        }
    }

    #[test]
    fn a_malformed_secret_is_not_quoted() {
        let secret = json!({"metadata": {"name": "web", "namespace": "shop"}, "data": "hunter2"});
        let problem = crate::decode(roadstead_routing::id::Kind::Secret, secret).unwrap_err();
        assert!(problem.message.contains("shop/web") && !problem.message.contains("hunter2"), "{}", problem.message);
    }

    #[test]
    fn any_other_secret_is_its_values() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users"},
            "data": {"auth": "YW5uOmhhc2g="}});
        let SecretContent::Values(values) = read(&secret) else { panic!("values") };
        assert_eq!(values.get("auth"), Some(&Hidden(b"ann:hash".as_slice().into())));
    }
}
