//! One stream, step by step.

use super::*;
use crate::fixture::{
    ModelController, bookmarks, failed, ingress, key, list, list_all, our_class, reply, seen, service, slice,
    unreadable, with_meta,
};
use crate::reduce::Observation;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;
use roadstead_routing::object::Object;

fn shop() -> Vec<Object> {
    vec![our_class(), ingress("web", Some("roadstead"), &["front"]), service("front"), slice("front-1", "front", 1)]
}

/// An agent and a controller with the network between them.
struct Pair {
    reducer: Reducer,
    session: Session,
    controller: ModelController,
    now: Duration,
}

impl Pair {
    fn new() -> Self {
        Self {
            reducer: Reducer::default(),
            session: Session::new(Introduction { cluster: "eu".to_owned(), ..Introduction::default() }),
            controller: ModelController::default(),
            now: Duration::ZERO,
        }
    }

    fn synced(objects: &[Object]) -> Self {
        let mut pair = Self::new();
        list_all(&mut pair.reducer, objects);
        pair.connect();
        pair.settle();
        pair
    }

    fn connect(&mut self) {
        self.controller.new_stream();
        self.session.connected(self.now);
        let welcome = self.controller.welcome(&[]);
        self.session.receive(self.now, welcome).unwrap();
    }

    fn observe(&mut self, kind: Kind, observation: Observation) {
        let outcome = self.reducer.apply(kind, observation);
        self.session.changed(outcome.changes);
    }

    fn poll(&mut self) -> Vec<wire::AgentMessage> {
        self.session.poll(self.now, &self.reducer)
    }

    /// Exchanges messages until both are silent; every Delta is acknowledged.
    fn settle(&mut self) {
        loop {
            let messages = self.poll();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                if let Some(answer) = self.controller.take(message) {
                    self.session.receive(self.now, answer).unwrap();
                }
            }
            let ack = self.controller.ack();
            self.session.receive(self.now, ack).unwrap();
        }
    }

    fn forget_traffic(&mut self) {
        self.controller.upserts.clear();
        self.controller.removals.clear();
        self.controller.completes.clear();
    }
}

fn deltas(messages: &[wire::AgentMessage]) -> Vec<&wire::Delta> {
    let delta = |message| match message {
        &wire::AgentMessage { message: Some(ToController::Delta(ref delta)) } => Some(delta),
        _ => None,
    };
    messages.iter().filter_map(delta).collect()
}

#[test]
fn a_first_synchronisation_sends_everything_and_completes_every_kind() {
    let pair = Pair::synced(&shop());
    assert_eq!(pair.controller.objects.len(), 4);
    assert_eq!(pair.controller.completes, Kind::ALL.map(|kind| (kind, u64::from(Kind::ROUTING.contains(&kind)))));
    // Nothing dangles at any time: what is referred to comes first.
    let order: Vec<Kind> = pair.controller.upserts.iter().map(|key| key.kind).collect();
    assert_eq!(order, [Kind::EndpointSlice, Kind::Service, Kind::Ingress, Kind::IngressClass]);
}

#[test]
fn nothing_is_sent_before_every_kind_is_listed_or_failed() {
    let mut pair = Pair::new();
    pair.connect();
    for kind in [Kind::Ingress, Kind::Service, Kind::EndpointSlice, Kind::Secret, Kind::Node] {
        list(&mut pair.reducer, kind, &shop());
    }
    let asks = |messages: Vec<wire::AgentMessage>| {
        messages.into_iter().any(|message| matches!(message.message, Some(ToController::BucketRequest(_))))
    };
    assert!(!asks(pair.poll()));
    list(&mut pair.reducer, Kind::IngressClass, &shop());
    assert!(asks(pair.poll()));
}

#[test]
fn a_reconnect_without_a_difference_sends_no_object() {
    let mut pair = Pair::synced(&shop());
    pair.session.disconnected();
    pair.forget_traffic();
    pair.connect();
    pair.settle();
    assert_eq!((pair.controller.upserts.len(), pair.controller.removals.len()), (0, 0));
    assert_eq!(pair.controller.completes.len(), Kind::ALL.len(), "completeness is told on every stream");
}

