//! The controller as one synchronous state machine: messages in, messages out, time passed in.
//!
//! ingest and peers → world → compute → publish → status, in that order. A turn applies all messages that are there, then computes
//! what became dirty once, then publishes: under load changes are batched without any timer. No task, no I/O, no clock
//! and no randomness in here, so that a simulation can drive it.

use roadstead_routing::check::check;
use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{ClusterId, HostKey, ObjectKey, PoolName};
use roadstead_routing::inputs::Dirty;

use crate::compute::compute;
use crate::core::follow::Followed;
use crate::core::message::{Input, Output};
use crate::core::turn::Turn;
use crate::guard::Guard;
use crate::guard::decide::{Decided, Decision, Refused};
use crate::guard::kept::Kept;
use crate::ingest::Ingest;
use crate::observe::metrics::Metrics;
use crate::peers::Peers;
use crate::policy::{AcceptedPolicy, Problem, follow as policy_file};
use crate::publish::Publish;
use crate::status::Status;
use crate::status::findings::{Findings, Source};
use crate::store::writer::Event;
use crate::store::{Cause, Loaded, ReplicaRow};
use crate::world::{Limits, World};

pub mod follow;
pub mod heartbeat;
pub mod message;
pub mod turn;

/// Between two looks at which certificates are in their time.
const CLOCK_STEP_SECONDS: i64 = 60;

pub struct Core {
    pub(crate) turn: Turn,
    pub(crate) ingest: Ingest,
    pub(crate) peers: Peers,
    pub(crate) followed: Followed,
    pub(crate) publish: Publish,
    pub(crate) status: Status,
    pub(crate) policy_problem: Option<Problem>,
    /// Why nothing can be stored at present.
    pub(crate) store_away: Option<String>,
}

/// What a core starts from.
pub struct Start {
    pub now_ms: u64,
    /// This controller: what it is called and where its peers reach it.
    pub replica: ReplicaRow,
    pub policy: AcceptedPolicy,
    pub policy_problem: Option<Problem>,
    pub loaded: Loaded,
    pub limits: Limits,
    pub metrics: Metrics,
}

impl Core {
    /// [`Self::start_guarded`] with the guard switched off: for models that ask only whether the newest truth arrives.
    pub fn start(start: Start) -> (Self, Vec<Output>) {
        Self::begin(start, None)
    }

    /// Loads the world, computes everything and checks it. What differs from what was published last passes the guard.
    /// The outputs are for the store.
    pub fn start_guarded(start: Start, kept: Kept) -> (Self, Vec<Output>) {
        Self::begin(start, Some(kept))
    }

    fn begin(start: Start, kept: Option<Kept>) -> (Self, Vec<Output>) {
        let Start { now_ms, replica, policy, policy_problem, mut loaded, limits, metrics } = start;
        let turn = Turn {
            now_ms,
            listening_ms: 0,
            listened_at_ms: now_ms,
            replica: replica.id.clone(),
            instance: replica.instance.clone(),
            world_id: loaded.world.clone(),
            world: World::new(policy.policy.clone(), limits),
            policy,
            findings: Findings::default(),
            metrics,
            dirty: Dirty::default(),
            cause: Cause::Start,
            moved: Default::default(),
            welcomed: Default::default(),
            inferred: Default::default(),
            began: Default::default(),
            settled: Default::default(),
            steps: Vec::new(),
            is_reporting: false,
            peers_moved: false,
            clerk_rev: 0,
            token: None,
            out: Vec::new(),
        };
        let mut core = Self {
            turn,
            ingest: Ingest::default(),
            peers: Peers::default(),
            followed: Followed::new(replica, &loaded.clusters),
            publish: Publish::default(),
            status: Status::default(),
            policy_problem,
            store_away: None,
        };
        core.tell_time();
        let published = std::mem::take(&mut loaded.published);
        core.ingest.load(&loaded.clusters, now_ms);
        for (cluster, key, reason) in std::mem::take(&mut loaded.unreadable) {
            core.not_storable(cluster, key, &format!("what is stored cannot be read: {reason}"));
        }
        let dirty = core.turn.world.load(loaded);
        core.turn.dirty.merge(dirty);
        core.publish.guard_mut().set_leaving(core.followed.leaving());
        let mut computed = compute(&mut core.turn);
        let ingresses = std::mem::take(&mut computed.ingresses);
        core.publish.start(computed, &published, kept, &mut core.turn);
        core.check();
        core.status.flush(ingresses, &core.ingest, &mut core.publish, &mut core.turn);
        core.turn.cause = Cause::Objects;
        core.say_beat();
        let out = std::mem::take(&mut core.turn.out);
        (core, out)
    }

