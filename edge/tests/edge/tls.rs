//! HTTPS as clients see it: which certificate, what endpoints are told, and who waits for whom.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roadstead_edge::certificates::{self, Certificates};
use roadstead_edge::health::Clock;
use roadstead_edge::listen::{self, Shared, Tls, Workers};
use roadstead_edge::observe::Metrics;
use roadstead_edge::proxy::Config;
use roadstead_edge::table::{CompiledHost, HostChange, LiveTable, TableWriter};
use roadstead_edge::users::Users;
use roadstead_routing::endpoints::Locality;
use roadstead_routing::id::{HostKey, ObjectName};
use roadstead_routing::object::Hidden;
use roadstead_routing::policy::Hsts;
use roadstead_routing::settings::{Access, CertificateNeed, ClientCertificate, ClientSettings};
use roadstead_routing::table::{SecretId, Target};
use roadstead_testkit::https::{self, Authority};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::support::{Act, Edge, PATIENCE, Pod, backend, host_of, id};

const HOST: &str = "a.example.com";

/// An edge with an HTTPS port and nothing else.
struct SecureEdge {
    address: SocketAddr,
    table: TableWriter,
    certificates: Arc<Certificates>,
    users: Users,
    default: CertificateDer<'static>,
    stop: CancellationToken,
}

impl SecureEdge {
    fn start() -> Self {
        let listeners = listen::bind_for("--https-listen", "127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let (table, metrics, stop) = (LiveTable::new(), Arc::new(Metrics::default()), CancellationToken::new());
        let users = Users::default();
        let shared = Shared {
            table: table.clone(),
            clock: Clock::start(),
            config: Config { users: users.clone(), ..Config::default() },
            metrics,
            stop: stop.clone(),
        };
        let (certificates, default) = (Arc::<Certificates>::default(), certificates::self_signed().unwrap());
        let tls = Tls::new(certificates.clone(), default.clone()).unwrap();
        // The threads end with `stop`.
        drop(Workers::start_secured(listeners, &shared, &tls).unwrap());
        let table = TableWriter::new(table, Locality::default());
        table.mark_complete();
        Self { address, table, certificates, users, default: default.cert[0].clone(), stop }
    }

    /// Gives the host a new certificate and returns it.
    fn certify(&self, host: &str) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let id = SecretId { cluster: "eu".into(), secret: ObjectName::new("shop", host) };
        let (chain, key) = (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes());
        self.certificates.put(id.clone(), certificates::ready(&chain, &Hidden(key.into())).unwrap());
        self.certificates.show(&HostKey::parse(host).unwrap(), Some(id));
        made.cert.der().clone()
    }

    async fn connect(&self, name: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        tokio::time::timeout(PATIENCE, https::connector().connect(name, stream)).await.expect("a handshake").unwrap()
    }

    async fn shown(&self, name: &str) -> CertificateDer<'static> {
        shown(&self.connect(name).await)
    }
}

