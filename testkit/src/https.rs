//! HTTPS as a client sees it that accepts every certificate and looks at it, and certificates to show it.
//!
//! In: an address and a name. Out: what was shown, and answers. Nothing is ever retried.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// For a handshake, and for one answer.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A self-signed certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub chain_pem: String,
    pub key_pem: String,
    /// What a client is shown of it.
    pub der: Vec<u8>,
}

impl Certificate {
    /// # Errors
    /// If one of the names is none.
    pub fn for_names(names: &[&str]) -> anyhow::Result<Self> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names)?;
        let der = made.cert.der().to_vec();
        Ok(Self { chain_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), der })
    }
}

/// Signs certificates of clients.
pub struct Authority {
    pub pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    /// # Errors
    /// If the system gives no random bytes.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let (params, key) = (named(name, true)?, rcgen::KeyPair::generate()?);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: rcgen::Issuer::new(params, key) })
    }

    /// One that this one signed, to be shown between it and what it signs.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn below(&self, name: &str) -> anyhow::Result<Self> {
        let (params, key) = (named(name, true)?, rcgen::KeyPair::generate()?);
        let pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Self { pem, issuer: rcgen::Issuer::new(params, key) })
    }

    /// Chain and key of a client, as PEM.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn client(&self, name: &str) -> anyhow::Result<(String, String)> {
        let (params, key) = (named(name, false)?, rcgen::KeyPair::generate()?);
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

fn named(name: &str, is_authority: bool) -> anyhow::Result<rcgen::CertificateParams> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    if is_authority {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    } else {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    }
    Ok(params)
}

/// One connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects and names `host` by SNI.
    ///
    /// # Errors
    /// If there is no connection or no handshake.
    pub async fn open(address: SocketAddr, host: &str) -> anyhow::Result<Self> {
        let connecting = async { secured(TcpStream::connect(address).await?, host).await };
        let stream = tokio::time::timeout(WITHIN, connecting).await.context("no handshake in time")??;
        Ok(Self { stream, host: host.to_owned() })
    }

    /// As [`Self::open`], showing this chain of its own.
    ///
    /// # Errors
    /// As [`Self::open`], and if chain and key cannot be used.
    pub async fn open_showing(address: SocketAddr, host: &str, chain: &str, key: &str) -> anyhow::Result<Self> {
        let (connector, name) = (connector_showing(chain, key)?, ServerName::try_from(host.to_owned())?);
        let connecting = async { connector.connect(name, TcpStream::connect(address).await?).await };
        let stream = tokio::time::timeout(WITHIN, connecting).await.context("no handshake in time")??;
        Ok(Self { stream, host: host.to_owned() })
    }

    /// The leaf that was shown, as DER.
    pub fn shown(&self) -> Vec<u8> {
        let shown = self.stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        shown.map(|leaf| leaf.to_vec()).unwrap_or_default()
    }

    /// The status of the answer to a GET of `/`. The connection stays usable.
    ///
    /// # Errors
    /// If no complete answer with a length comes.
    pub async fn get(&mut self) -> anyhow::Result<u16> {
        tokio::time::timeout(WITHIN, self.exchange()).await.context("no answer in time")?
    }

    async fn exchange(&mut self) -> anyhow::Result<u16> {
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            if let Some((status, bytes)) = head_of(&answer)?
                && answer.len() >= bytes
            {
                return Ok(status);
            }
            let read = self.stream.read_buf(&mut answer).await?;
            if read == 0 || answer.len() > ANSWER_BYTES_MAX {
                bail!("the answer is cut short or too long: {} bytes", answer.len());
            }
        }
    }
}

/// Secures a connection, naming `host` by SNI if it is a name.
///
/// # Errors
/// If there is no handshake.
pub async fn secured(stream: TcpStream, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let address = stream.peer_addr()?.ip();
    let name = ServerName::try_from(host.to_owned()).unwrap_or_else(|_| address.into());
    connector().connect(name, stream).await
}

/// The leaf that a client is shown that names `host`, as DER.
///
/// # Errors
/// As [`Connection::open`].
pub async fn shown(address: SocketAddr, host: &str) -> anyhow::Result<Vec<u8>> {
    Ok(Connection::open(address, host).await?.shown())
}

/// Status and length of an answer, its head included, once the head is there.
fn head_of(answer: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head.split(' ').nth(1).context("an answer has a status")?.parse()?;
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next().context("an answer says how long it is")?;
    Ok(Some((status, end + 4 + length.trim().parse::<usize>()?)))
}

/// Accepts every certificate, and shows none.
pub fn connector() -> TlsConnector {
    let config = accepting().with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Accepts every certificate, and shows this chain of its own.
///
/// # Errors
/// If chain and key are no PEM, or do not belong together.
pub fn connector_showing(chain_pem: &str, key_pem: &str) -> anyhow::Result<TlsConnector> {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    let config = accepting().with_client_auth_cert(chain, key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

fn accepting() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider must know TLS 1.2 and 1.3");
    builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
}

#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
