//! Edge streams: only differences, in a safe order, within the window, never back in time.

use super::harness::*;
use crate::core::message::{Close, Input};
use crate::publish::edge::WINDOW;
use crate::world::Limits;
use roadstead_proto::resource::ResourceKey;
use roadstead_proto::wire;
use roadstead_proto::wire::RemovalCause::Deleted;
use roadstead_proto::wire::edge_message::Message as EdgeSays;
use roadstead_routing::id::Kind;

#[test]
fn an_edge_gets_everything_once_and_nothing_when_it_comes_back() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web"), service("web"), slice("web", &[1, 2])]);
    let edge = it.edge(EdgeModel::named("e1"));
    assert_eq!(it.edges[&edge].table(), it.core.publish().table());
    assert!(it.edges[&edge].updates.last().unwrap().synced);
    assert_eq!(it.edges[&edge].updates.iter().filter(|update| update.synced).count(), 1);

    let mut model = it.edge_leaves(edge);
    model.updates.clear();
    let back = it.edge(model);
    let updates = &it.edges[&back].updates;
    assert_eq!(updates.len(), 1, "one empty Update says that nothing is missing");
    assert_eq!(it.edges[&back].sent(), 0);
    assert!(updates[0].synced);
}

#[test]
fn an_edge_that_missed_something_gets_exactly_that() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &["a", "b", "c"].map(|name| ingress(name, &format!("{name}.example.com"), "web")));
    it.upsert(agent, 2, &[service("web"), slice("web", &[1])]);
    let edge = it.edge(EdgeModel::named("e1"));
    let mut model = it.edge_leaves(edge);
    model.updates.clear();
    it.upsert(agent, 3, &[slice("web", &[1, 2])]);
    it.remove(agent, 4, &[(key(Kind::Ingress, "b"), Deleted)]);
    let back = it.edge(model);
    let sent: Vec<&wire::Update> = it.edges[&back].updates.iter().collect();
    assert_eq!(it.edges[&back].sent(), 2, "{sent:?}");
    assert_eq!(it.edges[&back].table(), it.core.publish().table());
}

#[test]
fn changes_between_hello_and_its_answer_are_not_lost() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &["a", "b"].map(|name| ingress(name, &format!("{name}.example.com"), "web")));
    let edge = it.edge(EdgeModel::named("e1"));
    let model = it.edge_leaves(edge);
    it.upsert(agent, 2, &[ingress("a", "a.example.com", "other")]);
    // The edge says Hello by hand and answers only after something in an equal bucket changed.
    let stream = it.stream();
    let hello = {
        let mut hashes = roadstead_proto::digest::BucketHashes::default();
        model.held.iter().for_each(|(key, (digest, _))| hashes.replace(&key.to_string(), None, Some(digest)));
        wire::EdgeHello { edge: "e1".into(), pool: "public".into(), held: hashes.to_bytes(), ..Default::default() }
    };
    let id = crate::core::message::EdgeId { pool: "public".into(), edge: "e1".into() };
    let inputs = vec![
        Input::EdgeOpened { stream, edge: id },
        edge_says(stream, EdgeSays::Hello(hello)),
        agent_says(
            agent,
            roadstead_proto::wire::agent_message::Message::Delta(delta(
                3,
                &[ingress("b", "b.example.com", "other")],
                &[],
            )),
        ),
    ];
    it.edges.insert(stream, model);
    it.send(inputs);
    assert_eq!(it.edges[&stream].table(), it.core.publish().table());
}

#[test]
fn updates_wait_for_room_in_the_window_and_coalesce() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let edge = it.edge(EdgeModel { is_stuck: true, ..EdgeModel::named("e1") });
    for round in 0..100 {
        it.upsert(agent, round, &[ingress("a", "a.example.com", &format!("s{round}"))]);
    }
    assert_eq!(it.edges[&edge].updates.len(), WINDOW);
    it.unstick(edge);
    let updates = it.edges[&edge].updates.len();
    assert!(updates <= 2, "what waited goes out coalesced, not {updates} times");
    assert_eq!(it.edges[&edge].table(), it.core.publish().table());
}

#[test]
fn a_change_and_its_reversal_are_not_sent() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    let edge = it.edge(EdgeModel::named("e1"));
    it.stick(edge);
    // Fill the window, then change and change back.
    for round in 0..WINDOW as u64 {
        it.upsert(agent, 2 + round, &[ingress("b", "b.example.com", &format!("s{round}"))]);
    }
    it.upsert(agent, 50, &[ingress("a", "a.example.com", "other")]);
    it.upsert(agent, 51, &[ingress("a", "a.example.com", "web")]);
    assert_eq!(it.edges[&edge].updates.len(), WINDOW);
    it.unstick(edge);
    let again = it.edges[&edge].updates.iter().flat_map(|update| &update.upserts);
    assert_eq!(again.count(), 0, "the edge holds all of it already");
    assert_eq!(it.edges[&edge].table(), it.core.publish().table());
}

