//! TLS towards clients: handshakes, within a time and apart from everything else.
//!
//! Accepted socket → handshake → an encrypted stream that is served like a plain one. TLS 1.2 and 1.3, HTTP/1.1. HTTPS has
//! worker threads of its own, so that handshakes, which cost a thousand times what a request does, hold no plain request up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take. One that waits holds nothing but its own connection.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];

/// How connections of one port are secured. Cheap to clone.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// # Errors
    /// If the cryptography does not know TLS 1.2 and 1.3, which it does.
    pub fn new(certificates: Arc<dyn ResolvesServerCert>) -> Result<Self, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // A resumed session would go on with a certificate that was replaced meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// # Errors
    /// If the handshake fails or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.0.accept(stream)).await {
            Ok(accepted) => accepted,
            Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long to shake hands")),
        }
    }
}
