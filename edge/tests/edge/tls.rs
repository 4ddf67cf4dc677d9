//! HTTPS as clients see it: which certificate, what endpoints are told, and who waits for whom.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roadstead_edge::certificates::{self, Certificates, Resolver};
use roadstead_edge::health::Clock;
use roadstead_edge::listen::{self, Shared, Tls, Workers};
use roadstead_edge::observe::Metrics;
use roadstead_edge::proxy::Config;
use roadstead_edge::table::{CompiledHost, HostChange, LiveTable, TableWriter};
use roadstead_routing::endpoints::Locality;
use roadstead_routing::id::{HostKey, ObjectName};
use roadstead_routing::object::Hidden;
use roadstead_routing::table::{SecretId, Target};
use roadstead_testkit::https;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, Pod, backend, host_of, id};

const HOST: &str = "a.example.com";

/// An edge with an HTTPS port and nothing else.
struct SecureEdge {
    address: SocketAddr,
    table: TableWriter,
    certificates: Arc<Certificates>,
    default: CertificateDer<'static>,
    stop: CancellationToken,
}

impl SecureEdge {
    fn start() -> Self {
        let listeners = listen::bind_for("--https-listen", "127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let (table, metrics, stop) = (LiveTable::new(), Arc::new(Metrics::default()), CancellationToken::new());
        let shared = Shared {
            table: table.clone(),
            clock: Clock::start(),
            config: Config::default(),
            metrics,
            stop: stop.clone(),
        };
        let (certificates, default) = (Arc::<Certificates>::default(), certificates::self_signed().unwrap());
        let tls = Tls::new(Arc::new(Resolver::new(certificates.clone(), default.clone()))).unwrap();
        // The threads end with `stop`.
        drop(Workers::start_secured(listeners, &shared, &tls).unwrap());
        let table = TableWriter::new(table, Locality::default());
        table.mark_complete();
        Self { address, table, certificates, default: default.cert[0].clone(), stop }
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