#[test]
fn large_tables_are_sent_in_chunks() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    for batch in 0..8 {
        let many: Vec<_> = (0..500)
            .map(|n| {
                ingress(
                    &format!("i{batch}-{n}"),
                    &format!("h{batch}-{n}.{}.example.com", "long-label".repeat(5)),
                    &"s".repeat(200),
                )
            })
            .collect();
        it.upsert(agent, batch, &many);
    }
    let edge = it.edge(EdgeModel::named("e1"));
    let updates = &it.edges[&edge].updates;
    assert!(updates.len() > 1);
    for update in updates {
        assert!(prost::Message::encoded_len(update) <= roadstead_routing::limit::MESSAGE_BYTES_MAX);
    }
    assert_eq!(it.edges[&edge].table(), it.core.publish().table());
}

#[test]
fn a_refusal_is_reported_and_not_repeated_until_the_resource_changes() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web"), ingress("b", "b.example.com", "web")]);
    let refused = ResourceKey::parse("host/a.example.com").unwrap();
    let edge = it.edge(EdgeModel { refuses: [refused.clone()].into(), ..EdgeModel::named("e1") });
    assert!(it.codes().contains(&"refused-by-edge".to_owned()));
    assert_eq!(crate::observe::status::report(&it.core, 0).pools[0].edges[0].refused, ["host/a.example.com"]);

    let mut model = it.edge_leaves(edge);
    model.updates.clear();
    let back = it.edge(model);
    assert_eq!(it.edges[&back].sent(), 0, "the same content is not offered again");
    it.edges.get_mut(&back).unwrap().refuses.clear();
    it.upsert(agent, 2, &[ingress("a", "a.example.com", "other")]);
    assert!(!it.codes().contains(&"refused-by-edge".to_owned()));
    assert_eq!(it.edges[&back].table(), it.core.publish().table());
}

#[test]
fn an_edge_that_knows_more_is_not_sent_back_in_time() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    let stored = it.what_is_stored();
    let edge = it.edge(EdgeModel::named("e1"));
    it.upsert(agent, 2, &[ingress("a", "a.example.com", "new"), ingress("b", "b.example.com", "new")]);
    let newest = it.core.publish().table();
    let mut model = it.edge_leaves(edge);
    model.updates.clear();

    // The controller restarts from a store that never got the second change.
    let mut it = Harness::restarted(stored, POLICY, Limits::default());
    let edge = it.edge(model);
    assert_eq!(it.edges[&edge].table().hosts, newest.hosts);
    // The agent comes back; before it has said everything, a newer epoch proves nothing.
    let agent = it.agent("eu");
    assert_eq!(it.edges[&edge].table().hosts, newest.hosts);
    for (id, backend) in &newest.backends {
        assert_eq!(it.edges[&edge].table().backends.get(id), Some(backend), "{id} is still there for those hosts");
    }
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "new"), ingress("c", "c.example.com", "new")]);
    for kind in Kind::ALL {
        it.complete(agent, kind, 2);
    }
    assert_eq!(it.edges[&edge].table(), it.core.publish().table());
    assert_eq!(it.edges[&edge].table().hosts.len(), 2);
}

#[test]
fn nothing_is_removed_while_a_retained_host_may_refer_to_it() {
    let mut it = Harness::new();
    let edge = it.edge(EdgeModel::named("e1"));
    let (ap, us) = (it.agent("ap"), it.agent("us"));
    let nothing_stored = it.what_is_stored();
    it.upsert(us, 1, &[ingress("a", "a.example.com", "old")]);
    it.upsert(ap, 1, &[ingress("a", "a.example.com", "web")]);
    let model = it.edge_leaves(edge);

    // The store got none of it. Only one of the two clusters returns, without its old backend.
    let mut it = Harness::restarted(nothing_stored, POLICY, Limits::default());
    let edge = it.edge(model);
    let us = it.agent("us");
    it.upsert(us, 1, &[ingress("a", "a.example.com", "new")]);
    Kind::ALL.into_iter().for_each(|kind| it.complete(us, kind, 1));
    let retained = it.edges[&edge].table();
    assert!(retained.backends.keys().any(|id| &*id.service.name == "old"), "the retained host still uses it");
    let ap = it.agent("ap");
    it.upsert(ap, 1, &[ingress("a", "a.example.com", "web")]);
    Kind::ALL.into_iter().for_each(|kind| it.complete(ap, kind, 1));
    assert_eq!(it.edges[&edge].table(), it.core.publish().table());
}

