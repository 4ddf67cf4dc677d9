//! Agent streams: who holds a cluster, what is applied, what is withheld, what is acknowledged.

use super::harness::*;
use crate::core::message::{Close, Input};
use crate::store::writer::Event;
use crate::world::Limits;
use roadstead_proto::digest::{BUCKETS, BucketHashes};
use roadstead_proto::wire;
use roadstead_proto::wire::RemovalCause::{Deleted, Inferred};
use roadstead_proto::wire::agent_message::Message as AgentSays;
use roadstead_proto::wire::controller_message::Message as ToAgent;
use roadstead_routing::id::{Kind, Position};

fn all_buckets() -> AgentSays {
    AgentSays::BucketRequest(wire::BucketRequest { buckets: (0..BUCKETS as u32).collect(), number: 1 })
}

#[test]
fn a_reconnect_is_told_what_is_known_and_costs_only_the_difference() {
    let mut it = Harness::new();
    let first = it.agent("eu");
    assert_eq!(it.welcome(first).unwrap().known, BucketHashes::default().to_bytes());
    let (web, shop) = (ingress("web", "a.example.com", "web"), service("web"));
    it.upsert(first, 1, &[web.clone(), shop.clone()]);
    let epoch = it.welcome(first).unwrap().epoch;
    it.send(vec![Input::AgentClosed { stream: first }]);

    let second = it.agent("eu");
    let welcome = it.welcome(second).unwrap();
    assert_eq!(welcome.epoch, epoch + 1);
    let mut expected = BucketHashes::default();
    for upsert in &delta(1, &[web, shop], &[]).upserts {
        let object = roadstead_proto::object::from_wire(upsert.object.clone().unwrap()).unwrap();
        let digest = roadstead_proto::digest::Digest::from_slice(&upsert.digest).unwrap();
        expected.replace(&roadstead_proto::object::key_text(&object.key()), None, Some(&digest));
    }
    assert_eq!(welcome.known, expected.to_bytes());

    it.says(second, all_buckets());
    let contents = it.heard(second).find_map(|it| if let ToAgent::BucketContents(it) = it { Some(it) } else { None });
    let keys: Vec<&str> = contents.unwrap().buckets.iter().flat_map(|it| &it.held).map(|it| it.key.as_str()).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.contains(&"2/shop/web"), "{keys:?}");
}

#[test]
fn an_ack_waits_until_everything_before_it_is_durable() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.store_away = true;
    it.upsert(agent, 1, &[ingress("web", "a.example.com", "web")]);
    it.upsert(agent, 2, &[ingress("web", "a.example.com", "web")]); // nothing new
    assert!(it.acks(agent).is_empty());
    assert_eq!(it.core.publish().table().hosts.len(), 1, "routing does not wait for the store");
    it.store_back();
    assert_eq!(it.acks(agent), [1, 2]);
    it.upsert(agent, 3, &[]);
    assert_eq!(it.acks(agent), [1, 2, 3]);
}

#[test]
fn one_bad_object_is_a_finding_and_the_others_apply() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let mut bad = delta(1, &[ingress("bad", "bad.example.com", "web"), ingress("web", "a.example.com", "web")], &[]);
    bad.upserts[0].digest = vec![1, 2, 3];
    it.says(agent, AgentSays::Delta(bad));
    assert_eq!(it.core.publish().table().hosts.len(), 1);
    assert!(it.codes().contains(&"malformed-object".to_owned()));
    assert_eq!(it.acks(agent), [1]);
    it.upsert(agent, 2, &[ingress("bad", "bad.example.com", "web")]);
    assert!(!it.codes().contains(&"malformed-object".to_owned()));
}

#[test]
fn findings_on_objects_that_were_not_let_in_end_with_their_stream() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let mut bad = delta(1, &[ingress("bad", "bad.example.com", "web")], &[]);
    bad.upserts[0].digest.clear();
    bad.upserts.push(wire::Upsert::default());
    it.says(agent, AgentSays::Delta(bad));
    assert_eq!(it.core.findings().len(), 2, "one on the object, one on the cluster");
    it.send(vec![Input::AgentClosed { stream: agent }]);
    assert_eq!(it.core.findings().len(), 2);
    it.agent("eu");
    assert!(it.core.findings().is_empty(), "whatever is still bad will be reported again");
}

