//! Watches: the changes after a revision as a stream of JSON lines.
//!
//! In: the parameters of a watch request. Out: ADDED, MODIFIED, DELETED, BOOKMARK and ERROR events. The stream pulls from the
//! store's history when it is polled, so a client that reads slowly costs no memory, and falls off the history in the end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::failure::Failure;
use super::faults::FaultSettings;
use super::kind::Kind;
use super::query::Query;
use super::render::{Columns, Shape};
use super::selector::Selector;
use super::store::{Change, ChangeKind};

/// Events in one chunk of the response.
const BATCH_MAX: usize = 128;
/// How long a watch lasts when the client does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With all objects as ADDED, then changes.
    Current,
    /// The same, closed off by an annotated bookmark (a streaming list).
    StreamingList,
    /// With the changes after this revision.
    After(u64),
}

/// A running watch.
pub(crate) struct Watch {
    cluster: Arc<Cluster>,
    kind: &'static Kind,
    namespace: Option<String>,
    selector: Selector,
    shape: Shape,
    wake: watch::Receiver<u64>,
    drops: u64,
    deadline: Instant,
    /// `None` if the client does not want bookmarks.
    next_bookmark: Option<Instant>,
    initial: VecDeque<Arc<Value>>,
    /// Initial objects to send before the stream breaks off.
    cut_after: Option<usize>,
    ends_initial: bool,
    cursor: u64,
    is_over: bool,
    columns: Columns,
}

impl Watch {
    /// Checks the parameters and takes the initial objects.
    pub(crate) fn start(
        cluster: Arc<Cluster>,
        kind: &'static Kind,
        namespace: Option<String>,
        query: &Query,
        shape: Shape,
    ) -> Result<Self, Failure> {
        let selector = Selector::parse(kind, query.get("labelSelector"), query.get("fieldSelector"))?;
        let faults = cluster.faults(|faults| faults.clone());
        let start = parse_start(query, &faults)?;
        let timeout = match query.get("timeoutSeconds").map(str::parse) {
            Some(Ok(0)) | None => TIMEOUT_DEFAULT,
            Some(Ok(seconds)) => Duration::from_secs(seconds),
            Some(Err(_)) => return Err(Failure::bad_request("invalid timeoutSeconds")),
        };
        let mut watch = Self {
            wake: cluster.wake(),
            drops: cluster.drop_count(kind),
            deadline: Instant::now() + timeout,
            next_bookmark: query.is_true("allowWatchBookmarks").then(|| Instant::now() + cluster.bookmark_interval()),
            initial: VecDeque::new(),
            cut_after: faults.cut_after(kind).filter(|_| !matches!(start, Start::After(_))),
            ends_initial: start == Start::StreamingList,
            cursor: 0,
            is_over: false,
            columns: Columns::Wanted,
            cluster,
            kind,
            namespace,
            selector,
            shape,
        };
        watch.begin(start, &faults);
        Ok(watch)
    }

    fn begin(&mut self, start: Start, faults: &FaultSettings) {
        let cluster = Arc::clone(&self.cluster);
        cluster.read(|store| {
            self.cursor = store.revision();
            match start {
                // One from the future waits without a word until the cluster gets there, as with a real server.
                Start::After(wanted) => self.cursor = wanted,
                Start::Current | Start::StreamingList if faults.is_list_empty(self.kind) => {}
                Start::Current | Start::StreamingList => {
                    let table = store.table(self.kind.resource).into_iter().flatten();
                    let wanted = table.filter(|(key, object)| self.is_here(&key.0) && self.selector.matches(object));
                    self.initial = wanted.map(|(_, object)| Arc::clone(object)).collect();
                }
            }
        });
    }

