//! Agent streams: who may speak for a cluster, and what becomes of what it says.
//!
//! Stream messages → changes with a position, applied to the world and queued for the store; acknowledgements once
//! durable. One stream holds a cluster; others of the same cluster wait as standby and take over when it ends or is
//! silent for [`HEARTBEAT_TIMEOUT_MS`]. So do streams at other replicas: the store says who has a cluster. Losing every
//! stream makes a cluster stale and changes no route.

use std::collections::{BTreeMap, VecDeque};

use roadstead_proto::wire;
use roadstead_proto::wire::agent_message::Message as Said;
use roadstead_proto::wire::controller_message::Message as Say;
use roadstead_routing::id::{ClusterId, Position};
use roadstead_routing::membership::Lifecycle;
use roadstead_routing::policy::Activate;

use crate::core::heartbeat::Heartbeats;
use crate::core::message::{Close, Output, StreamId};
use crate::core::turn::Turn;
use crate::ingest::session::Session;
use crate::status::findings::Source;
use crate::store::queue::Request;
use crate::store::{Changes, ClusterNews, ClusterRow, DigestKey, Live, StoreError, TakeOver, TakeOverAnswer};

pub mod admit;
mod asked;
mod identity;
pub mod prune;
pub mod session;

/// How often each end says that it is there.
pub const HEARTBEAT_EVERY_MS: u64 = 2_000;
/// Three heartbeats missed: the stream is dead and the cluster stale.
pub const HEARTBEAT_TIMEOUT_MS: u64 = 6_000;
/// Streams of one cluster, the holder included.
pub const STREAMS_PER_CLUSTER_MAX: usize = 8;
/// While another replica has the cluster, how often an agent that stands by here asks again.
const ASK_AGAIN_MS: u64 = 2_000;
/// How long a rejected identity stays visible after the last attempt.
const IDENTITY_FINDING_MS: u64 = 60_000;

#[derive(Default)]
pub struct Ingest {
    members: BTreeMap<ClusterId, Member>,
    streams: BTreeMap<StreamId, Stream>,
    last_ticket: u64,
    /// What the store has not answered yet.
    asked: BTreeMap<u64, ClusterId>,
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
    /// The uid that was refused last.
    refused_uid: Option<String>,
    /// The replica that has the cluster, if it is another one.
    elsewhere: Option<String>,
    /// When to ask again for a cluster that another replica has.
    ask_again_ms: u64,
}