    /// One turn. `now_ms` counts from the Unix epoch; a clock that was set back is taken as standing still.
    pub fn handle(&mut self, now_ms: u64, inputs: impl IntoIterator<Item = Input>) -> Vec<Output> {
        self.turn.now_ms = self.turn.now_ms.max(now_ms);
        for input in inputs {
            self.take(input);
        }
        self.settle();
        std::mem::take(&mut self.turn.out)
    }

    /// A person's decision. What it lets go is published in the next turn, which should follow at once.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed then.
    pub fn decide(&mut self, decision: Decision) -> Result<Decided, Refused> {
        self.turn.cause = Cause::Decision;
        if let Decision::ReleaseCanary { pool, by } = &decision
            && self.publish.release_canary(pool, &mut self.turn)
        {
            tracing::warn!(%pool, by, "A trial on one edge is ended");
            return Ok(Decided::Released(pool.clone()));
        }
        self.publish.guard_mut().decide(decision, &mut self.turn)
    }

    /// Hosts that would be left without any backend if the cluster served no more.
    pub fn only_served_by(&self, cluster: &ClusterId) -> Vec<(PoolName, HostKey)> {
        let table =
            self.publish.pools().iter().flat_map(|(name, pool)| pool.hosts().map(move |(host, it)| (name, host, it)));
        let only = table.filter(|(_, _, it)| {
            let serves = crate::compute::serving_clusters(&it.value);
            serves.len() == 1 && serves.contains(cluster)
        });
        only.map(|(pool, host, _)| (pool.clone(), host.clone())).collect()
    }

    pub fn guard(&self) -> &Guard {
        self.publish.guard()
    }

    pub fn world(&self) -> &World {
        &self.turn.world
    }

    pub fn publish(&self) -> &Publish {
        &self.publish
    }

    pub fn findings(&self) -> &Findings {
        &self.turn.findings
    }

    fn take(&mut self, input: Input) {
        let turn = &mut self.turn;
        match input {
            Input::AgentOpened { stream, cluster } => self.ingest.opened(stream, cluster, turn),
            Input::Agent { stream, message } => self.ingest.received(stream, message, turn),
            Input::AgentClosed { stream } => self.ingest.closed(stream, turn),
            Input::EdgeOpened { stream, edge } => self.publish.opened(stream, edge, turn),
            Input::Edge { stream, message } => self.publish.received(stream, message, turn),
            Input::EdgeClosed { stream } => self.publish.closed(stream, turn),
            Input::PeerOpened { stream, replica } => self.peers.opened(stream, replica, turn),
            Input::Peer { stream, message } => self.peers.received(stream, message, &mut self.ingest, turn),
            Input::PeerClosed { stream } | Input::ReportClosed { stream } => self.peers.closed(stream, turn),
            Input::ReportOpened { stream, replica } => self.peers.report_opened(stream, replica, &self.ingest, turn),
            Input::Report { stream, message } => self.peers.report_heard(stream, message, &self.ingest, turn),
            Input::News(news) => self.follow(*news),
            Input::Store(event) => self.stored(event),
            Input::Policy(policy_file::Event::Accepted(policy)) => self.set_policy(policy),
            Input::Policy(policy_file::Event::Problem(problem)) => self.policy_problem = problem,
            Input::Tick => {
                turn.listened();
                self.ingest.tick(turn);
                self.peers.tick(turn);
                self.publish.tick(turn);
                self.tell_time();
                self.beat_if_due();
            }
            Input::Busy => {
                turn.was_deaf();
                self.ingest.beat(turn);
                self.peers.beat(turn);
                self.publish.beat(turn);
                self.beat_if_due();
            }
        }
    }

