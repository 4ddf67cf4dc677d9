//! The guard in the core: what would withdraw too much waits for a person, everything else flows.

use roadstead_proto::wire::RemovalCause::{Deleted, Inferred};
use roadstead_proto::wire::controller_message::Message as ToAgent;
use roadstead_routing::guard::{Scope, WINDOW_MS};
use roadstead_routing::id::{ClusterId, Kind, ObjectKey};
use roadstead_routing::object::Object;

use super::harness::*;
use crate::core::message::{Input, StreamId};
use crate::guard::decide::{Decision, Refused, Terms};
use crate::guard::hold::Hold;
use crate::guard::kept::Kept;
use crate::store::{Beat, ReplicaRow};

const HOSTS: usize = 30;
const DELETED: usize = 25;

/// Cluster `eu` with 30 Ingresses of one application each for themselves, and an edge.
fn site() -> (Harness, StreamId, StreamId) {
    let mut it = Harness::guarded();
    let agent = it.agent("eu");
    let mut objects: Vec<Object> = (0..HOSTS).map(|n| ingress(&name(n), &host(n), "web")).collect();
    objects.extend([service("web"), slice("web", &[1, 2])]);
    it.upsert(agent, 1, &objects);
    let edge = it.edge(EdgeModel::named("e1"));
    assert_eq!(it.hosts().len(), HOSTS);
    (it, agent, edge)
}

fn name(number: usize) -> String {
    format!("i{number:02}")
}

fn host(number: usize) -> String {
    format!("h{number:02}.example.com")
}

fn deletions(count: usize) -> Vec<(ObjectKey, roadstead_proto::wire::RemovalCause)> {
    (0..count).map(|n| (key(Kind::Ingress, &name(n)), Deleted)).collect()
}

fn by() -> String {
    "somebody".to_owned()
}

fn terms(for_ms: u64) -> Terms {
    Terms { for_ms, reason: "a test".to_owned(), by: by() }
}

fn only_hold(it: &Harness) -> Hold {
    let holds: Vec<&Hold> = it.core.guard().holds().collect();
    assert_eq!(holds.len(), 1, "{holds:?}");
    holds[0].clone()
}

#[test]
fn a_mass_deletion_is_held_and_everything_else_flows() {
    let (mut it, agent, edge) = site();
    it.remove(agent, 2, &deletions(DELETED));
    let hold = only_hold(&it);
    assert_eq!((hold.hosts.len(), hold.scope), (DELETED, Scope::Namespace("eu".into(), "shop".into())));
    assert!(hold.hosts.values().all(Option::is_none));
    assert!(it.codes().contains(&"change-held".to_owned()));
    assert_eq!(it.hosts().len(), HOSTS);

    it.upsert(agent, 3, &[ingress("new", "new.example.com", "web"), slice("web", &[7])]);
    let table = it.edges[&edge].table();
    assert_eq!(table.hosts.len(), HOSTS + 1);
    assert_eq!(table, it.core.publish().table());
    let endpoints: Vec<_> =
        table.backends.values().flat_map(|it| &it.endpoints).map(|it| it.address.to_string()).collect();
    assert_eq!(endpoints, ["10.0.0.7:8080"]);
}

#[test]
fn one_hold_grows_while_deletions_arrive_one_by_one() {
    let (mut it, agent, _) = site();
    for (seq, deletion) in (2..).zip(deletions(DELETED)) {
        it.remove(agent, seq, &[deletion]);
    }
    let limit = HOSTS * 30 / 100;
    assert_eq!(only_hold(&it).hosts.len(), DELETED - limit);
    assert_eq!(it.hosts().len(), HOSTS - limit);
}