#[test]
fn a_reconnect_sends_only_the_difference_and_keeps_the_cause_of_deletions() {
    let mut objects = shop();
    objects.push(ingress("second", Some("roadstead"), &[]));
    objects.push(ingress("third", Some("roadstead"), &[]));
    let mut pair = Pair::synced(&objects);
    pair.session.disconnected();
    pair.forget_traffic();
    pair.observe(Kind::EndpointSlice, seen(&slice("front-1", "front", 9)));
    pair.observe(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "second")));
    objects
        .retain(|object| object.key() != key(Kind::Ingress, "second") && object.key() != key(Kind::Ingress, "third"));
    let changes = list(&mut pair.reducer, Kind::Ingress, &objects);
    pair.session.changed(changes);
    pair.connect();
    pair.settle();
    assert_eq!(pair.controller.upserts, [key(Kind::EndpointSlice, "front-1")]);
    let expected = [
        (key(Kind::Ingress, "second"), wire::RemovalCause::Deleted),
        (key(Kind::Ingress, "third"), wire::RemovalCause::Inferred),
    ];
    assert_eq!(pair.controller.removals, expected);
    assert_eq!(pair.controller.objects.len(), 4);
}

#[test]
fn a_deletion_lost_with_its_stream_keeps_its_cause() {
    let mut pair = Pair::synced(&shop());
    pair.observe(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "web")));
    assert_eq!(deltas(&pair.poll()).len(), 1, "sent, but it never arrives");
    pair.session.disconnected();
    pair.forget_traffic();
    pair.connect();
    pair.settle();
    assert!(pair.controller.removals.contains(&(key(Kind::Ingress, "web"), wire::RemovalCause::Deleted)));
}

#[test]
fn a_failed_kind_is_neither_completed_nor_pruned_until_it_is_listed() {
    let mut pair = Pair::synced(&shop());
    let mut restarted = Pair { controller: std::mem::take(&mut pair.controller), ..Pair::new() };
    restarted.forget_traffic();
    for kind in [Kind::IngressClass, Kind::Ingress, Kind::EndpointSlice, Kind::Secret, Kind::Node] {
        list(&mut restarted.reducer, kind, &shop());
    }
    restarted.observe(Kind::Service, failed());
    restarted.connect();
    restarted.settle();
    assert_eq!(restarted.controller.objects.len(), 4, "the Service is still known");
    assert_eq!(restarted.controller.removals, [], "and not even asked to be held back");
    let completed: Vec<Kind> = restarted.controller.completes.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(completed, [Kind::IngressClass, Kind::Ingress, Kind::Node]);

    let mut changes = list(&mut restarted.reducer, Kind::Service, &[]);
    changes.extend(bookmarks(&mut restarted.reducer));
    restarted.session.changed(changes);
    restarted.settle();
    assert_eq!(restarted.controller.removals, [(key(Kind::Service, "front"), wire::RemovalCause::Inferred)]);
    let expected = [(Kind::Service, 0), (Kind::EndpointSlice, 1), (Kind::Secret, 0)];
    assert_eq!(restarted.controller.completes[3..], expected);
    assert_eq!(restarted.controller.objects.len(), 3);
}

/// Of two agents of one cluster, the one that fell behind takes over.
#[test]
fn an_agent_whose_list_fails_takes_nothing_for_gone_on_its_next_stream() {
    let mut newer = shop();
    newer.push(ingress("second", Some("roadstead"), &[]));
    let other = Pair::synced(&newer);
    let mut pair = Pair::new();
    list_all(&mut pair.reducer, &shop());
    for then in [failed(), Observation::ListStarted] {
        pair.controller = ModelController::default();
        pair.controller.objects.clone_from(&other.controller.objects);
        pair.session.disconnected();
        pair.observe(Kind::Ingress, Observation::ListStarted);
        pair.observe(Kind::Ingress, then);
        pair.connect();
        pair.settle();
        assert_eq!(pair.controller.removals, []);
        assert!(pair.controller.completes.iter().all(|(kind, _)| *kind != Kind::Ingress));
    }
    let changes = list(&mut pair.reducer, Kind::Ingress, &newer);
    pair.session.changed(changes);
    pair.settle();
    assert_eq!(pair.controller.objects.len(), 5);
}

