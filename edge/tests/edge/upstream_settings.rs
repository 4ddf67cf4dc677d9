//! What a cluster's endpoints see, how long they may take, and names instead of endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use roadstead_edge::proxy::Config;
use roadstead_edge::table::{CompiledHost, HostChange};
use roadstead_edge::upstream::NamePolicy;
use roadstead_routing::reach::{Gateway, GatewayAddress, Reach, ReachMode};
use roadstead_routing::settings::{Retry, Rewrite, UpstreamSettings};
use roadstead_routing::table::{Backend, BackendProtocol, ExternalName, PathMatch, Target};
use tokio::net::TcpListener;

use crate::support::{Act, Client, Edge, Expect, Pod, Seen, get, host_of, id, ok};

const HOST: &str = "a.example.com";

fn default() -> UpstreamSettings {
    UpstreamSettings::default()
}

#[tokio::test]
async fn each_clusters_endpoints_see_what_it_asked_for() {
    let (eu, us) = (Pod::start(|_| Act::Close).await, Pod::saying("us").await);
    let mut edge = Edge::start();
    edge.endpoints("eu", &[eu.address]);
    edge.endpoints("us", &[us.address]);
    let targets = [("eu", 1), ("us", 0)].map(|(name, weight)| (name, weight, Target::Backend(id(name))));
    let mut host = host_of(HOST, targets.to_vec());
    host.routes[0].path = PathMatch::Regex("/api(/|$)(.*)".into());
    let rewrite = |template: &str| Some(Rewrite { template: template.into() });
    host.routes[0].backends[0].upstream = UpstreamSettings { rewrite: rewrite("/eu/$2"), ..default() }.into();
    host.routes[0].backends[1].upstream = UpstreamSettings {
        rewrite: rewrite("/$2"),
        host: Some("inner.example.com".into()),
        forwarded_prefix: Some("/api".into()),
        ..default()
    }
    .into();
    edge.table.change_hosts(vec![HostChange::Put(Box::new(CompiledHost::new(host).unwrap()))]);
    let reply = get(edge.address, HOST, "/api/v1/x?y=1").await;
    assert_eq!(reply.text(), "us");
    let (first, second) = (eu.requests().remove(0), us.requests().remove(0));
    assert_eq!((first.line(), first.header("host")), ("GET /eu/v1/x?y=1 HTTP/1.1", vec![HOST]));
    assert_eq!((second.line(), second.header("host")), ("GET /v1/x?y=1 HTTP/1.1", vec!["inner.example.com"]));
    assert_eq!(second.header("x-forwarded-prefix"), ["/api"]);
    assert_eq!(second.header("x-forwarded-host"), [HOST]);
}

#[tokio::test]
async fn a_body_that_could_not_be_sent_is_edited_anew_for_the_next_endpoint() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let pod = Pod::start(|seen| Act::Reply(ok(std::str::from_utf8(&seen.body).unwrap()))).await;
    let mut edge = Edge::start();
    let host = |host: &str| UpstreamSettings { host: Some(host.into()), ..default() };
    edge.serve_as(HOST, &[("dead", 1, &[dead]), ("live", 0, &[pod.address])], |route| {
        route.backends[0].upstream = host("dead.example.com").into();
        route.backends[1].upstream = UpstreamSettings { forwarded_prefix: Some("/x".into()), ..default() }.into();
    });
    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(Client::connect(edge.address).await.send(request).await.text(), "body");
    assert_eq!(pod.requests()[0].header("host"), [HOST], "not what the other cluster asked for");
}

