//! Agent streams: who may speak for a cluster, and what becomes of what it says.
//!
//! Stream messages → changes with a position, applied to the world and queued for the store; acknowledgements once
//! durable. One stream holds a cluster; others of the same cluster wait as standby and take over when it ends or is
//! silent for [`HEARTBEAT_TIMEOUT_MS`]. Losing every stream makes a cluster stale and changes no route.

use std::collections::{BTreeMap, VecDeque};

use roadstead_proto::wire;
use roadstead_proto::wire::agent_message::Message as Said;
use roadstead_proto::wire::controller_message::Message as Say;
use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{ClusterId, Kind, Position};

use crate::core::heartbeat::Heartbeats;
use crate::core::message::{Close, StreamId};
use crate::core::turn::Turn;
use crate::ingest::session::Session;
use crate::status::findings::Source;
use crate::store::queue::Request;
use crate::store::{ClusterRow, DigestKey, StoreError, TakeOverAnswer};

pub mod admit;
pub mod prune;
pub mod session;

/// How often each end says that it is there.
pub const HEARTBEAT_EVERY_MS: u64 = 2_000;
/// Three heartbeats missed: the stream is dead and the cluster stale.
pub const HEARTBEAT_TIMEOUT_MS: u64 = 6_000;
/// Streams of one cluster, the holder included.
pub const STREAMS_PER_CLUSTER_MAX: usize = 8;
/// A first synchronisation is over by then, complete or not.
const FIRST_SYNC_MS_MAX: u64 = 30_000;
/// How long a rejected identity stays visible after the last attempt.
const IDENTITY_FINDING_MS: u64 = 60_000;

#[derive(Default)]
pub struct Ingest {
    members: BTreeMap<ClusterId, Member>,
    streams: BTreeMap<StreamId, Stream>,
    last_ticket: u64,
    heartbeats: Heartbeats,
}

/// A cluster that ever reported or is about to.
#[derive(Default)]
pub struct Member {
    /// Pinned at first contact. `None`: never held.
    pub uid: Option<String>,
    holder: Option<StreamId>,
    standby: VecDeque<StreamId>,
    streams: usize,
    /// When its stream went live or was lost.
    pub since_ms: u64,
    identity_refused_ms: Option<u64>,
}

struct Stream {
    cluster: ClusterId,
    hello: Option<wire::Hello>,
    last_heard_ms: u64,
    phase: Phase,
}

enum Phase {
    /// Connected, nothing said yet.
    Greeting,
    /// The store was asked to let this stream take over.
    Opening {
        ticket: u64,
    },
    Standby,
    Live(Box<Session>),
}

/// As `/status` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Live,
    /// A stream is there and waits for the store.
    Standby,
    /// Its stream ended less than [`HEARTBEAT_TIMEOUT_MS`] ago: agents and controllers restart all the time.
    Reconnecting,
    Stale,
    Never,
}

impl Ingest {
    /// Clusters known from the store; they are stale until their agents come.
    pub fn load(&mut self, clusters: &BTreeMap<ClusterId, ClusterRow>, now_ms: u64) {
        for (cluster, row) in clusters {
            let member = Member { uid: Some(row.uid.clone()), since_ms: now_ms, ..Member::default() };
            self.members.insert(cluster.clone(), member);
        }
    }

    pub fn opened(&mut self, stream: StreamId, cluster: ClusterId, turn: &mut Turn) {
        if turn.world.is_full_for(&cluster) {
            return turn.close(stream, Close::Limit("too many clusters".to_owned()));
        }
        let member = self.members.entry(cluster.clone()).or_default();
        if member.streams == STREAMS_PER_CLUSTER_MAX {
            return turn
                .close(stream, Close::Limit(format!("{STREAMS_PER_CLUSTER_MAX} streams of this cluster are open")));
        }
        member.streams += 1;
        let fresh = Stream { cluster, hello: None, last_heard_ms: turn.listening_ms, phase: Phase::Greeting };
        self.streams.insert(stream, fresh);
    }

