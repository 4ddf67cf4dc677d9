//! What the pool keeps and what it drops.

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// An endpoint that answers every request on every connection with an empty 200.
async fn endpoint() -> Arc<LiveEndpoint> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = LiveEndpoint::new(&"eu".into(), listener.local_addr().unwrap(), Protocol::Http1);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4_096];
                while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                }
            });
        }
    });
    endpoint
}

fn pool() -> Rc<Pool> {
    Pool::new(NamePolicy::Anywhere, Arc::new(Metrics::default()))
}

/// Uses the connection once.
async fn used(mut lease: Lease) -> Lease {
    let request = http::Request::builder().uri("/").header("host", "a").body(RequestBody::Empty).unwrap();
    let response = lease.send(request).await.map_err(TrySendError::into_error).unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), Bytes::new());
    lease
}

async fn fresh(pool: &Rc<Pool>, endpoint: &Arc<LiveEndpoint>) -> Lease {
    used(pool.connect(endpoint, Protocol::Http1, PATIENCE).await.unwrap()).await
}

#[tokio::test]
async fn a_connection_is_used_again_and_by_one_request_at_a_time() {
    let scenario = async {
        let (pool, endpoint) = (pool(), endpoint().await);
        assert!(pool.reuse(&endpoint, Protocol::Http1).is_none());
        pool.give_back(fresh(&pool, &endpoint).await, None);
        assert_eq!(pool.idle_count(), 1);
        let lease = pool.reuse(&endpoint, Protocol::Http1).expect("the idle connection must be found");
        assert!(pool.reuse(&endpoint, Protocol::Http1).is_none(), "it is in use");
        pool.give_back(used(lease).await, None);
        assert_eq!(pool.idle_count(), 1);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test]
async fn idle_connections_have_a_limit_per_endpoint() {
    let scenario = async {
        let (pool, endpoint) = (pool(), endpoint().await);
        let mut leases = Vec::new();
        for _ in 0..IDLE_PER_ENDPOINT_MAX + 2 {
            leases.push(fresh(&pool, &endpoint).await);
        }
        leases.into_iter().for_each(|lease| pool.give_back(lease, None));
        assert_eq!(pool.idle_count(), IDLE_PER_ENDPOINT_MAX);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test]
async fn a_connection_that_the_endpoint_would_close_is_not_used() {
    let scenario = async {
        let (pool, endpoint) = (pool(), endpoint().await);
        pool.give_back(fresh(&pool, &endpoint).await, Some(Duration::ZERO));
        assert!(pool.reuse(&endpoint, Protocol::Http1).is_none());
        assert_eq!(pool.idle_count(), 0);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test]
async fn sweeping_drops_what_left_the_table_or_is_old() {
    let scenario = async {
        let (pool, stays, leaves) = (pool(), endpoint().await, endpoint().await);
        pool.give_back(fresh(&pool, &stays).await, None);
        pool.give_back(fresh(&pool, &leaves).await, None);
        pool.give_back(fresh(&pool, &stays).await, Some(Duration::ZERO));
        pool.sweep();
        assert_eq!(pool.idle_count(), 2);
        drop(leaves);
        pool.sweep();
        assert_eq!(pool.idle_count(), 1);
        assert!(pool.reuse(&stays, Protocol::Http1).is_some());
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test]
async fn nobody_listening_is_an_error_and_counted() {
    let pool = pool();
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let connected =
        pool.connect(&LiveEndpoint::new(&"eu".into(), address, Protocol::Http1), Protocol::Http1, PATIENCE).await;
    assert!(matches!(connected, Err(ConnectError::Io(_))));
    assert_eq!(pool.metrics.upstream_connect_failures.get(), 1);
}
