//! The conversation with controllers, as a state machine: inputs and the time in, outputs out.
//!
//! No I/O, no clock and no randomness but the seed it is given, so that the same inputs always give the same outputs.

use std::time::Duration;

use roadstead_proto::wire;
use roadstead_proto::wire::config_message::Message as Told;
use roadstead_proto::wire::edge_message::Message as Say;

use super::backoff::Backoff;
use super::holdings::{Applied, Holdings, World};
use super::{HEARTBEAT_EVERY, SILENCE_MAX};

#[cfg(test)]
mod tests;

/// The standing problem of an edge that follows nobody.
const FROZEN: &str = "frozen: the last good table is served as it is and no controller is followed until the edge is \
                      started without --frozen";

/// Who this edge is, as it tells controllers.
#[derive(Clone, Debug, Default)]
pub struct Introduction {
    pub edge: String,
    pub pool: String,
    pub region: String,
    pub zone: String,
    pub version: String,
}

/// What happened.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is taken apart as soon as it is made")]
pub enum Input {
    /// The connection asked for by [`Output::Dial`] is there.
    Connected,
    /// A message of the connected controller.
    Received(wire::ConfigMessage),
    /// The connection ended or could not be made.
    Lost(String),
    /// What requests have learnt about backends by now: a complete list. To be given at most once a second.
    Health(Vec<wire::FailingBackend>),
    /// Time passed; see [`Machine::wake_at`].
    Tick,
}

/// What is to be done, in order.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Connect to the controller with this index and send `hello` first.
    Dial {
        controller: usize,
        hello: Box<wire::EdgeMessage>,
    },
    Send(wire::EdgeMessage),
    /// Close the connection; nothing it still delivers may be given to the machine.
    HangUp,
    /// Keep this on disk.
    Journal(wire::Update),
}

pub struct Machine {
    introduction: Introduction,
    holdings: Holdings,
    /// How many controllers there are, at least one; they are tried in turn.
    controllers: usize,
    next_controller: usize,
    link: Link,
    backoff: Backoff,
    heartbeats: u64,
    /// What the controller of this stream was last told about backends. At first it knows of none that fail.
    said_failing: Vec<wire::FailingBackend>,
    synced: bool,
    problem: Option<String>,
    counts: Counts,
}

/// What happened so far, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub updates_applied: u64,
    pub updates_rejected: u64,
    pub resources_applied: u64,
    pub resources_refused: u64,
    pub resources_guarded: u64,
    pub dials: u64,
}

/// Times are since the edge started.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    /// Nobody is followed, ever.
    Frozen,
    Waiting {
        until: Duration,
    },
    Dialing,
    Live {
        heard_at: Duration,
        said_at: Duration,
    },
}

impl Machine {
    /// # Panics
    /// If there is no controller.
    pub fn new(introduction: Introduction, holdings: Holdings, controllers: usize, seed: u64) -> Self {
        assert!(controllers > 0, "an edge needs a controller to follow");
        Self {
            introduction,
            holdings,
            controllers,
            next_controller: 0,
            link: Link::Waiting { until: Duration::ZERO },
            backoff: Backoff::new(seed),
            heartbeats: 0,
            said_failing: Vec::new(),
            synced: false,
            problem: None,
            counts: Counts::default(),
        }
    }

    /// A machine that follows nobody: what is held is served as it is.
    pub fn frozen(holdings: Holdings) -> Self {
        let machine = Self::new(Introduction::default(), holdings, 1, 0);
        Self { link: Link::Frozen, problem: Some(FROZEN.to_owned()), ..machine }
    }

    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Output> {
        match (input, self.link) {
            (Input::Connected, Link::Dialing) => {
                self.link = Link::Live { heard_at: now, said_at: now };
                self.said_failing.clear();
                Vec::new()
            }
            (Input::Received(message), Link::Live { said_at, .. }) => {
                self.link = Link::Live { heard_at: now, said_at };
                self.received(message, now)
            }
            (Input::Lost(reason), Link::Dialing | Link::Live { .. }) => {
                self.lost(reason, now);
                Vec::new()
            }
            (Input::Tick, Link::Waiting { until }) if now >= until => vec![self.dial()],
            (Input::Tick, Link::Live { heard_at, .. }) if now >= heard_at + SILENCE_MAX => {
                self.lost(format!("the controller said nothing for {} s", SILENCE_MAX.as_secs()), now);
                vec![Output::HangUp]
            }
            (Input::Tick, Link::Live { heard_at, said_at }) if now >= said_at + HEARTBEAT_EVERY => {
                self.link = Link::Live { heard_at, said_at: now };
                self.heartbeats += 1;
                vec![say(Say::Heartbeat(wire::Heartbeat { seq: self.heartbeats }))]
            }
            (Input::Health(failing), Link::Live { .. }) => self.health(failing),
            // Ticks that come early, and what a connection that was given up still delivers.
            (Input::Connected | Input::Received(_) | Input::Lost(_) | Input::Health(_) | Input::Tick, _) => Vec::new(),
        }
    }

