//! What the stages share while one turn of messages is handled: the world and what came of the messages so far.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_proto::wire;
use roadstead_routing::id::{ClusterId, Position};
use roadstead_routing::inputs::Dirty;

use crate::core::message::{Close, Output, StreamId};
use crate::observe::metrics::Metrics;
use crate::policy::AcceptedPolicy;
use crate::status::findings::Findings;
use crate::store::queue::Write;
use crate::store::{Cause, WorldId};
use crate::world::{Change, Outcome, World};

/// While peers are listened to, that is brought up to date at least so often.
pub const LISTENING_STEP_MS_MAX: u64 = 1_000;

pub struct Turn {
    /// Milliseconds since the Unix epoch, as the caller says; never goes back.
    pub now_ms: u64,
    /// Milliseconds during which peers were listened to. Stands still while a turn takes long or the process is
    /// paused: what was not heard then says nothing about a peer.
    pub listening_ms: u64,
    /// When that was last brought up to date.
    pub listened_at_ms: u64,
    /// This controller, as its peers know it, and this process of it.
    pub replica: String,
    pub instance: String,
    pub world_id: WorldId,
    pub world: World,
    pub policy: AcceptedPolicy,
    pub findings: Findings,
    pub metrics: Metrics,
    /// To be computed at the end of the turn.
    pub dirty: Dirty,
    /// Why: recorded with every Host that changes.
    pub cause: Cause,
    /// Clusters that changed in this turn.
    pub moved: BTreeMap<ClusterId, Position>,
    /// Clusters whose agent must be told everything: its stream went live in this turn.
    pub welcomed: BTreeSet<ClusterId>,
    /// Clusters that lost something in this turn because a list lacked it.
    pub inferred: BTreeSet<ClusterId>,
    /// Clusters of which an epoch began here, or became known to have begun elsewhere, in this turn.
    pub began: BTreeSet<ClusterId>,
    /// Clusters whose epoch settled here in this turn.
    pub settled: BTreeSet<ClusterId>,
    /// What agents reported and was accepted, in order, if somebody is told.
    pub steps: Vec<Write>,
    /// Whether this controller reports to another one.
    pub is_reporting: bool,
    /// What peers say of their edges changed in this turn.
    pub peers_moved: bool,
    /// Which steps of clusters' lives are in force.
    pub clerk_rev: u64,
    /// The token of the clerk's lease, if this replica has it: it alone writes history.
    pub token: Option<u64>,
    pub out: Vec<Output>,
}

impl Turn {
    /// Everything that peers had said by now is handled.
    pub fn listened(&mut self) {
        let passed_ms = self.now_ms.saturating_sub(self.listened_at_ms);
        self.listening_ms += passed_ms.min(LISTENING_STEP_MS_MAX);
        self.listened_at_ms = self.now_ms;
    }

    /// The time since [`Self::listened`] does not count.
    pub fn was_deaf(&mut self) {
        self.listened_at_ms = self.now_ms;
    }

    pub fn to_agent(&mut self, stream: StreamId, message: wire::controller_message::Message) {
        self.out.push(Output::Agent { stream, message: wire::ControllerMessage { message: Some(message) } });
    }

    pub fn to_edge(&mut self, stream: StreamId, message: wire::config_message::Message) {
        self.out.push(Output::Edge { stream, message: wire::ConfigMessage { message: Some(message) } });
    }

    pub fn to_peer(&mut self, stream: StreamId, message: wire::peer_answer::Message) {
        self.out.push(Output::Peer { stream, message: wire::PeerAnswer { message: Some(message) } });
    }

    pub fn report(&mut self, stream: StreamId, message: wire::peer_message::Message) {
        self.out.push(Output::Report { stream, message: wire::PeerMessage { message: Some(message) } });
    }

    /// Applies what another replica accepted of a cluster. `inferred`: something goes that nobody saw being deleted.
    /// Returns whether it follows on what is here, or is older; if not, nothing is changed.
    pub fn follow(&mut self, change: Change, inferred: bool) -> bool {
        let (cluster, position) = (change.cluster.clone(), change.lineage.position);
        let before = self.world.position(&cluster);
        let applied = match self.world.apply(change) {
            Outcome::Applied(applied) => applied,
            Outcome::Old => return true,
            Outcome::Gap => return false,
        };
        self.dirty.merge(applied.dirty);
        if before.epoch != position.epoch {
            self.began.insert(cluster.clone());
        }
        if inferred {
            self.inferred.insert(cluster.clone());
        }
        self.moved.insert(cluster, position);
        true
    }

    pub fn close(&mut self, stream: StreamId, why: Close) {
        self.out.push(Output::Close { stream, why });
    }

    pub fn world_to_wire(&self) -> wire::World {
        wire::World {
            id: self.world_id.id.as_bytes().to_vec(),
            incarnation: self.world_id.incarnation,
            adopted: self.world_id.adopted.iter().map(|id| id.as_bytes().to_vec()).collect(),
        }
    }
}
