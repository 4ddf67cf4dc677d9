//! One client connection: who is at the other end, and what its bytes say about request heads.
//!
//! hyper reads the requests; [`ClientIo`] sits below it and watches the bytes for two things that hyper does not tell:
//! when a head began to arrive, and whether a first head had both lengths (request smuggling). It changes no byte.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::HEAD_BYTES_MAX;

/// What requests of one connection share.
#[derive(Debug)]
pub struct Client {
    pub peer: SocketAddr,
    pub local_port: u16,
    /// Whether the peer is a proxy whose X-Forwarded-* fields are believed.
    pub trusted: bool,
    /// How the request came to this edge.
    pub scheme: Scheme,
    /// What was said in the handshake; `None` without one.
    pub shown: Option<Shown>,
    watch: Arc<HeadWatch>,
}

/// What a client showed in its handshake.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// Whom it asked for.
    pub name: Option<String>,
    /// Whether it was asked for a certificate.
    pub was_asked: bool,
    /// Its certificates, its own first. Signed with the key of the first, and nothing else is known of them.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Whether a request's length can be read in one way only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    Unambiguous,
    /// It has both Content-Length and Transfer-Encoding.
    Ambiguous,
    /// Not the connection's first request: its head's bytes were not kept.
    Unknown,
}

/// Shared between a connection's bytes and its requests. Both are on one thread; the lock is never contended.
#[derive(Debug)]
pub struct HeadWatch(Mutex<Watched>);

#[derive(Debug)]
struct Watched {
    /// When the head that is being received began; `None` while none is.
    head_since: Option<Instant>,
    requests_begun: u64,
    in_request: bool,
    /// The bytes received before the first request's head was complete.
    first_head: Vec<u8>,
}

impl Client {
    pub fn new(peer: SocketAddr, local_port: u16, trusted: bool, watch: Arc<HeadWatch>) -> Self {
        Self { peer, local_port, trusted, scheme: Scheme::Http, shown: None, watch }
    }

    /// The same on an encrypted connection.
    #[must_use]
    pub fn over_tls(self, shown: Shown) -> Self {
        Self { scheme: Scheme::Https, shown: Some(shown), ..self }
    }

    /// To be called when a request's head has been read.
    pub fn head_complete(&self) {
        self.watch.with(|watched| {
            watched.head_since = None;
            watched.in_request = true;
            watched.requests_begun += 1;
            if watched.requests_begun > 1 {
                watched.first_head = Vec::new();
            }
        });
    }

    /// To be called when a response has ended: what arrives now belongs to the next request.
    pub fn request_ended(&self) {
        self.watch.with(|watched| watched.in_request = false);
    }

    /// How the length of the current request, which has Transfer-Encoding, is given.
    pub fn framing(&self) -> Framing {
        self.watch.with(|watched| match watched.requests_begun {
            1 if has_content_length(&watched.first_head) => Framing::Ambiguous,
            1 => Framing::Unambiguous,
            _ => Framing::Unknown,
        })
    }
}

impl HeadWatch {
    /// A connection that was just accepted: its first head is awaited from now on.
    pub fn accepted() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Watched {
            head_since: Some(Instant::now()),
            requests_begun: 0,
            in_request: false,
            first_head: Vec::new(),
        })))
    }

    /// Whether the client takes longer than `limit` to send a head.
    pub fn is_overdue(&self, limit: Duration) -> bool {
        self.with(|watched| watched.head_since.is_some_and(|since| since.elapsed() > limit))
    }

    /// Whether the head of a request was ever complete.
    pub fn has_begun(&self) -> bool {
        self.with(|watched| watched.requests_begun > 0)
    }

    fn received(&self, bytes: &[u8]) {
        self.with(|watched| {
            if watched.in_request || bytes.is_empty() {
                return;
            }
            watched.head_since.get_or_insert_with(Instant::now);
            if watched.requests_begun == 0 {
                let room = HEAD_BYTES_MAX.saturating_sub(watched.first_head.len());
                watched.first_head.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        });
    }

    fn with<T>(&self, action: impl FnOnce(&mut Watched) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether the head that `bytes` begin with has a Content-Length field.
fn has_content_length(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    // A client may send empty lines before its first request.
    let head = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    head.skip(1).any(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))
}

/// A client's connection, decrypted if need be, watched.
pub struct ClientIo<S> {
    stream: S,
    watch: Arc<HeadWatch>,
}

impl<S> ClientIo<S> {
    pub fn new(stream: S, watch: Arc<HeadWatch>) -> Self {
        Self { stream, watch }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() {
            this.watch.received(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new("127.0.0.1:1".parse().unwrap(), 80, false, HeadWatch::accepted())
    }

    #[test]
    fn a_content_length_is_seen_in_the_first_head_only() {
        let cases: [(&[u8], Framing); 5] = [
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", Framing::Ambiguous),
            (b"\r\n\nPOST / HTTP/1.1\nX: 1\ncontent-LENGTH : 3\n\n", Framing::Ambiguous),
            (b"POST / HTTP/1.1\r\nX-Content-Length: 3\r\n\r\n", Framing::Unambiguous),
            (b"POST / HTTP/1.1\r\nX: y\r\n\r\nContent-Length: 3\r\n", Framing::Unambiguous),
            (b"content-length: / HTTP/1.1\r\nX: y\r\n\r\n", Framing::Unambiguous),
        ];
        for (bytes, framing) in cases {
            let client = client();
            let (head, tail) = bytes.split_at(7);
            client.watch.received(head);
            client.watch.received(tail);
            client.head_complete();
            assert_eq!(client.framing(), framing, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn later_requests_are_unknown() {
        let client = client();
        client.watch.received(b"GET / HTTP/1.1\r\n\r\n");
        client.head_complete();
        client.request_ended();
        client.watch.received(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n");
        client.head_complete();
        assert_eq!(client.framing(), Framing::Unknown);
    }

    #[test]
    fn only_a_head_that_is_being_received_can_be_overdue() {
        let client = client();
        assert!(client.watch.is_overdue(Duration::ZERO), "the first head is awaited from the start");
        client.head_complete();
        client.watch.received(b"body");
        assert!(!client.watch.is_overdue(Duration::ZERO));
        client.request_ended();
        assert!(!client.watch.is_overdue(Duration::ZERO), "an idle connection may wait");
        client.watch.received(b"G");
        assert!(client.watch.is_overdue(Duration::ZERO));
    }
}
