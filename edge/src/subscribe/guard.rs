//! The edge's own guard: what a controller wants changed → what this edge takes, and what it keeps as it is.
//!
//! Controllers guard what they publish; the edge judges it once more, by the same rules (`routing::guard`), against what
//! it served itself in the last 10 minutes. So a controller that has gone wrong cannot withdraw a pool, unless it also says
//! that this is expected. Time is passed in; what is held is refused and nothing is remembered of it but the reason.
//!
//! The window is only as old as what was served in step with controllers. After a longer absence there is nothing to
//! judge against, while a controller still knows what it published: the first set is then taken as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use roadstead_proto::wire;
use roadstead_routing::guard::{Context, Scope, Split, Summary, Units, WINDOW_MS, Window};
use roadstead_routing::id::{HostKey, PoolName};

#[cfg(test)]
mod tests;

/// Held hosts whose reason is shown. Further ones are held just the same.
pub const SHOWN_MAX: usize = 1_000;
/// Bytes of one reason. What a longer one would name further is left out.
pub const REASON_BYTES_MAX: usize = 1_024;

pub struct Guard {
    window: Window,
    /// As the controller of this stream said it.
    context: Context,
    stage: Stage,
    mode: Mode,
    /// A set of another world, or of a restored one, has begun and is not complete.
    restoring: bool,
    /// When the last stream was known to be in step. Times count from when the edge was in step before it started, so
    /// 0 is that.
    in_step_ms: u64,
    now_ms: u64,
    /// From there to the start of this process.
    absent_ms: u64,
    /// Hosts that are held, and why.
    held: BTreeMap<HostKey, Arc<str>>,
}

/// How far a stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No Update has come yet.
    Opening,
    FirstSet,
    InStep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing is judged until a set is complete.
    Taking,
    Judging,
}

/// What an Update continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// There was no complete table before it, so nothing was served.
    Nothing,
    /// What is held.
    Held,
    /// The table of another world, or of this one before a backup of it was restored.
    Restored,
}

/// Proposed changes, told apart. `None`: the host is to go.
pub struct Reviewed<T> {
    /// Published: the caller must apply them.
    pub flow: BTreeMap<HostKey, Option<T>>,
    /// With the reason.
    pub held: Vec<(HostKey, Option<T>, Arc<str>)>,
}

impl Guard {
    /// Takes everything until [`Self::replayed`].
    pub fn new(pool: PoolName) -> Self {
        Self {
            window: Window::new(Summary::new(pool)),
            context: Context::default(),
            stage: Stage::Opening,
            mode: Mode::Taking,
            restoring: false,
            in_step_ms: 0,
            now_ms: 0,
            absent_ms: 0,
            held: BTreeMap::new(),
        }
    }

    /// How long before the start of this process its last good table was known to be current. To be called before any
    /// time is given; without it the edge counts as having been in step when it started.
    pub fn in_step_before_start(&mut self, ago: Duration) {
        self.absent_ms = millis(ago);
    }

    /// Everything that was taken so far is what the edge serves when it starts.
    pub fn replayed(&mut self) {
        self.restart();
    }

    /// Something came from the controller, so what it last said holds still.
    pub fn heard(&mut self, now: Duration) {
        self.at(now);
        if self.stage == Stage::InStep {
            self.in_step_ms = self.now_ms;
        }
    }

    /// What the controller said besides the tables is forgotten; what is held stays visible until the next one speaks.
    pub fn stream_ended(&mut self) {
        self.stage = Stage::Opening;
        self.context = Context::default();
    }

