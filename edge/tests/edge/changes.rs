//! The table changes while requests run: nobody notices but those who should.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use roadstead_edge::health::Clock;
use roadstead_edge::listen::{self, Shared, Workers};
use roadstead_edge::observe::Metrics;
use roadstead_edge::proxy::Config;
use roadstead_edge::table::{HostChange, LiveTable};
use roadstead_routing::id::HostKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::{Act, Client, Edge, Pod, eventually, get, ok};

const HOST: &str = "a.example.com";

fn plain() -> String {
    format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

#[tokio::test]
async fn ten_pods_all_answer_within_a_hundred_new_connections() {
    let pods: Vec<Pod> = futures::future::join_all((0..10).map(|_| Pod::saying("x"))).await;
    let addresses: Vec<SocketAddr> = pods.iter().map(|pod| pod.address).collect();
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &addresses)]);
    for _ in 0..100 {
        assert_eq!(get(edge.address, HOST, "/").await.status(), 200);
    }
    let counts: Vec<usize> = pods.iter().map(|pod| pod.requests().len()).collect();
    assert_eq!(counts, [10; 10], "turns are shared by all workers");
}

#[tokio::test]
async fn clusters_get_their_shares() {
    let (one, two, three) = (Pod::saying("1").await, Pod::saying("2").await, Pod::saying("3").await);
    let mut edge = Edge::start();
    edge.serve(HOST, &[("one", 50, &[one.address]), ("two", 30, &[two.address]), ("three", 20, &[three.address])]);
    let mut counts = BTreeMap::new();
    let mut client = Client::connect(edge.address).await;
    for _ in 0..1_000 {
        *counts.entry(client.send(plain()).await.text().to_owned()).or_insert(0i32) += 1;
    }
    for (body, share) in [("1", 500), ("2", 300), ("3", 200)] {
        assert!((counts[body] - share).abs() <= 10, "{counts:?}");
    }
}

#[tokio::test]
async fn swapping_endpoints_under_load_fails_nothing_and_removed_ones_get_nothing() {
    let pods: Vec<Pod> = futures::future::join_all((0..4).map(|_| Pod::saying("x"))).await;
    let addresses: Vec<SocketAddr> = pods.iter().map(|pod| pod.address).collect();
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &addresses)]);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = edge.address;
    let load: Vec<_> = (0..6)
        .map(|_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.send(plain()).await.status(), 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..200 {
        let kept: Vec<SocketAddr> = addresses.iter().copied().cycle().skip(round % 4).take(2).collect();
        edge.endpoints("eu", &kept);
        let before = answered.load(Ordering::Relaxed);
        eventually("requests go on", async || answered.load(Ordering::Relaxed) > before).await;
    }
    edge.endpoints("eu", &addresses[..1]);
    // What was chosen before the change has ended when every client has been answered twice since.
    let before = answered.load(Ordering::Relaxed);
    eventually("the change is seen", async || answered.load(Ordering::Relaxed) > before + 100).await;
    let removed: Vec<usize> = pods[1..].iter().map(|pod| pod.requests().len()).collect();
    let before = answered.load(Ordering::Relaxed);
    eventually("requests go on", async || answered.load(Ordering::Relaxed) > before + 100).await;
    assert_eq!(removed, pods[1..].iter().map(|pod| pod.requests().len()).collect::<Vec<_>>());
    stop.store(true, Ordering::Relaxed);
    for ended in load {
        ended.await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_outlives_every_change_of_its_route() {
    let (one, two) = (Pod::saying("one").await, Pod::saying("two").await);
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[one.address])]);
    let mut client = Client::connect(edge.address).await;
    assert_eq!(client.send(plain()).await.text(), "one");
    edge.serve(HOST, &[("us", 100, &[two.address])]);
    assert_eq!(client.send(plain()).await.text(), "two");
    edge.table.change_hosts(vec![HostChange::Remove(HostKey::Exact(HOST.into()))]);
    assert_eq!(client.send(plain()).await.status(), 404);
    edge.serve(HOST, &[("eu", 100, &[one.address])]);
    assert_eq!(client.send(plain()).await.text(), "one");
}

#[tokio::test]
async fn a_request_finishes_on_the_endpoint_that_was_removed_meanwhile() {
    let go_on = Arc::new(Notify::new());
    let waiting = go_on.clone();
    let pod = Pod::start(move |_| Act::ReplyInParts(Vec::new(), waiting.clone(), ok("late"))).await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    let mut client = Client::connect(edge.address).await;
    client.write(plain()).await;
    eventually("the request is on its way", async || pod.requests().len() == 1).await;
    edge.endpoints("eu", &[]);
    assert_eq!(get(edge.address, HOST, "/").await.status(), 503);
    go_on.notify_one();
    assert_eq!(client.reply().await.unwrap().text(), "late");
}

#[tokio::test]
async fn idle_connections_to_a_removed_endpoint_are_closed() {
    let ended = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counting = ended.clone();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4_096];
        loop {
            match tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => tokio::io::AsyncWriteExt::write_all(&mut stream, &ok("x")).await.unwrap(),
            }
        }
        counting.fetch_add(1, Ordering::Relaxed);
    });
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[address])]);
    assert_eq!(get(edge.address, HOST, "/").await.status(), 200);
    edge.endpoints("eu", &[]);
    eventually("the idle connection is closed", async || ended.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn stopping_finishes_what_has_begun() {
    let go_on = Arc::new(Notify::new());
    let waiting = go_on.clone();
    let pod = Pod::start(move |_| {
        let first = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc".to_vec();
        Act::ReplyInParts(first, waiting.clone(), b"def".to_vec())
    })
    .await;
    let mut edge = Edge::start();
    edge.serve(HOST, &[("eu", 100, &[pod.address])]);
    let (mut idle, mut busy) = (Client::connect(edge.address).await, Client::connect(edge.address).await);
    assert_eq!(idle.send("GET / HTTP/1.1\r\nHost: unknown\r\n\r\n").await.status(), 404);
    busy.write(plain()).await;
    while !busy.received(1).await.ends_with(b"abc") {}
    let address = edge.address;
    edge.stop.cancel();
    assert!(idle.is_closed().await, "idle connections are closed at once");
    eventually("nobody listens", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    go_on.notify_one();
    assert_eq!(busy.received(3).await, b"def", "what has begun is finished");
    edge.stopped().await;
}

#[tokio::test]
async fn connections_that_nobody_has_accepted_yet_are_served_before_the_edge_stops() {
    let listeners = listen::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(address).await;
        client.write(plain()).await;
        clients.push(client);
    }
    let (table, metrics, stop) = (LiveTable::new(), Arc::new(Metrics::default()), CancellationToken::new());
    stop.cancel();
    let shared = Shared { table, clock: Clock::start(), config: Config::default(), metrics, stop };
    let workers = Workers::start(listeners, &shared).unwrap();
    for client in &mut clients {
        assert_eq!(client.reply().await.expect("a response, not a reset").status(), 503);
    }
    workers.ended().await.unwrap();
}