    pub fn closed(&mut self, stream: StreamId, turn: &mut Turn) {
        let Some(gone) = self.streams.remove(&stream) else { return };
        let Some(member) = self.members.get_mut(&gone.cluster) else { return };
        member.streams -= 1;
        member.standby.retain(|other| *other != stream);
        if member.holder != Some(stream) {
            return;
        }
        member.holder = None;
        member.since_ms = turn.now_ms;
        if matches!(gone.phase, Phase::Live(_)) {
            tracing::warn!(cluster.id = %gone.cluster, "The agent's stream ended; routes stay as they are");
        }
        if let Some(next) = member.standby.pop_front() {
            self.take_over(next, turn);
        }
    }

    pub fn received(&mut self, stream: StreamId, message: wire::AgentMessage, turn: &mut Turn) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        found.last_heard_ms = turn.listening_ms;
        let cluster = found.cluster.clone();
        let outcome = match (&mut found.phase, message.message) {
            (_, None | Some(Said::Heartbeat(_))) => Ok(()),
            (Phase::Greeting, Some(Said::Hello(hello))) => self.greet(stream, &cluster, hello, turn),
            (Phase::Live(session), Some(said)) => session.received(stream, said, turn),
            (_, Some(_)) => Err(Close::Protocol("a message before Welcome".to_owned())),
        };
        if let Err(why) = outcome {
            self.end(stream, why, turn);
        }
    }

    /// The store answered a request to take a cluster over.
    pub fn taken_over(&mut self, ticket: u64, answer: Result<TakeOverAnswer, StoreError>, turn: &mut Turn) {
        let is_asking = |stream: &Stream| matches!(stream.phase, Phase::Opening { ticket: asked } if asked == ticket);
        // The stream may be gone by now; the next one asks again.
        let Some(stream) = self.streams.iter().find(|(_, it)| is_asking(it)).map(|(stream, _)| *stream) else { return };
        match answer {
            Ok(TakeOverAnswer::Granted { epoch, digest_key }) => self.welcome(stream, epoch, digest_key, turn),
            Ok(TakeOverAnswer::OtherUid { pinned }) => {
                let presented = self.streams[&stream].hello.as_ref().map(|hello| hello.cluster_uid.clone());
                let why = self.refuse_identity(stream, pinned, presented.unwrap_or_default(), turn);
                self.end(stream, why, turn);
            }
            Err(error) => self.end(stream, Close::Store(error.to_string()), turn),
        }
    }

    pub fn durable(&mut self, cluster: &ClusterId, position: Position, turn: &mut Turn) {
        let Some((stream, session)) = self.session_mut(cluster) else { return };
        session.durable(stream, position, turn);
    }

    /// Another controller has the cluster from now on.
    pub fn fenced(&mut self, cluster: &ClusterId, epoch: u64, turn: &mut Turn) {
        if let Some((stream, session)) = self.session_mut(cluster)
            && session.epoch() == epoch
        {
            self.end(stream, Close::Fenced, turn);
        }
    }

    pub fn policy_changed(&mut self, turn: &mut Turn) {
        let policy = agent_policy(turn);
        for (stream, it) in &self.streams {
            if matches!(it.phase, Phase::Live(_)) {
                turn.to_agent(*stream, Say::Policy(policy.clone()));
            }
        }
    }

    pub fn tick(&mut self, turn: &mut Turn) {
        let listening_ms = turn.listening_ms;
        let is_silent = |it: &Stream| listening_ms.saturating_sub(it.last_heard_ms) > HEARTBEAT_TIMEOUT_MS;
        let silent: Vec<StreamId> = self.streams.iter().filter(|(_, it)| is_silent(it)).map(|(id, _)| *id).collect();
        for stream in silent {
            self.end(stream, Close::Silent, turn);
        }
        self.beat(turn);
        for (cluster, member) in &mut self.members {
            if member.identity_refused_ms.is_some_and(|at| turn.now_ms.saturating_sub(at) > IDENTITY_FINDING_MS) {
                member.identity_refused_ms = None;
                turn.findings.clear(&Source::Identity(cluster.clone()));
            }
        }
    }

    /// Tells agents that this controller lives, if it is time.
    pub fn beat(&mut self, turn: &mut Turn) {
        let Some(heartbeat) = self.heartbeats.due(turn.now_ms) else { return };
        for stream in self.streams.keys() {
            turn.to_agent(*stream, Say::Heartbeat(heartbeat));
        }
    }

    /// The stream on which a cluster's agent can be told something now.
    pub fn live(&self, cluster: &ClusterId) -> Option<StreamId> {
        self.session(cluster).map(|(stream, _)| stream)
    }

    pub fn session(&self, cluster: &ClusterId) -> Option<(StreamId, &Session)> {
        let holder = self.members.get(cluster)?.holder?;
        match &self.streams.get(&holder)?.phase {
            Phase::Live(session) => Some((holder, session)),
            _ => None,
        }
    }

    /// The live stream has said everything it had to say first: every kind was listed completely, or so much time
    /// passed that the missing ones must be assumed to be unreadable.
    pub fn is_settled(&self, cluster: &ClusterId, now_ms: u64) -> bool {
        let Some((_, session)) = self.session(cluster) else { return false };
        let since_ms = self.members.get(cluster).map_or(now_ms, |member| member.since_ms);
        Kind::ALL.iter().all(|kind| session.is_complete(*kind)) || now_ms.saturating_sub(since_ms) > FIRST_SYNC_MS_MAX
    }

    pub fn members(&self) -> impl Iterator<Item = (&ClusterId, &Member)> {
        self.members.iter()
    }

    pub fn state(&self, cluster: &ClusterId, now_ms: u64) -> State {
        match self.members.get(cluster) {
            Some(_) if self.session(cluster).is_some() => State::Live,
            Some(member) if member.holder.is_some() => State::Standby,
            Some(Member { uid: None, .. }) | None => State::Never,
            Some(member) if now_ms.saturating_sub(member.since_ms) < HEARTBEAT_TIMEOUT_MS => State::Reconnecting,
            Some(_) => State::Stale,
        }
    }

    /// What the holding agent said about itself.
    pub fn hello(&self, cluster: &ClusterId) -> Option<&wire::Hello> {
        self.streams.get(&self.members.get(cluster)?.holder?)?.hello.as_ref()
    }

    fn greet(
        &mut self,
        stream: StreamId,
        cluster: &ClusterId,
        hello: wire::Hello,
        turn: &mut Turn,
    ) -> Result<(), Close> {
        if hello.cluster != cluster.as_str() {
            return Err(Close::Identity { claimed: hello.cluster, certificate: cluster.to_string() });
        }
        if hello.cluster_uid.is_empty() {
            return Err(Close::Protocol("Hello without the uid of namespace kube-system".to_owned()));
        }
        let pinned = self.members.get(cluster).and_then(|member| member.uid.clone());
        if let Some(pinned) = pinned.filter(|pinned| *pinned != hello.cluster_uid) {
            return Err(self.refuse_identity(stream, pinned, hello.cluster_uid, turn));
        }
        let same_agent = self.hello(cluster).is_some_and(|held| held.agent == hello.agent);
        if let Some(found) = self.streams.get_mut(&stream) {
            found.hello = Some(hello);
        }
        match self.members.get(cluster).and_then(|member| member.holder) {
            None => self.take_over(stream, turn),
            // The same process dialled again, so its older stream is dead and only not noticed yet.
            Some(holder) if same_agent => {
                self.stand_by(stream, turn);
                self.end(holder, Close::Replaced, turn);
                // Another agent may have waited longer; then this one must know that it waits too.
                if self.streams.get(&stream).is_some_and(|it| matches!(it.phase, Phase::Standby)) {
                    turn.to_agent(stream, Say::Standby(wire::Standby {}));
                }
            }
            Some(_) => {
                self.stand_by(stream, turn);
                turn.to_agent(stream, Say::Standby(wire::Standby {}));
            }
        }
        Ok(())
    }

    fn stand_by(&mut self, stream: StreamId, turn: &Turn) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        found.phase = Phase::Standby;
        if let Some(member) = self.members.get_mut(&found.cluster) {
            member.standby.push_back(stream);
            tracing::info!(cluster.id = %found.cluster, waiting = member.standby.len(), now_ms = turn.now_ms, "A second agent stands by");
        }
    }

    /// Asks the store for the next epoch. Everything the previous holder wrote is queued before, so it is stored first.
    fn take_over(&mut self, stream: StreamId, turn: &mut Turn) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let Some(found) = self.streams.get_mut(&stream) else { return };
        found.phase = Phase::Opening { ticket };
        let uid = found.hello.as_ref().map(|hello| hello.cluster_uid.clone()).unwrap_or_default();
        if let Some(member) = self.members.get_mut(&found.cluster) {
            member.holder = Some(stream);
        }
        let cluster = found.cluster.clone();
        turn.out.push(crate::core::message::Output::Store(Request::TakeOver { ticket, cluster, uid }));
    }

    fn welcome(&mut self, stream: StreamId, epoch: u64, digest_key: DigestKey, turn: &mut Turn) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        let cluster = found.cluster.clone();
        found.phase = Phase::Live(Box::new(Session::new(cluster.clone(), epoch)));
        if let Some(member) = self.members.get_mut(&cluster) {
            member.uid = found.hello.as_ref().map(|hello| hello.cluster_uid.clone());
            member.since_ms = turn.now_ms;
        }
        tracing::info!(cluster.id = %cluster, epoch, "The cluster is live");
        let welcome = wire::Welcome {
            world: Some(turn.world_to_wire()),
            epoch,
            digest_key: digest_key.to_vec(),
            known: turn.world.known(&cluster),
            policy: Some(agent_policy(turn)),
        };
        turn.to_agent(stream, Say::Welcome(welcome));
        turn.findings.clear_admission(&cluster);
        turn.welcomed.insert(cluster);
    }

    fn refuse_identity(&mut self, stream: StreamId, pinned: String, presented: String, turn: &mut Turn) -> Close {
        if let Some(found) = self.streams.get(&stream) {
            let cluster = found.cluster.clone();
            if let Some(member) = self.members.get_mut(&cluster) {
                member.identity_refused_ms = Some(turn.now_ms);
            }
            let finding = Finding {
                cluster: cluster.clone(),
                object: None,
                code: Code::ClusterIdentity,
                severity: Severity::Error,
                message: format!(
                    "A cluster with kube-system uid {presented} uses this identity, which belongs to {pinned}; it is not applied"
                ),
                remedy: "Give each cluster a certificate of its own.".to_owned(),
            };
            turn.findings.set(&Source::Identity(cluster), vec![finding]);
        }
        Close::OtherCluster { pinned, presented }
    }

    fn end(&mut self, stream: StreamId, why: Close, turn: &mut Turn) {
        if let Some(found) = self.streams.get(&stream) {
            tracing::warn!(cluster.id = %found.cluster, reason = %why, "An agent's stream is ended");
        }
        turn.close(stream, why);
        self.closed(stream, turn);
    }

    fn session_mut(&mut self, cluster: &ClusterId) -> Option<(StreamId, &mut Session)> {
        let holder = self.members.get(cluster)?.holder?;
        match &mut self.streams.get_mut(&holder)?.phase {
            Phase::Live(session) => Some((holder, session)),
            _ => None,
        }
    }
}

fn agent_policy(turn: &Turn) -> wire::AgentPolicy {
    wire::AgentPolicy { classes: turn.policy.policy.classes.keys().cloned().collect() }
}