#[test]
fn what_an_agent_knows_to_be_outdated_replaces_nothing() {
    let newer = with_meta(&ingress("web", Some("roadstead"), &["front"]), |meta| meta.uid = "another".into());
    let objects: Vec<Object> = shop().into_iter().filter(|it| it.key().kind != Kind::Ingress).chain([newer]).collect();
    let broken = unreadable(Some(key(Kind::Ingress, "web")));
    for (now, is_for_long) in [(broken, true), (seen(&ingress("web", Some("unseen"), &["front"])), false)] {
        let mut pair = Pair { controller: Pair::synced(&objects).controller, ..Pair::new() };
        pair.forget_traffic();
        list_all(&mut pair.reducer, &shop());
        pair.observe(Kind::Ingress, now);
        pair.connect();
        pair.settle();
        assert_eq!((&pair.controller.upserts[..], &pair.controller.removals[..]), (&[][..], &[][..]));
        let is_complete = pair.controller.completes.iter().any(|(kind, _)| *kind == Kind::Ingress);
        assert_eq!(is_complete, is_for_long, "the class may still come; what is broken may stay so");
    }
}

/// Of two agents of one cluster, the one whose watch had ended takes over.
#[test]
fn what_was_seen_before_a_watch_ended_is_said_again_only_once_a_list_has_it() {
    let gone = |it: &Object| it.key() == key(Kind::Ingress, "web");
    let newer: Vec<Object> = shop().into_iter().filter(|it| !gone(it)).collect();
    for then in [failed(), Observation::ListStarted] {
        let mut pair = Pair { controller: Pair::synced(&newer).controller, ..Pair::new() };
        pair.forget_traffic();
        list_all(&mut pair.reducer, &shop());
        pair.observe(Kind::Ingress, then);
        pair.connect();
        pair.settle();
        assert!(
            !pair.controller.objects.contains_key(&key(Kind::Ingress, "web")),
            "it was deleted, as far as this agent knows"
        );
        let changes = list(&mut pair.reducer, Kind::Ingress, &shop());
        pair.session.changed(changes);
        pair.settle();
        assert!(pair.controller.objects.contains_key(&key(Kind::Ingress, "web")), "it exists");
    }
}

#[test]
fn an_unreadable_object_is_not_pruned_after_a_restart() {
    let mut pair = Pair::synced(&shop());
    let mut restarted = Pair { controller: std::mem::take(&mut pair.controller), ..Pair::new() };
    restarted.forget_traffic();
    list(&mut restarted.reducer, Kind::IngressClass, &shop());
    restarted.observe(Kind::Ingress, Observation::ListStarted);
    restarted.observe(Kind::Ingress, unreadable(Some(key(Kind::Ingress, "web"))));
    restarted.observe(Kind::Ingress, Observation::Listed);
    for kind in [Kind::Service, Kind::EndpointSlice, Kind::Secret, Kind::Node] {
        list(&mut restarted.reducer, kind, &shop());
    }
    restarted.connect();
    restarted.settle();
    assert!(restarted.controller.objects.contains_key(&key(Kind::Ingress, "web")));
    assert!(restarted.controller.completes.contains(&(Kind::Ingress, 1)), "{:?}", restarted.controller.completes);
}

#[test]
fn later_inferred_removals_are_followed_by_the_completion_of_their_kinds() {
    let mut pair = Pair::synced(&shop());
    pair.forget_traffic();
    let changes = list(&mut pair.reducer, Kind::Ingress, &[]);
    pair.session.changed(changes);
    pair.settle();
    let kinds: Vec<Kind> = pair.controller.completes.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Kind::Ingress, Kind::Service, Kind::EndpointSlice]);
    assert_eq!(pair.controller.objects.len(), 1);
}

