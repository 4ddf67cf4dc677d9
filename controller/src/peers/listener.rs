//! The listening end: what one other replica says of the clusters that it holds.
//!
//! Deltas are gathered to steps and applied as one; one that does not fit what is here is answered by Welcome, which
//! makes the other end compare again. What is older than what is here is ignored by the world itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use roadstead_proto::digest::Digest;
use roadstead_proto::position::{position_from_wire, position_to_wire};
use roadstead_proto::wire;
use roadstead_proto::wire::agent_message::Message as Says;
use roadstead_proto::wire::controller_message::Message as Hears;
use roadstead_proto::wire::peer_answer::Message as Answer;
use roadstead_proto::{finding, object};
use roadstead_routing::id::{ClusterId, ObjectKey};
use roadstead_routing::object::Object;

use crate::core::message::{Close, StreamId};
use crate::core::turn::Turn;
use crate::peers::convert;
use crate::peers::state::Reported;
use crate::world::{Base, Change};

pub(super) struct Listener {
    /// As its certificate names it; once greeted, as it names itself, because replicas may share a certificate.
    pub replica: String,
    pub last_heard_ms: u64,
    pub is_greeted: bool,
    pub reported: Arc<Reported>,
    /// Parts of steps that are not complete.
    gathered: BTreeMap<ClusterId, Gathered>,
}

#[derive(Default)]
struct Gathered {
    upserts: Vec<(Object, Digest)>,
    removals: Vec<ObjectKey>,
}

impl Listener {
    pub fn new(replica: String, listening_ms: u64) -> Self {
        let (reported, gathered) = (Arc::default(), BTreeMap::new());
        Self { replica, last_heard_ms: listening_ms, is_greeted: false, reported, gathered }
    }

    /// # Errors
    /// If it has another database, or calls itself by the name of this one.
    pub fn hello(&mut self, hello: &wire::PeerHello, turn: &Turn) -> Result<(), Close> {
        if hello.replica == turn.replica {
            return Err(Close::Protocol(format!("two replicas are called {}; set --replica-id", hello.replica)));
        }
        let theirs = hello.world.as_ref().map(|world| world.id.clone()).unwrap_or_default();
        if theirs != turn.world_id.id.as_bytes() {
            let theirs = uuid::Uuid::from_slice(&theirs).unwrap_or_default().to_string();
            return Err(Close::OtherWorld { ours: turn.world_id.id.to_string(), theirs });
        }
        self.replica.clone_from(&hello.replica);
        self.is_greeted = true;
        Ok(())
    }

    /// # Errors
    /// If it is not understood.
    pub fn cluster(
        &mut self,
        stream: StreamId,
        cluster: &ClusterId,
        says: wire::ClusterSays,
        turn: &mut Turn,
    ) -> Result<(), Close> {
        if turn.world.is_full_for(cluster) {
            return Err(Close::Limit("too many clusters".to_owned()));
        }
        match says.message.and_then(|message| message.message) {
            Some(Says::Hello(hello)) => {
                self.gathered.remove(cluster);
                // A newer epoch is known here; its holder will say what there is to say.
                if hello.epoch >= turn.world.position(cluster).epoch {
                    welcome(stream, cluster, turn);
                }
                Ok(())
            }
            Some(Says::BucketRequest(request)) => {
                contents(stream, cluster, &request, turn);
                Ok(())
            }
            Some(Says::Delta(delta)) => self.delta(stream, cluster, delta, turn),
            _ => Ok(()),
        }
    }

    fn delta(
        &mut self,
        stream: StreamId,
        cluster: &ClusterId,
        delta: wire::Delta,
        turn: &mut Turn,
    ) -> Result<(), Close> {
        let peer = delta.peer.ok_or_else(|| Close::Protocol("a Delta of a peer without a position".to_owned()))?;
        let gathered = self.gathered.entry(cluster.clone()).or_default();
        for upsert in delta.upserts {
            let digest = Digest::from_slice(&upsert.digest);
            let object = upsert.object.and_then(|it| object::from_wire(it).ok());
            // What this build does not understand it would not have let in either.
            gathered.upserts.extend(object.zip(digest));
        }
        gathered.removals.extend(delta.removals.iter().filter_map(|it| finding::key_from_wire(it.object.as_ref()?)));
        if peer.more {
            return Ok(());
        }
        let Gathered { upserts, removals } = self.gathered.remove(cluster).unwrap_or_default();
        let (base, inferred) = (Base::Exactly(position_from_wire(peer.since)), peer.inferred && !removals.is_empty());
        let change = Change { cluster: cluster.clone(), lineage: convert::from_wire(&peer), base, upserts, removals };
        if !turn.follow(change, inferred) {
            welcome(stream, cluster, turn);
        }
        Ok(())
    }
}

/// The epoch that the other end has begun to hold, if it says so.
pub(super) fn begins(says: &wire::ClusterSays) -> Option<u64> {
    match says.message.as_ref()?.message.as_ref()? {
        Says::Hello(hello) => Some(hello.epoch),
        _ => None,
    }
}

/// Says what is here, to be compared.
pub(super) fn welcome(stream: StreamId, cluster: &ClusterId, turn: &mut Turn) {
    let known = turn.world.known(cluster);
    let position = Some(position_to_wire(turn.world.position(cluster)));
    hear(stream, cluster, Hears::Welcome(wire::Welcome { known, position, ..wire::Welcome::default() }), turn);
}

fn contents(stream: StreamId, cluster: &ClusterId, request: &wire::BucketRequest, turn: &mut Turn) {
    let mut chunks = turn.world.contents(cluster, request);
    if let Some(last) = chunks.last_mut() {
        last.position = Some(position_to_wire(turn.world.position(cluster)));
    }
    for chunk in chunks {
        hear(stream, cluster, Hears::BucketContents(chunk), turn);
    }
}

fn hear(stream: StreamId, cluster: &ClusterId, message: Hears, turn: &mut Turn) {
    let message = Some(wire::ControllerMessage { message: Some(message) });
    turn.to_peer(stream, Answer::Cluster(wire::ClusterHears { cluster: cluster.to_string(), message }));
}