    /// Certificates begin and end while nobody changes anything.
    fn tell_time(&mut self) {
        let now = i64::try_from(self.turn.now_ms / 1_000).unwrap_or(i64::MAX);
        if now.saturating_sub(self.turn.world.inputs().now()) < CLOCK_STEP_SECONDS {
            return;
        }
        let dirty = self.turn.world.set_now(now);
        if !dirty.is_empty() {
            self.turn.dirty.merge(dirty);
            self.turn.cause = Cause::Lifecycle;
        }
    }

    /// Computes and publishes what became dirty.
    fn settle(&mut self) {
        let tells_state = self.peers.tells_state(self.turn.now_ms);
        let alerts = if tells_state { self.edge_alerts() } else { Vec::new() };
        let turn = &mut self.turn;
        let mut computed = compute(turn);
        let ingresses = std::mem::take(&mut computed.ingresses);
        self.publish.apply(computed, turn);
        if let Some(kept) = self.publish.backends_to_keep().filter(|kept| kept != turn.world.inputs().kept()) {
            turn.dirty = turn.world.set_kept(kept);
            let computed = compute(turn);
            self.publish.apply(computed, turn);
            self.ingest.policy_changed(turn);
        }
        if std::mem::take(&mut turn.peers_moved) {
            self.publish.heard_from_peers(self.peers.reported().map(|(_, reported)| reported.clone()).collect());
        }
        self.publish.flush(turn);
        self.peers.flush(&self.ingest, &self.publish, alerts, turn);
        self.status.flush(ingresses, &self.ingest, &mut self.publish, turn);
        turn.moved.clear();
        turn.began.clear();
        turn.settled.clear();
        turn.world.forget_departed();
        turn.cause = Cause::Objects;
    }

    fn set_policy(&mut self, policy: AcceptedPolicy) {
        if policy.rev <= self.turn.policy.rev {
            return;
        }
        let dirty = self.turn.world.set_policy(policy.policy.clone());
        self.turn.dirty.merge(dirty);
        self.turn.cause = Cause::Policy;
        self.turn.policy = policy;
        self.ingest.policy_changed(&mut self.turn);
    }

    fn stored(&mut self, event: Event) {
        let turn = &mut self.turn;
        match event {
            Event::Durable { cluster, position } => self.ingest.durable(&cluster, position, turn),
            Event::Fenced { cluster, epoch } => self.ingest.fenced(&cluster, epoch, turn),
            Event::Unstorable { cluster, key, reason } => self.not_storable(cluster, key, &reason),
            Event::TakenOver { ticket, answer } => self.ingest.taken_over(ticket, answer, turn),
            Event::Away(reason) => self.store_away = Some(reason),
            Event::Back => self.store_away = None,
        }
    }

    fn not_storable(&mut self, cluster: ClusterId, key: ObjectKey, reason: &str) {
        tracing::warn!(cluster.id = %cluster, object = %key, reason, "An object is not durable");
        let finding = Finding {
            cluster: cluster.clone(),
            object: Some(key.clone()),
            code: Code::Unstorable,
            severity: Severity::Warning,
            message: format!("The object cannot be stored: {reason}; it takes effect, but a restart will not know it"),
            remedy: "Remove control characters from names and annotations.".to_owned(),
        };
        self.turn.findings.set(&Source::Storage(cluster, key), vec![finding]);
    }

    /// The first table is checked as a whole. Violations are for a person; serving goes on, because what is loaded is
    /// the best there is.
    fn check(&mut self) {
        if self.guard().held().next().is_some() {
            // What is held differs from what the objects say: that is what a Hold is.
            return;
        }
        let violations = check(self.turn.world.inputs(), &self.publish.table());
        self.turn.metrics.compute.violations.inc_by(violations.len() as u64);
        for violation in violations {
            tracing::error!(?violation, "The first table breaks an invariant");
        }
    }
}

#[cfg(test)]
mod tests;
