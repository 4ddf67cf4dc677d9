//! When the guard judges and when it takes what comes, over streams, absences and other worlds.

use roadstead_routing::id::{ObjectName, PortRef};
use roadstead_routing::table::{Host, PathMatch, Route, RouteBackend, Target};

use super::*;

fn units(cluster: &str, namespace: &str) -> Units {
    let ingress = ObjectName::new(namespace, "web");
    let service = ObjectName::new(namespace, "web");
    let id = roadstead_routing::id::BackendId { cluster: cluster.into(), service, port: PortRef::Number(80) };
    let part = RouteBackend::new(cluster.into(), 1, Target::Backend(id), ingress);
    let routes = vec![Route::new(PathMatch::Prefix("".into()), vec![part])];
    let name = HostKey::Exact("x".into());
    Units::of(&Host { routes, ..Host::new("public".into(), name) })
}

fn key(number: usize) -> HostKey {
    HostKey::Exact(format!("h{number}").into())
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// One Update: these hosts of eu/shop are to be there or to go. Returns how many are held.
fn change(guard: &mut Guard, hosts: std::ops::Range<usize>, there: bool) -> usize {
    let change = || there.then(|| units("eu", "shop"));
    guard.review(hosts.map(|number| (key(number), change())).collect(), Units::clone).held.len()
}

fn withdraw(guard: &mut Guard, hosts: std::ops::Range<usize>) -> usize {
    change(guard, hosts, false)
}

/// A guard that is in step since `now`, with 15 hosts, of which 5 may go.
fn in_step(now: Duration) -> Guard {
    let mut guard = Guard::new("public".into());
    guard.begin(None, Origin::Nothing, now);
    change(&mut guard, 0..15, true);
    guard.end(true);
    guard
}

/// The first Update of a stream withdraws ten hosts. Returns how many are held.
fn first_set(guard: &mut Guard, origin: Origin, now: Duration) -> usize {
    guard.stream_ended();
    guard.begin(None, origin, now);
    let held = withdraw(guard, 0..10);
    guard.end(true);
    held
}

#[test]
fn live_changes_are_judged_over_ten_minutes() {
    let mut guard = in_step(minutes(0));
    for (at, hosts, held) in [(1, 0..5, 0), (5, 5..6, 1), (10, 5..6, 1), (11, 5..9, 0)] {
        guard.begin(None, Origin::Held, minutes(at));
        assert_eq!(withdraw(&mut guard, hosts), held, "after {at} minutes");
        guard.end(false);
    }
}

#[test]
fn a_stream_that_ends_does_not_make_the_guard_forget() {
    assert_eq!(first_set(&mut in_step(minutes(0)), Origin::Held, minutes(10)), 10);
}

#[test]
fn after_a_long_absence_one_whole_set_is_taken() {
    let mut guard = in_step(minutes(0));
    guard.stream_ended();
    guard.begin(None, Origin::Held, minutes(11));
    assert_eq!(withdraw(&mut guard, 0..4), 0);
    guard.end(false);
    guard.begin(None, Origin::Held, minutes(12));
    assert_eq!(withdraw(&mut guard, 4..10), 0, "also what comes later in the same set");
    guard.end(true);
    guard.begin(None, Origin::Held, minutes(12));
    assert_eq!(withdraw(&mut guard, 10..15), 0, "what went with the set does not count against what is live");
    guard.end(false);
    assert_eq!(guard.published().len(), 0);
}

#[test]
fn what_follows_a_set_that_was_taken_is_judged() {
    let mut guard = in_step(minutes(0));
    guard.stream_ended();
    guard.begin(None, Origin::Held, minutes(11));
    change(&mut guard, 15..30, true);
    guard.end(true);
    guard.begin(None, Origin::Held, minutes(11));
    assert_eq!(withdraw(&mut guard, 0..10), 10);
}

#[test]
fn a_set_that_broke_off_leaves_the_edge_out_of_step() {
    let mut guard = in_step(minutes(0));
    guard.stream_ended();
    guard.begin(None, Origin::Held, minutes(11));
    guard.end(false);
    guard.heard(minutes(12));
    assert_eq!(first_set(&mut guard, Origin::Held, minutes(13)), 0);
}

#[test]
fn heartbeats_of_a_stream_in_step_say_that_the_table_is_current() {
    let mut guard = in_step(minutes(0));
    guard.heard(minutes(30));
    assert_eq!(first_set(&mut guard, Origin::Held, minutes(40)), 10);
}

#[test]
fn heartbeats_before_the_first_set_say_nothing() {
    let mut guard = in_step(minutes(0));
    guard.stream_ended();
    guard.heard(minutes(9));
    guard.heard(minutes(30));
    assert_eq!(first_set(&mut guard, Origin::Held, minutes(30)), 0);
}

#[test]
fn a_set_is_judged_or_taken_as_a_whole() {
    let mut guard = in_step(minutes(0));
    guard.stream_ended();
    guard.begin(None, Origin::Held, minutes(9));
    guard.end(false);
    guard.begin(None, Origin::Held, minutes(12));
    assert_eq!(withdraw(&mut guard, 0..10), 10, "it began within the window");
}

#[test]
fn the_absence_before_the_start_counts() {
    for (before, after, held) in [(0, 9, 10), (0, 11, 0), (5, 5, 10), (5, 6, 0), (11, 0, 0)] {
        let mut guard = Guard::new("public".into());
        guard.in_step_before_start(minutes(before));
        change(&mut guard, 0..15, true);
        guard.replayed();
        let got = first_set(&mut guard, Origin::Held, minutes(after));
        assert_eq!(got, held, "{before} minutes before the start and {after} after it");
    }
}

#[test]
fn a_replay_is_not_judged_and_does_not_count() {
    let mut guard = Guard::new("public".into());
    change(&mut guard, 0..30, true);
    assert_eq!(withdraw(&mut guard, 0..15), 0);
    guard.replayed();
    guard.begin(None, Origin::Held, minutes(0));
    assert_eq!(withdraw(&mut guard, 15..20), 0);
    assert_eq!(withdraw(&mut guard, 20..21), 1);
}

#[test]
fn another_world_is_judged_until_its_first_set_is_complete() {
    let mut guard = in_step(minutes(0));
    guard.stream_ended();
    guard.begin(None, Origin::Restored, minutes(60));
    guard.end(false);
    assert_eq!(first_set(&mut guard, Origin::Held, minutes(120)), 10);
    assert_eq!(first_set(&mut guard, Origin::Held, minutes(180)), 0, "from then on it is a world like any other");
}

#[test]
fn what_controllers_say_allows_withdrawals_on_their_stream_only() {
    let text = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = |texts: &[&str]| wire::GuardContext { expected: text(texts), ..wire::GuardContext::default() };
    for (context, held) in [
        (expected(&["pool"]), 0),
        (expected(&["cluster/eu"]), 0),
        (expected(&["namespace/eu/shop"]), 0),
        (expected(&["cluster/us", "namespace/eu/other", "namespace/us/shop"]), 10),
        (expected(&["eu", "cluster", "cluster/eu/shop", "namespace/eu", "pool/public", "everything", ""]), 10),
        (wire::GuardContext { approved: text(&["h0", "h1", "h2", "h3", "h4"]), ..expected(&[]) }, 0),
        (wire::GuardContext { approved: text(&["", "h1", "*.h2"]), ..expected(&[]) }, 9),
    ] {
        let mut guard = in_step(minutes(0));
        guard.begin(Some(&context), Origin::Held, minutes(1));
        guard.end(false);
        let mut next_stream = in_step(minutes(0));
        next_stream.begin(Some(&context), Origin::Held, minutes(1));
        next_stream.end(false);
        guard.begin(None, Origin::Held, minutes(1));
        let got = withdraw(&mut guard, 0..10);
        assert_eq!(got, held, "{context:?}");
        assert_eq!(first_set(&mut next_stream, Origin::Held, minutes(1)), 10, "{context:?}");
    }
}

#[test]
fn a_cluster_that_is_emptied_by_what_a_list_lacked_is_held_however_small() {
    let mut guard = in_step(minutes(0));
    guard.begin(None, Origin::Held, minutes(0));
    guard.review(BTreeMap::from([(key(20), Some(units("us", "shop")))]), Units::clone);
    guard.end(false);
    let inferred = wire::GuardContext { inferred: vec!["us".to_owned()], ..wire::GuardContext::default() };
    guard.begin(Some(&inferred), Origin::Held, minutes(1));
    assert_eq!(withdraw(&mut guard, 20..21), 1);
    assert!(guard.held().next().unwrap().1.starts_with("cluster us in pool public would be left with none"));
    guard.begin(Some(&wire::GuardContext::default()), Origin::Held, minutes(1));
    assert_eq!(withdraw(&mut guard, 20..21), 0);
}

#[test]
fn what_is_held_is_shown_until_the_next_stream_speaks() {
    let mut guard = in_step(minutes(0));
    guard.begin(None, Origin::Held, minutes(1));
    withdraw(&mut guard, 0..10);
    guard.stream_ended();
    assert_eq!(guard.held().count(), 10);
    guard.begin(None, Origin::Held, minutes(1));
    assert_eq!(guard.held().count(), 0);
    withdraw(&mut guard, 0..8);
    assert_eq!(guard.held().count(), 8);
    guard.settled(&key(0));
    assert_eq!(guard.held().count(), 7);
    change(&mut guard, 1..3, true);
    assert_eq!(guard.held().count(), 5, "what flows is not held");
}

#[test]
fn what_is_held_beyond_the_limit_is_held_but_not_shown() {
    let mut guard = Guard::new("public".into());
    guard.begin(None, Origin::Nothing, minutes(0));
    change(&mut guard, 0..SHOWN_MAX + 5, true);
    guard.end(true);
    guard.begin(None, Origin::Held, minutes(0));
    assert_eq!(withdraw(&mut guard, 0..SHOWN_MAX + 5), SHOWN_MAX + 5);
    assert_eq!(guard.held().count(), SHOWN_MAX);
}

#[test]
fn a_reason_has_a_limit() {
    let mut guard = Guard::new("public".into());
    guard.begin(None, Origin::Nothing, minutes(0));
    let long = |number: usize| HostKey::Exact(format!("{number}{}", "ä".repeat(300)).into());
    guard.review((0..10).map(|number| (long(number), Some(units("eu", "shop")))).collect(), Units::clone);
    guard.end(true);
    guard.begin(None, Origin::Held, minutes(0));
    let held = guard.review((0..10).map(|number| (long(number), None)).collect(), Units::clone).held;
    assert_eq!(held.len(), 10);
    let reason = &held[0].2;
    assert!(reason.len() <= REASON_BYTES_MAX && reason.len() > REASON_BYTES_MAX - 4 && reason.ends_with('…'));
    assert!(reason.starts_with("cluster eu in pool public would lose"));
}
