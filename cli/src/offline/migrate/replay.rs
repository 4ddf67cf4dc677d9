//! One request over plain HTTP to one address. Follows no redirect, because where it leads is what is compared.

use std::time::Duration;

use http::header::{HOST, LOCATION};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::offline::request::Request;

/// For one request and its whole answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Hex digits of a body's hash that are reported.
const HASH_DIGITS: usize = 16;

/// What came back, or what went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Reply {
    pub status: Option<u16>,
    pub location: Option<String>,
    /// Hash of the whole body, shortened; `None` if it is empty.
    pub body: Option<String>,
    pub error: Option<String>,
}

/// Sends `request` to `address`, which is `HOST:PORT`. Never fails: what goes wrong is the reply.
pub async fn ask(address: &str, request: &Request) -> Reply {
    let asked = tokio::time::timeout(ANSWER_WITHIN, exchange(address, request)).await;
    let failed = |error| Reply { error: Some(error), ..Reply::default() };
    asked.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))).unwrap_or_else(failed)
}

async fn exchange(address: &str, request: &Request) -> Result<Reply, String> {
    let mut head = http::Request::builder().method(request.method()).uri(&request.path).header(HOST, &request.host);
    let fields = request.headers.iter().flatten();
    for (name, value) in fields.filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        head = head.header(name, value);
    }
    let outgoing = head.body(Empty::<Bytes>::new()).map_err(|error| format!("cannot be sent: {error}"))?;
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Dropped, and with it the connection, when this function returns.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(outgoing).await.map_err(|error| error.to_string())?;
    let (head, mut body) = response.into_parts();
    let mut hasher = blake3::Hasher::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
            hasher.update(&data);
        }
    }
    let hash = hasher.finalize().to_hex();
    Ok(Reply {
        status: Some(head.status.as_u16()),
        location: head.headers.get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        body: (hasher.count() > 0).then(|| hash[..HASH_DIGITS].to_owned()),
        error: None,
    })
}
