//! What a route tells clients by itself: redirects, who may come, how often, and from which other sites.

use std::net::SocketAddr;

use roadstead_edge::proxy::{Config, TrustedProxies};
use roadstead_routing::settings::{Access, AllDown, ClientSettings, Cors, Origin, RateLimit, Redirect, RedirectTo};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::{Act, Client, Edge, Pod, get, get_with, ok};

const HOST: &str = "a.example.com";

/// An edge that believes its clients what they say about theirs.
fn behind_a_proxy() -> Edge {
    let trusted_proxies = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    Edge::start_with(Config { trusted_proxies, ..Config::default() })
}

fn default() -> ClientSettings {
    ClientSettings::default()
}

#[tokio::test]
async fn plain_http_is_redirected_to_https_unless_a_trusted_proxy_had_https() {
    let pod = Pod::saying("x").await;
    let (mut plain, mut behind) = (Edge::start(), behind_a_proxy());
    for edge in [&mut plain, &mut behind] {
        edge.serve_client(HOST, &pod, ClientSettings { https_redirect: true, ..default() });
    }
    let reply = get(plain.address, "A.example.com:8080", "/x?y=1").await;
    assert_eq!((reply.status(), reply.header("location")), (308, Some("https://A.example.com/x?y=1")));
    let https = "X-Forwarded-Proto: https\r\n";
    assert_eq!(get_with(plain.address, HOST, "/", https).await.status(), 308, "anybody can say so");
    assert_eq!(get_with(behind.address, HOST, "/", https).await.status(), 200);
    assert_eq!(get_with(behind.address, HOST, "/", "X-Forwarded-Proto: http\r\n").await.status(), 308);
}

#[tokio::test]
async fn redirects_are_answered_without_an_endpoint() {
    let pod = Pod::saying("x").await;
    let mut edge = Edge::start();
    let redirect = |to, status| ClientSettings { redirect: Some(Redirect { to, status }), ..default() };
    edge.serve_client(HOST, &pod, redirect(RedirectTo::Url("https://other.example.com/\r\nX: y".into()), 301));
    let reply = get(edge.address, HOST, "/x").await;
    assert_eq!((reply.status(), reply.header("x")), (301, None));
    assert_eq!(reply.header("location"), Some("https://other.example.com/%0D%0AX:%20y"));
    edge.serve_client(HOST, &pod, redirect(RedirectTo::Host("www.example.com".into()), 308));
    let reply = get(edge.address, HOST, "/x?y").await;
    assert_eq!((reply.status(), reply.header("location")), (308, Some("http://www.example.com/x?y")));
    edge.serve_client(HOST, &pod, ClientSettings { app_root: Some("/app".into()), ..default() });
    let reply = get(edge.address, HOST, "/").await;
    assert_eq!((reply.status(), reply.header("location")), (302, Some("http://a.example.com/app")));
    assert!(pod.requests().is_empty());
    assert_eq!(get(edge.address, HOST, "/app").await.status(), 200);
}

#[tokio::test]
async fn while_nobody_can_serve_clients_get_what_the_route_says() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut edge = Edge::start();
    let mut ask = async |addresses: &[SocketAddr], all_down: Option<AllDown>| {
        edge.serve_as(HOST, &[("eu", 1, addresses)], |route| {
            route.client = ClientSettings { all_down, ..default() }.into();
        });
        let reply = get(edge.address, HOST, "/x").await;
        (reply.status(), reply.header("location").map(str::to_owned))
    };
    let elsewhere = "https://status.example.com/?a=b";
    for addresses in [&[][..], &[dead]] {
        assert_eq!(ask(addresses, Some(AllDown::Status(418))).await, (418, None));
        let redirected = ask(addresses, Some(AllDown::Redirect(elsewhere.into()))).await;
        assert_eq!(redirected, (302, Some(elsewhere.to_owned())));
    }
    assert_eq!(ask(&[], None).await.0, 503);
    assert_eq!(ask(&[dead], None).await.0, 502);
}

