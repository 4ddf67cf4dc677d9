//! One request to the admin API and its answer. A connection each, because a command asks once or twice.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use roadstead_api::{Problem, ROOT};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// For one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("--api {0}: expected http://HOST:PORT; the admin API is plain HTTP on loopback")]
    Address(String),
    #[error(
        "no token: name the controller's --api-token-file with --token-file FILE or the variable ROADSTEAD_API_TOKEN_FILE"
    )]
    NoToken,
    #[error("--token-file {path}: {reason}; it is the file that the controller has as --api-token-file")]
    Token { path: String, reason: String },
    #[error(
        "--api http://{address}: {reason}; check that the controller runs with --api-token-file and that --api is its --api-listen"
    )]
    Unreachable { address: String, reason: String },
    /// The command line is wrong in a way that only the controller's answer shows.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Refused(String),
    #[error("the answer is not understood: {0}; use a `roadstead` of the controller's version")]
    Answer(String),
}

/// # Errors
/// If the controller means something else by its answer.
pub fn read<T: DeserializeOwned>(answer: Value) -> Result<T, ClientError> {
    serde_json::from_value(answer).map_err(|error| ClientError::Answer(error.to_string()))
}

pub struct Client {
    authority: String,
    token: String,
}

impl Client {
    /// # Errors
    /// If the address or the token's file is of no use.
    pub fn new(api: &str, token_file: Option<&Path>) -> Result<Self, ClientError> {
        let uri: Uri = api.parse().map_err(|_| ClientError::Address(api.to_owned()))?;
        let (scheme, port) = (uri.scheme_str(), uri.port_u16());
        let (Some("http"), Some(_), Some(authority)) = (scheme, port, uri.authority()) else {
            return Err(ClientError::Address(api.to_owned()));
        };
        let path = token_file.ok_or(ClientError::NoToken)?;
        let token = std::fs::read_to_string(path)
            .map_err(|error| ClientError::Token { path: path.display().to_string(), reason: error.to_string() })?;
        Ok(Self { authority: authority.to_string(), token: token.trim().to_owned() })
    }

    /// # Errors
    /// See [`Self::ask`].
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// # Errors
    /// See [`Self::ask`].
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Answer(error.to_string()))?;
        self.ask(Method::POST, path, body.into()).await
    }

    /// # Errors
    /// See [`Self::ask`].
    pub async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    /// `path` below the API's root.
    ///
    /// # Errors
    /// If the controller does not answer, refuses, or says something else than JSON.
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Value, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable { address: self.authority.clone(), reason };
        let request = Request::builder()
            .method(method)
            .uri(format!("{ROOT}{path}"))
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Answer(error.to_string()))?;
        let exchange = tokio::time::timeout(ANSWER_WITHIN, self.exchange(request)).await;
        let within = ANSWER_WITHIN.as_secs();
        let (status, body) =
            exchange.map_err(|_| unreachable(format!("no answer within {within} s")))?.map_err(unreachable)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| ClientError::Answer(error.to_string()));
        }
        let detail = serde_json::from_slice::<Problem>(&body).map(|problem| problem.detail);
        Err(ClientError::Refused(detail.unwrap_or_else(|_| format!("the controller answered {status}"))))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        // Dropped, and with it the connection, when this function returns.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }
}