#[test]
fn an_oversized_object_is_refused_and_its_older_version_stays() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("web", "a.example.com", "web")]);
    let huge = ingress("web", &"x".repeat(roadstead_routing::limit::OBJECT_BYTES_MAX), "web");
    it.upsert(agent, 2, &[huge]);
    assert_eq!(it.core.publish().table().hosts.len(), 1);
    assert!(it.codes().contains(&"object-too-large".to_owned()));
}

#[test]
fn what_exceeds_a_limit_is_refused_alone() {
    let mut it = Harness::with(POLICY, Limits { objects: 3, hosts: 2 });
    let agent = it.agent("eu");
    let three = ["a", "b", "c"].map(|name| ingress(name, &format!("{name}.example.com"), "web"));
    it.upsert(agent, 1, &three);
    assert_eq!(it.core.publish().table().hosts.len(), 2);
    assert!(it.codes().contains(&"too-many-hosts".to_owned()));
    it.upsert(agent, 2, &[service("web"), service("other")]);
    assert!(it.codes().contains(&"too-many-objects".to_owned()));
    assert_eq!(it.acks(agent), [1, 2]);
    assert_eq!(it.stored.len(), 3, "what is refused is not stored either");
    // Room again: the agent's next version of the object is taken.
    it.remove(agent, 3, &[(key(Kind::Ingress, "a"), Deleted)]);
    it.upsert(agent, 4, &[ingress("c", "c.example.com", "web")]);
    assert!(!it.codes().contains(&"too-many-hosts".to_owned()));
}

#[test]
fn a_seen_deletion_applies_at_once_an_inferred_one_after_its_list() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &["a", "b", "c"].map(|name| ingress(name, &format!("{name}.example.com"), "web")));
    it.remove(agent, 2, &[(key(Kind::Ingress, "a"), Deleted)]);
    assert_eq!(it.core.publish().table().hosts.len(), 2);
    it.remove(agent, 3, &[(key(Kind::Ingress, "b"), Inferred)]);
    assert_eq!(it.core.publish().table().hosts.len(), 2, "the list is not complete");
    it.complete(agent, Kind::Service, 0);
    assert_eq!(it.core.publish().table().hosts.len(), 2, "another kind's list says nothing");
    it.complete(agent, Kind::Ingress, 1);
    assert_eq!(it.core.publish().table().hosts.len(), 2, "classes decide too, and are still being listed");
    it.complete(agent, Kind::IngressClass, 0);
    assert_eq!(it.core.publish().table().hosts.len(), 1);
}

#[test]
fn a_synchronisation_that_breaks_off_removes_nothing() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &["a", "b"].map(|name| ingress(name, &format!("{name}.example.com"), "web")));
    it.remove(agent, 2, &[(key(Kind::Ingress, "a"), Inferred)]);
    it.send(vec![Input::AgentClosed { stream: agent }]);
    let again = it.agent("eu");
    it.complete(again, Kind::Ingress, 2);
    assert_eq!(it.core.publish().table().hosts.len(), 2);
}

/// The cluster was rebuilt, or its etcd restored: its hosts and their backends stay until somebody decides.
#[test]
fn a_prune_of_everything_is_held_with_its_backends() {
    let mut it = Harness::guarded();
    let agent = it.agent("eu");
    let edge = it.edge(EdgeModel::named("e1"));
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web"), service("web"), slice("web", &[1])]);
    let before = it.edges[&edge].table();
    let all = [(Kind::Ingress, "a"), (Kind::Service, "web"), (Kind::EndpointSlice, "web-1")];
    it.remove(agent, 2, &all.map(|(kind, name)| (key(kind, name), Inferred)));
    Kind::ALL.into_iter().for_each(|kind| it.complete(agent, kind, 0));
    assert_eq!(it.core.world().held(&"eu".into()).unwrap().len(), 0, "the world knows that it is gone");
    assert_eq!(it.edges[&edge].table(), before, "and edges serve it all the same");
    let hold = it.core.guard().holds().next().cloned().unwrap();
    assert_eq!(hold.scope, roadstead_routing::guard::Scope::Namespace("eu".into(), "shop".into()));
    it.decide(crate::guard::decide::Decision::Approve { hold: hold.id, by: "somebody".to_owned() }).unwrap();
    assert!(it.edges[&edge].table().hosts.is_empty());
}

