//! What endpoints are told, what clients get back, and who answers what.

use roadstead_edge::proxy::{Config, TrustedProxies};
use roadstead_routing::table::Target;

use crate::support::{Act, Client, Edge, Expect, Pod, get, ok};

const HOST: &str = "a.example.com";

async fn edge_with(pod: &Pod) -> Edge {
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    edge
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_and_says_who_sent_it() {
    let pod = Pod::saying("hello").await;
    let edge = edge_with(&pod).await;
    let reply = get(edge.address, "A.Example.com:8080", "/a/../%7Eb//c?x=%2F&y#").await;
    assert_eq!((reply.status(), reply.text()), (200, "hello"));
    let seen = pod.requests().remove(0);
    assert!(seen.line().starts_with("GET /a/../%7Eb//c?x=%2F&y"), "{}", seen.line());
    assert!(seen.line().ends_with(" HTTP/1.1"));
    let port = edge.address.port().to_string();
    let expected = [
        ("host", "A.Example.com:8080"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "A.Example.com:8080"),
        ("x-forwarded-port", &port),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name), [value], "{name}");
    }
    assert_eq!(seen.header("x-request-id")[0].len(), 32);
    assert!(seen.header("connection").is_empty() && seen.header("transfer-encoding").is_empty());
}

#[tokio::test]
async fn a_response_has_date_and_server_and_loses_what_concerns_one_connection() {
    let pod = Pod::start(|seen| {
        let server = if seen.line().contains("named") { "Server: own\r\n" } else { "" };
        Act::Reply(
            format!(
                "HTTP/1.1 200 OK\r\n{server}Content-Length: 2\r\nContent-Type: text/x\r\nConnection: x-private, keep-alive\r\n\
                 Keep-Alive: timeout=5\r\nX-Private: 1\r\nX-Public: 1\r\n\r\nok"
            )
            .into_bytes(),
        )
    })
    .await;
    let edge = edge_with(&pod).await;
    let reply = get(edge.address, HOST, "/").await;
    assert_eq!(reply.header("server"), Some("roadstead"));
    assert!(reply.header("date").is_some());
    assert_eq!((reply.header("content-length"), reply.header("content-type")), (Some("2"), Some("text/x")));
    assert_eq!((reply.header("x-public"), reply.header("x-private")), (Some("1"), None));
    assert_eq!((reply.header("keep-alive"), reply.header("connection")), (None, None));
    assert_eq!(get(edge.address, HOST, "/named").await.header("server"), Some("own"));
}