    /// The next chunk of the response, `None` at the end of the watch, an error to break the connection.
    pub(crate) async fn next(mut self) -> Option<(Result<Bytes, io::Error>, Self)> {
        loop {
            if self.is_over {
                return None;
            }
            self.wake.borrow_and_update();
            if self.cluster.drop_count(self.kind) != self.drops || self.cut_after == Some(0) {
                self.is_over = true;
                // A pending body makes hyper send what it has; the client sees a beginning and then the break.
                tokio::task::yield_now().await;
                return Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), self));
            }
            let lines =
                if self.initial.is_empty() && !self.ends_initial { self.changes() } else { self.initial_lines() };
            if !lines.is_empty() {
                return Some((Ok(Bytes::from(lines)), self));
            }
            if self.is_over {
                continue;
            }
            let bookmark_at = self.next_bookmark.unwrap_or(self.deadline);
            tokio::select! {
                changed = self.wake.changed() => self.is_over = changed.is_err(),
                () = tokio::time::sleep_until(self.deadline) => self.is_over = true,
                () = tokio::time::sleep_until(bookmark_at), if self.next_bookmark.is_some() => {
                    self.next_bookmark = Some(Instant::now() + self.cluster.bookmark_interval());
                    let line = self.bookmark(&json!({}));
                    return Some((Ok(Bytes::from(line)), self));
                }
            }
        }
    }

    fn initial_lines(&mut self) -> Vec<u8> {
        let count = BATCH_MAX.min(self.initial.len()).min(self.cut_after.unwrap_or(usize::MAX));
        if let Some(left) = &mut self.cut_after {
            // A cut behind the last object still breaks off before the end of the list is announced.
            *left = if count == self.initial.len() { 0 } else { *left - count };
        }
        let batch: Vec<Arc<Value>> = self.initial.drain(..count).collect();
        let mut lines: Vec<u8> = Vec::new();
        for object in batch {
            lines.extend(self.line("ADDED", &object));
        }
        if self.initial.is_empty() && self.cut_after.is_none() && std::mem::take(&mut self.ends_initial) {
            lines.extend(self.bookmark(&json!({"k8s.io/initial-events-end": "true"})));
        }
        lines
    }

    fn changes(&mut self) -> Vec<u8> {
        let found = self.cluster.read(|store| store.changes_after(self.kind.resource, self.cursor, BATCH_MAX));
        let Ok((changes, upto)) = found else {
            self.is_over = true;
            let failure = Failure::expired(&format!("too old resource version: {}", self.cursor));
            return line_of("ERROR", &failure.to_status());
        };
        let mut lines = Vec::new();
        for change in &changes {
            if self.is_here(&change.key.0)
                && let Some((event, object)) = event_of(&self.selector, change)
            {
                lines.extend(self.line(event, &object));
            }
        }
        self.cursor = upto;
        lines
    }

    fn is_here(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
    }

    fn line(&mut self, event: &str, object: &Value) -> Vec<u8> {
        let shown = self.shape.event_object(self.kind, object, self.columns);
        self.columns = Columns::Known;
        line_of(event, &shown)
    }

    fn bookmark(&self, annotations: &Value) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": self.cursor.to_string(), "creationTimestamp": null});
        if annotations.as_object().is_some_and(|map| !map.is_empty()) {
            metadata["annotations"] = annotations.clone();
        }
        let object = json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata});
        line_of("BOOKMARK", &self.shape.bookmark_object(object))
    }
}

fn parse_start(query: &Query, faults: &FaultSettings) -> Result<Start, Failure> {
    let matching = query.get("resourceVersionMatch");
    let version = match query.get("resourceVersion").map(str::parse::<u64>) {
        None => None,
        Some(Ok(version)) => Some(version),
        Some(Err(_)) => return Err(Failure::bad_request("invalid resourceVersion")),
    };
    let invalid =
        |message: &str| Failure::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {message}"));
    match (query.get("sendInitialEvents"), matching) {
        (Some(_), _) if faults.no_streaming_lists => Err(invalid(
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        )),
        (Some(_), Some("NotOlderThan")) if query.is_true("sendInitialEvents") => Ok(Start::StreamingList),
        (Some(_), Some("NotOlderThan")) | (None, None) => Ok(match version {
            None | Some(0) => Start::Current,
            Some(version) => Start::After(version),
        }),
        (Some(_), _) => Err(invalid(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        (None, Some(_)) => Err(invalid(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
    }
}

/// What a change means to a watch with a selector: objects move in and out of it.
fn event_of(selector: &Selector, change: &Change) -> Option<(&'static str, Arc<Value>)> {
    let was_in = change.old.as_ref().filter(|old| selector.matches(old));
    if change.kind == ChangeKind::Remove {
        return was_in.map(|_| ("DELETED", Arc::clone(&change.new)));
    }
    match (was_in, selector.matches(&change.new)) {
        (Some(_), true) => Some(("MODIFIED", Arc::clone(&change.new))),
        (None, true) => Some(("ADDED", Arc::clone(&change.new))),
        (Some(old), false) => {
            let mut last = Value::clone(old);
            last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
            Some(("DELETED", Arc::new(last)))
        }
        (None, false) => None,
    }
}

fn line_of(event: &str, object: &Value) -> Vec<u8> {
    let mut line = json!({"type": event, "object": object}).to_string().into_bytes();
    line.push(b'\n');
    line
}
