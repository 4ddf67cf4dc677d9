//! TLS toward endpoints.
//!
//! A TCP connection and how to speak → an encrypted one. Pods have no certificate that names them, so theirs is not
//! verified and TLS hides what is said from those who only listen; authentication servers are verified against the
//! public authorities.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Protocol;

/// One worker's configurations, each made when it is first needed.
#[derive(Default)]
pub(super) struct Tls {
    http1: OnceCell<Arc<ClientConfig>>,
    verified: OnceCell<Arc<ClientConfig>>,
    http2: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    /// `host` is who to ask for; without a name the address is.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: Option<&str>,
        protocol: Protocol,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = match host {
            Some(host) => ServerName::try_from(host.trim_end_matches('.').to_owned()).map_err(io::Error::other)?,
            None => ServerName::from(stream.peer_addr()?.ip().to_canonical()),
        };
        TlsConnector::from(self.config(protocol)?).connect(name, stream).await
    }

    fn config(&self, protocol: Protocol) -> io::Result<Arc<ClientConfig>> {
        let (cell, alpn) = match protocol {
            Protocol::VerifiedHttps1 => (&self.verified, b"http/1.1".as_slice()),
            Protocol::H2 | Protocol::H2c => (&self.http2, b"h2".as_slice()),
            Protocol::Http1 | Protocol::Https1 => (&self.http1, b"http/1.1".as_slice()),
        };
        if let Some(config) = cell.get() {
            return Ok(config.clone());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let mut config = if protocol == Protocol::VerifiedHttps1 {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            builder.with_root_certificates(roots).with_no_client_auth()
        } else {
            let verifier = Arc::new(Unverified(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(cell.get_or_init(|| Arc::new(config)).clone())
    }
}

/// Takes any certificate, but the handshake must be signed with its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