#[tokio::test]
async fn only_allowed_addresses_pass_and_only_a_trusted_proxy_may_name_one() {
    let pod = Pod::saying("x").await;
    let access = Access {
        allow: vec![vec!["192.0.2.0/24".parse().unwrap()]],
        deny: vec!["192.0.2.66/32".parse().unwrap()],
        ..Access::default()
    };
    let (mut plain, mut behind) = (Edge::start(), behind_a_proxy());
    for edge in [&mut plain, &mut behind] {
        edge.serve_client(HOST, &pod, ClientSettings { access: access.clone(), ..default() });
    }
    let from = async |edge: &Edge, address: &str| {
        get_with(edge.address, HOST, "/", &format!("X-Forwarded-For: {address}\r\n")).await.status()
    };
    assert_eq!(from(&behind, "192.0.2.1").await, 200);
    assert_eq!(from(&behind, "192.0.2.1, 192.0.2.66").await, 403);
    assert_eq!(from(&behind, "198.51.100.1").await, 403);
    assert_eq!(from(&plain, "192.0.2.1").await, 403);
    let nobody = Access { is_irreconcilable: true, ..Access::default() };
    behind.serve_client(HOST, &pod, ClientSettings { access: nobody, ..default() });
    assert_eq!(from(&behind, "192.0.2.1").await, 403);
    assert_eq!(pod.requests().len(), 1);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_to_wait() {
    let pod = Pod::saying("x").await;
    let mut edge = behind_a_proxy();
    let rate = RateLimit { per_minute: 3, burst: 1, ..RateLimit::default() };
    let limited = || ClientSettings { rate: Some(rate.clone()), ..default() };
    edge.serve_client(HOST, &pod, limited());
    let from = async |address: &str| {
        get_with(edge.address, HOST, "/", &format!("X-Forwarded-For: {address}\r\n")).await.status()
    };
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(from("192.0.2.1").await);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert_eq!(from("192.0.2.2").await, 200, "others are not concerned");
    assert_eq!(pod.requests().len(), 4);
    let address = edge.address;
    edge.serve_client(HOST, &pod, limited());
    let again = get_with(address, HOST, "/", "X-Forwarded-For: 192.0.2.1\r\n").await;
    assert_eq!(again.status(), 429, "a change of the table is no fresh start");
}

#[tokio::test]
async fn requests_at_once_are_counted_until_their_response_has_ended() {
    let go_on = std::sync::Arc::new(Notify::new());
    let waiting = go_on.clone();
    let pod = Pod::start(move |seen| {
        if seen.line().contains("slow") {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na".to_vec();
            return Act::ReplyInParts(head, waiting.clone(), b"b".to_vec());
        }
        Act::Reply(ok("x"))
    })
    .await;
    let mut edge = Edge::start();
    let rate = Some(RateLimit { connections: 1, ..RateLimit::default() });
    edge.serve_client(HOST, &pod, ClientSettings { rate, ..default() });
    let mut slow = Client::connect(edge.address).await;
    slow.write(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\na") {
        received.extend(slow.received(1).await);
    }
    assert_eq!(get(edge.address, HOST, "/").await.status(), 429);
    go_on.notify_one();
    assert_eq!(slow.received(1).await, b"b");
    crate::support::eventually("the slow request has ended", async || {
        get(edge.address, HOST, "/").await.status() == 200
    })
    .await;
}

fn cors(origins: Vec<Origin>) -> ClientSettings {
    let (methods, headers) = ("GET, POST".into(), "X-A".into());
    let cors = Cors { origins, methods, headers, credentials: true, expose: None, max_age_seconds: 60 };
    ClientSettings { cors: Some(cors), ..default() }
}

#[tokio::test]
async fn a_browser_is_told_which_other_sites_may_ask() {
    let pod = Pod::start(|_| {
        Act::Reply(b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://pod\r\nContent-Length: 0\r\n\r\n".to_vec())
    })
    .await;
    let mut edge = Edge::start();
    edge.serve_client(HOST, &pod, cors(vec![Origin::Subdomain("https://".into(), ".example.org".into())]));
    let preflight = |origin: &str| {
        format!("OPTIONS / HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\r\n")
    };
    let reply = Client::connect(edge.address).await.send(preflight("https://x.example.org")).await;
    assert_eq!(reply.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://x.example.org"),
        ("access-control-allow-methods", "GET, POST"),
        ("access-control-allow-headers", "X-A"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "60"),
        ("vary", "Origin"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    let reply = Client::connect(edge.address).await.send(preflight("https://evil.com")).await;
    assert_eq!((reply.status(), reply.header("access-control-allow-origin")), (204, None));
    assert!(pod.requests().is_empty());
    let reply = get_with(edge.address, HOST, "/", "Origin: https://x.example.org\r\n").await;
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://x.example.org"));
    let reply = get_with(edge.address, HOST, "/", "Origin: https://evil.com\r\n").await;
    assert_eq!((reply.status(), reply.header("access-control-allow-origin")), (200, None), "not the endpoint's either");
    let options = format!("OPTIONS / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_eq!(Client::connect(edge.address).await.send(options).await.status(), 200, "not from another site");
}

#[tokio::test]
async fn every_answer_gets_the_fields_that_the_route_adds() {
    let pod = Pod::saying("x").await;
    let mut edge = Edge::start();
    let field = |name: &str, value: &str| (name.into(), value.into());
    let response_headers = vec![field("X-Frame-Options", "DENY"), field("Content-Length", "9"), field("bad name", "x")];
    let client = ClientSettings { response_headers, ..cors(vec![Origin::Any]) };
    edge.serve_client(HOST, &pod, client.clone());
    edge.serve_as("empty.example.com", &[("none", 1, &[])], |route| route.client = client.into());
    for (host, status) in [(HOST, 200), ("empty.example.com", 503)] {
        let reply = get(edge.address, host, "/").await;
        assert_eq!((reply.status(), reply.header("x-frame-options")), (status, Some("DENY")));
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    }
}