    /// An Update was accepted and its changes are going to be reviewed.
    pub fn begin(&mut self, context: Option<&wire::GuardContext>, origin: Origin, now: Duration) {
        self.at(now);
        if let Some(context) = context {
            self.context = context_from_wire(context);
        }
        self.restoring |= origin == Origin::Restored;
        if self.stage == Stage::Opening {
            self.stage = Stage::FirstSet;
            // What is still wanted will be proposed again.
            self.held.clear();
            let is_recent = self.now_ms <= self.in_step_ms + WINDOW_MS;
            self.mode = if is_recent { Mode::Judging } else { Mode::Taking };
        }
        if origin == Origin::Nothing {
            self.mode = Mode::Taking;
        } else if self.restoring {
            // Its controllers did not publish what was served so far: only this edge knows of it.
            self.mode = Mode::Judging;
        }
    }

    /// The Update's changes are made. `synced`: they complete a set.
    pub fn end(&mut self, synced: bool) {
        if synced {
            if self.mode == Mode::Taking {
                self.restart();
                self.mode = Mode::Judging;
            }
            self.stage = Stage::InStep;
            self.restoring = false;
        }
        if self.stage == Stage::InStep {
            self.in_step_ms = self.now_ms;
        }
    }

    /// Tells apart what may change; that counts as published.
    pub fn review<T>(&mut self, changes: BTreeMap<HostKey, Option<T>>, units: impl Fn(&T) -> Units) -> Reviewed<T> {
        let (trips, split) = match self.mode {
            Mode::Taking => (Vec::new(), Split { flow: changes, held: BTreeMap::new() }),
            Mode::Judging => self.window.review(self.now_ms, changes, &self.context, &units),
        };
        for (host, change) in &split.flow {
            self.held.remove(host);
            self.window.publish(self.now_ms, host, change.as_ref().map(&units));
        }
        let reasons: Vec<Arc<str>> = trips.iter().map(|trip| cut(trip.to_string()).into()).collect();
        let why = |host: &HostKey| {
            let trip = trips.iter().position(|trip| trip.hosts.contains_key(host));
            reasons[trip.expect("a held host must be named by a trip")].clone()
        };
        let held: Vec<_> = split.held.into_iter().map(|(host, change)| (why(&host), host, change)).collect();
        for (reason, host, _) in &held {
            if self.held.len() < SHOWN_MAX || self.held.contains_key(host) {
                self.held.insert(host.clone(), reason.clone());
            }
        }
        Reviewed { flow: split.flow, held: held.into_iter().map(|(why, host, change)| (host, change, why)).collect() }
    }

    /// The controller wants the host as it is.
    pub fn settled(&mut self, host: &HostKey) {
        self.held.remove(host);
    }

    /// Hosts that are held, and why.
    pub fn held(&self) -> impl Iterator<Item = (&HostKey, &str)> {
        self.held.iter().map(|(host, reason)| (host, &**reason))
    }

    /// Whether the stream has completed its first set, so that whatever comes on it says that the table is current.
    pub fn is_in_step(&self) -> bool {
        self.stage == Stage::InStep
    }

    #[cfg(test)]
    pub(crate) fn published(&self) -> &Summary {
        self.window.published()
    }

    fn at(&mut self, now: Duration) {
        self.now_ms = self.now_ms.max(self.absent_ms + millis(now));
    }

    /// Withdrawals so far do not count.
    fn restart(&mut self) {
        self.window = Window::new(self.window.published().clone());
    }
}

fn millis(duration: Duration) -> u64 {
    // Half of what fits, so that two can be added.
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

fn cut(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let more = "…";
        let end = (0..=REASON_BYTES_MAX - more.len()).rev().find(|end| reason.is_char_boundary(*end));
        reason.truncate(end.unwrap_or_default());
        reason.push_str(more);
    }
    reason
}

/// What a newer controller says in a way that this edge does not know allows nothing.
fn context_from_wire(context: &wire::GuardContext) -> Context {
    Context {
        expected: context.expected.iter().filter_map(|text| Scope::parse(text)).collect(),
        approved: context.approved.iter().filter_map(|host| HostKey::parse(host)).collect(),
        inferred: context.inferred.iter().map(|cluster| cluster.as_str().into()).collect(),
    }
}
