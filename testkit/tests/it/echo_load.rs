//! Echo backends and the load client against each other: counts, keep-alive, death of a pod.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use roadstead_testkit::echo::{Echo, EchoBackend, EchoOptions, Identity};
use roadstead_testkit::load::{Load, Pace, Reuse, Target};
use roadstead_testkit::stack::ports;
use roadstead_testkit::stack::{Process, Ready, Spec};

use crate::client::{eventually, send};

fn identity(cluster: &str, pod: &str) -> Identity {
    Identity {
        cluster: cluster.to_owned(),
        namespace: "default".to_owned(),
        service: "web".to_owned(),
        pod: pod.to_owned(),
        ..Identity::default()
    }
}

fn any(last: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 10, last), 0))
}

async fn backend(cluster: &str, pod: &str, options: EchoOptions) -> EchoBackend {
    EchoBackend::start(identity(cluster, pod), any(3), options).await.expect("starts")
}

#[tokio::test]
async fn it_says_who_it_is_and_what_it_received() {
    let backend = backend("eu-1", "pod-a", EchoOptions::default()).await;
    let url = format!("http://{}/a/b?c=d", backend.address());
    let answer = send(Method::POST, &url, "text/plain", Some(&serde_json::json!("12345"))).await;
    let echo: Echo = serde_json::from_value(answer.body).expect("an echo");
    assert_eq!((echo.method.as_str(), echo.path.as_str(), echo.proto.as_str()), ("POST", "/a/b?c=d", "HTTP/1.1"));
    assert_eq!((echo.body_bytes, echo.identity), (7, identity("eu-1", "pod-a")));
    assert_eq!(echo.host, backend.address().to_string());
    assert_eq!(echo.headers["content-type"], ["text/plain"]);
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn a_killed_pod_fails_requests_and_comes_back_on_its_address() {
    let mut backend = backend("eu-1", "pod-a", EchoOptions { delay: Duration::from_millis(5) }).await;
    let mut load = Load::new(Target::get(backend.address(), "app.example", "/"), 4, u64::MAX);
    load.duration_max = Duration::from_secs(30);
    let running = load.clone().start();
    eventually("a request", async || (running.sent() > 20).then_some(())).await;
    backend.kill().await;
    eventually("requests into the void", async || (running.sent() > 100).then_some(())).await;
    let report = running.stop().await;
    assert!(report.failed > 0 && report.ok > 0, "{report:?}");
    assert_eq!(report.sent, report.ok + report.failed);
    assert!(report.errors.iter().any(|error| error.text.starts_with("connect")), "{:?}", report.errors);
    assert!(report.last_seen("eu-1/pod-a").is_some());

    backend.start_again().await.expect("same address");
    load.requests_max = 10;
    assert_eq!(load.run().await.ok, 10);
}

#[tokio::test]
async fn counts_by_cluster_and_misrouted_answers() {
    let backend = backend("eu-2", "pod-b", EchoOptions::default()).await;
    let mut load = Load::new(Target::get(backend.address(), "app.example", "/"), 3, 200);
    load.is_misrouted = Arc::new(|sample| sample.cluster != "eu-1");
    let report = load.run().await;
    assert_eq!((report.sent, report.ok, report.failed, report.misrouted), (200, 200, 0, 200));
    assert_eq!(report.by_pod["eu-2/pod-b"], 200);
    assert_eq!(report.by_status[&200], 200);
    assert_eq!((report.share("eu-2"), report.share("eu-1")), (1.0, 0.0));
    assert_eq!(report.errors.len(), 20);
    assert_eq!(backend.requests(), 200);
    assert_eq!(report.latencies.len(), 200);
}

#[tokio::test]
async fn a_rate_is_kept_and_a_closing_server_costs_nothing() {
    let backend = backend("eu-1", "pod-a", EchoOptions::default()).await;
    let mut load = Load::new(Target::get(backend.address(), "app.example", "/"), 2, 50);
    load.pace = Pace::PerSecond(1000.0);
    load.reuse = Reuse::NewPerRequest;
    let report = load.run().await;
    assert_eq!((report.sent, report.ok), (50, 50));
    assert!(report.duration >= Duration::from_millis(49), "49 intervals of a millisecond, took {:?}", report.duration);
}

/// A server that answers one request per connection with exactly these bytes, and then closes it.
fn closing_server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("connection");
            // One read is one request: the client sends it in one piece. A client that is gone has its own answer.
            let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[tokio::test]
async fn an_announced_close_between_requests_is_no_failure() {
    let address = closing_server("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let report = Load::new(Target::get(address, "app.example", "/"), 1, 30).run().await;
    assert_eq!((report.ok, report.failed), (30, 0), "{:?}", report.errors);
}

#[tokio::test]
async fn half_an_answer_and_no_answer_are_failures() {
    for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", "HTTP/1.1 200", ""] {
        let report = Load::new(Target::get(closing_server(answer), "app.example", "/"), 1, 3).run().await;
        assert_eq!((report.sent, report.ok, report.failed), (3, 0, 3), "{answer:?}: {report:?}");
    }
}

#[tokio::test]
async fn an_error_status_is_a_failure_with_its_text() {
    let address = closing_server("HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbusy");
    let report = Load::new(Target::get(address, "app.example", "/"), 1, 2).run().await;
    assert_eq!((report.failed, report.by_status[&503]), (2, 2));
    assert_eq!(report.errors[0].text, "status 503: busy");
}

#[tokio::test]
async fn killing_the_echo_process_kills_its_pods() {
    let port = ports::free(1)[0];
    let pods = format!("pod-a=127.1.0.1:{port},pod-b=127.1.0.2:{port}");
    let spec = Spec::new("echo", env!("CARGO_BIN_EXE_roadstead-echo"))
        .args(["--cluster", "eu-1", "--service", "web", "--pods", &pods])
        .ready(Ready::Listens(SocketAddr::from(([127, 1, 0, 2], port))));
    let mut process = Process::spawn(spec).await.expect("starts");
    let target = Target::get(SocketAddr::from(([127, 1, 0, 1], port)), "app.example", "/");
    let report = Load::new(target.clone(), 1, 5).run().await;
    assert_eq!(report.by_pod["eu-1/pod-a"], 5);
    process.kill().await;
    assert_eq!(Load::new(target, 1, 1).run().await.failed, 1);
}
