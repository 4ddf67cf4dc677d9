//! What is tried again, what is not, and that a dead cluster costs no idempotent request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roadstead_edge::proxy::{Config, Retries};
use tokio::net::TcpListener;

use crate::support::{Act, Client, Edge, Pod, eventually, get, ok};

const HOST: &str = "a.example.com";

/// An address on which nobody listens.
async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn plain(method: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

#[tokio::test]
async fn any_method_is_tried_elsewhere_when_nothing_was_sent() {
    let pod = Pod::start(|seen| Act::Reply(ok(std::str::from_utf8(&seen.body).unwrap()))).await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("dead", 100, &[dead().await]), ("live", 100, &[pod.address])]);
    for n in 0..20 {
        let body = format!("body {n}");
        assert_eq!(Client::connect(edge.address).await.send(post(&body)).await.text(), body);
    }
    assert!(edge.metrics.retries.get() >= 1, "the dead cluster must have been tried");
    assert_eq!(pod.requests().len(), 20, "nothing is sent twice");
}

#[tokio::test]
async fn a_retry_prefers_another_cluster_and_stays_in_the_only_one() {
    let pod = Pod::saying("x").await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[dead().await, dead().await, pod.address])]);
    for _ in 0..20 {
        assert_eq!(Client::connect(edge.address).await.send(plain("GET")).await.status(), 200);
    }
    edge.serve(
        "b.example.com",
        &[("one", 100, &[dead().await, dead().await, dead().await]), ("two", 1, &[pod.address])],
    );
    let before = edge.metrics.retries.get();
    assert_eq!(get(edge.address, "b.example.com", "/").await.status(), 200);
    assert!(edge.metrics.retries.get() <= before + 1, "one retry must lead to the other cluster");
}

#[tokio::test]
async fn without_retries_a_dead_endpoint_costs_requests() {
    let pod = Pod::saying("x").await;
    let mut edge = Edge::start_with(Config { retries: Retries::Off, ..Config::default() });
    edge.serve(HOST, &[("dead", 100, &[dead().await]), ("live", 100, &[pod.address])]);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(Client::connect(edge.address).await.send(plain("GET")).await.status());
    }
    assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
    assert_eq!(edge.metrics.retries.get(), 0);
}

#[tokio::test]
async fn nobody_listening_is_a_bad_gateway() {
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[dead().await]), ("us", 100, &[dead().await])]);
    for request in [plain("GET"), post("x")] {
        let reply = Client::connect(edge.address).await.send(request).await;
        assert_eq!((reply.status(), reply.text()), (502, "502 no endpoint accepted the connection\n"));
    }
}

#[tokio::test]
async fn a_request_that_was_sent_is_repeated_only_if_that_cannot_matter() {
    for (request, repeated) in [
        (plain("GET"), true),
        (plain("HEAD"), true),
        (plain("OPTIONS"), true),
        (plain("DELETE"), true),
        (plain("PUT"), true),
        (plain("POST"), false),
        (plain("PATCH"), false),
        (post("x"), false),
        (post("x").replace("POST", "PUT"), false),
    ] {
        let failing = Pod::start(|_| Act::Close).await;
        let mut edge = Edge::start();
        edge.serve(HOST, &[("eu", 100, &[failing.address])]);
        let mut client = Client::connect(edge.address).await;
        client.write(&request).await;
        let expect = if request.starts_with("HEAD") {
            crate::support::Expect::HeadResponse
        } else {
            crate::support::Expect::Response
        };
        assert_eq!(client.reply_to(expect).await.unwrap().status(), 502, "{request}");
        assert_eq!(failing.requests().len(), 1, "a single endpoint is tried once: {request}");

        let live = Pod::saying("x").await;
        edge.serve(HOST, &[("eu", 1, &[failing.address]), ("us", 0, &[live.address])]);
        let mut client = Client::connect(edge.address).await;
        client.write(&request).await;
        let status = client.reply_to(expect).await.unwrap().status();
        assert_eq!((status, live.requests().len()), if repeated { (200, 1) } else { (502, 0) }, "{request}");
    }
}

#[tokio::test]
async fn attempts_have_a_limit() {
    let pods: Vec<Pod> = futures::future::join_all((0..6).map(|_| Pod::start(|_| Act::Close))).await;
    let addresses: Vec<SocketAddr> = pods.iter().map(|pod| pod.address).collect();
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 1, &addresses)]);
    assert_eq!(get(edge.address, HOST, "/").await.status(), 502);
    assert_eq!(pods.iter().map(|pod| pod.requests().len()).sum::<usize>(), 3);
}