impl Drop for SecureEdge {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn get(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn the_name_a_client_asks_for_decides_which_certificate_it_is_shown() {
    let edge = SecureEdge::start();
    let (own, wildcard) = (edge.certify(HOST), edge.certify("*.example.com"));
    assert_eq!(edge.shown(HOST).await, own);
    assert_eq!(edge.shown("b.example.com").await, wildcard);
    for name in ["x.b.example.com", "example.com", "127.0.0.1"] {
        assert_eq!(edge.shown(name).await, edge.default, "{name}");
    }
}

#[tokio::test]
async fn browsers_are_told_to_stay_with_https_over_https_alone_and_not_if_the_application_says_so() {
    let pod = Pod::start(|seen| {
        let own = if seen.line().contains("/own") { "strict-transport-security: max-age=1\r\n" } else { "" };
        Act::Reply(format!("HTTP/1.1 200 OK\r\n{own}content-length: 0\r\n\r\n").into())
    })
    .await;
    let hsts = Some(Hsts { max_age: 60, include_subdomains: true, preload: false });
    let client = ClientSettings { hsts, ..ClientSettings::default() };
    let mut edge = SecureEdge::start();
    let mut host = host_of(HOST, vec![("eu", 1, Target::Backend(id("eu")))]);
    host.routes[0].client = client.clone().into();
    edge.table.put_backend(&backend("eu", &[pod.address]));
    edge.table.change_hosts(vec![HostChange::Put(Box::new(CompiledHost::new(host).unwrap()))]);
    let mut stream = edge.connect(HOST).await;
    let answer = get(&mut stream).await.to_lowercase();
    assert!(answer.contains("strict-transport-security: max-age=60; includesubdomains\r\n"), "{answer}");
    stream.write_all(format!("GET /own HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    let mut own = vec![0; 4_096];
    let read = stream.read(&mut own).await.unwrap();
    let own = String::from_utf8_lossy(&own[..read]).to_lowercase();
    assert_eq!(own.matches("strict-transport-security: ").count(), 1, "{own}");
    assert!(own.contains("max-age=1\r\n"), "{own}");

    let mut plain = Edge::start();
    plain.serve_client(HOST, &pod, client);
    let reply = crate::support::get(plain.address, HOST, "/").await;
    assert_eq!((reply.status(), reply.header("strict-transport-security")), (200, None));
}

/// A client's certificate: chain and key.
type Own = (String, String);

impl SecureEdge {
    /// Serves HOST to clients that show a certificate as is demanded.
    fn demand(&mut self, pod: &Pod, need: CertificateNeed, depth: u8) {
        let mut host = host_of(HOST, vec![("eu", 1, Target::Backend(id("eu")))]);
        let secret = ObjectName::new("shop", "ca");
        let certificates = vec![ClientCertificate { cluster: "eu".into(), secret, need, depth, pass: true }];
        let access = Access { certificates, ..Access::default() };
        host.routes[0].client = ClientSettings { access, ..ClientSettings::default() }.into();
        self.certificates.ask(&host.name, host.asks_for_certificates());
        self.table.put_backend(&backend("eu", &[pod.address]));
        self.table.change_hosts(vec![HostChange::Put(Box::new(CompiledHost::new(host).unwrap()))]);
    }

    fn trust(&self, authority: Option<&str>) {
        let id = SecretId { cluster: "eu".into(), secret: ObjectName::new("shop", "ca") };
        self.users.put(&id, authority.map(|pem| [("ca.crt".to_owned(), pem.as_bytes().to_vec())].into()));
    }

    /// The answer to a client that asks for `name` by SNI and HOST by Host.
    async fn asked_by(&self, own: Option<&Own>, name: &str) -> String {
        let connector = match own {
            Some((chain, key)) => https::connector_showing(chain, key).unwrap(),
            None => https::connector(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        get(&mut connector.connect(name, stream).await.unwrap()).await
    }

    async fn status(&self, own: Option<&Own>) -> u16 {
        status(&self.asked_by(own, HOST).await)
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_a_known_authority_pass() {
    let pod = Pod::saying("hello").await;
    let mut edge = SecureEdge::start();
    let (authority, other) = (Authority::new("ca").unwrap(), Authority::new("other").unwrap());
    let (ann, eve) = (authority.client("ann").unwrap(), other.client("eve").unwrap());
    edge.demand(&pod, CertificateNeed::Required, 1);
    assert_eq!(edge.status(Some(&ann)).await, 503, "nobody knows the authorities");
    edge.trust(Some("rubbish"));
    assert_eq!(edge.status(Some(&ann)).await, 503);
    edge.trust(Some(&authority.pem));
    assert_eq!(
        (edge.status(Some(&ann)).await, edge.status(Some(&eve)).await, edge.status(None).await),
        (200, 400, 400)
    );
    edge.demand(&pod, CertificateNeed::Optional, 1);
    assert_eq!(
        (edge.status(Some(&ann)).await, edge.status(Some(&eve)).await, edge.status(None).await),
        (200, 400, 200)
    );
    edge.demand(&pod, CertificateNeed::Unverified, 1);
    assert_eq!(
        (edge.status(Some(&ann)).await, edge.status(Some(&eve)).await, edge.status(None).await),
        (200, 200, 200)
    );
    let told: Vec<_> = pod.requests().iter().map(|seen| seen.header("ssl-client-verify").concat()).collect();
    assert_eq!(told, ["SUCCESS", "SUCCESS", "NONE", "SUCCESS", "FAILED", "NONE"]);
}

#[tokio::test]
async fn endpoints_are_told_who_the_client_is_and_clients_cannot_say_so_themselves() {
    let pod = Pod::saying("hello").await;
    let mut edge = SecureEdge::start();
    let authority = Authority::new("ca").unwrap();
    let (chain, key) = authority.client("ann").unwrap();
    edge.demand(&pod, CertificateNeed::Optional, 1);
    edge.trust(Some(&authority.pem));
    edge.status(Some(&(chain.clone(), key))).await;
    let seen = pod.requests().remove(0);
    assert_eq!(seen.header("ssl-client-subject-dn"), ["CN=ann"]);
    assert_eq!(seen.header("ssl-client-issuer-dn"), ["CN=ca"]);
    let sent = percent_encoding::percent_decode_str(&seen.header("ssl-client-cert").concat())
        .decode_utf8()
        .unwrap()
        .into_owned();
    assert_eq!(sent, chain.replace("\r\n", "\n"));

    let mut stream = edge.connect(HOST).await;
    let forged = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nSSL-Client-Verify: SUCCESS\r\nssl-client-subject-dn: CN=ann\r\n\r\n"
    );
    stream.write_all(forged.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
    let seen = pod.requests().remove(1);
    assert_eq!((seen.header("ssl-client-verify"), seen.header("ssl-client-subject-dn")), (vec!["NONE"], vec![]));
}

#[tokio::test]
async fn a_chain_may_be_as_long_as_the_route_says() {
    let pod = Pod::saying("hello").await;
    let mut edge = SecureEdge::start();
    let authority = Authority::new("ca").unwrap();
    let between = authority.below("between").unwrap();
    let (leaf, key) = between.client("ann").unwrap();
    edge.trust(Some(&authority.pem));
    let with = |more: &[&str]| (format!("{leaf}{}", more.concat()), key.clone());
    for (depth, chain, wanted) in [
        (1, with(&[&between.pem]), 400),
        (2, with(&[&between.pem]), 200),
        (2, with(&[&between.pem, &authority.pem]), 200),
        (2, with(&[]), 400),
    ] {
        edge.demand(&pod, CertificateNeed::Required, depth);
        assert_eq!(edge.status(Some(&chain)).await, wanted, "depth {depth}");
    }
}

/// Rule L-8.
#[tokio::test]
async fn a_connection_to_another_name_or_without_tls_does_not_count() {
    let pod = Pod::saying("hello").await;
    let mut edge = SecureEdge::start();
    let authority = Authority::new("ca").unwrap();
    let ann = authority.client("ann").unwrap();
    edge.trust(Some(&authority.pem));
    let mut late = edge.connect(HOST).await;
    edge.demand(&pod, CertificateNeed::Required, 1);
    assert_eq!(status(&edge.asked_by(Some(&ann), "b.example.com").await), 421);
    assert_eq!(status(&get(&mut late).await), 421, "it began before anybody asked");
    assert_eq!(edge.status(Some(&ann)).await, 200);
    assert_eq!(pod.requests().len(), 1);
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let pod = Pod::saying("hello").await;
    let mut edge = SecureEdge::start();
    edge.table.put_backend(&backend("eu", &[pod.address]));
    let host = host_of(HOST, vec![("eu", 1, Target::Backend(id("eu")))]);
    edge.table.change_hosts(vec![HostChange::Put(Box::new(CompiledHost::new(host).unwrap()))]);
    let first = edge.certify(HOST);
    let mut old = edge.connect(HOST).await;
    assert_eq!(shown(&old), first);
    assert!(get(&mut old).await.ends_with("hello"));
    let second = edge.certify(HOST);
    assert_eq!(edge.shown(HOST).await, second);
    assert!(get(&mut old).await.ends_with("hello"));

    let seen = pod.requests();
    assert_eq!(seen[0].header("x-forwarded-proto"), ["https"]);
    assert_eq!(seen[0].header("x-forwarded-port"), [edge.address.port().to_string()]);
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_holds_nobody_else_up() {
    let edge = SecureEdge::start();
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(edge.address).await.unwrap());
    }
    let mut plain = TcpStream::connect(edge.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await.unwrap();
    assert_eq!(edge.shown(HOST).await, edge.default);
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, plain.read_to_end(&mut rest)).await.expect("its end").unwrap();
    assert!(!rest.starts_with(b"HTTP"), "plain HTTP is not answered on this port");
    assert!(listen::HANDSHAKE_TIMEOUT < Duration::from_secs(60));
}