    /// When the next [`Input::Tick`] is due, unless something else happens before. `None`: nothing waits for time.
    pub fn wake_at(&self) -> Option<Duration> {
        match self.link {
            Link::Waiting { until } => Some(until),
            Link::Dialing | Link::Frozen => None,
            Link::Live { heard_at, said_at } => Some((heard_at + SILENCE_MAX).min(said_at + HEARTBEAT_EVERY)),
        }
    }

    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Live { .. })
    }

    /// Whether this process has been in step with a controller.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// What stands in the way of following a controller, for a person.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn dial(&mut self) -> Output {
        let controller = self.next_controller % self.controllers;
        self.next_controller = controller + 1;
        self.link = Link::Dialing;
        self.counts.dials += 1;
        let Introduction { edge, pool, region, zone, version } = self.introduction.clone();
        let hello = wire::EdgeHello {
            edge,
            pool,
            region,
            zone,
            version,
            world: self.holdings.world().map(World::to_wire),
            positions: Some(self.holdings.positions().to_wire()),
            held: self.holdings.hashes().to_bytes(),
        };
        Output::Dial { controller, hello: Box::new(message(Say::Hello(hello))) }
    }

    fn lost(&mut self, reason: String, now: Duration) {
        self.holdings.stream_ended();
        // One line per cause: a controller that is away for an hour must not fill the log.
        if self.problem.as_ref() != Some(&reason) {
            tracing::warn!(reason, "Not following a controller; serving goes on with what is held");
        }
        self.problem = Some(reason);
        self.link = Link::Waiting { until: now + self.backoff.next_wait() };
    }

    fn received(&mut self, message: wire::ConfigMessage, now: Duration) -> Vec<Output> {
        match message.message {
            Some(Told::HeldRequest(request)) => {
                let contents = self.holdings.contents(&request.buckets);
                contents.into_iter().map(|contents| say(Say::HeldContents(contents))).collect()
            }
            Some(Told::Update(update)) => self.update(update, now),
            Some(Told::Heartbeat(_)) => {
                self.holdings.heard(now);
                Vec::new()
            }
            // A message of a newer protocol asks for nothing that this edge could do.
            None => Vec::new(),
        }
    }

    fn update(&mut self, update: wire::Update, now: Duration) -> Vec<Output> {
        let (nonce, synced) = (update.nonce, update.synced);
        let applied = match self.holdings.apply(update, now) {
            Ok(applied) => applied,
            Err(error) => {
                tracing::error!(%error, "An Update of another world was refused; serving goes on with what is held");
                self.counts.updates_rejected += 1;
                self.lost(error.to_string(), now);
                return vec![Output::HangUp];
            }
        };
        self.note(&applied, synced);
        let Applied { refusals, effective } = applied;
        let journal = effective.map(Output::Journal);
        let result = say(Say::Result(wire::UpdateResult { nonce, refusals }));
        journal.into_iter().chain([result]).collect()
    }

    /// Says it if it is not what the controller knows.
    fn health(&mut self, failing: Vec<wire::FailingBackend>) -> Vec<Output> {
        if failing == self.said_failing {
            return Vec::new();
        }
        self.said_failing.clone_from(&failing);
        vec![say(Say::Health(wire::BackendHealth { failing }))]
    }

    fn note(&mut self, applied: &Applied, synced: bool) {
        let (guarded, refused): (Vec<_>, Vec<_>) = applied.refusals.iter().partition(|refusal| refusal.guarded);
        for refusal in &refused {
            tracing::warn!(key = refusal.key, reason = refusal.reason, "A resource was refused");
        }
        if let Some(first) = guarded.first() {
            tracing::warn!(hosts = guarded.len(), reason = first.reason, "The guard keeps hosts as they are");
        }
        self.counts.resources_refused += refused.len() as u64;
        self.counts.resources_guarded += guarded.len() as u64;
        let Some(effective) = &applied.effective else {
            self.counts.updates_rejected += 1;
            return;
        };
        self.counts.updates_applied += 1;
        self.counts.resources_applied += (effective.upserts.len() + effective.removals.len()) as u64;
        self.problem = None;
        if synced {
            self.backoff.reset();
            if !self.synced {
                tracing::info!(hosts = self.holdings.hosts(), "In step with a controller");
            }
            self.synced = true;
        }
    }
}

fn message(message: Say) -> wire::EdgeMessage {
    wire::EdgeMessage { message: Some(message) }
}

fn say(it: Say) -> Output {
    Output::Send(message(it))
}
