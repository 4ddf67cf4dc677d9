//! Does what the edges report hold? A sample of the changes is confirmed by real requests, each on a new connection.
//!
//! An [`Echo`] is a pod that answers with its own address; [`request`] asks an edge as a client would.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Requests per endpoint of the host until one must have reached the new address. In turn, one per endpoint would do;
/// an edge that chooses at random misses it this often once in e^20 confirmations.
const TRIES_PER_ENDPOINT: usize = 20;

/// Answers every request with `ADDRESS:PORT`, its own. Stops listening when dropped.
pub struct Echo {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Echo {
    /// # Errors
    /// If the address is taken.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, address));
        Ok(Self { address, _serving: serving })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Asks `edge` for `http://HOST/` until the pod at `echo` answers. False if it never does.
pub async fn reaches(edge: SocketAddr, host: &str, echo: &Echo, endpoints: usize) -> bool {
    let expected = echo.address().to_string();
    for _ in 0..endpoints * TRIES_PER_ENDPOINT {
        // Other endpoints do not listen: an edge may answer for them with an error, and the next try is another one.
        if matches!(request(edge, host, "/").await, Ok((StatusCode::OK, body)) if body == expected) {
            return true;
        }
    }
    false
}

/// Whether `edge` has a route for `http://HOST/PATH`, whatever its endpoints answer.
pub async fn routes(edge: SocketAddr, host: &str, path: &str) -> bool {
    matches!(request(edge, host, path).await, Ok((status, _)) if status != StatusCode::NOT_FOUND)
}

/// One GET on a connection of its own.
async fn request(edge: SocketAddr, host: &str, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(edge).await.context("connect to the edge")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get(path).header("host", host).header("connection", "close").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

async fn serve(listener: TcpListener, address: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let answer = service_fn(move |_: Request<Incoming>| async move {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(address.to_string()))))
        });
        // A client that goes away early ends its own connection only.
        connections.spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 0))
    }

    /// Echoes on a free port: [`Echo::bind`] takes only addresses that say their port.
    async fn echo() -> Echo {
        let free = TcpListener::bind(loopback(1)).await.expect("must bind").local_addr().expect("has an address");
        Echo::bind(free).await.expect("must bind")
    }

    #[tokio::test]
    async fn only_the_expected_pod_confirms() {
        let (asked, other) = (echo().await, echo().await);
        assert!(reaches(asked.address(), "h.test", &asked, 1).await);
        assert!(!reaches(asked.address(), "h.test", &other, 1).await);
    }

    #[tokio::test]
    async fn nothing_is_confirmed_where_nothing_listens() {
        let echo = echo().await;
        let address = echo.address();
        assert!(routes(address, "h.test", "/v1").await);
        drop(echo);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while routes(address, "h.test", "/v1").await && tokio::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        assert!(!routes(address, "h.test", "/v1").await);
    }
}