#[test]
fn nothing_of_a_cluster_is_sent_to_an_edge_that_is_ahead_until_the_cluster_has_said_everything() {
    let mut it = Harness::new();
    let edge = it.edge(EdgeModel::named("e1"));
    let eu = it.agent("eu");
    it.upsert(eu, 1, &[ingress("a", "a.example.com", "old")]);
    let stored = it.what_is_stored();
    it.upsert(eu, 2, &[ingress("a", "a.example.com", "new")]);
    let model = it.edge_leaves(edge);

    let mut it = Harness::restarted(stored, POLICY, Limits::default());
    let edge = it.edge(model);
    let eu = it.agent("eu");
    let us = it.agent("us");
    it.upsert(us, 1, &[ingress("c", "c.example.com", "web")]);
    it.upsert(eu, 1, &[ingress("b", "b.example.com", "old")]);
    let hosts =
        |it: &Harness| it.edges[&edge].table().hosts.keys().map(|(_, host)| host.to_string()).collect::<Vec<_>>();
    assert_eq!(hosts(&it), ["a.example.com", "c.example.com"], "other clusters go on");
    it.upsert(eu, 2, &[ingress("a", "a.example.com", "new")]);
    Kind::ALL.into_iter().for_each(|kind| it.complete(eu, kind, 2));
    assert_eq!(hosts(&it), ["a.example.com", "b.example.com", "c.example.com"]);
    assert_eq!(it.edges[&edge].table(), it.core.publish().table());
}

#[test]
fn a_pool_that_the_policy_lacks_is_empty() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    let stream = it.stream();
    let edge = crate::core::message::EdgeId { pool: "nowhere".into(), edge: "e1".into() };
    let hello = wire::EdgeHello { edge: "e1".into(), pool: "nowhere".into(), ..Default::default() };
    it.edges.insert(stream, EdgeModel::named("e1"));
    it.send(vec![Input::EdgeOpened { stream, edge }, edge_says(stream, EdgeSays::Hello(hello))]);
    assert_eq!(it.edges[&stream].updates.len(), 1);
    assert!(it.edges[&stream].updates[0].synced);
    assert_eq!(it.edges[&stream].sent(), 0);
}

#[test]
fn protocol_errors_end_the_stream() {
    let mut it = Harness::new();
    let edge = it.edge(EdgeModel::named("e1"));
    it.send(vec![edge_says(edge, EdgeSays::Result(wire::UpdateResult { nonce: 99, refusals: vec![] }))]);
    assert!(matches!(it.closed.get(&edge), Some(Close::Protocol(_))));
    let again = it.edge(EdgeModel::named("e1"));
    let newer = it.edge(EdgeModel::named("e1"));
    assert_eq!(it.closed.get(&again), Some(&Close::Replaced));
    it.tick(7_000);
    assert_eq!(it.closed.get(&newer), Some(&Close::Silent));
}

#[test]
fn every_version_of_a_host_is_recorded_and_endpoints_are_not() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web"), service("web"), slice("web", &[1])]);
    assert_eq!(it.revisions.len(), 1);
    assert!(it.revisions[0].positions.contains_key(&"eu".into()));
    it.upsert(agent, 2, &[slice("web", &[1, 2])]);
    assert_eq!(it.revisions.len(), 1);
    it.remove(agent, 3, &[(key(Kind::Ingress, "a"), Deleted)]);
    assert_eq!(it.revisions.len(), 2);
    assert!(it.revisions[1].body.is_none());
}

#[test]
fn a_restart_records_only_what_differs_from_what_was_published() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    it.upsert(agent, 1, &["a", "b"].map(|name| ingress(name, &format!("{name}.example.com"), "web")));
    let mut stored = it.what_is_stored();
    let published = it.revisions.iter().map(|it| ((it.pool.clone(), it.host.clone()), it.body.clone().unwrap().digest));
    stored.published = published.collect();
    assert!(Harness::restarted(stored.clone(), POLICY, Limits::default()).revisions.is_empty());

    stored.objects.retain(|(_, it)| it.object.key() != key(Kind::Ingress, "b"));
    let restarted = Harness::restarted(stored, POLICY, Limits::default());
    let gone: Vec<String> = restarted.revisions.iter().map(|it| it.host.to_string()).collect();
    assert_eq!(gone, ["b.example.com"]);
}

#[test]
fn an_edge_whose_policy_the_database_does_not_have_keeps_its_table_and_is_alerted_about() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let first = it.edge(EdgeModel::named("e1"));
    let mut model = it.edge_leaves(first);
    model.policy_rev = 9;
    it.edge(model);
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web")]);
    assert_eq!(it.edges.values().flat_map(|edge| &edge.held).count(), 0);
    let codes = |it: &Harness| it.core.alerts().into_iter().map(|alert| alert.code).collect::<Vec<_>>();
    assert!(codes(&it).is_empty(), "another replica may have stored it just now");
    let edges: Vec<_> = it.edges.keys().copied().collect();
    for _ in 0..11 {
        it.tick(1_000);
        let beats = edges.iter().map(|edge| edge_says(*edge, EdgeSays::Heartbeat(wire::Heartbeat { seq: 1 })));
        it.send(beats.collect());
    }
    assert_eq!(codes(&it), ["restored-backup"]);
}