#[test]
fn held_hosts_keep_backends_that_nobody_describes_any_more() {
    let (mut it, agent, edge) = site();
    let mut removals = deletions(HOSTS);
    removals.extend([(key(Kind::Service, "web"), Deleted), (key(Kind::EndpointSlice, "web-1"), Deleted)]);
    let before = it.edges[&edge].table();
    it.remove(agent, 2, &removals);
    assert_eq!(it.edges[&edge].table(), before);

    let mut it = it.restart_guarded(1_000);
    assert_eq!(it.core.publish().table(), before, "also after a restart");
    let id = only_hold(&it).id;
    it.decide(Decision::Approve { hold: id, by: by() }).unwrap();
    assert!(it.core.publish().table().backends.is_empty());
    assert!(it.restart_guarded(1_000).core.publish().table().hosts.is_empty());
}

/// Nobody but the Hold uses the Service any more: its agent is asked to go on reporting it, and its pods are followed.
#[test]
fn held_hosts_follow_the_pods_of_a_service_that_no_ingress_refers_to() {
    let (mut it, agent, edge) = site();
    it.remove(agent, 2, &deletions(HOSTS));
    let asked = |it: &Harness| {
        let policy =
            |said: &ToAgent| if let ToAgent::Policy(policy) = said { Some(policy.services.clone()) } else { None };
        it.heard(agent).filter_map(policy).last().unwrap_or_default()
    };
    assert_eq!(asked(&it), ["shop/web"]);
    it.remove(agent, 3, &[(key(Kind::Service, "web"), Deleted), (key(Kind::EndpointSlice, "web-1"), Deleted)]);
    it.upsert(agent, 4, &[service("web"), slice("web", &[7])]);
    let endpoints = |it: &Harness| {
        let table = it.edges[&edge].table();
        table.backends.values().flat_map(|it| &it.endpoints).map(|it| it.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(endpoints(&it), ["10.0.0.7:8080"]);
    let id = only_hold(&it).id;
    it.decide(Decision::Approve { hold: id, by: by() }).unwrap();
    it.tick(1_000);
    assert_eq!(asked(&it), [""; 0]);
    assert!(it.core.publish().table().backends.is_empty());
}

#[test]
fn approval_lets_the_changes_go() {
    let (mut it, agent, edge) = site();
    it.remove(agent, 2, &deletions(DELETED));
    let id = only_hold(&it).id;
    it.decide(Decision::Approve { hold: id.clone(), by: by() }).unwrap();
    assert_eq!(it.edges[&edge].table().hosts.len(), HOSTS - DELETED);
    assert_eq!(it.core.guard().holds().count(), 0);
    assert!(!it.codes().contains(&"change-held".to_owned()));
    let again = it.decide(Decision::Approve { hold: id.clone(), by: by() });
    assert_eq!(again, Err(Refused::NoHold(id)));
}

#[test]
fn a_discarded_hold_keeps_the_form_until_the_objects_change_again() {
    let (mut it, agent, _) = site();
    it.remove(agent, 2, &deletions(DELETED));
    let id = only_hold(&it).id;
    it.decide(Decision::Discard { hold: id, by: by() }).unwrap();
    assert_eq!(it.core.guard().holds().count(), 0);
    assert_eq!(it.hosts().len(), HOSTS);
    it.tick(1_000);

    let mut it = it.restart_guarded(2 * WINDOW_MS);
    assert_eq!((it.hosts().len(), it.core.guard().holds().count()), (HOSTS, 0), "it is still discarded");
    let agent = it.agent("eu");
    it.upsert(agent, 1, &[ingress(&name(0), &host(0), "web")]);
    it.remove(agent, 2, &deletions(1));
    assert_eq!(it.hosts().len(), HOSTS - 1, "one host that changed again is judged like any other");
}

#[test]
fn a_hold_resolves_itself_when_the_objects_come_back() {
    let (mut it, agent, edge) = site();
    it.remove(agent, 2, &deletions(DELETED));
    let before = it.edges[&edge].sent();
    let back: Vec<Object> = (0..DELETED).map(|n| ingress(&name(n), &host(n), "web")).collect();
    it.upsert(agent, 3, &back);
    assert_eq!(it.core.guard().holds().count(), 0);
    assert_eq!(it.edges[&edge].sent(), before, "edges never noticed");
    assert!(!it.codes().contains(&"change-held".to_owned()));
}

#[test]
fn time_and_restarts_let_nothing_go() {
    let (mut it, agent, _) = site();
    it.remove(agent, 2, &deletions(DELETED));
    let hold = only_hold(&it);
    it.stall(2 * WINDOW_MS);
    it.upsert(agent, 3, &[ingress("new", "new.example.com", "web")]);
    assert_eq!(it.hosts().len(), HOSTS + 1);
    let later = it.restart_guarded(2 * WINDOW_MS);
    assert_eq!(later.hosts().len(), HOSTS + 1);
    let found = only_hold(&later);
    assert_eq!((found.id, found.hosts, found.since_ms), (hold.id, hold.hosts, hold.since_ms));
}

#[test]
fn a_restart_does_not_reset_the_count() {
    let (mut it, agent, _) = site();
    let limit = HOSTS * 30 / 100;
    it.remove(agent, 2, &deletions(limit));
    assert_eq!(it.hosts().len(), HOSTS - limit, "so many may go");
    let delete_two_more = |it: &mut Harness| {
        let agent = it.agent("eu");
        it.remove(agent, 1, &deletions(limit + 2)[limit..]);
        it.hosts().len()
    };
    assert_eq!(delete_two_more(&mut it.restart_guarded(1_000)), HOSTS - limit, "within the window no more may go");
    assert_eq!(delete_two_more(&mut it.restart_guarded(WINDOW_MS + 1)), HOSTS - limit - 2, "after it they may");
}

#[test]
fn what_differs_at_a_start_passes_the_guard_too() {
    let (mut it, _, _) = site();
    // As a policy edit or a new binary would: the objects are gone from what is loaded, and no Hold was ever written.
    it.model.lose(|key| key.kind == Kind::Ingress);
    let restarted = it.restart_guarded(0);
    assert_eq!(restarted.hosts().len(), HOSTS);
    assert_eq!(only_hold(&restarted).hosts.len(), HOSTS);
}

#[test]
fn an_expected_removal_goes_at_once_and_only_for_its_time_and_scope() {
    let (mut it, agent, _) = site();
    let scope = Scope::Namespace("eu".into(), "other".into());
    it.decide(Decision::ExpectRemoval { scope, terms: terms(60_000) }).unwrap();
    it.remove(agent, 2, &deletions(DELETED));
    assert_eq!(it.hosts().len(), HOSTS, "another namespace");
    let scope = Scope::Namespace("eu".into(), "shop".into());
    it.decide(Decision::ExpectRemoval { scope, terms: terms(60_000) }).unwrap();
    assert_eq!(it.hosts().len(), HOSTS - DELETED, "what was held already goes, too");
    assert_eq!(it.core.guard().holds().count(), 0);

    it.stall(WINDOW_MS + 1);
    assert_eq!(it.core.guard().overrides().count(), 0, "they ran out");
    let more: Vec<Object> = (0..DELETED).map(|n| ingress(&name(n), &host(n), "web")).collect();
    it.upsert(agent, 3, &more);
    it.remove(agent, 4, &deletions(DELETED));
    assert_eq!(it.hosts().len(), HOSTS);
}

#[test]
fn a_freeze_holds_every_host_change_and_endpoints_flow() {
    let (mut it, agent, edge) = site();
    it.decide(Decision::Freeze { pool: Some("public".into()), terms: terms(60_000) }).unwrap();
    it.upsert(agent, 2, &[ingress("new", "new.example.com", "web"), slice("web", &[9])]);
    it.remove(agent, 3, &deletions(1));
    let table = it.edges[&edge].table();
    assert_eq!(table.hosts.len(), HOSTS);
    let mut addresses = table.backends.values().flat_map(|it| &it.endpoints).map(|it| it.address.to_string());
    assert_eq!(addresses.next().as_deref(), Some("10.0.0.9:8080"));
    let mut it = it.restart_guarded(1_000);
    assert_eq!(it.hosts().len(), HOSTS, "it is frozen after a restart as well");
    it.stall(60_000);
    assert_eq!(it.hosts(), {
        let mut hosts: Vec<String> = (1..HOSTS).map(host).collect();
        hosts.push("new.example.com".to_owned());
        hosts
    });
}

#[test]
fn a_namespace_emptied_by_inference_is_held_however_small() {
    let mut it = Harness::guarded();
    let agent = it.agent("eu");
    let elsewhere = |object: Object| match object {
        Object::Ingress(it) => {
            let mut it = (*it).clone();
            it.name.namespace = "other".into();
            Object::Ingress(it.into())
        }
        other => other,
    };
    it.upsert(agent, 1, &[ingress("a", "a.example.com", "web"), elsewhere(ingress("b", "b.example.com", "web"))]);
    it.remove(agent, 2, &[(ObjectKey::new(Kind::Ingress, "other", "b"), Inferred)]);
    it.complete(agent, Kind::IngressClass, 0);
    it.complete(agent, Kind::Ingress, 1);
    assert_eq!(only_hold(&it).scope, Scope::Namespace("eu".into(), "other".into()));
    assert_eq!(it.hosts(), ["a.example.com", "b.example.com"]);

    // The process ended before the Hold was stored: the next one judges as this one did.
    let kept = Kept { holds: Vec::new(), ..it.model.load_kept(it.now_ms) };
    let it = it.restart_with(1_000, kept);
    assert_eq!(only_hold(&it).scope, Scope::Namespace("eu".into(), "other".into()));
    assert_eq!(it.hosts(), ["a.example.com", "b.example.com"]);
}

#[test]
fn decisions_with_bad_terms_are_refused() {
    let (mut it, _, _) = site();
    let freeze = |terms| Decision::Freeze { pool: None, terms };
    assert_eq!(it.decide(freeze(terms(0))), Err(Refused::Duration));
    assert_eq!(it.decide(freeze(terms(8 * 24 * 3_600_000))), Err(Refused::Duration));
    let no_reason = Terms { reason: " ".to_owned(), ..terms(1_000) };
    assert_eq!(it.decide(freeze(no_reason)), Err(Refused::Text("reason")));
    assert_eq!(it.decide(Decision::Lift { id: "o-1".to_owned() }), Err(Refused::NoOverride("o-1".to_owned())));
}

/// What the store says may be older than what this replica has handed to it.
#[test]
fn a_hold_that_is_resolved_here_does_not_come_back_from_the_store() {
    let (mut it, agent, _) = site();
    it.tick(1_000);
    it.remove(agent, 2, &deletions(DELETED));
    it.tick(1_000);
    let replica = ReplicaRow { id: "r1".to_owned(), ..ReplicaRow::default() };
    let late = it.model.beat(&Beat { replica, held: [ClusterId::from("eu")].into(), ..Beat::default() }, it.now_ms);
    assert_eq!(late.keeps.as_ref().map(|keeps| keeps.holds.len()), Some(1));
    let back: Vec<Object> = (0..DELETED).map(|n| ingress(&name(n), &host(n), "web")).collect();
    it.upsert(agent, 3, &back);
    it.send(vec![Input::News(Box::new(late))]);
    assert_eq!(it.core.guard().holds().count(), 0);
    it.tick(2_000);
    assert_eq!(it.core.guard().holds().count(), 0);
    // The next one is another one.
    it.remove(agent, 4, &deletions(DELETED));
    assert_eq!(only_hold(&it).hosts.len(), DELETED);
    it.tick(2_000);
    assert_eq!(only_hold(&it).hosts.len(), DELETED);
}
