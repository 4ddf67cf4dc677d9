//! The listener for probes and metrics: `/livez`, `/readyz`, `/metrics`, and what a binary adds.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::ready::Readiness;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("{flag} {address}: cannot listen: {reason}; choose another address with {flag}")]
    Bind { flag: String, address: SocketAddr, reason: std::io::Error },
    #[error("serve probes and metrics: {0}")]
    Serve(#[source] std::io::Error),
}

/// Listens on `address`; the error names `flag`, by which the user chose it.
///
/// # Errors
/// If the address is in use or not ours.
pub async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, ObserveError> {
    TcpListener::bind(address).await.map_err(|reason| ObserveError::Bind { flag: flag.to_owned(), address, reason })
}

/// Serves until `stop` is cancelled. `extra` adds a binary's own pages.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    readiness: Readiness,
    extra: Router,
    stop: CancellationToken,
) -> Result<(), ObserveError> {
    let router = router(registry, readiness).merge(extra);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.map_err(ObserveError::Serve)
}

fn router(registry: Arc<Registry>, readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(metrics).with_state(registry))
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.state() {
        Ok(()) => {
            let degraded: String = readiness.degraded().iter().map(|why| format!("degraded: {why}\n")).collect();
            (StatusCode::OK, format!("ok\n{degraded}")).into_response()
        }
        Err(problems) => (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n").into_response(),
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("encode metrics: {error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn probes_and_metrics_answer_and_say_why_not_ready() {
        let listener = bind("--observe-listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (readiness, stop) = (Readiness::new(), CancellationToken::new());
        let extra = Router::new().route("/status", axum::routing::get(async || "extra"));
        let serving =
            tokio::spawn(serve(listener, Arc::new(Registry::default()), readiness.clone(), extra, stop.clone()));

        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let not_ready = get(address, "/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.ends_with("starting\n"), "{not_ready}");
        readiness.set("store", Ok(()));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        readiness.set_degraded("store", "away".to_owned());
        let degraded = get(address, "/readyz").await;
        assert!(degraded.starts_with("HTTP/1.1 200") && degraded.ends_with("degraded: store: away\n"), "{degraded}");
        assert!(get(address, "/metrics").await.contains("# EOF"));
        assert!(get(address, "/status").await.ends_with("extra"));

        stop.cancel();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_names_the_flag() {
        let first = bind("--observe-listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("--observe-listen", address).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("--observe-listen {address}: cannot listen:")), "{error}");
    }
}
