//! The one task that owns the core: takes all that waits in the inbox, runs one turn, hands the outputs on.
//!
//! It never waits for a peer or the database: outputs go into bounded queues without waiting, and a stream whose queue
//! is full is ended. The clock is read here and nowhere further in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roadstead_proto::wire;
use roadstead_routing::id::{ClusterId, HostKey, PoolName};
use roadstead_runtime::ready::Readiness;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::core::Core;
use crate::core::message::{EdgeId, Input, Output, StreamId};
use crate::guard::decide::{Decided, Decision, Refused};
use crate::held::Held;
use crate::ingest::State;
use crate::observe::metrics::Metrics;
use crate::observe::status::{Report, report};
use crate::policy::follow;
use crate::publish::pool::Pool;
use crate::serve::link::{Link, Lost, status_of};
use crate::store::queue::Queue;
use crate::store::{Beat, News, ReplicaRow, writer};

/// Commands that may wait; readers of streams wait beyond.
pub const INBOX_MAX: usize = 1_024;
/// Commands handled in one turn. Each may be a message of 1 MiB, and peers hear nothing while a turn lasts.
pub const COMMANDS_PER_TURN_MAX: usize = 64;
/// Heartbeats and deadlines are checked this often.
const TICK: Duration = Duration::from_millis(250);

/// Where hosts are answered to.
pub type HostsAnswer = oneshot::Sender<Vec<(PoolName, HostKey)>>;

pub enum Command {
    OpenAgent {
        stream: StreamId,
        cluster: ClusterId,
        link: Link<wire::ControllerMessage>,
    },
    OpenEdge {
        stream: StreamId,
        edge: EdgeId,
        link: Link<wire::ConfigMessage>,
    },
    /// Another replica connected to report.
    OpenPeer {
        stream: StreamId,
        replica: String,
        link: Link<wire::PeerAnswer>,
    },
    /// This controller reached another replica, to report to it.
    OpenReport {
        stream: StreamId,
        replica: String,
        link: Link<wire::PeerMessage>,
    },
    Input(Input),
    /// Hosts that would be left without any backend if the cluster served no more.
    OnlyServedBy(ClusterId, HostsAnswer),
    /// What `/status` shows.
    Report(oneshot::Sender<Report>),
    /// What a person decides. Answered when what follows from it was handed on.
    Decide(Decision, oneshot::Sender<Result<Decided, Refused>>),
}

/// Commands that want an answer at the end of the turn.
#[derive(Default)]
struct Asked {
    reports: Vec<oneshot::Sender<Report>>,
    only_served_by: Vec<(ClusterId, HostsAnswer)>,
    decisions: Vec<(Decision, oneshot::Sender<Result<Decided, Refused>>)>,
}

pub struct CoreTask {
    pub core: Core,
    pub queue: Arc<Queue>,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub inbox: mpsc::Receiver<Command>,
    pub store_events: mpsc::Receiver<writer::Event>,
    pub policy_events: mpsc::Receiver<follow::Event>,
    pub news: mpsc::Receiver<News>,
    /// To the task that talks to the store once a second. A beat that finds it busy is lost; the next one says the same.
    pub beats: mpsc::Sender<Beat>,
    /// To the task that keeps connections to other replicas.
    pub peers: watch::Sender<Vec<ReplicaRow>>,
}

#[derive(Default)]
struct Links {
    peers: BTreeMap<StreamId, Link<wire::PeerAnswer>>,
    reports: BTreeMap<StreamId, Link<wire::PeerMessage>>,
    agents: BTreeMap<StreamId, Link<wire::ControllerMessage>>,
    edges: BTreeMap<StreamId, Link<wire::ConfigMessage>>,
}

