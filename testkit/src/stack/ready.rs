//! When a started process counts as ready.
//!
//! In: a rule. Out: one probe: ready, or why not yet. The deadline and the watch over the process are in `process`.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long one probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: usize = 4096;

/// A probe of one's own: `Err` says why it is not ready yet.
pub type Probe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// When a process counts as ready.
#[derive(Clone)]
pub enum Ready {
    /// As soon as it runs.
    AtOnce,
    /// When `GET /readyz` on this address is answered with 200.
    Readyz(SocketAddr),
    /// When something listens on this address.
    Listens(SocketAddr),
    /// When the probe says so.
    Probe(Probe),
}

impl Ready {
    /// Looks once.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let probe = async {
            match self {
                Self::AtOnce => Ok(()),
                Self::Readyz(address) => readyz(*address).await,
                Self::Listens(address) => TcpStream::connect(address)
                    .await
                    .map(drop)
                    .map_err(|error| format!("connect to {address}: {error}")),
                Self::Probe(probe) => probe().await,
            }
        };
        tokio::time::timeout(PROBE_TIMEOUT, probe).await.unwrap_or_else(|_| Err("the probe got no answer".to_owned()))
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtOnce => formatter.write_str("AtOnce"),
            Self::Readyz(address) => write!(formatter, "Readyz({address})"),
            Self::Listens(address) => write!(formatter, "Listens({address})"),
            Self::Probe(_) => formatter.write_str("Probe"),
        }
    }
}

async fn readyz(address: SocketAddr) -> Result<(), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = exchange.await.map_err(|error| format!("GET /readyz on {address}: {error}"))?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let reason = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    Err(format!("GET /readyz on {address}: {} {}", answer.lines().next().unwrap_or("no answer"), reason.trim()))
}
