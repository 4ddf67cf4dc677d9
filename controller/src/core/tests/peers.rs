//! What another replica says of its edges, and what it is told of clusters.

use roadstead_proto::digest::{BucketHashes, Digest, bucket_of};
use roadstead_proto::object::key_text;
use roadstead_proto::position::position_to_wire;
use roadstead_proto::wire;
use roadstead_proto::wire::agent_message::Message as AgentSays;
use roadstead_proto::wire::controller_message::Message as Hears;
use roadstead_proto::wire::peer_answer::Message as Answer;
use roadstead_proto::wire::peer_message::Message as PeerSays;
use roadstead_routing::id::{Kind, Position};

use super::harness::*;
use crate::core::message::{Input, StreamId};

fn says(message: PeerSays) -> wire::PeerMessage {
    wire::PeerMessage { message: Some(message) }
}

fn hello(world: u128) -> PeerSays {
    let world = wire::World { id: uuid::Uuid::from_u128(world).as_bytes().to_vec(), ..wire::World::default() };
    PeerSays::Hello(wire::PeerHello { replica: "r2".to_owned(), world: Some(world) })
}

/// A replica that has told an alert.
fn alerting(it: &mut Harness) -> StreamId {
    let stream = it.stream();
    it.send(vec![Input::PeerOpened { stream, replica: "r2".to_owned() }]);
    let alert = wire::PeerAlert { code: "other-world".to_owned(), message: "e9".to_owned(), remedy: "look".to_owned() };
    let state = wire::PeerState { alerts: vec![alert], ..wire::PeerState::default() };
    for message in [hello(7), PeerSays::State(state)] {
        it.send(vec![Input::Peer { stream, message: says(message) }]);
    }
    let alerts: Vec<String> =
        it.core.alerts().into_iter().map(|alert| format!("{} {}", alert.code, alert.message)).collect();
    assert_eq!(alerts, ["other-world e9"]);
    stream
}

#[test]
fn alerts_about_edges_of_another_replica_are_shown_while_it_is_there() {
    let mut it = Harness::new();
    let stream = alerting(&mut it);
    it.send(vec![Input::PeerClosed { stream }]);
    assert_eq!(it.core.alerts(), []);
}

#[test]
fn what_a_replica_said_is_forgotten_when_its_stream_is_ended_for_an_error() {
    let mut it = Harness::new();
    let stream = alerting(&mut it);
    it.send(vec![Input::Peer { stream, message: says(hello(8)) }]);
    assert_eq!(it.core.alerts(), []);
}

fn answer(message: Hears) -> wire::PeerAnswer {
    let message = Some(wire::ControllerMessage { message: Some(message) });
    wire::PeerAnswer { message: Some(Answer::Cluster(wire::ClusterHears { cluster: "eu".to_owned(), message })) }
}

/// How many removals were told, if anything of the cluster was.
fn removals_told(it: &Harness) -> Option<usize> {
    let removals = |said: &PeerSays| match said {
        PeerSays::Cluster(says) => match says.message.as_ref().and_then(|message| message.message.as_ref()) {
            Some(AgentSays::Delta(delta)) => Some(delta.removals.len()),
            _ => None,
        },
        _ => None,
    };
    it.reported.iter().filter_map(removals).reduce(|sum, more| sum + more)
}

/// The other replica said a second time what it knows before it answered what the first time led to.
#[test]
fn a_late_answer_is_not_taken_for_what_a_replica_has_now() {
    let mut it = Harness::new();
    it.agent("eu");
    let stream = it.stream();
    it.send(vec![Input::ReportOpened { stream, replica: "r2".to_owned() }]);
    let gone = key(Kind::Ingress, "gone");
    let held = wire::Held { key: key_text(&gone), digest: Digest::of_bytes(&[1]).to_vec(), clusters: Vec::new() };
    let index = bucket_of(&held.key) as u32;
    let mut known = BucketHashes::default();
    known.toggle(&held.key, &Digest::of_bytes(&[1]));
    let position = Some(position_to_wire(Position::default()));
    let answers = [
        Hears::Welcome(wire::Welcome {
            known: BucketHashes::default().to_bytes(),
            position,
            ..wire::Welcome::default()
        }),
        Hears::Welcome(wire::Welcome { known: known.to_bytes(), position, ..wire::Welcome::default() }),
        Hears::BucketContents(wire::BucketContents {
            number: 1,
            last: true,
            position,
            ..wire::BucketContents::default()
        }),
    ];
    for message in answers {
        it.send(vec![Input::Report { stream, message: answer(message) }]);
    }
    assert_eq!(removals_told(&it), None);
    let buckets = vec![wire::Bucket { index, held: vec![held] }];
    let contents = wire::BucketContents { number: 2, last: true, position, buckets };
    it.send(vec![Input::Report { stream, message: answer(Hears::BucketContents(contents)) }]);
    assert_eq!(removals_told(&it), Some(1), "it is told what is gone");
}
