use std::os::unix::fs::PermissionsExt;

use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

fn identity(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn der(path: &Path) -> Vec<u8> {
    let pem = std::fs::read(path).unwrap();
    x509_parser::pem::parse_x509_pem(&pem).unwrap().1.contents
}

#[test]
fn a_leaf_carries_its_identity_and_is_signed_by_the_authority() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, out) = (temp.path().join("ca"), temp.path().join("c1"));
    init(&dir).unwrap();
    issue(&dir, &identity("controller/c1"), &["localhost".into()], &["127.0.0.1".parse().unwrap()], &out).unwrap();

    let (leaf, authority) = (der(&out.join("tls.crt")), der(&out.join("ca.crt")));
    assert_eq!(Identity::from_certificate(&leaf).unwrap(), identity("controller/c1"));
    let (_, authority) = X509Certificate::from_der(&authority).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert!(authority.is_ca());
    assert_eq!(leaf.issuer(), authority.subject());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth);
    let days = (leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp()) / 86_400;
    assert!((364..=368).contains(&days), "{days} days");
}

#[test]
fn only_controllers_may_serve() {
    let temp = tempfile::tempdir().unwrap();
    init(temp.path()).unwrap();
    for text in ["cluster/eu-west", "pool/public/edge/e1"] {
        let out = temp.path().join(text);
        issue(temp.path(), &identity(text), &[], &[], &out).unwrap();
        let leaf = der(&out.join("tls.crt"));
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth, "{text}");
    }
}

#[test]
fn keys_are_private_and_nothing_is_overwritten() {
    let temp = tempfile::tempdir().unwrap();
    init(temp.path()).unwrap();
    let key = temp.path().join(AUTHORITY_KEY);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    let error = init(temp.path()).unwrap_err().to_string();
    assert!(error.starts_with("--dir ") && error.contains("never overwritten"), "{error}");
    assert_eq!(std::fs::read(&key).unwrap(), before);
}

#[test]
fn a_missing_authority_and_a_bad_name_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let error = issue(temp.path(), &identity("cluster/a"), &[], &[], &out).unwrap_err().to_string();
    assert!(error.starts_with("--dir ") && error.contains("ca.pem"), "{error}");
    init(temp.path()).unwrap();
    let error = issue(temp.path(), &identity("cluster/a"), &["b\u{fc}cher".into()], &[], &out).unwrap_err().to_string();
    assert!(error.starts_with("--dns "), "{error}");
}
