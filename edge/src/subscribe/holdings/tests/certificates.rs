//! Certificates among what is held: as backends, and shown only by the hosts that name them.

use super::*;

fn secret_ref() -> wire::SecretRef {
    wire::SecretRef { cluster: "eu".to_owned(), namespace: "shop".to_owned(), name: "tls".to_owned() }
}

fn certificate() -> wire::ResourceUpsert {
    let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes());
    certificate_of(chain, key)
}

fn certificate_of(chain: Vec<u8>, key: Vec<u8>) -> wire::ResourceUpsert {
    let certificate = wire::HostSecret { id: Some(secret_ref()), chain, key, users: vec![] };
    upsert(wire::resource_upsert::Resource::Secret(certificate))
}

fn showing_host() -> wire::ResourceUpsert {
    let Some(wire::resource_upsert::Resource::Host(mut it)) = host("a.example.com", "web").resource else {
        panic!("a host")
    };
    it.certificate = Some(secret_ref());
    upsert(wire::resource_upsert::Resource::Host(it))
}

#[test]
fn a_certificate_is_shown_while_a_host_names_it_and_goes_after_it() {
    let certificates = Arc::<Certificates>::default();
    let (holdings, _) = holdings();
    let mut holdings = holdings.showing(Some(certificates.clone()));
    applied(&mut holdings, update(vec![backend("web", 1), certificate(), showing_host()], &[]));
    assert_eq!(keys(&holdings), ["backend/eu/shop/web:80", "secret/eu/shop/tls", "host/a.example.com"]);
    let first = certificates.find(Some("a.example.com")).unwrap();
    applied(&mut holdings, update(vec![certificate()], &[]));
    assert_ne!(certificates.find(Some("a.example.com")).unwrap().cert, first.cert, "replaced under the same name");

    let early = applied(&mut holdings, update(vec![], &["secret/eu/shop/tls"]));
    assert!(early.effective.unwrap().removals.is_empty(), "a host still shows it");
    let last = applied(&mut holdings, update(vec![], &["host/a.example.com"]));
    assert_eq!(last.effective.unwrap().removals, ["host/a.example.com", "secret/eu/shop/tls"]);
    assert_eq!((holdings.certificates(), certificates.find(Some("a.example.com")).is_none()), (0, true));
}

#[test]
fn one_that_cannot_be_used_is_refused_alone_and_without_its_content() {
    let (mut holdings, _) = holdings();
    let broken = certificate_of(b"a chain".to_vec(), b"hush".to_vec());
    let outcome = applied(&mut holdings, update(vec![broken, backend("web", 1)], &[]));
    assert_eq!(outcome.refusals[0].key, "secret/eu/shop/tls");
    assert!(outcome.refusals[0].reason.contains("no certificate in PEM"), "{}", outcome.refusals[0].reason);
    assert_eq!(keys(&holdings), ["backend/eu/shop/web:80"]);
}