impl CoreTask {
    /// Runs until every sender of the inbox is gone.
    pub async fn run(mut self) {
        let mut links = Links::default();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut commands, mut inputs) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                received = self.inbox.recv_many(&mut commands, COMMANDS_PER_TURN_MAX) => {
                    if received == 0 {
                        return;
                    }
                }
                Some(event) = self.store_events.recv() => inputs.push(Input::Store(event)),
                Some(event) = self.policy_events.recv() => inputs.push(Input::Policy(event)),
                Some(news) = self.news.recv() => inputs.push(Input::News(Box::new(news))),
                _ = tick.tick() => {
                    inputs.push(if self.inbox.is_empty() { Input::Tick } else { Input::Busy });
                    self.measure();
                }
            }
            while let Ok(event) = self.store_events.try_recv() {
                inputs.push(Input::Store(event));
            }
            let Asked { reports, only_served_by, decisions } = links.take(commands.drain(..), &mut inputs);
            let decided: Vec<_> =
                decisions.into_iter().map(|(decision, asked)| (self.core.decide(decision), asked)).collect();
            let started = Instant::now();
            let outputs = self.core.handle(now_ms(), inputs.drain(..));
            self.metrics.compute.turn_seconds.observe(started.elapsed().as_secs_f64());
            for output in outputs {
                match output {
                    Output::Beat(beat) => drop(self.beats.try_send(*beat)),
                    Output::Peers(replicas) => drop(self.peers.send(replicas)),
                    output => inputs.extend(links.give(output, &self.queue)),
                }
            }
            for (decided, asked) in decided {
                // Whoever asked may have gone, here and below.
                let _ = asked.send(decided);
            }
            for (cluster, asked) in only_served_by {
                let _ = asked.send(self.core.only_served_by(&cluster));
            }
            for asked in reports {
                let _ = asked.send(report(&self.core, self.queue.len()));
            }
        }
    }

    fn measure(&self) {
        let (core, metrics) = (&self.core, &self.metrics);
        let states = || core.ingest.members().map(|(cluster, _)| core.ingest.state(cluster, core.turn.now_ms));
        metrics.ingest.live.set(states().filter(|state| *state == State::Live).count() as i64);
        metrics.ingest.stale.set(states().filter(|state| *state == State::Stale).count() as i64);
        metrics.store.queued.set(self.queue.len() as i64);
        metrics.store.away.set(i64::from(core.store_away.is_some()));
        match &core.store_away {
            Some(why) => self.readiness.set_degraded("store", format!("changes are routed, but not durable: {why}")),
            None => self.readiness.set("store", Ok(())),
        }
        metrics.world.clusters.set(states().count() as i64);
        let held = core.ingest.members().filter_map(|(cluster, _)| core.world().held(cluster));
        metrics.world.objects.set(held.map(Held::len).sum::<usize>() as i64);
        let pools = || core.publish.pools().values();
        metrics.publish.hosts.set(pools().map(Pool::host_count).sum::<usize>() as i64);
        metrics.publish.backends.set(pools().map(Pool::backend_count).sum::<usize>() as i64);
        let connected = pools().flat_map(Pool::edges).filter(|(_, edge)| edge.stream().is_some());
        metrics.publish.edges.set(connected.count() as i64);
        metrics.status.findings.set(core.findings().len() as i64);
        metrics.status.waiting.set(core.status.waiting() as i64);
    }
}

impl Links {
    /// Turns commands into inputs; returns who wants an answer.
    fn take(&mut self, commands: impl Iterator<Item = Command>, inputs: &mut Vec<Input>) -> Asked {
        let mut wanted = Asked::default();
        for command in commands {
            match command {
                Command::OpenAgent { stream, cluster, link } => {
                    self.agents.insert(stream, link);
                    inputs.push(Input::AgentOpened { stream, cluster });
                }
                Command::OpenEdge { stream, edge, link } => {
                    self.edges.insert(stream, link);
                    inputs.push(Input::EdgeOpened { stream, edge });
                }
                Command::OpenPeer { stream, replica, link } => {
                    self.peers.insert(stream, link);
                    inputs.push(Input::PeerOpened { stream, replica });
                }
                Command::OpenReport { stream, replica, link } => {
                    self.reports.insert(stream, link);
                    inputs.push(Input::ReportOpened { stream, replica });
                }
                Command::OnlyServedBy(cluster, asked) => wanted.only_served_by.push((cluster, asked)),
                Command::Input(input) => {
                    match input {
                        Input::PeerClosed { stream } => drop(self.peers.remove(&stream)),
                        Input::ReportClosed { stream } => drop(self.reports.remove(&stream)),
                        Input::AgentClosed { stream } => drop(self.agents.remove(&stream)),
                        Input::EdgeClosed { stream } => drop(self.edges.remove(&stream)),
                        _ => {}
                    }
                    inputs.push(input);
                }
                Command::Report(asked) => wanted.reports.push(asked),
                Command::Decide(decision, asked) => wanted.decisions.push((decision, asked)),
            }
        }
        wanted
    }

    /// Hands one output on. Returns what the core must hear if its stream is lost.
    fn give(&mut self, output: Output, queue: &Queue) -> Option<Input> {
        match output {
            Output::Agent { stream, message } => {
                let link = self.agents.get(&stream)?;
                if link.send(message) == Err(Lost) {
                    self.agents.remove(&stream);
                    tracing::warn!(stream = stream.0, "An agent does not read what it is sent; its stream is ended");
                    return Some(Input::AgentClosed { stream });
                }
            }
            Output::Edge { stream, message } => {
                let link = self.edges.get(&stream)?;
                if link.send(message) == Err(Lost) {
                    self.edges.remove(&stream);
                    tracing::warn!(stream = stream.0, "An edge does not read what it is sent; its stream is ended");
                    return Some(Input::EdgeClosed { stream });
                }
            }
            Output::Peer { stream, message } => {
                let link = self.peers.get(&stream)?;
                if link.send(message) == Err(Lost) {
                    self.peers.remove(&stream);
                    return Some(Input::PeerClosed { stream });
                }
            }
            Output::Report { stream, message } => {
                let link = self.reports.get(&stream)?;
                if link.send(message) == Err(Lost) {
                    self.reports.remove(&stream);
                    tracing::warn!(stream = stream.0, "A replica does not read what it is told; its stream is ended");
                    return Some(Input::ReportClosed { stream });
                }
            }
            Output::Close { stream, why } => {
                drop(self.reports.remove(&stream));
                if let Some(link) = self.peers.remove(&stream) {
                    link.close(status_of(&why));
                } else if let Some(link) = self.agents.remove(&stream) {
                    link.close(status_of(&why));
                } else if let Some(link) = self.edges.remove(&stream) {
                    link.close(status_of(&why));
                }
            }
            Output::Store(request) => queue.push(request),
            // Not about a stream; see the caller.
            Output::Beat(_) | Output::Peers(_) => {}
        }
        None
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
