//! TLS towards clients: handshakes, within a time and apart from everything else.
//!
//! Accepted socket → handshake → an encrypted stream that is served like a plain one. TLS 1.2 and 1.3, HTTP/1.1. HTTPS has
//! worker threads of its own, so that handshakes, which cost a thousand times what a request does, hold no plain request up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{Acceptor, NoClientAuth, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::client::Shown;
use crate::certificates::{Certificates, Resolver};

/// How long a handshake may take. One that waits holds nothing but its own connection.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Certificates of a client that are kept; a chain that needs more leads nowhere.
const CHAIN_MAX: usize = 12;
const PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];

/// How connections of one port are secured. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    certificates: Arc<Certificates>,
    plain: Arc<ServerConfig>,
    /// Asks the client for a certificate, and takes any: routes judge it.
    asking: Arc<ServerConfig>,
}

impl Tls {
    /// `default` is shown where `certificates` has nothing.
    ///
    /// # Errors
    /// If the cryptography does not know TLS 1.2 and 1.3, which it does.
    pub fn new(certificates: Arc<Certificates>, default: Arc<CertifiedKey>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let resolver = Arc::new(Resolver::new(certificates.clone(), default));
        let config = |asking: Arc<dyn ClientCertVerifier>| {
            let builder = ServerConfig::builder_with_provider(provider.clone());
            let builder = builder.with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
            let mut config = builder.with_client_cert_verifier(asking).with_cert_resolver(resolver.clone());
            config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
            // A resumed session would go on with a certificate that was replaced meanwhile.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        let plain = config(Arc::new(NoClientAuth))?;
        let asking = config(Arc::new(AnyCertificate(provider.clone())))?;
        Ok(Self { certificates, plain, asking })
    }

    /// # Errors
    /// If the handshake fails or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Shown)> {
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.shake_hands(stream)).await {
            Ok(accepted) => accepted,
            Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long to shake hands")),
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Shown)> {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = begun.client_hello().server_name().map(str::to_owned);
        let was_asked = self.certificates.asks(name.as_deref());
        let config = if was_asked { &self.asking } else { &self.plain };
        let stream = begun.into_stream(config.clone()).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = chain.iter().take(CHAIN_MAX).map(|it| it.clone().into_owned()).collect();
        Ok((stream, Shown { name, was_asked, chain }))
    }
}

/// Takes any certificate, but the handshake must be signed with its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