/// The lists of a cluster that lost everything complete in any order: hosts that are still declared need the rest.
#[test]
fn an_empty_list_of_services_that_comes_before_that_of_ingresses_removes_nothing() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web"), service("web")]);
    it.remove(agent, 2, &[(key(Kind::Service, "web"), Inferred)]);
    it.complete(agent, Kind::Service, 0);
    assert_eq!(it.core.world().count(&"eu".into(), Kind::Service), 1);
    it.complete(agent, Kind::IngressClass, 0);
    it.complete(agent, Kind::Ingress, 1);
    assert_eq!(it.core.world().count(&"eu".into(), Kind::Service), 0);
}

#[test]
fn an_epoch_settles_when_every_kind_without_which_nothing_is_routed_was_listed() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    for kind in Kind::ROUTING {
        assert!(!it.core.world().lineage(&"eu".into()).unwrap().settled);
        it.complete(agent, kind, 0);
    }
    assert!(it.core.world().lineage(&"eu".into()).unwrap().settled);
    assert!(it.model.row(&"eu".into()).unwrap().lineage.settled, "and the store knows it");
}

#[test]
fn a_second_agent_stands_by_and_takes_over_when_the_first_ends() {
    let mut it = Harness::new();
    let (first, second) = (it.agent("eu"), it.agent("eu"));
    assert!(it.heard(second).any(|it| matches!(it, ToAgent::Standby(_))));
    assert!(it.welcome(second).is_none());
    it.send(vec![Input::AgentClosed { stream: first }]);
    assert!(it.welcome(second).unwrap().epoch > it.welcome(first).unwrap().epoch);
}

#[test]
fn a_silent_holder_loses_the_cluster_after_three_heartbeats() {
    let mut it = Harness::new();
    let (first, second) = (it.agent("eu"), it.agent("eu"));
    for _ in 0..4 {
        it.tick(1_900);
        it.says(second, AgentSays::Heartbeat(wire::Heartbeat { seq: 1 }));
    }
    assert_eq!(it.closed.get(&first), Some(&Close::Silent));
    assert!(it.welcome(second).unwrap().epoch > it.welcome(first).unwrap().epoch);
    it.upsert(first, 1, &[ingress("late", "late.example.com", "web")]);
    assert!(it.core.publish().table().hosts.is_empty(), "nothing is read from a closed stream");
}

#[test]
fn the_same_agent_replaces_its_own_dead_stream_at_once() {
    let mut it = Harness::new();
    let first = it.agent_of("eu", "uid-1", "agent");
    let second = it.agent_of("eu", "uid-1", "agent");
    assert_eq!(it.closed.get(&first), Some(&Close::Replaced));
    assert!(it.welcome(second).unwrap().epoch > it.welcome(first).unwrap().epoch);
}

#[test]
fn a_takeover_waits_for_the_store() {
    let mut it = Harness::new();
    it.store_away = true;
    let agent = it.agent("eu");
    assert!(it.welcome(agent).is_none());
    it.store_back();
    assert!(it.welcome(agent).is_some());
}

#[test]
fn another_cluster_under_the_same_identity_is_refused() {
    let mut it = Harness::new();
    let first = it.agent_of("eu", "uid-1", "one");
    it.upsert(first, 1, &[ingress("a", "a.example.com", "web")]);
    let other = it.agent_of("eu", "uid-2", "two");
    let refused = Close::OtherCluster { pinned: "uid-1".to_owned(), presented: "uid-2".to_owned() };
    assert_eq!(it.closed.get(&other), Some(&refused));
    assert!(it.codes().contains(&"cluster-identity".to_owned()));
    it.upsert(first, 2, &[ingress("b", "b.example.com", "web")]);
    assert_eq!(it.core.publish().table().hosts.len(), 2, "the pinned cluster goes on");
    it.tick(61_000);
    assert!(!it.codes().contains(&"cluster-identity".to_owned()));
}

#[test]
fn a_readopted_identity_ends_the_stream_of_the_old_cluster() {
    let mut it = Harness::new();
    let old = it.agent_of("eu", "uid-1", "one");
    it.upsert(old, 1, &[ingress("a", "a.example.com", "web")]);
    assert!(it.model.readopt(&"eu".into(), "uid-2"));
    it.tick(2_000);
    let refused = Close::OtherCluster { pinned: "uid-2".to_owned(), presented: "uid-1".to_owned() };
    assert_eq!(it.closed.get(&old), Some(&refused));
    assert_eq!(it.core.publish().table().hosts.len(), 1, "its routes stay");
    let new = it.agent_of("eu", "uid-2", "two");
    assert!(it.welcome(new).is_some());
}

