//! One kind's list and watch: the Kubernetes API in, [`Observation`]s out, for ever.
//!
//! Streaming lists (`sendInitialEvents`) where the server has them, paged lists where not: a server that refuses the
//! former, or does not end one within [`STREAMING_LIST_MAX`], is asked for the latter from then on. `Listed` is sent
//! only after the end of a complete list. Objects are decoded one by one, so a malformed one is an observation of its
//! own and never stops the watch. Never decides what matters: that is [`crate::reduce`]'s part.

mod decode;
mod request;

use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use roadstead_manifests::resource::resource;
use roadstead_routing::id::Kind;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::complain::{self, Complaint};
use crate::reduce::{ListFailure, Observation};
use request::{Lines, Page, Requests, WatchFrom};

/// How long a streaming list may take to end. Servers that do not know `sendInitialEvents` never end it.
pub const STREAMING_LIST_MAX: Duration = Duration::from_secs(30);
/// Bookmarks come every minute or so: without any line for this long, the connection is taken for dead.
pub const IDLE_MAX: Duration = Duration::from_secs(150);
/// How long an answer may take to begin, and a page of a list to end.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Waits between attempts.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Objects of one page of a list.
const PAGE_OBJECTS: u32 = 500;

/// What the watches need to know. Tests shorten the waits.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    pub streaming_list_max: Duration,
    pub idle_max: Duration,
    pub answer_max: Duration,
    pub retry_min: Duration,
    pub retry_max: Duration,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            streaming_list_max: STREAMING_LIST_MAX,
            idle_max: IDLE_MAX,
            answer_max: ANSWER_MAX,
            retry_min: RETRY_MIN,
            retry_max: RETRY_MAX,
        }
    }
}

/// Watches `kind` until the receiver is gone.
pub async fn run(kind: Kind, client: Client, settings: WatchSettings, out: mpsc::Sender<(Kind, Observation)>) {
    let backoff = Backoff::new(settings.retry_min, settings.retry_max);
    let watch = Watch {
        kind,
        client,
        settings,
        out,
        mode: Mode::Streaming,
        page: Some(PAGE_OBJECTS),
        backoff,
        complaint: Complaint::default(),
    };
    // The only way out is that nobody listens any more.
    let Err(Closed) = watch.run().await;
}

struct Watch {
    kind: Kind,
    client: Client,
    settings: WatchSettings,
    out: mpsc::Sender<(Kind, Observation)>,
    mode: Mode,
    /// `None`: the whole list at once, after a page's continuation had expired.
    page: Option<u32>,
    backoff: Backoff,
    complaint: Complaint,
}

/// How to list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Streaming,
    Paged,
}

/// The receiver is gone.
struct Closed;

/// Why a list or a watch ended.
enum End {
    /// Nobody listens.
    Closed,
    /// The server does not do streaming lists.
    NoStreamingList,
    /// The server no longer has the version we stand at.
    Expired,
    /// As watches do: go on from the last version.
    Over,
    Broken(request::Error),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        End::Closed
    }
}

impl From<request::Error> for End {
    fn from(error: request::Error) -> Self {
        match error {
            request::Error::Expired => End::Expired,
            other => End::Broken(other),
        }
    }
}

impl Watch {
    async fn run(mut self) -> Result<std::convert::Infallible, Closed> {
        loop {
            self.tell(Observation::ListStarted).await?;
            let listed = match self.mode {
                Mode::Streaming => self.stream_list().await,
                Mode::Paged => self.page_list().await,
            };
            match listed {
                Ok(position) => {
                    self.backoff.reset();
                    self.follow(position).await?;
                }
                Err(End::Closed) => return Err(Closed),
                Err(End::NoStreamingList) => {
                    tracing::info!("{}: this API server has no streaming lists; using paged lists", self.kind);
                    self.mode = Mode::Paged;
                }
                Err(end) => self.list_failed(end).await?,
            }
        }
    }

    /// After a complete list: watches on from `position` until only a new list can help.
    async fn follow(&mut self, mut position: Position) -> Result<(), Closed> {
        loop {
            let (before, began) = (position.version.clone(), tokio::time::Instant::now());
            match self.watch(&mut position).await {
                End::Closed => return Err(Closed),
                End::Expired => {
                    tracing::info!("{}: the watch fell behind; listing again", self.kind);
                    return Ok(());
                }
                End::Over | End::NoStreamingList => {}
                End::Broken(error) => {
                    if self.complaint.is_new(&error.to_string()) {
                        tracing::warn!("Watch {}: {error}. Retrying", self.kind);
                    }
                    // What was missed while access was denied, only a new list can say.
                    if let Some(failure) = denied(self.kind, &error) {
                        self.tell(Observation::Failed(failure)).await?;
                        self.backoff.wait().await;
                        return Ok(());
                    }
                }
            }
            // A watch that brought something or lasted was well: resume at once, so that nothing is late.
            if position.version != before || began.elapsed() >= self.settings.retry_max {
                self.backoff.reset();
            } else {
                self.backoff.wait().await;
            }
        }
    }