struct Stream {
    cluster: ClusterId,
    hello: Option<wire::Hello>,
    last_heard_ms: u64,
    phase: Phase,
    told_standby: bool,
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
    /// Live at another replica.
    Elsewhere,
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
        let fresh = Stream {
            cluster,
            hello: None,
            last_heard_ms: turn.listening_ms,
            phase: Phase::Greeting,
            told_standby: false,
        };
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
        if let Phase::Live(session) = &gone.phase {
            tracing::warn!(cluster.id = %gone.cluster, "The agent's stream ended; routes stay as they are");
            let release = Request::Release { cluster: gone.cluster.clone(), epoch: session.epoch() };
            turn.out.push(Output::Store(release));
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
        let asked = self.asked.remove(&ticket);
        let Some(stream) = self.streams.iter().find(|(_, it)| is_asking(it)).map(|(stream, _)| *stream) else {
            // The stream is gone by now. Unless given back, the cluster would stay here without one.
            if let (Some(cluster), Ok(TakeOverAnswer::Granted { stored, .. })) = (asked, answer) {
                let epoch = stored.row.lineage.position.epoch;
                turn.out.push(Output::Store(Request::Release { cluster, epoch }));
            }
            return;
        };
        match answer {
            Ok(TakeOverAnswer::Granted { digest_key, stored }) => self.welcome(stream, digest_key, *stored, turn),
            Ok(TakeOverAnswer::Held { replica }) => self.wait_for(stream, replica, turn),
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

    /// What the store says about a cluster.
    pub fn stored(&mut self, cluster: &ClusterId, row: &ClusterRow, turn: &mut Turn) {
        let member = self.members.entry(cluster.clone()).or_default();
        member.uid = Some(row.uid.clone());
        let elsewhere = row.live.as_ref().map(|live| &live.replica).filter(|replica| **replica != turn.replica);
        if elsewhere != member.elsewhere.as_ref() {
            member.elsewhere = elsewhere.cloned();
            member.since_ms = turn.now_ms;
        }
        self.began_elsewhere(cluster, row.lineage.position.epoch, turn);
        // A person said meanwhile that the identity belongs to another cluster.
        let presented = self.hello(cluster).map(|hello| hello.cluster_uid.clone());
        if let Some((stream, presented)) = self.live(cluster).zip(presented).filter(|(_, it)| *it != row.uid) {
            self.end(stream, Close::OtherCluster { pinned: row.uid.clone(), presented }, turn);
        }
    }

    /// An epoch began. If an earlier one is held here, it is over.
    pub fn began_elsewhere(&mut self, cluster: &ClusterId, epoch: u64, turn: &mut Turn) {
        let held = self.session(cluster).map(|(_, session)| session.epoch());
        if let Some(held) = held.filter(|held| *held < epoch) {
            self.fenced(cluster, held, turn);
        }
    }

    /// What agents must know of the policy, or which Services they must report, has changed.
    pub fn policy_changed(&mut self, turn: &mut Turn) {
        for (stream, it) in &self.streams {
            if matches!(it.phase, Phase::Live(_)) {
                turn.to_agent(*stream, Say::Policy(asked::of(&it.cluster, turn)));
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
        self.ask_again(turn);
        for (cluster, member) in &mut self.members {
            if member.identity_refused_ms.is_some_and(|at| turn.now_ms.saturating_sub(at) > IDENTITY_FINDING_MS) {
                member.identity_refused_ms = None;
                member.refused_uid = None;
                turn.findings.clear(&Source::Identity(cluster.clone()));
            }
        }
    }

    /// Ends every stream: agents come back at once and report everything again.
    pub fn end_all(&mut self, why: &Close, turn: &mut Turn) {
        for stream in self.streams.keys().copied().collect::<Vec<_>>() {
            self.end(stream, why.clone(), turn);
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

    /// Clusters whose streams are live here.
    pub fn held(&self) -> impl Iterator<Item = &ClusterId> {
        self.members.keys().filter(|cluster| self.session(cluster).is_some())
    }

    /// The uid that was refused last, for as long as the finding about it lasts.
    pub fn refused_uid(&self, cluster: &ClusterId) -> Option<&str> {
        self.members.get(cluster)?.refused_uid.as_deref()
    }

    /// The replica that has the cluster, if it is another one.
    pub fn elsewhere(&self, cluster: &ClusterId) -> Option<&str> {
        self.members.get(cluster)?.elsewhere.as_deref()
    }

    pub fn members(&self) -> impl Iterator<Item = (&ClusterId, &Member)> {
        self.members.iter()
    }

    pub fn state(&self, cluster: &ClusterId, now_ms: u64) -> State {
        match self.members.get(cluster) {
            Some(_) if self.session(cluster).is_some() => State::Live,
            Some(member) if member.elsewhere.is_some() => State::Elsewhere,
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
                    self.tell_standby(stream, turn);
                }
            }
            Some(_) => {
                self.stand_by(stream, turn);
                self.tell_standby(stream, turn);
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
        let (uid, agent) =
            found.hello.as_ref().map(|hello| (hello.cluster_uid.clone(), hello.agent.clone())).unwrap_or_default();
        if let Some(member) = self.members.get_mut(&found.cluster) {
            member.holder = Some(stream);
        }
        let cluster = found.cluster.clone();
        let joins_as = match turn.policy.policy.cluster(&cluster).activate {
            Activate::Auto => Lifecycle::Active,
            Activate::Manual => Lifecycle::Joining,
        };
        let request = TakeOver {
            uid,
            fresh_key: DigestKey::default(),
            by: Live { replica: turn.replica.clone(), instance: turn.instance.clone(), agent },
            known: turn.world.stored_position(&cluster),
            joins_as,
            at_ms: turn.now_ms,
            cluster,
        };
        self.asked.insert(ticket, request.cluster.clone());
        turn.out.push(Output::Store(Request::TakeOver { ticket, request }));
    }

    /// Another replica has the cluster: the stream stands by until that one loses it.
    fn wait_for(&mut self, stream: StreamId, replica: String, turn: &mut Turn) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        found.phase = Phase::Standby;
        let Some(member) = self.members.get_mut(&found.cluster) else { return };
        member.holder = None;
        member.standby.push_front(stream);
        member.ask_again_ms = turn.now_ms + ASK_AGAIN_MS;
        if member.elsewhere.as_ref() != Some(&replica) {
            tracing::info!(cluster.id = %found.cluster, replica, "Another replica has the cluster; this agent stands by");
            member.elsewhere = Some(replica);
        }
        self.tell_standby(stream, turn);
    }

    /// Once, however often it has to go on waiting.
    fn tell_standby(&mut self, stream: StreamId, turn: &mut Turn) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        if !std::mem::replace(&mut found.told_standby, true) {
            turn.to_agent(stream, Say::Standby(wire::Standby {}));
        }
    }

    fn ask_again(&mut self, turn: &mut Turn) {
        let waits = |member: &Member| member.holder.is_none() && turn.now_ms >= member.ask_again_ms;
        let waiting = self.members.values_mut().filter(|member| waits(member));
        let next: Vec<StreamId> = waiting.filter_map(|member| member.standby.pop_front()).collect();
        for stream in next {
            self.take_over(stream, turn);
        }
    }

    fn welcome(&mut self, stream: StreamId, digest_key: DigestKey, stored: ClusterNews, turn: &mut Turn) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        let cluster = found.cluster.clone();
        let epoch = stored.row.lineage.position.epoch;
        let mut session = Session::new(cluster.clone(), epoch);
        turn.dirty.merge(turn.world.set_membership(&cluster, stored.row.member.membership));
        if stored.changes.as_ref().is_some_and(Changes::is_inferred) {
            turn.inferred.insert(cluster.clone());
        }
        let (applied, unstored) = turn.world.take_over(&cluster, stored);
        turn.dirty.merge(applied.dirty);
        turn.moved.insert(cluster.clone(), Position { epoch, seq: 0 });
        turn.began.insert(cluster.clone());
        session.store_first(unstored, turn);
        found.phase = Phase::Live(Box::new(session));
        if let Some(member) = self.members.get_mut(&cluster) {
            member.uid = found.hello.as_ref().map(|hello| hello.cluster_uid.clone());
            member.since_ms = turn.now_ms;
            member.elsewhere = None;
        }
        tracing::info!(cluster.id = %cluster, epoch, "The cluster is live");
        let welcome = wire::Welcome {
            world: Some(turn.world_to_wire()),
            epoch,
            digest_key: digest_key.to_vec(),
            known: turn.world.known(&cluster),
            policy: Some(asked::of(&cluster, turn)),
            position: None,
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
                member.refused_uid = Some(presented.clone());
            }
            let finding = identity::refused(&cluster, &pinned, &presented);
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
