//! Requests that two servers could read in two ways are refused, and their connection is closed.

use crate::support::{Client, Edge, Pod};

const HOST: &str = "a.example.com";

async fn edge_and_pod() -> (Edge, Pod) {
    let pod = Pod::saying("x").await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    (edge, pod)
}

#[tokio::test]
async fn ambiguous_requests_never_reach_an_endpoint() {
    let (edge, pod) = edge_and_pod().await;
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.example.com\r\n\r\n";
    let cases = [
        (
            "both lengths",
            format!(
                "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"
            ),
        ),
        (
            "both, reversed",
            format!(
                "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n{smuggled}"
            ),
        ),
        (
            "two lengths",
            format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{smuggled}"),
        ),
        ("signed length", format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: +5\r\n\r\n{smuggled}")),
        (
            "chunked is not last",
            format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked, identity\r\n\r\n{smuggled}"),
        ),
        (
            "another coding",
            format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n{smuggled}"),
        ),
        ("unknown coding", format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: xchunked\r\n\r\n{smuggled}")),
        (
            "chunked in HTTP/1.0",
            format!("POST / HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"),
        ),
        ("two hosts", format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: b.example.com\r\n\r\n")),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("not a host", "GET / HTTP/1.1\r\nHost: a b/c\r\n\r\n".to_owned()),
        ("space before the colon", format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length : 5\r\n\r\n")),
        ("folded line", format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: a\r\n b\r\n\r\n")),
        ("NUL in a value", format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: a\0b\r\n\r\n")),
    ];
    for (name, request) in cases {
        let mut client = Client::connect(edge.address).await;
        let reply = client.send(request).await;
        assert_eq!(reply.status(), 400, "{name}: {}", reply.head);
        assert!(client.is_closed().await, "{name}");
    }
    assert!(pod.requests().is_empty(), "{:?}", pod.requests());
}

#[tokio::test]
async fn a_chunked_request_whose_head_was_not_watched_ends_the_connection() {
    let (edge, pod) = edge_and_pod().await;
    let mut client = Client::connect(edge.address).await;
    let plain = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_eq!(client.send(&plain).await.header("connection"), None);
    let both = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{plain}"
    );
    assert_eq!(client.send(both).await.header("connection"), Some("close"));
    assert!(client.is_closed().await, "what follows must not be read as a request");
    let seen = pod.requests();
    assert_eq!(seen.len(), 2);
    assert!(seen[1].header("content-length").is_empty(), "what is forwarded has one length");
}

#[tokio::test]
async fn a_chunked_first_request_keeps_the_connection() {
    let (edge, _pod) = edge_and_pod().await;
    let mut client = Client::connect(edge.address).await;
    let chunked = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
    assert_eq!(client.send(chunked).await.header("connection"), None);
    assert_eq!(client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await.status(), 200);
}

#[tokio::test]
async fn methods_that_are_not_for_a_reverse_proxy_are_refused() {
    let (edge, pod) = edge_and_pod().await;
    for request in [
        format!("TRACE / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
    ] {
        assert_eq!(Client::connect(edge.address).await.send(request).await.status(), 405);
    }
    assert!(pod.requests().is_empty());
}

#[tokio::test]
async fn an_endpoint_cannot_smuggle_a_second_response() {
    let split = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let pod = Pod::start(move |_| crate::support::Act::Reply(split.as_bytes().to_vec())).await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    let mut client = Client::connect(edge.address).await;
    for _ in 0..5 {
        assert_eq!(client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await.text(), "ok");
    }
    assert!(pod.requests().iter().all(|seen| seen.request == 0), "such a connection must not be used again");
}
