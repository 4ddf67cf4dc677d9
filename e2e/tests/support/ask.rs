//! One request, as a test wants it, on a connection of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use roadstead_testkit::https::secured;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(10);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub struct Ask {
    edge: SocketAddr,
    is_secure: bool,
    host: String,
    request: http::request::Builder,
    body: Bytes,
}

pub struct Answer {
    pub status: u16,
    pub is_http11: bool,
    /// By lower-case name, joined by `, ` where there are several.
    pub fields: BTreeMap<String, String>,
    /// What the pod says that it received; null if no pod answered.
    pub echo: Value,
}

impl Ask {
    pub fn get(edge: SocketAddr, host: &str, target: &str) -> Self {
        Self::new(edge, "GET", host, target)
    }

    pub fn new(edge: SocketAddr, method: &str, host: &str, target: &str) -> Self {
        let request = Request::builder().method(method).uri(target).header(http::header::HOST, host);
        Self { edge, is_secure: false, host: host.to_owned(), request, body: Bytes::new() }
    }

    /// Over TLS, naming the host by SNI if it has a name; any certificate will do.
    #[must_use]
    pub fn over_tls(self) -> Self {
        Self { is_secure: true, ..self }
    }

    #[must_use]
    pub fn field(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value), ..self }
    }

    #[must_use]
    pub fn body(self, bytes: usize) -> Self {
        Self { body: vec![b'x'; bytes].into(), ..self }
    }

    /// # Errors
    /// If there is no answer.
    pub async fn send(self) -> anyhow::Result<Answer> {
        let edge = self.edge;
        tokio::time::timeout(TIMEOUT, self.exchange()).await.with_context(|| format!("{edge} does not answer"))?
    }

    async fn exchange(self) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect(self.edge).await?;
        let stream: Box<dyn Stream> =
            if self.is_secure { Box::new(secured(stream, &self.host).await?) } else { Box::new(stream) };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(self.request.body(Full::new(self.body))?).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &parts.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let joined = fields.entry(name.to_string()).or_default();
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(&value);
        }
        let echo = serde_json::from_slice(&body).unwrap_or_default();
        let is_http11 = parts.version == http::Version::HTTP_11;
        Ok(Answer { status: parts.status.as_u16(), is_http11, fields, echo })
    }
}

impl Answer {
    /// Empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// A field of the request as the pod received it; empty if it had none.
    pub fn received(&self, name: &str) -> &str {
        self.echo["headers"][name][0].as_str().unwrap_or_default()
    }

    pub fn service(&self) -> &str {
        self.echo["service"].as_str().unwrap_or_default()
    }
}
