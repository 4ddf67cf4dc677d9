//! Replicas among each other. Each reports to every other one, as the agent of the clusters whose streams it holds:
//! what was accepted here travels with its position, and whoever listens applies it to the same world as everything else.
//!
//! Steps of this turn → messages to the replicas that this one reports to ([`reporter`]); messages of those that report to
//! this one → changes of the world and what they see of edges ([`listener`]). Nothing here gives positions; what a peer
//! misses it gets from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roadstead_proto::wire;
use roadstead_proto::wire::peer_answer::Message as Answer;
use roadstead_proto::wire::peer_message::Message as Said;
use roadstead_routing::id::ClusterId;

use crate::core::follow::Alert;
use crate::core::heartbeat::Heartbeats;
use crate::core::message::{Close, Output, StreamId};
use crate::core::turn::Turn;
use crate::ingest::{HEARTBEAT_TIMEOUT_MS, Ingest};
use crate::peers::listener::Listener;
use crate::peers::reporter::Reporter;
use crate::peers::state::Reported;
use crate::publish::Publish;
use crate::store::ReplicaRow;

mod convert;
mod listener;
mod reporter;
pub mod state;

/// Other replicas. The authority decides who may be one, so this only stops a runaway one.
pub const REPLICAS_MAX: usize = 16;
/// Between two reports about edges.
const STATE_EVERY_MS: u64 = 100;

#[derive(Default)]
pub struct Peers {
    known: Vec<ReplicaRow>,
    reporters: BTreeMap<StreamId, Reporter>,
    listeners: BTreeMap<StreamId, Listener>,
    heartbeats: Heartbeats,
    state_at_ms: u64,
    state: Option<wire::PeerState>,
}

impl Peers {
    /// The store knows these replicas.
    pub fn found(&mut self, mut replicas: Vec<ReplicaRow>, turn: &mut Turn) {
        replicas.truncate(REPLICAS_MAX);
        if replicas != self.known {
            self.known.clone_from(&replicas);
            turn.out.push(Output::Peers(replicas));
        }
    }

    pub fn report_opened(&mut self, stream: StreamId, replica: String, ingest: &Ingest, turn: &mut Turn) {
        tracing::info!(replica, "Reporting to another replica");
        let hello = wire::PeerHello { replica: turn.replica.clone(), world: Some(turn.world_to_wire()) };
        turn.report(stream, Said::Hello(hello));
        let mut reporter = Reporter::new(replica, turn.listening_ms);
        for cluster in ingest.held() {
            reporter.begin(stream, cluster, turn);
        }
        if let Some(state) = &self.state {
            turn.report(stream, Said::State(state.clone()));
        }
        self.reporters.insert(stream, reporter);
        turn.is_reporting = true;
    }

    pub fn report_heard(&mut self, stream: StreamId, message: wire::PeerAnswer, ingest: &Ingest, turn: &mut Turn) {
        let Some(reporter) = self.reporters.get_mut(&stream) else { return };
        reporter.last_heard_ms = turn.listening_ms;
        if let Some(Answer::Cluster(heard)) = message.message {
            let cluster = ClusterId::from(heard.cluster.as_str());
            // About a cluster that this replica has lost since, there is nothing to say.
            if ingest.session(&cluster).is_some() {
                reporter.heard(stream, &cluster, heard.message.and_then(|it| it.message), turn);
            }
        }
    }

    pub fn opened(&mut self, stream: StreamId, replica: String, turn: &mut Turn) {
        if self.listeners.len() >= REPLICAS_MAX {
            return turn.close(stream, Close::Limit("too many replicas".to_owned()));
        }
        self.listeners.insert(stream, Listener::new(replica, turn.listening_ms));
    }

    pub fn received(&mut self, stream: StreamId, message: wire::PeerMessage, ingest: &mut Ingest, turn: &mut Turn) {
        let Some(listener) = self.listeners.get_mut(&stream) else { return };
        listener.last_heard_ms = turn.listening_ms;
        let outcome = match message.message {
            None | Some(Said::Heartbeat(_)) => Ok(()),
            Some(Said::Hello(hello)) => {
                let outcome = listener.hello(&hello, turn);
                self.replace_older(stream, &hello.replica, turn);
                outcome
            }
            Some(_) if !listener.is_greeted => Err(Close::Protocol("a message before Hello".to_owned())),
            Some(Said::Cluster(says)) => {
                let cluster = ClusterId::from(says.cluster.as_str());
                if let Some(epoch) = listener::begins(&says) {
                    ingest.began_elsewhere(&cluster, epoch, turn);
                }
                // What this replica holds itself it knows better.
                if ingest.session(&cluster).is_some() { Ok(()) } else { listener.cluster(stream, &cluster, says, turn) }
            }
            Some(Said::State(state)) => {
                listener.reported = Arc::new(Reported::from_wire(state));
                turn.peers_moved = true;
                Ok(())
            }
        };
        if let Err(why) = outcome {
            tracing::warn!(reason = %why, "A peer's stream is ended");
            turn.close(stream, why);
            self.closed(stream, turn);
        }
    }

