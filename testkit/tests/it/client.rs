//! A bare HTTP client for requests that no Kubernetes client would send, and polling with a deadline.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// How long anything in these tests may take before it counts as broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Status, headers and JSON body of one answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

/// Sends a request with a JSON body (or none).
pub(crate) async fn send(method: Method, url: &str, content_type: &str, body: Option<&Value>) -> Answer {
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", content_type)
        .header("user-agent", "bare/1")
        .body(Full::new(Bytes::from(body)))
        .expect("valid request");
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.expect("answered");
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.expect("complete").to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes)));
    Answer { status: head.status, headers: head.headers, body }
}

/// GET.
pub(crate) async fn get(url: &str) -> Answer {
    send(Method::GET, url, "", None).await
}

/// Waits until the probe gives something.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
