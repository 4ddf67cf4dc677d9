//! Requests of one kind's list and watch, and the errors they end with. Only shapes: what they mean is the loop's part.

use std::time::Duration;

use futures::StreamExt;
use futures::io::AsyncBufReadExt;
use futures::stream::BoxStream;
use kube::Client;
use roadstead_manifests::resource::{Resource, resource};
use roadstead_routing::id::Kind;
use serde::Deserialize;
use serde_json::Value;

use crate::complain;

/// After this long the server ends a watch of its own accord, so that load spreads over API servers.
const WATCH_SECONDS: u32 = 290;

/// One line each.
pub(super) type Lines = BoxStream<'static, Result<String, std::io::Error>>;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// 410: the version or the continuation is no longer available.
    #[error("the version asked for is no longer available")]
    Expired,
    #[error("the API server answered {code}: {message}")]
    Api { code: u16, message: String },
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("nothing was heard for {0:?}")]
    Idle(Duration),
    #[error("the connection broke: {0}")]
    Read(String),
    #[error("the list ended before it was complete")]
    Truncated,
    #[error("the answer cannot be parsed: {0}")]
    Parse(String),
}

impl Error {
    /// Whether the server understood the request but not its parameters: a server without streaming lists.
    pub(super) fn refuses_parameters(&self) -> bool {
        matches!(self, Error::Api { code: 400 | 422, .. })
    }

    fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status.code, &status.message),
            other => Error::Unreachable(complain::chain(&other)),
        }
    }

    fn of_status(code: u16, message: &str) -> Self {
        if code == 410 { Error::Expired } else { Error::Api { code, message: message.to_owned() } }
    }
}

/// A page of a list.
pub(super) struct Page {
    pub(super) items: Vec<Value>,
    /// The continuation; `None` on the last page.
    pub(super) next: Option<String>,
    pub(super) version: String,
}

/// Where a watch begins.
pub(super) enum WatchFrom<'a> {
    /// Everything that exists, then changes.
    InitialEvents,
    /// Changes after this resourceVersion.
    Version(&'a str),
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) object: Value,
}

impl Event {
    /// Whether this is the bookmark after the last initial event.
    pub(super) fn ends_initial_events(&self) -> bool {
        let end = self.object.pointer("/metadata/annotations/k8s.io~1initial-events-end").and_then(Value::as_str);
        self.kind == "BOOKMARK" && end == Some("true")
    }
}

/// Reads one line of a watch.
///
/// # Errors
/// If it is no event, or is the server's own error.
pub(super) fn parse(line: &str) -> Result<Event, Error> {
    let event: Event = serde_json::from_str(line).map_err(|error| Error::Parse(error.to_string()))?;
    if event.kind != "ERROR" {
        return Ok(event);
    }
    let code = event.object.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let message = event.object.get("message").and_then(Value::as_str).unwrap_or("no reason given");
    Err(Error::of_status(code.unwrap_or(500), message))
}

/// Asks about one kind.
pub(super) struct Requests<'a> {
    pub(super) client: &'a Client,
    pub(super) kind: Kind,
    /// How long one page of a list may take, and the answer to a watch to begin.
    pub(super) answer_max: Duration,
}

impl Requests<'_> {
    pub(super) async fn watch(&self, from: WatchFrom<'_>) -> Result<Lines, Error> {
        let target = self.target(&["watch=true", "allowWatchBookmarks=true"]);
        let begin = match from {
            WatchFrom::InitialEvents => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
            WatchFrom::Version(version) => format!("resourceVersion={}", escape(version)),
        };
        let target = format!("{target}&timeoutSeconds={WATCH_SECONDS}&{begin}");
        let reader = self.answer(self.client.request_stream(get(&target)?)).await?;
        Ok(reader.lines().boxed())
    }

    /// `limit`: objects per page, `None` for all at once.
    pub(super) async fn page(&self, limit: Option<u32>, token: Option<&str>) -> Result<Page, Error> {
        let limit = limit.map(|limit| format!("limit={limit}"));
        let token = token.filter(|_| limit.is_some()).map(|token| format!("continue={}", escape(token)));
        let parameters: Vec<&str> = limit.iter().chain(&token).map(String::as_str).collect();
        let text = self.answer(self.client.request_text(get(&self.target(&parameters))?)).await?;
        read_page(&text)
    }

    fn target(&self, parameters: &[&str]) -> String {
        let Resource { path, fields, .. } = resource(self.kind);
        let fields = (!fields.is_empty()).then(|| format!("fieldSelector={}", escape(fields)));
        let all: Vec<&str> = parameters.iter().copied().chain(fields.as_deref()).collect();
        if all.is_empty() { path.to_owned() } else { format!("{path}?{}", all.join("&")) }
    }

    async fn answer<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.answer_max, request).await {
            Err(_elapsed) => Err(Error::NoAnswer(self.answer_max)),
            Ok(answer) => answer.map_err(Error::of),
        }
    }
}

fn read_page(text: &str) -> Result<Page, Error> {
    #[derive(Deserialize)]
    struct List {
        metadata: ListMeta,
        items: Option<Vec<Value>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ListMeta {
        resource_version: String,
        r#continue: Option<String>,
    }
    let list: List = serde_json::from_str(text).map_err(|error| Error::Parse(error.to_string()))?;
    Ok(Page {
        items: list.items.unwrap_or_default(),
        next: list.metadata.r#continue.filter(|token| !token.is_empty()),
        version: list.metadata.resource_version,
    })
}

fn get(target: &str) -> Result<http::Request<Vec<u8>>, Error> {
    http::Request::get(target).body(Vec::new()).map_err(|error| Error::Parse(error.to_string()))
}

/// Percent-encodes everything but unreserved characters: continuations are base64 with `=` and `+`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_survive_the_query() {
        assert_eq!(escape("eyJ2=+/&a-b._~"), "eyJ2%3D%2B%2F%26a-b._~");
    }

    #[test]
    fn a_page_without_a_version_or_of_another_shape_is_an_error() {
        assert!(read_page("{}").is_err());
        assert!(read_page("[]").is_err());
        let page = read_page(r#"{"metadata": {"resourceVersion": "7", "continue": ""}, "items": null}"#).unwrap();
        assert_eq!((page.items.len(), page.next, page.version.as_str()), (0, None, "7"));
    }

    #[test]
    fn errors_within_a_watch_are_told_apart() {
        let line = |code: u16| format!(r#"{{"type": "ERROR", "object": {{"code": {code}, "message": "x"}}}}"#);
        assert!(matches!(parse(&line(410)), Err(Error::Expired)));
        assert!(parse(&line(422)).unwrap_err().refuses_parameters());
        assert!(!parse(&line(500)).unwrap_err().refuses_parameters());
        assert!(matches!(parse("not JSON"), Err(Error::Parse(_))));
    }

    #[test]
    fn only_the_marked_bookmark_ends_a_streaming_list() {
        let end =
            r#"{"type": "BOOKMARK", "object": {"metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}}}"#;
        assert!(parse(end).unwrap().ends_initial_events());
        assert!(!parse(&end.replace("BOOKMARK", "ADDED")).unwrap().ends_initial_events());
        assert!(!parse(r#"{"type": "BOOKMARK", "object": {}}"#).unwrap().ends_initial_events());
    }
}
