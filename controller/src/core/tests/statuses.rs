//! What goes back to the clusters: when an address is shown, which findings are told.

use super::harness::*;
use crate::core::message::Input;
use crate::policy::{AcceptedPolicy, file, follow};
use roadstead_proto::wire::RemovalCause::Deleted;
use roadstead_proto::wire::controller_message::Message as ToAgent;
use roadstead_routing::id::Kind;

fn shown(address: &str) -> Vec<(String, Vec<String>)> {
    vec![("a".to_owned(), vec![address.to_owned()])]
}

/// The same policy with another address for the pool.
fn moved_policy() -> Input {
    let policy = file::parse(&POLICY.replace("203.0.113.10", "203.0.113.99")).unwrap();
    Input::Policy(follow::Event::Accepted(AcceptedPolicy { rev: 2, policy, source: "test".to_owned() }))
}

#[test]
fn an_address_is_shown_once_every_connected_edge_has_the_host() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    assert!(it.statuses(agent).is_empty(), "no edge is connected");
    it.edge(EdgeModel::named("e1"));
    assert_eq!(it.statuses(agent), shown("203.0.113.10"));
}

#[test]
fn a_stuck_edge_holds_up_a_status_for_ten_seconds_at_most() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let stuck = it.edge(EdgeModel { is_stuck: true, ..EdgeModel::named("e1") });
    let well = it.edge(EdgeModel::named("e2"));
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    for _ in 0..4 {
        it.tick(2_400);
        for stream in [stuck, well] {
            it.send(vec![edge_says(
                stream,
                roadstead_proto::wire::edge_message::Message::Heartbeat(Default::default()),
            )]);
        }
        it.says(agent, roadstead_proto::wire::agent_message::Message::Heartbeat(Default::default()));
    }
    assert!(it.statuses(agent).is_empty(), "9.6 s after the first edge had it");
    it.tick(500);
    assert_eq!(it.statuses(agent), shown("203.0.113.10"));
}

#[test]
fn only_stuck_edges_show_nothing() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let stuck = it.edge(EdgeModel { is_stuck: true, ..EdgeModel::named("e1") });
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    it.tick(5_000);
    assert!(it.statuses(agent).is_empty());
    it.unstick(stuck);
    assert_eq!(it.statuses(agent), shown("203.0.113.10"));
}

#[test]
fn a_slow_edge_that_leaves_no_longer_holds_up_anybody() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let stuck = it.edge(EdgeModel { is_stuck: true, ..EdgeModel::named("e1") });
    it.edge(EdgeModel::named("e2"));
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    assert!(it.statuses(agent).is_empty());
    it.edge_leaves(stuck);
    assert_eq!(it.statuses(agent), shown("203.0.113.10"));
}

#[test]
fn statuses_follow_the_policy_and_are_told_again_to_a_new_stream() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.edge(EdgeModel::named("e1"));
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    it.send(vec![moved_policy()]);
    assert_eq!(it.statuses(agent).last(), shown("203.0.113.99").last());
    it.send(vec![Input::AgentClosed { stream: agent }]);
    let again = it.agent("eu");
    assert_eq!(it.statuses(again), shown("203.0.113.99"));
}

#[test]
fn an_ingress_that_is_no_longer_ours_is_cleared_and_a_deleted_one_is_not_mentioned() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.edge(EdgeModel::named("e1"));
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web"), ingress("b", "b.example.com", "web")]);
    let told = it.statuses(agent).len();
    let roadstead_routing::object::Object::Ingress(mut foreign) = ingress("a", "a.example.com", "web") else {
        panic!()
    };
    std::sync::Arc::make_mut(&mut foreign).annotations.clear();
    it.upsert(agent, 2, &[roadstead_routing::object::Object::Ingress(foreign)]);
    assert_eq!(it.statuses(agent)[told..], [("a".to_owned(), vec![])]);
    it.remove(agent, 3, &[(key(Kind::Ingress, "b"), Deleted)]);
    assert_eq!(it.statuses(agent).len(), told + 1);
}

#[test]
fn findings_are_told_when_they_change_and_cleared_when_they_are_gone() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    let told = |it: &Harness, stream| -> Vec<(String, Vec<String>)> {
        let lists = it.heard(stream).filter_map(|it| if let ToAgent::Findings(it) = it { Some(it) } else { None });
        let objects = lists.flat_map(|it| &it.objects);
        objects
            .map(|it| (it.object.clone().unwrap().name, it.findings.iter().map(|it| it.code.clone()).collect()))
            .collect()
    };
    assert_eq!(told(&it, agent), [("a".to_owned(), vec!["service-not-found".to_owned()])]);
    it.upsert(agent, 2, &[ingress("b", "b.example.com", "web")]);
    assert_eq!(told(&it, agent).len(), 2, "only the new Ingress is mentioned");
    it.send(vec![Input::AgentClosed { stream: agent }]);
    let again = it.agent("eu");
    assert_eq!(told(&it, again).len(), 2, "a new stream is told everything");
    it.upsert(again, 1, &[service("web"), slice("web", &[1])]);
    let last: Vec<_> = told(&it, again).split_off(2);
    assert_eq!(last, [("a".to_owned(), vec![]), ("b".to_owned(), vec![])]);
}