#[test]
fn a_claimed_identity_must_be_that_of_the_certificate() {
    let mut it = Harness::new();
    let stream = it.stream();
    let hello = wire::Hello { cluster: "us".to_owned(), cluster_uid: "u".to_owned(), ..wire::Hello::default() };
    it.send(vec![Input::AgentOpened { stream, cluster: "eu".into() }]);
    it.says(stream, AgentSays::Hello(hello));
    assert!(matches!(it.closed.get(&stream), Some(Close::Identity { .. })));
}

#[test]
fn a_fenced_holder_is_closed_and_another_epoch_is_not() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let epoch = it.welcome(agent).unwrap().epoch;
    it.send(vec![Input::Store(Event::Fenced { cluster: "eu".into(), epoch: epoch + 1 })]);
    assert!(it.closed.is_empty());
    it.send(vec![Input::Store(Event::Fenced { cluster: "eu".into(), epoch })]);
    assert_eq!(it.closed.get(&agent), Some(&Close::Fenced));
}

#[test]
fn pod_addresses_that_nobody_reports_any_more_are_a_finding() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let is_found = |it: &Harness| it.codes().contains(&"stale-pod-addresses".to_owned());
    it.send(vec![Input::AgentClosed { stream: agent }]);
    it.tick(299_000);
    assert!(!is_found(&it));
    it.tick(2_000);
    assert!(is_found(&it));
    it.agent("eu");
    it.tick(1_000);
    assert!(!is_found(&it));
}

#[test]
fn losing_the_agent_changes_no_route() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    let before = it.core.publish().table();
    it.tick(7_000);
    assert_eq!(it.closed.get(&agent), Some(&Close::Silent));
    assert_eq!(it.core.publish().table(), before);
    let state = |it: &Harness| crate::observe::status::report(&it.core, 0).clusters[0].state.clone();
    assert_eq!(state(&it), "reconnecting");
    it.tick(6_000);
    assert_eq!(state(&it), "stale");
}

/// Under load, or paused by its host, a controller hears nobody: that must not end every stream at once.
#[test]
fn a_controller_that_was_deaf_for_a_while_keeps_its_streams() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    for _ in 0..3 {
        it.stall(10_000);
    }
    for _ in 0..40 {
        it.now_ms += 250;
        it.send(vec![Input::Busy]);
    }
    assert_eq!(it.closed.get(&agent), None);
}

#[test]
fn the_world_ignores_what_is_older() {
    use crate::world::lineage::Lineage;
    use crate::world::{Base, Change, Outcome, World};
    let mut world = World::default();
    let change = |epoch, seq, host| Change {
        cluster: "eu".into(),
        lineage: Lineage { position: Position { epoch, seq }, ..Lineage::default() },
        base: Base::Whole,
        upserts: vec![(ingress("a", host, "web"), roadstead_proto::digest::Digest::of_bytes(host.as_bytes()))],
        removals: Vec::new(),
    };
    let is_applied = |outcome| matches!(outcome, Outcome::Applied(_));
    assert!(is_applied(world.apply(change(2, 1, "new.example.com"))));
    for (epoch, seq) in [(2, 1), (1, 99), (2, 0)] {
        assert_eq!(world.apply(change(epoch, seq, "old.example.com")), Outcome::Old);
    }
    assert_eq!(world.position(&"eu".into()), Position { epoch: 2, seq: 1 });
    assert!(is_applied(world.apply(change(3, 1, "newer.example.com"))));
    let since = |epoch, seq| Change { base: Base::Since(Position { epoch, seq }), ..change(3, 9, "later.example.com") };
    assert_eq!(world.apply(since(3, 5)), Outcome::Gap, "something between 3.1 and 3.5 is missing");
    assert_eq!(world.apply(since(2, 1)), Outcome::Gap, "what an older epoch had is not what this one began with");
    assert!(is_applied(world.apply(since(3, 0))));
}

#[test]
fn an_object_the_database_refuses_is_a_finding_and_still_routed() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    let refused = Event::Unstorable { cluster: "eu".into(), key: key(Kind::Ingress, "a"), reason: "no".to_owned() };
    it.send(vec![Input::Store(refused)]);
    assert!(it.codes().contains(&"unstorable".to_owned()));
    assert_eq!(it.core.publish().table().hosts.len(), 1);
    it.upsert(agent, 2, &[ingress("a", "b.example.com", "web")]);
    assert!(!it.codes().contains(&"unstorable".to_owned()));
}