#[test]
fn beyond_the_window_changes_coalesce_and_still_trickle() {
    let mut pair = Pair::synced(&shop());
    let change = |pair: &mut Pair, last: u8| {
        pair.observe(Kind::EndpointSlice, seen(&slice("front-1", "front", last)));
        deltas(&pair.poll()).len()
    };
    for round in 0..WINDOW {
        assert_eq!(change(&mut pair, 100 + round as u8), 1);
    }
    assert_eq!((pair.session.unacked(), change(&mut pair, 2), change(&mut pair, 3)), (WINDOW, 0, 0));

    pair.now += outbox::SLOW_EVERY;
    let messages = pair.poll();
    let sent = deltas(&messages);
    assert_eq!((sent.len(), sent[0].upserts.len()), (1, 1), "one Delta with the latest state only");
    let digest = pair.reducer.reported().get(&key(Kind::EndpointSlice, "front-1")).unwrap().digest;
    assert_eq!(sent[0].upserts[0].digest, digest.to_vec());

    let ack = reply(FromController::Ack(wire::Ack { seq: sent[0].seq }));
    pair.session.receive(pair.now, ack).unwrap();
    assert_eq!((pair.session.unacked(), change(&mut pair, 4)), (0, 1));
}

#[test]
fn a_change_taken_back_before_it_was_sent_costs_nothing() {
    let mut pair = Pair::synced(&shop());
    pair.observe(Kind::EndpointSlice, seen(&slice("front-1", "front", 7)));
    pair.observe(Kind::EndpointSlice, seen(&slice("front-1", "front", 1)));
    pair.observe(Kind::Service, Observation::Deleted(key(Kind::Service, "front")));
    pair.observe(Kind::Service, seen(&service("front")));
    assert_eq!(deltas(&pair.poll()).len(), 0);
}

#[test]
fn large_synchronisations_are_cut_into_messages_within_the_limit() {
    let mut objects = shop();
    let long = "s".repeat(40_000);
    let services: Vec<String> = (0..5).map(|number| format!("{long}{number}")).collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    objects.extend((0..6).map(|number| ingress(&format!("big{number}"), Some("roadstead"), &services[..])));
    let pair = Pair::synced(&objects);
    assert_eq!(pair.controller.objects.len(), 10);
    assert!(pair.controller.last_seq > 1, "more than one Delta is needed");
    assert!(pair.controller.largest <= MESSAGE_BYTES_MAX, "{} bytes", pair.controller.largest);
}

#[test]
fn heartbeats_come_every_two_seconds_and_silence_kills_the_stream() {
    let mut pair = Pair::synced(&shop());
    let beats = |messages: Vec<wire::AgentMessage>| {
        messages.iter().filter(|message| matches!(message.message, Some(ToController::Heartbeat(_)))).count()
    };
    pair.now += Duration::from_millis(1_999);
    assert_eq!(beats(pair.poll()), 0);
    pair.now += Duration::from_millis(1);
    assert_eq!(beats(pair.poll()), 1);
    assert_eq!(beats(pair.poll()), 0);
    assert!(!pair.session.is_dead(DEAD_AFTER));
    assert!(pair.session.is_dead(DEAD_AFTER + Duration::from_millis(1)));
    pair.session.disconnected();
    assert!(!pair.session.is_dead(DEAD_AFTER * 2), "what is down cannot die");
}

#[test]
fn a_standby_beats_and_waits_for_its_welcome() {
    let mut pair = Pair::new();
    list_all(&mut pair.reducer, &shop());
    pair.session.connected(pair.now);
    pair.session.receive(pair.now, reply(FromController::Standby(wire::Standby {}))).unwrap();
    pair.now += HEARTBEAT_EVERY;
    let messages = pair.poll();
    assert!(matches!(messages[..], [wire::AgentMessage { message: Some(ToController::Heartbeat(_)) }]), "{messages:?}");
    assert!(!pair.session.is_welcomed() && pair.session.is_standing_by());

    let welcome = pair.controller.welcome(&[]);
    pair.session.receive(pair.now, welcome).unwrap();
    pair.settle();
    assert_eq!(pair.controller.objects.len(), 4);
}

