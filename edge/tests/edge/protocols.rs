//! Endpoints that speak HTTP/2, TLS, or both.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use roadstead_edge::proxy::Config;
use roadstead_edge::upstream::NamePolicy;
use roadstead_routing::settings::{Access, ClientSettings, ExternalAuth, UpstreamSettings};
use roadstead_routing::table::{Backend, BackendProtocol};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{Client, Edge, backend, get};

const HOST: &str = "a.example.com";

/// An endpoint that says how it was spoken to.
struct Speaker {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Speaker {
    async fn start(protocol: BackendProtocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counting = connections.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counting.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    match protocol {
                        BackendProtocol::Http1 => http1(TokioIo::new(stream)).await,
                        BackendProtocol::H2c => http2(TokioIo::new(stream)).await,
                        BackendProtocol::Https1 => http1(TokioIo::new(accept(stream, b"http/1.1").await)).await,
                        BackendProtocol::H2 => http2(TokioIo::new(accept(stream, b"h2").await)).await,
                    }
                });
            }
        });
        Self { address, connections }
    }
}

async fn http1<S: hyper::rt::Read + hyper::rt::Write + Unpin>(io: S) {
    drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(say)).await);
}

async fn http2<S: hyper::rt::Read + hyper::rt::Write + Unpin>(io: S) {
    drop(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(say)).await);
}

/// With a certificate that nobody knows, for a name that nobody asks for.
async fn accept(stream: tokio::net::TcpStream, alpn: &[u8]) -> tokio_rustls::server::TlsStream<tokio::net::TcpStream> {
    let made = rcgen::generate_simple_self_signed(vec!["pod.invalid".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap()
}

async fn say(
    request: Request<Incoming>,
) -> Result<Response<StreamBody<impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>>>>, Infallible> {
    let (parts, body) = request.into_parts();
    let host = match parts.version {
        Version::HTTP_2 => parts.uri.authority().map(ToString::to_string),
        _ => parts.headers.get(header::HOST).map(|host| host.to_str().unwrap().to_owned()),
    };
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let target = parts.uri.path_and_query().unwrap();
    let text = format!("{:?} {} {target} at {} with {body:?}", parts.version, parts.method, host.unwrap());
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from(text)), Frame::trailers(trailers)];
    Ok(Response::new(StreamBody::new(futures::stream::iter(frames.map(Ok)))))
}

fn spoken(protocol: BackendProtocol) -> &'static str {
    match protocol {
        BackendProtocol::Http1 | BackendProtocol::Https1 => "HTTP/1.1",
        BackendProtocol::H2c | BackendProtocol::H2 => "HTTP/2.0",
    }
}

const ALL: [BackendProtocol; 4] =
    [BackendProtocol::Http1, BackendProtocol::Https1, BackendProtocol::H2c, BackendProtocol::H2];

#[tokio::test]
async fn endpoints_are_spoken_to_as_their_service_says() {
    for protocol in ALL {
        let speaker = Speaker::start(protocol).await;
        let mut edge = Edge::start();
        edge.serve(HOST, &[("eu", 1, &[speaker.address])]);
        edge.table.put_backend(&Backend { protocol, ..backend("eu", &[speaker.address]) });
        let reply = get(edge.address, "A.example.com:8080", "/x?y=1").await;
        let version = spoken(protocol);
        let expected = format!("{version} GET /x?y=1 at A.example.com:8080 with \"\"");
        assert_eq!((reply.status(), reply.text()), (200, expected.as_str()));
        let post = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
        let reply = Client::connect(edge.address).await.send(post).await;
        assert_eq!(reply.text(), format!("{version} POST / at {HOST} with \"body\""));
        edge.serve("*", &[("eu", 1, &[speaker.address])]);
        edge.table.put_backend(&Backend { protocol, ..backend("eu", &[speaker.address]) });
        let reply = Client::connect(edge.address).await.send("GET /old HTTP/1.0\r\n\r\n").await;
        assert!(reply.text().starts_with(&format!("{version} GET /old at ")), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_route_may_say_otherwise_than_the_service() {
    for protocol in ALL {
        let speaker = Speaker::start(protocol).await;
        let mut edge = Edge::start();
        let upstream = UpstreamSettings {
            protocol: Some(protocol),
            host: Some("inner.example.com".into()),
            ..UpstreamSettings::default()
        };
        edge.serve_upstream(HOST, &[speaker.address], upstream);
        let reply = get(edge.address, HOST, "/").await;
        assert_eq!(reply.text(), format!("{} GET / at inner.example.com with \"\"", spoken(protocol)));
    }
}

#[tokio::test]
async fn requests_share_a_connection_of_http2_and_take_turns_on_one_of_tls() {
    for protocol in [BackendProtocol::H2c, BackendProtocol::H2, BackendProtocol::Https1] {
        let speaker = Speaker::start(protocol).await;
        let mut edge = Edge::start();
        edge.serve(HOST, &[("eu", 1, &[speaker.address])]);
        edge.table.put_backend(&Backend { protocol, ..backend("eu", &[speaker.address]) });
        let mut client = Client::connect(edge.address).await;
        for _ in 0..10 {
            assert_eq!(client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await.status(), 200);
        }
        assert_eq!(speaker.connections.load(Ordering::Relaxed), 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_speak_so_is_a_bad_gateway() {
    let plain = crate::support::Pod::saying("plain").await;
    for protocol in [BackendProtocol::Https1, BackendProtocol::H2] {
        let mut edge = Edge::start();
        edge.serve(HOST, &[("eu", 1, &[plain.address])]);
        edge.table.put_backend(&Backend { protocol, ..backend("eu", &[plain.address]) });
        assert_eq!(get(edge.address, HOST, "/").await.status(), 502, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_request_to_switch_protocols_is_an_ordinary_one_to_http2() {
    let speaker = Speaker::start(BackendProtocol::H2c).await;
    let mut edge = Edge::start();
    let upstream = UpstreamSettings { protocol: Some(BackendProtocol::H2c), ..UpstreamSettings::default() };
    edge.serve_upstream(HOST, &[speaker.address], upstream);
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let reply = crate::support::get_with(edge.address, HOST, "/", fields).await;
    assert_eq!(reply.text(), format!("HTTP/2.0 GET / at {HOST} with \"\""));
}

#[tokio::test]
async fn an_authentication_server_that_cannot_prove_who_it_is_lets_nobody_pass() {
    let (server, pod) = (Speaker::start(BackendProtocol::Https1).await, crate::support::Pod::saying("x").await);
    let mut edge = Edge::start_with(Config { names: NamePolicy::Anywhere, ..Config::default() });
    let external = ExternalAuth {
        url: format!("https://{}/", server.address).into(),
        method: None,
        signin: None,
        response_headers: Vec::new(),
    };
    let access = Access { external: vec![external], ..Access::default() };
    edge.serve_client(HOST, &pod, ClientSettings { access, ..ClientSettings::default() });
    assert_eq!(get(edge.address, HOST, "/").await.status(), 503);
    assert_eq!(server.connections.load(Ordering::Relaxed), 1, "it was asked to prove it");
}
