//! One HTTP/1.1 connection of the load client.
//!
//! In: a target. Out: one complete answer per request, or why there is none. A request is written at most once, ever: a kept
//! connection that the server has closed is noticed before anything is written on it, and replaced by a new one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Load, Target};

/// Largest answer; a larger one is a failed request.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// Why there is no complete answer.
#[derive(Debug, thiserror::Error)]
enum SendError {
    /// No head of an answer came.
    #[error("{}", describe(.0))]
    Http(hyper::Error),
    /// The body broke off or is too large.
    #[error("body: {}", describe(.0.as_ref()))]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    written: Arc<AtomicU64>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Sends one request on the kept connection or a new one, and reads the whole answer. The connection is kept if it can
    /// be used again.
    pub(crate) async fn exchange(kept: &mut Option<Self>, load: &Load) -> Result<Answer, String> {
        match tokio::time::timeout(load.timeout, Self::exchange_unlimited(kept, &load.target)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                *kept = None;
                Err(format!("no answer within {:?}", load.timeout))
            }
        }
    }

    async fn exchange_unlimited(kept: &mut Option<Self>, target: &Target) -> Result<Answer, String> {
        if let Some(mut connection) = kept.take()
            && connection.sender.ready().await.is_ok()
        {
            let before = connection.written.load(Ordering::Acquire);
            match connection.send(target).await {
                Ok(answer) => {
                    *kept = Some(connection);
                    return Ok(answer);
                }
                // The server closed the idle connection, and not a byte of the request was written.
                Err(SendError::Http(error))
                    if error.is_canceled() && connection.written.load(Ordering::Acquire) == before => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let mut connection = Self::open(target).await.map_err(|error| format!("connect: {error}"))?;
        let answer = connection.send(target).await.map_err(|error| error.to_string())?;
        *kept = Some(connection);
        Ok(answer)
    }

    async fn open(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let written = Arc::new(AtomicU64::new(0));
        let counted = Counted { stream, written: Arc::clone(&written) };
        let (sender, driver) = http1::handshake(TokioIo::new(counted)).await.map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // Errors reach the request that meets them; an idle connection may end as it likes.
            let _ = driver.await;
        });
        Ok(Self { sender, written, driver })
    }

    async fn send(&mut self, target: &Target) -> Result<Answer, SendError> {
        let request = Request::builder()
            .method(target.method.clone())
            .uri(target.path.as_str())
            .header(header::HOST, target.host.as_str())
            .body(Full::new(target.body.clone()))
            .expect("must be valid: the target comes from a test");
        let response = self.sender.send_request(request).await.map_err(SendError::Http)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.map_err(SendError::Body)?;
        Ok(Answer { status, body: body.to_bytes() })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A stream that counts what was written, to tell whether a request has left.
struct Counted {
    stream: TcpStream,
    written: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Counted before the attempt: when in doubt, something was written.
        self.written.fetch_add(1, Ordering::Release);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