#[tokio::test]
async fn an_idle_connection_that_the_endpoint_closed_costs_nothing() {
    // Answers once on each connection and then closes it without a word.
    let pod = Pod::start(|seen| if seen.request == 0 { Act::ReplyAndClose(ok("x")) } else { Act::Close }).await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    for request in [plain("GET"), post("body")] {
        for _ in 0..30 {
            assert_eq!(Client::connect(edge.address).await.send(&request).await.status(), 200);
        }
    }
    assert_eq!(pod.requests().len(), 60);
}

#[tokio::test]
async fn a_connection_that_dies_with_the_next_request_is_replaced_for_idempotent_ones() {
    // The second request of a connection makes it die: the edge cannot know before it has sent it.
    let pod = Pod::start(|seen| if seen.request == 0 { Act::Reply(ok("x")) } else { Act::Close }).await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..20 {
        assert_eq!(client.send(plain("GET")).await.status(), 200);
    }
    assert_eq!(client.send(post("x")).await.status(), 502, "a body that was sent is not sent again");
    assert_eq!(edge.metrics.retries.get(), 0, "a stale connection does not count as an attempt");
}

#[tokio::test]
async fn a_slow_endpoint_is_a_gateway_timeout_and_its_connection_is_not_used_again() {
    let pod = Pod::start(|seen| if seen.line().contains("slow") { Act::Hang } else { Act::Reply(ok("x")) }).await;
    let mut edge = Edge::start_with(Config { response_timeout: Duration::from_secs(1), ..Config::default() });
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    let mut client = Client::connect(edge.address).await;
    assert_eq!(client.send(plain("GET")).await.status(), 200);
    let slow = client.send(plain("GET").replace("GET /", "GET /slow")).await;
    assert_eq!((slow.status(), slow.text()), (504, "504 the endpoint did not answer in time\n"));
    assert_eq!(client.send(plain("GET")).await.status(), 200);
    let connections: Vec<usize> = pod.requests().iter().map(|seen| seen.connection).collect();
    assert_ne!(connections[2], connections[1]);
    assert_eq!(pod.requests().len(), 3, "what timed out is not repeated");
}

#[tokio::test]
async fn a_slow_upload_is_not_a_slow_endpoint() {
    let pod = Pod::start(|seen| Act::Reply(ok(&seen.body.len().to_string()))).await;
    let mut edge = Edge::start_with(Config { response_timeout: Duration::from_secs(2), ..Config::default() });
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    let mut client = Client::connect(edge.address).await;
    client.write(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n")).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        client.write("x").await;
    }
    assert_eq!(client.reply().await.unwrap().text(), "10");
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_gateway() {
    let pod = Pod::start(|_| Act::ReplyAndClose(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec())).await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    assert_eq!(get(edge.address, HOST, "/").await.status(), 502);
}

#[tokio::test]
async fn a_truncated_response_breaks_the_connection_instead_of_looking_whole() {
    let pod = Pod::start(|_| Act::ReplyAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec())).await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    let mut client = Client::connect(edge.address).await;
    client.write(plain("GET")).await;
    assert_eq!(client.reply().await, None);
}

#[tokio::test]
async fn a_cluster_that_dies_under_load_fails_no_idempotent_request() {
    let mut doomed = Vec::new();
    for _ in 0..5 {
        doomed.push(Pod::saying("doomed").await);
    }
    let live = Pod::saying("live").await;
    let addresses: Vec<SocketAddr> = doomed.iter().map(|pod| pod.address).collect();
    let mut edge = Edge::start();
    edge.serve(HOST, &[("doomed", 100, &addresses), ("live", 100, &[live.address])]);

    let answered = std::sync::Arc::new(AtomicUsize::new(0));
    let (address, counting) = (edge.address, answered.clone());
    let load = futures::future::join_all((0..8).map(|_| {
        let answered = counting.clone();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..250 {
                assert_eq!(client.send(plain("GET")).await.status(), 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    }));
    let killing = async {
        eventually("load is running", async || answered.load(Ordering::Relaxed) > 400).await;
        for pod in doomed {
            pod.kill().await;
        }
    };
    let (ended, ()) = tokio::join!(load, killing);
    ended.into_iter().for_each(|ended| ended.unwrap());
    assert_eq!(answered.load(Ordering::Relaxed), 2_000);
    assert!(edge.metrics.upstream_connect_failures.get() >= 1, "the dead cluster must have been noticed");
}