#[tokio::test]
async fn what_a_client_claims_about_itself_is_replaced_and_hop_by_hop_fields_are_dropped() {
    let pod = Pod::saying("").await;
    let edge = edge_with(&pod).await;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\n\
         X_Forwarded_For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nConnection: X-Drop, Host, close\r\nX-Drop: 1\r\nTE: trailers\r\n\
         Proxy-Connection: keep-alive\r\nKeep-Alive: 300\r\nProxy-Authorization: x\r\nX-Request-Id: mine\r\n\r\n"
    );
    let mut client = Client::connect(edge.address).await;
    assert_eq!(client.send(request).await.status(), 200);
    assert!(client.is_closed().await);
    let seen = pod.requests().remove(0);
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", HOST),
        ("x-real-ip", "127.0.0.1"),
        ("x-request-id", "mine"),
        ("host", HOST),
    ] {
        assert_eq!(seen.header(name), [value], "{name}");
    }
    for name in
        ["x_forwarded_for", "x-drop", "te", "proxy-connection", "keep-alive", "proxy-authorization", "connection"]
    {
        assert!(seen.header(name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let pod = Pod::saying("").await;
    let trusted_proxies = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()]);
    let mut edge = Edge::start_with(Config { trusted_proxies, ..Config::default() });
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4\r\nX-Forwarded-For: 10.0.0.7\r\n\
         X-Forwarded-Proto: https\r\nX-Real-IP: 9.9.9.9\r\n\r\n"
    );
    Client::connect(edge.address).await.send(request).await;
    let seen = pod.requests().remove(0);
    assert_eq!(seen.header("x-forwarded-for"), ["6.6.6.6, 1.2.3.4, 10.0.0.7, 127.0.0.1"]);
    assert_eq!(seen.header("x-real-ip"), ["1.2.3.4"], "the last address that is not a trusted proxy");
    assert_eq!(seen.header("x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn the_edge_answers_itself_where_nobody_else_can() {
    let mut edge = Edge::start();
    edge.serve("empty.example.com", &[("eu", 100, &[])]);
    edge.serve_targets("resource.example.com", vec![("eu", 1, Target::Resource)]);
    edge.serve_targets("nothing.example.com", vec![("eu", 1, Target::Nothing), ("us", 1, Target::Resource)]);
    for (host, status) in [
        ("unknown.example.com", 404),
        ("empty.example.com", 503),
        ("resource.example.com", 404),
        ("nothing.example.com", 503),
    ] {
        let reply = get(edge.address, host, "/").await;
        assert_eq!(reply.status(), status, "{host}");
        assert!(reply.text().starts_with(&format!("{status} ")), "{}", reply.text());
        assert_eq!(reply.header("server"), Some("roadstead"));
        assert!(reply.header("date").is_some());
    }
    let without_table = Edge::start_without_table(Config::default());
    let reply = get(without_table.address, "unknown.example.com", "/").await;
    assert_eq!((reply.status(), reply.text()), (503, "503 this edge has no routes yet\n"));
}

#[tokio::test]
async fn one_connection_carries_many_requests_both_ways() {
    let pod = Pod::saying("x").await;
    let edge = edge_with(&pod).await;
    let mut client = Client::connect(edge.address).await;
    for _ in 0..50 {
        assert_eq!(client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await.text(), "x");
    }
    let requests = pod.requests();
    assert!(requests.iter().all(|seen| seen.connection == 0), "one connection to the endpoint must be enough");
    assert_eq!(requests.len(), 50);
    assert_eq!(edge.metrics.upstream_connects.get(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let pod = Pod::start(|seen| Act::Reply(ok(seen.line()))).await;
    let edge = edge_with(&pod).await;
    let mut client = Client::connect(edge.address).await;
    let requests: Vec<String> = (0..3).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).collect();
    client.write(requests.concat()).await;
    for n in 0..3 {
        assert_eq!(client.reply().await.unwrap().text(), format!("GET /{n} HTTP/1.1"));
    }
}

#[tokio::test]
async fn bodies_pass_whatever_their_framing() {
    let pod = Pod::start(|seen| {
        let body = String::from_utf8(seen.body.clone()).unwrap();
        let chunked =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        if seen.line().contains("close") {
            return Act::ReplyAndClose(format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes());
        }
        Act::Reply(if seen.line().contains("chunked") { chunked.into_bytes() } else { ok(&body) })
    })
    .await;
    let edge = edge_with(&pod).await;
    let large = "0123456789abcdef".repeat(64 * 1024);
    for (target, version) in [("/length", "1.1"), ("/chunked", "1.1"), ("/close", "1.1"), ("/chunked", "1.0")] {
        let length =
            format!("POST {target} HTTP/{version}\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{large}", large.len());
        let reply = Client::connect(edge.address).await.send(length).await;
        assert_eq!((reply.status(), reply.text() == large), (200, true), "{target} {version}");
        assert_eq!(reply.header("transfer-encoding").is_some(), version == "1.1" && target != "/length", "{target}");
    }
    let chunks = format!(
        "POST /length HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    );
    let reply = Client::connect(edge.address).await.send(chunks).await;
    assert_eq!(reply.text(), "abcde");
    assert_eq!(pod.requests().last().unwrap().header("transfer-encoding"), ["chunked"]);
}

#[tokio::test]
async fn a_response_is_streamed_and_not_collected() {
    let pod =
        Pod::start(|_| Act::Echo(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n".to_vec()))
            .await;
    let edge = edge_with(&pod).await;
    let mut client = Client::connect(edge.address).await;
    client.write(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    let mut received = Vec::new();
    while !received.ends_with(b"5\r\nfirst\r\n") {
        received.extend(client.received(1).await);
    }
}

#[tokio::test]
async fn responses_without_a_body_keep_their_headers_and_the_connection() {
    let pod = Pod::start(|seen| {
        let reply: &str = match seen.line() {
            line if line.starts_with("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            line if line.contains("204") => "HTTP/1.1 204 No Content\r\n\r\n",
            _ => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n",
        };
        Act::Reply(reply.as_bytes().to_vec())
    })
    .await;
    let edge = edge_with(&pod).await;
    let mut client = Client::connect(edge.address).await;
    for _ in 0..2 {
        client.write(format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        let head = client.reply_to(Expect::HeadResponse).await.unwrap();
        assert_eq!((head.status(), head.header("content-length")), (200, Some("1234")));
        let no_content = client.send(format!("GET /204 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!((no_content.status(), no_content.header("content-length")), (204, None));
        let not_modified = client.send(format!("GET /304 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!((not_modified.status(), not_modified.header("etag")), (304, Some("\"x\"")));
    }
    assert!(pod.requests().iter().all(|seen| seen.connection == 0));
    client.write("HEAD / HTTP/1.1\r\nHost: unknown\r\n\r\n").await;
    assert_eq!(client.reply_to(Expect::HeadResponse).await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on_only_when_somebody_wants_its_body() {
    let pod = Pod::start(|seen| Act::Reply(ok(std::str::from_utf8(&seen.body).unwrap()))).await;
    let edge = edge_with(&pod).await;
    let request =
        |host: &str| format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    let mut client = Client::connect(edge.address).await;
    client.write(request(HOST)).await;
    assert_eq!(client.reply().await.unwrap().status(), 100);
    assert_eq!(client.send("abc").await.text(), "abc");
    assert!(pod.requests()[0].header("expect").is_empty());
    let mut client = Client::connect(edge.address).await;
    client.write(request("unknown")).await;
    assert_eq!(client.reply().await.unwrap().status(), 404);
}

#[tokio::test]
async fn http_10_clients_and_clients_without_a_host_are_served() {
    let pod = Pod::saying("old").await;
    let mut edge = edge_with(&pod).await;
    edge.serve("*", &[("any", 1, &[pod.address])]);
    let mut client = Client::connect(edge.address).await;
    let reply = client.send(format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!((reply.status(), reply.text()), (200, "old"));
    assert!(client.is_closed().await);
    let reply = Client::connect(edge.address).await.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((reply.status(), reply.text()), (200, "old"));
    assert_eq!(pod.requests().last().unwrap().header("host"), [""]);
    let reply = Client::connect(edge.address).await.send("GET / HTTP/1.1\r\nHost:\r\n\r\n").await;
    assert_eq!(reply.status(), 200, "an empty Host is no host");
    let keep_alive = format!("GET / HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n");
    let mut client = Client::connect(edge.address).await;
    for _ in 0..2 {
        assert_eq!(client.send(&keep_alive).await.header("connection"), Some("keep-alive"));
    }
}

#[tokio::test]
async fn an_absolute_target_overrides_the_host() {
    let pod = Pod::saying("").await;
    let edge = edge_with(&pod).await;
    let request = format!("GET http://{HOST}/x?y HTTP/1.1\r\nHost: unknown\r\n\r\n");
    assert_eq!(Client::connect(edge.address).await.send(request).await.status(), 200);
    let seen = pod.requests().remove(0);
    assert_eq!((seen.line(), seen.header("host")), ("GET /x?y HTTP/1.1", vec![HOST]));
    let request = format!("GET http://user:secret@{HOST} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_eq!(Client::connect(edge.address).await.send(request).await.status(), 200);
    let seen = pod.requests().remove(1);
    assert_eq!((seen.line(), seen.header("host")), ("GET / HTTP/1.1", vec![HOST]));
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let pod = Pod::start(|seen| {
        assert_eq!(seen.header("upgrade"), ["websocket"]);
        assert_eq!(seen.header("connection"), ["upgrade"]);
        Act::Echo(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Y: 1\r\n\r\nfirst"
                .to_vec(),
        )
    })
    .await;
    let edge = edge_with(&pod).await;
    let mut client = Client::connect(edge.address).await;
    let request =
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n");
    client.write(request).await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status(), reply.header("upgrade"), reply.header("x-y")), (101, Some("websocket"), Some("1")));
    client.write("second").await;
    assert_eq!(client.received(11).await, b"firstsecond");
    assert_eq!(edge.metrics.tunnels.get(), 1);
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_response_and_h2c_is_never_asked_for() {
    let pod = Pod::saying("plain").await;
    let edge = edge_with(&pod).await;
    for protocol in ["websocket", "h2c"] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        );
        assert_eq!(Client::connect(edge.address).await.send(request).await.text(), "plain");
    }
    let seen = pod.requests();
    assert_eq!(seen[0].header("upgrade"), ["websocket"]);
    assert!(seen[1].header("upgrade").is_empty() && seen[1].header("http2-settings").is_empty());
}

#[tokio::test]
async fn a_backend_that_switches_unasked_is_a_bad_gateway() {
    let pod = Pod::start(|_| {
        Act::Reply(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n".to_vec())
    })
    .await;
    let edge = edge_with(&pod).await;
    assert_eq!(get(edge.address, HOST, "/").await.status(), 502);
}

#[tokio::test]
async fn heads_have_limits() {
    let pod = Pod::saying("").await;
    let edge = edge_with(&pod).await;
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(100 * 1024));
    for fields in [many, long] {
        let mut client = Client::connect(edge.address).await;
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
        // The edge may answer and close before everything was written.
        let reply = client.send(request).await;
        assert_eq!(reply.status(), 431);
    }
    assert!(pod.requests().is_empty());
}