#[test]
fn hello_carries_the_world_last_spoken_to() {
    let mut pair = Pair::new();
    let world = |message: wire::AgentMessage| match message.message {
        Some(ToController::Hello(hello)) => hello.world,
        other => panic!("expected Hello, got {other:?}"),
    };
    assert_eq!(world(pair.session.connected(pair.now)), None);
    let welcome = pair.controller.welcome(&[]);
    pair.session.receive(pair.now, welcome).unwrap();
    pair.session.disconnected();
    assert_eq!(
        world(pair.session.connected(pair.now)),
        Some(wire::World { id: vec![1; 16], incarnation: 1, adopted: Vec::new() })
    );
}

#[test]
fn a_second_welcome_starts_over() {
    let mut pair = Pair::synced(&shop());
    pair.controller.objects.remove(&key(Kind::Service, "front"));
    pair.forget_traffic();
    let welcome = pair.controller.welcome(&[]);
    pair.session.receive(pair.now, welcome).unwrap();
    pair.settle();
    assert_eq!(pair.controller.upserts, [key(Kind::Service, "front")]);
}

#[test]
fn the_answer_to_an_earlier_request_is_not_taken_for_that_to_the_last() {
    let mut pair = Pair::synced(&shop());
    pair.controller.objects.remove(&key(Kind::Service, "front"));
    let ask = |pair: &mut Pair| {
        let welcome = pair.controller.welcome(&[]);
        pair.session.receive(pair.now, welcome).unwrap();
        let mut messages = pair.poll();
        pair.controller.take(messages.pop().unwrap()).unwrap()
    };
    let first = ask(&mut pair);
    let another = Pair::synced(&[our_class(), ingress("gone", Some("roadstead"), &[])]);
    pair.controller.objects.extend(another.controller.objects);
    let second = ask(&mut pair);
    pair.session.receive(pair.now, first).unwrap();
    assert!(!pair.session.is_synced());
    pair.session.receive(pair.now, second).unwrap();
    pair.settle();
    assert!(!pair.controller.objects.contains_key(&key(Kind::Ingress, "gone")), "only the second answer names it");
}

#[test]
fn messages_that_break_the_protocol_are_refused() {
    let mut pair = Pair::synced(&shop());
    let welcome = wire::Welcome { known: vec![0; 17], ..wire::Welcome::default() };
    let error = pair.session.receive(pair.now, reply(FromController::Welcome(welcome))).unwrap_err();
    assert_eq!(error, ProtocolError::Hashes(17));
    let contents = wire::BucketContents { number: 9, ..wire::BucketContents::default() };
    let contents = reply(FromController::BucketContents(contents));
    assert_eq!(pair.session.receive(pair.now, contents), Err(ProtocolError::UnexpectedContents));
    assert_eq!(pair.session.receive(pair.now, wire::ControllerMessage { message: None }), Ok(None));
}

#[test]
fn findings_are_sent_once_per_change_and_at_most_once_a_second() {
    let mut pair = Pair::synced(&shop());
    let findings = |messages: Vec<wire::AgentMessage>| {
        let list = |message: wire::AgentMessage| match message.message {
            Some(ToController::Findings(findings)) => Some(findings.findings.len()),
            _ => None,
        };
        messages.into_iter().filter_map(list).collect::<Vec<_>>()
    };
    pair.now += FINDINGS_EVERY;
    assert_eq!(findings(pair.poll()), Vec::<usize>::new());
    pair.observe(Kind::Ingress, unreadable(Some(key(Kind::Ingress, "a"))));
    assert_eq!(findings(pair.poll()), [1]);
    pair.observe(Kind::Ingress, unreadable(Some(key(Kind::Ingress, "b"))));
    assert_eq!(findings(pair.poll()), Vec::<usize>::new());
    pair.now += FINDINGS_EVERY;
    assert_eq!(findings(pair.poll()), [2]);
}