    /// One watch request, resumed from `position` or continuing a streaming list. Returns why it ended.
    async fn watch(&mut self, position: &mut Position) -> End {
        let lines = match position.open.take() {
            Some(lines) => lines,
            None => {
                let from = WatchFrom::Version(&position.version);
                match self.requests().watch(from).await {
                    Ok(lines) => lines,
                    Err(error) => return error.into(),
                }
            }
        };
        if self.complaint.settle() {
            tracing::info!("Watch {}: connected again", self.kind);
        }
        match self.read(lines, position).await {
            Ok(()) => End::Over,
            Err(end) => end,
        }
    }

    async fn read(&mut self, mut lines: Lines, position: &mut Position) -> Result<(), End> {
        while let Some(line) = next_line(&mut lines, self.settings.idle_max).await? {
            let event = request::parse(&line)?;
            position.advance(&event);
            if let Some(observation) = decode::observation(self.kind, event) {
                self.tell(observation).await?;
            }
        }
        Ok(())
    }

    /// Lists by watching with `sendInitialEvents`. The stream goes on as the watch.
    async fn stream_list(&mut self) -> Result<Position, End> {
        let opened = self.requests().watch(WatchFrom::InitialEvents).await;
        let mut lines = match opened {
            Err(error) if error.refuses_parameters() => return Err(End::NoStreamingList),
            other => other?,
        };
        let deadline = tokio::time::Instant::now() + self.settings.streaming_list_max;
        let mut position = Position::default();
        loop {
            let next = next_line(&mut lines, self.settings.idle_max);
            let line = match tokio::time::timeout_at(deadline, next).await {
                Err(_elapsed) => return Err(End::NoStreamingList),
                Ok(line) => line?.ok_or(request::Error::Truncated)?,
            };
            let event = match request::parse(&line) {
                Err(error) if error.refuses_parameters() => return Err(End::NoStreamingList),
                other => other?,
            };
            position.advance(&event);
            if event.ends_initial_events() {
                self.tell(Observation::Listed).await?;
                position.open = Some(lines);
                return Ok(position);
            }
            if let Some(observation) = decode::observation(self.kind, event) {
                self.tell(observation).await?;
            }
        }
    }

    async fn page_list(&mut self) -> Result<Position, End> {
        let mut token: Option<String> = None;
        loop {
            let page = match self.requests().page(self.page, token.as_deref()).await {
                Err(request::Error::Expired) if self.page.is_some() => {
                    // The list took longer than the server keeps versions: only one page is sure to be consistent.
                    self.page = None;
                    return Err(request::Error::Expired.into());
                }
                other => other?,
            };
            let Page { items, next, version } = page;
            for item in items {
                self.tell(decode::seen(self.kind, item)).await?;
            }
            match next {
                Some(next) => token = Some(next),
                None => {
                    self.page = Some(PAGE_OBJECTS);
                    self.tell(Observation::Listed).await?;
                    return Ok(Position { version, open: None });
                }
            }
        }
    }

    async fn list_failed(&mut self, end: End) -> Result<(), Closed> {
        let error = match end {
            End::Broken(error) => error,
            _ => request::Error::Expired,
        };
        if self.complaint.is_new(&error.to_string()) {
            tracing::warn!("List {}: {error}. Retrying", self.kind);
        }
        let failure = denied(self.kind, &error).unwrap_or_else(|| ListFailure {
            message: error.to_string(),
            remedy: "Nothing is lost: the last known state is kept and listing is retried. See whether the API server is well."
                .to_owned(),
        });
        self.tell(Observation::Failed(failure)).await?;
        self.backoff.wait().await;
        Ok(())
    }

    fn requests(&self) -> Requests<'_> {
        Requests { client: &self.client, kind: self.kind, answer_max: self.settings.answer_max }
    }

    async fn tell(&self, observation: Observation) -> Result<(), Closed> {
        self.out.send((self.kind, observation)).await.map_err(|_| Closed)
    }
}

/// Where in the API's history the watch stands.
#[derive(Default)]
struct Position {
    version: String,
    /// A streaming list that goes on as a watch.
    open: Option<Lines>,
}

impl Position {
    fn advance(&mut self, event: &request::Event) {
        if let Some(version) = event.object.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
            version.clone_into(&mut self.version);
        }
    }
}

async fn next_line(lines: &mut Lines, idle_max: Duration) -> Result<Option<String>, request::Error> {
    match tokio::time::timeout(idle_max, lines.next()).await {
        Err(_elapsed) => Err(request::Error::Idle(idle_max)),
        Ok(None) => Ok(None),
        Ok(Some(Ok(line))) => Ok(Some(line)),
        Ok(Some(Err(error))) => Err(request::Error::Read(complain::chain(&error))),
    }
}

/// The remedy, if the API server denies access.
fn denied(kind: Kind, error: &request::Error) -> Option<ListFailure> {
    let request::Error::Api { code: 401 | 403, message } = error else { return None };
    let resource = resource(kind);
    Some(ListFailure {
        message: message.clone(),
        remedy: format!(
            "Grant the verbs list and watch on {} in API group {:?} to the agent's user: kubectl apply -f agent/deploy/rbac.yaml",
            resource.plural, resource.group,
        ),
    })
}