    /// A replica that dials again has lost its older stream, which is only not noticed yet.
    fn replace_older(&mut self, stream: StreamId, replica: &str, turn: &mut Turn) {
        let is_older = |(id, it): &(&StreamId, &Listener)| **id != stream && it.is_greeted && it.replica == replica;
        let older: Vec<StreamId> = self.listeners.iter().filter(is_older).map(|(id, _)| *id).collect();
        for older in older {
            self.listeners.remove(&older);
            turn.close(older, Close::Replaced);
        }
    }

    /// Asks every replica that reports to this one, of which one may hold the cluster, to compare it anew.
    pub fn compare(&self, cluster: &ClusterId, turn: &mut Turn) {
        for stream in self.listeners.iter().filter(|(_, it)| it.is_greeted).map(|(stream, _)| *stream) {
            listener::welcome(stream, cluster, turn);
        }
    }

    /// Either kind of stream is over.
    pub fn closed(&mut self, stream: StreamId, turn: &mut Turn) {
        if let Some(gone) = self.reporters.remove(&stream) {
            tracing::info!(replica = gone.replica, "No longer reporting to a replica");
            turn.is_reporting = !self.reporters.is_empty();
        }
        if self.listeners.remove(&stream).is_some() {
            turn.peers_moved = true;
        }
    }

    pub fn tick(&mut self, turn: &mut Turn) {
        let silent_since = turn.listening_ms.saturating_sub(HEARTBEAT_TIMEOUT_MS);
        let reporters = self.reporters.iter().filter(|(_, it)| it.last_heard_ms < silent_since).map(|(id, _)| *id);
        let listeners = self.listeners.iter().filter(|(_, it)| it.last_heard_ms < silent_since).map(|(id, _)| *id);
        for stream in reporters.chain(listeners).collect::<Vec<_>>() {
            turn.close(stream, Close::Silent);
            self.closed(stream, turn);
        }
        self.beat(turn);
    }

    pub fn beat(&mut self, turn: &mut Turn) {
        let Some(heartbeat) = self.heartbeats.due(turn.now_ms) else { return };
        for stream in self.reporters.keys() {
            turn.report(*stream, Said::Heartbeat(heartbeat));
        }
        for stream in self.listeners.keys() {
            turn.to_peer(*stream, Answer::Heartbeat(heartbeat));
        }
    }

    /// Whether [`Self::flush`] may tell peers what this replica sees.
    pub fn tells_state(&self, now_ms: u64) -> bool {
        !self.reporters.is_empty() && now_ms >= self.state_at_ms
    }

    /// At the end of a turn: tells peers what happened in it. `alerts` are about edges here.
    pub fn flush(&mut self, ingest: &Ingest, publish: &Publish, alerts: Vec<Alert>, turn: &mut Turn) {
        let steps = std::mem::take(&mut turn.steps);
        let began: BTreeSet<ClusterId> =
            turn.began.iter().filter(|cluster| ingest.session(cluster).is_some()).cloned().collect();
        for (stream, reporter) in &mut self.reporters {
            for cluster in &began {
                reporter.begin(*stream, cluster, turn);
            }
            for step in &steps {
                reporter.step(*stream, step, turn);
            }
            for cluster in turn.settled.clone() {
                reporter.settled(*stream, &cluster, turn);
            }
        }
        if self.tells_state(turn.now_ms) {
            self.state_at_ms = turn.now_ms + STATE_EVERY_MS;
            let state = state::of(publish, alerts, turn);
            if self.state.as_ref() != Some(&state) {
                for stream in self.reporters.keys() {
                    turn.report(*stream, Said::State(state.clone()));
                }
                self.state = Some(state);
            }
        }
    }

    /// What other replicas see of edges, by replica.
    pub fn reported(&self) -> impl Iterator<Item = (&str, &Arc<Reported>)> {
        self.listeners.values().map(|listener| (listener.replica.as_str(), &listener.reported))
    }

    /// Replicas that are there, as the store knows them.
    pub fn known(&self) -> &[ReplicaRow] {
        &self.known
    }

    /// Whether this replica reports to that one at present.
    pub fn reports_to(&self, replica: &str) -> bool {
        self.reporters.values().any(|reporter| reporter.replica == replica)
    }
}