#[tokio::test]
async fn what_was_edited_for_a_connection_that_is_closed_is_edited_anew() {
    // Answers once on each connection and then closes it without a word.
    let pod = Pod::start(|seen| if seen.request == 0 { Act::ReplyAndClose(ok("x")) } else { Act::Close }).await;
    let mut edge = Edge::start();
    let upstream = UpstreamSettings { rewrite: Some(Rewrite { template: "/y".into() }), ..default() };
    edge.serve_upstream(HOST, &[pod.address], upstream);
    let mut client = Client::connect(edge.address).await;
    for n in 0..30 {
        let request = format!("POST /x?{n} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.send(request).await.status(), 200);
    }
    let lines: Vec<String> = pod.requests().iter().map(|seen| seen.line().to_owned()).collect();
    assert_eq!(lines, (0..30).map(|n| format!("POST /y?{n} HTTP/1.1")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_body_larger_than_allowed_is_refused_whatever_its_framing() {
    let pod = Pod::start(|seen: &Seen| Act::Reply(ok(&seen.body.len().to_string()))).await;
    let mut edge = Edge::start();
    edge.serve_upstream(HOST, &[pod.address], UpstreamSettings { body_bytes_max: Some(5), ..default() });
    edge.serve_upstream("any.example.com", &[pod.address], UpstreamSettings { body_bytes_max: Some(0), ..default() });
    let sized = |host: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let chunked = |host: &str, body: &str| {
        let chunks: String = body.chars().map(|letter| format!("1\r\n{letter}\r\n")).collect();
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    for (request, status) in [
        (sized(HOST, "12345"), 200),
        (sized(HOST, "123456"), 413),
        (chunked(HOST, "12345"), 200),
        (chunked(HOST, "123456"), 413),
        (sized("any.example.com", "123456"), 200),
        (chunked("any.example.com", "123456"), 200),
    ] {
        assert_eq!(Client::connect(edge.address).await.send(&request).await.status(), status, "{request}");
    }
    assert!(pod.requests().iter().all(|seen| seen.line() == "POST / HTTP/1.1"), "no rest of a body is a request");
}

#[tokio::test]
async fn an_endpoint_may_take_as_long_as_its_cluster_says() {
    let pod = Pod::start(|seen| {
        if seen.line().contains("stall") {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart".to_vec();
            return Act::ReplyInParts(head, std::sync::Arc::default(), Vec::new());
        }
        Act::Hang
    })
    .await;
    let mut edge = Edge::start();
    let short = Some(Duration::from_millis(200));
    edge.serve_upstream(HOST, &[pod.address], UpstreamSettings { read_timeout: short, ..default() });
    assert_eq!(get(edge.address, HOST, "/").await.status(), 504);
    let mut client = Client::connect(edge.address).await;
    client.write(format!("GET /stall HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(client.reply().await, None, "a response that stops is broken off");
    let chunks = "3\r\nabc\r\n0\r\n\r\n";
    let upload = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    assert_eq!(Client::connect(edge.address).await.send(upload).await.status(), 504, "nothing is to be sent any more");
    edge.serve_upstream(HOST, &[pod.address], UpstreamSettings { send_timeout: short, ..default() });
    let mut client = Client::connect(edge.address).await;
    client.write(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\npart")).await;
    assert_eq!(client.reply().await.unwrap().status(), 504);
}

fn retry(retry: Retry) -> UpstreamSettings {
    UpstreamSettings { retry, ..default() }
}

async fn failing(status: u16) -> Pod {
    Pod::start(move |_| Act::Reply(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes())).await
}

#[tokio::test]
async fn an_answer_that_counts_as_a_failure_is_tried_elsewhere_if_that_cannot_matter() {
    let (bad, good) = (failing(503).await, Pod::saying("good").await);
    let mut edge = Edge::start();
    let on_status = || retry(Retry { on_status: vec![502, 503], ..Retry::default() });
    edge.serve_as(HOST, &[("bad", 1, &[bad.address]), ("good", 0, &[good.address])], |route| {
        route.backends[0].upstream = on_status().into();
    });
    assert_eq!(get(edge.address, HOST, "/").await.text(), "good");
    let post = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(Client::connect(edge.address).await.send(post).await.status(), 503);
    edge.serve_upstream(HOST, &[bad.address], on_status());
    assert_eq!(get(edge.address, HOST, "/").await.status(), 503, "the only answer is better than none");
    let other = failing(500).await;
    edge.serve_upstream(HOST, &[other.address, good.address], on_status());
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(get(edge.address, HOST, "/").await.status());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 500], "another status is an answer");
}

#[tokio::test]
async fn a_route_says_how_often_and_why_to_try_again() {
    let mut pods = Vec::new();
    for _ in 0..6 {
        pods.push(Pod::start(|_| Act::Close).await);
    }
    let addresses: Vec<_> = pods.iter().map(|pod| pod.address).collect();
    let mut edge = Edge::start();
    let attempts = || pods.iter().map(|pod| pod.requests().len()).sum::<usize>();
    let default = Retry::default;
    for (retrying, expected) in [
        (Retry { tries: 5, ..default() }, 5),
        (Retry { tries: 1, ..default() }, 1),
        (Retry { on_error: false, ..default() }, 1),
        (Retry { within: Some(Duration::ZERO), ..default() }, 1),
    ] {
        edge.serve_upstream(HOST, &addresses, retry(retrying.clone()));
        let before = attempts();
        assert_eq!(get(edge.address, HOST, "/").await.status(), 502);
        assert_eq!(attempts() - before, expected, "{retrying:?}");
    }
}

#[tokio::test]
async fn what_timed_out_is_repeated_only_where_a_route_asks_for_it() {
    let (slow, good) = (Pod::start(|_| Act::Hang).await, Pod::saying("good").await);
    let mut edge = Edge::start_with(Config { response_timeout: Duration::from_millis(200), ..Config::default() });
    for (on_timeout, status) in [(true, 200), (false, 504)] {
        edge.serve_as(HOST, &[("slow", 1, &[slow.address]), ("good", 0, &[good.address])], |route| {
            route.backends[0].upstream = retry(Retry { on_timeout, tries: 2, ..Retry::default() }).into();
        });
        assert_eq!(get(edge.address, HOST, "/").await.status(), status);
    }
}

#[tokio::test]
async fn a_gateway_sees_what_the_client_sent_and_limits_still_hold() {
    let pod = Pod::saying("gateway").await;
    let mut edge = Edge::start();
    let at = GatewayAddress::Addresses(vec![pod.address]);
    let gateway = Some(Gateway { at, is_tls: false });
    let reach = Some(Box::new(Reach { otherwise: ReachMode::Gateway, gateway, ..Reach::default() }));
    edge.serve_upstream(
        HOST,
        &[],
        UpstreamSettings {
            rewrite: Some(Rewrite { template: "/inner".into() }),
            host: Some("inner.example.com".into()),
            forwarded_prefix: Some("/x".into()),
            protocol: Some(BackendProtocol::Https1),
            body_bytes_max: Some(3),
            ..default()
        },
    );
    edge.table.put_backend(&Backend { reach, ..Backend::empty(id("eu")) });
    assert_eq!(get(edge.address, HOST, "/a?b").await.text(), "gateway");
    let seen = pod.requests().remove(0);
    assert_eq!((seen.line(), seen.header("host")), ("GET /a?b HTTP/1.1", vec![HOST]));
    assert!(seen.header("x-forwarded-prefix").is_empty());
    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(Client::connect(edge.address).await.send(request).await.status(), 413);
}

/// The cluster `eu` at `pod`, its fallback at `fallback`, and these statuses of it replaced.
fn falling_back(edge: &mut Edge, pods: &[SocketAddr], fallback: &Pod, errors: &[u16]) {
    edge.endpoints("fallback", &[fallback.address]);
    let rewrite = Some(Rewrite { template: "/inner".into() });
    let upstream = UpstreamSettings { errors: errors.to_vec(), rewrite, ..default() };
    edge.serve_as(HOST, &[("eu", 1, pods)], |route| {
        route.backends[0].upstream = upstream.into();
        route.backends[0].fallback = Some(id("fallback"));
    });
}

#[tokio::test]
async fn the_fallback_answers_while_nobody_has_an_endpoint() {
    let (pod, fallback) = (Pod::saying("pod").await, Pod::saying("sorry").await);
    let mut edge = Edge::start();
    falling_back(&mut edge, &[], &fallback, &[]);
    let request = format!("POST /a?b HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(Client::connect(edge.address).await.send(request).await.text(), "sorry");
    let seen = fallback.requests().remove(0);
    assert_eq!((seen.line(), seen.header("host"), &*seen.body), ("POST /a?b HTTP/1.1", vec![HOST], &b"body"[..]));
    edge.endpoints("eu", &[pod.address]);
    assert_eq!(get(edge.address, HOST, "/a").await.text(), "pod");
    edge.endpoints("eu", &[]);
    edge.endpoints("fallback", &[]);
    assert_eq!(get(edge.address, HOST, "/a").await.status(), 503);
}

#[tokio::test]
async fn errors_that_the_route_names_are_answered_by_the_fallback() {
    let pod = Pod::start(|seen| {
        let status = if seen.line().starts_with("GET /inner") { "404 Not Found" } else { "500 Oops" };
        Act::Reply(format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nown").into())
    })
    .await;
    let fallback = Pod::saying("a page").await;
    let mut edge = Edge::start();
    falling_back(&mut edge, &[pod.address], &fallback, &[404, 503]);
    let address = edge.address;
    let ask = async |method: &str| {
        let head =
            format!("{method} /a?b HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/html\r\nContent-Length: 4\r\n\r\nbody");
        Client::connect(address).await.send(head).await
    };
    let reply = ask("GET").await;
    assert_eq!((reply.status(), reply.text()), (200, "a page"), "its status counts");
    let seen = fallback.requests().remove(0);
    assert_eq!((seen.line(), &*seen.body), ("GET / HTTP/1.1", &b""[..]));
    let told = ["x-code", "x-format", "x-original-uri", "x-namespace", "x-service-name", "x-service-port"];
    let told = told.map(|name| seen.header(name).concat());
    assert_eq!(told, ["404", "text/html", "/a?b", "shop", "web", "80"]);
    assert_eq!(ask("POST").await.text(), "own", "500 is not among them");
    edge.endpoints("fallback", &[]);
    let reply = ask("GET").await;
    assert_eq!((reply.status(), reply.text()), (404, "own"), "the endpoint's own answer is better than none");
}

fn named(host: &str, port: u16) -> Backend {
    let external_name = Some(ExternalName { host: host.into(), port });
    Backend { external_name, ..Backend::empty(id("named")) }
}

#[tokio::test]
async fn an_external_name_is_resolved_and_a_useless_one_is_a_bad_gateway() {
    let pod = Pod::saying("external").await;
    let mut edge = Edge::start_with(Config { names: NamePolicy::Anywhere, ..Config::default() });
    edge.serve_targets(HOST, vec![("named", 1, Target::Backend(id("named")))]);
    for (host, status) in [("127.0.0.1", 200), ("localhost", 200), ("unknown.invalid", 502)] {
        edge.table.put_backend(&named(host, pod.address.port()));
        assert_eq!(get(edge.address, HOST, "/").await.status(), status, "{host}");
    }
    edge.table.put_backend(&named("127.0.0.1", pod.address.port()));
    let mut client = Client::connect(edge.address).await;
    let before = edge.metrics.upstream_connects.get();
    for _ in 0..5 {
        assert_eq!(client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await.status(), 200);
    }
    assert!(edge.metrics.upstream_connects.get() <= before + 1, "connections to a name are kept");
}

#[tokio::test]
async fn an_external_name_cannot_lead_to_this_machine() {
    let pod = Pod::saying("private").await;
    let mut edge = Edge::start();
    edge.serve_targets(HOST, vec![("named", 1, Target::Backend(id("named")))]);
    for host in ["localhost", "LOCALHOST.", "127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"] {
        edge.table.put_backend(&named(host, pod.address.port()));
        let mut client = Client::connect(edge.address).await;
        client.write(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!(client.reply_to(Expect::Response).await.unwrap().status(), 502, "{host}");
    }
    assert!(pod.requests().is_empty());
}
