//! What Updates do to what is held: alone, in sequence, and again after a restart.

use std::sync::Arc;

use proptest::prelude::*;
use roadstead_proto::digest::bucket_of;
use roadstead_routing::endpoints::Locality;
use roadstead_routing::guard::Summary;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;
use roadstead_routing::table::PathMatch;

use super::samples::{host_with, shared_host, upsert};
use super::*;
use crate::table::LiveTable;

mod certificates;

fn holdings() -> (Holdings, Arc<LiveTable>) {
    let table = LiveTable::new();
    (Holdings::new("public".into(), TableWriter::new(table.clone(), Locality::default())), table)
}

fn at(positions: &[(&str, u64, u64)]) -> Option<wire::Positions> {
    let cluster = |(cluster, epoch, seq): &(&str, u64, u64)| wire::ClusterPosition {
        cluster: (*cluster).to_owned(),
        position: Some(wire::Position { epoch: *epoch, seq: *seq }),
        ..Default::default()
    };
    Some(wire::Positions { clusters: positions.iter().map(cluster).collect(), policy_rev: 0, clerk_rev: 0 })
}

/// As an edge says it that was told so in this incarnation.
fn told(incarnation: u64, positions: &[(&str, u64, u64)]) -> Option<wire::Positions> {
    let mut positions = at(positions)?;
    positions.clusters.iter_mut().for_each(|entry| entry.incarnation = incarnation);
    Some(positions)
}

fn update(upserts: Vec<wire::ResourceUpsert>, removals: &[&str]) -> wire::Update {
    let removals = removals.iter().map(ToString::to_string).collect();
    wire::Update { world: world(1, 1), upserts, removals, ..wire::Update::default() }
}

fn applied(holdings: &mut Holdings, update: wire::Update) -> Applied {
    holdings.apply(update, Duration::ZERO).expect("the world must fit")
}

fn keys(holdings: &Holdings) -> Vec<String> {
    holdings.held.keys().map(ToString::to_string).collect()
}

/// The addresses that serve a host.
fn addresses(table: &LiveTable, host: &str) -> Option<Vec<String>> {
    let found = table.find(host, "/")?;
    let backend = found.route().clusters[0].backend.clone()?;
    Some(backend.endpoints().as_slice().iter().map(|endpoint| endpoint.address.to_string()).collect())
}

/// The journal that the effective Updates make, read back.
fn replayed(updates: Vec<wire::Update>, same_build: bool) -> (Holdings, Arc<LiveTable>) {
    let (mut holdings, table) = holdings();
    holdings.replay(Replayed { same_build, updates, bytes_lost: 0 });
    (holdings, table)
}

#[test]
fn an_update_takes_effect_and_is_held() {
    let (mut holdings, table) = holdings();
    let first = update(vec![backend("web", 1), host("a.example.com", "web")], &[]);
    let outcome = applied(&mut holdings, first.clone());
    assert_eq!(outcome, Applied { refusals: vec![], effective: Some(first) });
    assert_eq!(keys(&holdings), ["backend/eu/shop/web:80", "host/a.example.com"]);
    assert_eq!(addresses(&table, "a.example.com").unwrap(), ["10.0.0.1:80"]);
    assert!(!table.is_complete() && !holdings.is_complete());
    applied(&mut holdings, wire::Update { synced: true, ..update(vec![backend("web", 2)], &[]) });
    assert_eq!(addresses(&table, "a.example.com").unwrap(), ["10.0.0.2:80"]);
    assert!(table.is_complete() && holdings.is_complete());
    applied(&mut holdings, update(vec![], &["host/a.example.com", "backend/eu/shop/web:80"]));
    assert_eq!(keys(&holdings), Vec::<String>::new());
    assert_eq!(*holdings.hashes(), BucketHashes::default());
    assert!(addresses(&table, "a.example.com").is_none());
}

#[test]
fn what_cannot_be_used_is_refused_alone_and_the_old_form_stays() {
    let (mut holdings, table) = holdings();
    applied(&mut holdings, update(vec![backend("web", 1), host("a", "web")], &[]));
    let broken = host_with("a", "public", PathMatch::Regex("(".into()), "web");
    let foreign = host_with("b", "internal", PathMatch::Prefix("".into()), "web");
    let nameless =
        upsert(wire::resource_upsert::Resource::Host(wire::Host { pool: "public".into(), ..wire::Host::default() }));
    let headless = upsert(wire::resource_upsert::Resource::Backend(wire::Backend::default()));
    let unknown = wire::ResourceUpsert { digest: vec![0; 16], resource: None };
    let undigested = wire::ResourceUpsert { digest: vec![1], ..host("c", "web") };
    let mixed = vec![broken.clone(), foreign, nameless, headless, unknown, undigested, host("d", "web")];
    let outcome = applied(&mut holdings, update(mixed, &["nonsense"]));
    let refused: Vec<&str> = outcome.refusals.iter().map(|refusal| &*refusal.key).collect();
    assert_eq!(refused, ["host/a", "host/b", "host/", "backend///:", "", "host/c", "nonsense"]);
    assert!(outcome.refusals.iter().all(|refusal| !refusal.reason.is_empty()));
    assert_eq!(outcome.refusals[0].digest, broken.digest);
    assert!(outcome.refusals[1].reason.contains("internal"));
    assert_eq!(outcome.effective, Some(update(vec![host("d", "web")], &[])), "the rest applies");
    assert_eq!(addresses(&table, "a").unwrap(), ["10.0.0.1:80"], "the form before the refused one serves on");
    assert_eq!(holdings.held[&ResourceKey::parse("host/a").unwrap()].digest.to_vec(), host("a", "web").digest);
}

#[test]
fn a_refusal_is_remembered_until_another_form_comes() {
    let (mut holdings, _table) = holdings();
    let broken = host_with("a", "public", PathMatch::Regex("(".into()), "web");
    let first = applied(&mut holdings, update(vec![broken.clone()], &[])).refusals;
    assert_eq!(holdings.refused().map(|(key, _)| key).collect::<Vec<_>>(), ["host/a"]);
    assert_eq!(applied(&mut holdings, update(vec![broken.clone()], &[])).refusals, first);
    assert!(keys(&holdings).is_empty(), "what is refused is not held");
    assert_eq!(applied(&mut holdings, update(vec![host("a", "web")], &[])).refusals, []);
    assert_eq!(holdings.refused().count(), 0);
    applied(&mut holdings, update(vec![broken], &["host/a"]));
    assert_eq!(holdings.refused().count(), 0, "a removal ends the matter");
}

#[test]
fn a_backend_that_a_retained_host_names_is_removed_when_no_host_does() {
    let (mut holdings, table) = holdings();
    applied(&mut holdings, update(vec![backend("old", 1), host("a", "old"), host("b", "old")], &[]));
    // Both hosts move, but the new form of `b` is refused, so it still needs the old backend.
    let broken = host_with("b", "public", PathMatch::Regex("(".into()), "new");
    let moved = update(vec![backend("new", 2), host("a", "new"), broken], &["backend/eu/shop/old:80"]);
    let outcome = applied(&mut holdings, moved);
    assert_eq!(outcome.refusals.len(), 1);
    assert_eq!(outcome.effective.unwrap().removals, Vec::<String>::new());
    assert_eq!(addresses(&table, "b").unwrap(), ["10.0.0.1:80"]);
    let outcome = applied(&mut holdings, update(vec![host("b", "new")], &[]));
    assert_eq!(outcome.effective.unwrap().removals, ["backend/eu/shop/old:80"]);
    assert_eq!(addresses(&table, "b").unwrap(), ["10.0.0.2:80"]);
    assert!(!keys(&holdings).contains(&"backend/eu/shop/old:80".to_owned()));
}

#[test]
fn a_backend_that_comes_back_is_not_removed() {
    let (mut holdings, _table) = holdings();
    applied(&mut holdings, update(vec![backend("web", 1), host("a", "web")], &[]));
    applied(&mut holdings, update(vec![], &["backend/eu/shop/web:80"]));
    applied(&mut holdings, update(vec![backend("web", 1)], &[]));
    applied(&mut holdings, update(vec![], &["host/a"]));
    assert_eq!(keys(&holdings), ["backend/eu/shop/web:80"]);
}

#[test]
fn an_update_of_another_world_changes_nothing() {
    let (mut holdings, table) = holdings();
    applied(&mut holdings, update(vec![backend("web", 1), host("a", "web")], &[]));
    let hashes = holdings.hashes().clone();
    let removing = update(vec![], &["host/a"]);
    for other in
        [world(2, 1), world(1, 0), None, Some(wire::World { id: vec![1; 3], incarnation: 1, adopted: Vec::new() })]
    {
        assert!(holdings.apply(wire::Update { world: other, ..removing.clone() }, Duration::ZERO).is_err());
    }
    assert_eq!(*holdings.hashes(), hashes);
    assert!(addresses(&table, "a").is_some());
}

#[test]
fn nothing_goes_back_in_time() {
    let (mut holdings, _table) = holdings();
    applied(
        &mut holdings,
        wire::Update { positions: at(&[("eu", 2, 5), ("us", 1, 1)]), ..update(vec![host("a", "web")], &[]) },
    );
    for older in [at(&[("eu", 2, 4)]), at(&[("eu", 1, 900)]), at(&[("new", 1, 1), ("us", 0, 9)])] {
        let removing = wire::Update { positions: older, ..update(vec![host("b", "web")], &["host/a"]) };
        let outcome = applied(&mut holdings, removing);
        assert_eq!(outcome.effective, None);
        let refused: Vec<&str> = outcome.refusals.iter().map(|refusal| &*refusal.key).collect();
        assert_eq!(refused, ["host/b", "host/a"]);
        assert!(outcome.refusals.iter().all(|refusal| refusal.reason.starts_with("older than held: ")));
    }
    assert_eq!(keys(&holdings), ["host/a"]);
    applied(&mut holdings, wire::Update { positions: at(&[("eu", 3, 0)]), ..update(vec![], &[]) });
    assert_eq!(Some(holdings.positions().to_wire()), told(1, &[("eu", 3, 0), ("us", 1, 1)]));
}

#[test]
fn an_older_policy_is_refused_and_an_unchanged_one_may_be_left_out() {
    let (mut holdings, _table) = holdings();
    let with_policy = |policy_rev| wire::Update {
        positions: Some(wire::Positions { policy_rev, ..wire::Positions::default() }),
        ..update(vec![], &["host/x"])
    };
    applied(&mut holdings, with_policy(7));
    assert_eq!(applied(&mut holdings, with_policy(6)).effective, None);
    assert!(applied(&mut holdings, with_policy(0)).effective.is_some());
    assert_eq!(holdings.positions().policy_rev(), 7);
}

#[test]
fn an_adopted_restore_counts_anew() {
    let (mut holdings, _table) = holdings();
    applied(&mut holdings, wire::Update { positions: at(&[("eu", 9, 9)]), ..update(vec![host("a", "web")], &[]) });
    let restored = wire::Update { world: world(1, 2), positions: at(&[("eu", 3, 1)]), ..update(vec![], &[]) };
    assert!(applied(&mut holdings, restored).effective.is_some());
    assert_eq!(Some(holdings.positions().to_wire()), told(2, &[("eu", 3, 1)]));
    assert_eq!(keys(&holdings), ["host/a"], "what is held is kept until the controller corrects it");
}

fn other_world(byte: u8, incarnation: u64, adopted: &[u8]) -> Option<wire::World> {
    let adopted = adopted.iter().map(|byte| vec![*byte; 16]).collect();
    Some(wire::World { id: vec![byte; 16], incarnation, adopted })
}

#[test]
fn a_world_that_continues_the_held_one_is_followed_and_counts_anew() {
    let (mut holdings, table) = holdings();
    let first = wire::Update { synced: true, positions: at(&[("eu", 9, 9)]), ..update(vec![host("a", "web")], &[]) };
    let continued = wire::Update {
        world: other_world(2, 1, &[7, 1]),
        positions: at(&[("eu", 3, 1)]),
        ..update(vec![host("b", "web")], &[])
    };
    let journal = vec![first.clone(), continued.clone()];
    applied(&mut holdings, first);
    assert_eq!(applied(&mut holdings, continued.clone()).effective, Some(continued));
    assert_eq!(holdings.world().map(World::to_wire), world(2, 1), "what it continues is not kept");
    assert_eq!(Some(holdings.positions().to_wire()), told(1, &[("eu", 3, 1)]));
    assert_eq!(keys(&holdings), ["host/a", "host/b"], "what is held is kept until the controller corrects it");
    let former = wire::Update { world: world(1, 9), ..update(vec![], &["host/a"]) };
    assert!(holdings.apply(former, Duration::ZERO).is_err(), "nobody goes back");
    assert!(table.find("a", "/").is_some());
    let (again, _table) = replayed(journal, true);
    assert_eq!((again.hashes(), again.world()), (holdings.hashes(), holdings.world()), "a restart goes the same way");
}

#[test]
fn only_the_held_world_can_be_continued_and_a_world_cannot_continue_itself() {
    let (mut holdings, _table) = holdings();
    applied(&mut holdings, wire::Update { world: world(1, 5), ..update(vec![host("a", "web")], &[]) });
    for other in [other_world(2, 9, &[3]), other_world(1, 4, &[1]), other_world(2, 9, &[])] {
        let error = holdings.apply(wire::Update { world: other, ..update(vec![], &["host/a"]) }, Duration::ZERO);
        let text = error.unwrap_err().to_string();
        assert!(text.contains(&format!("{} incarnation 5", "01".repeat(16))), "{text}");
        assert!(text.contains("roadstead adopt-world"), "{text}");
    }
    let other = wire::Update { world: world(2, 9), ..update(vec![], &[]) };
    let text = holdings.apply(other, Duration::ZERO).unwrap_err().to_string();
    assert!(text.contains(&format!("{} incarnation 9", "02".repeat(16))), "{text}");
}

#[test]
fn checks_that_are_left_out_refuse_nothing() {
    let table = LiveTable::new();
    let writer = TableWriter::new(table, Locality::default());
    let mut holdings = Holdings::new("public".into(), writer).without(Check::World).without(Check::Positions);
    applied(&mut holdings, wire::Update { positions: at(&[("eu", 9, 9)]), ..update(vec![host("a", "web")], &[]) });
    let older = wire::Update { positions: at(&[("eu", 3, 1)]), ..update(vec![host("b", "web")], &[]) };
    assert!(applied(&mut holdings, older).effective.is_some());
    let foreign = wire::Update { world: world(2, 1), ..update(vec![host("c", "web")], &[]) };
    assert!(applied(&mut holdings, foreign).effective.is_some());
    assert_eq!(holdings.world().map(World::to_wire), world(2, 1));
    assert!(holdings.apply(wire::Update { world: None, ..update(vec![], &[]) }, Duration::ZERO).is_err());
}

/// Ten hosts of one namespace, and a whole first set.
fn ten_hosts() -> wire::Update {
    let hosts = (0..10).map(|n| host(&format!("h{n}"), "web"));
    wire::Update { synced: true, ..update([backend("web", 1)].into_iter().chain(hosts).collect(), &[]) }
}

/// Six of them, which is one more than may go.
const SIX: [&str; 6] = ["host/h0", "host/h1", "host/h2", "host/h3", "host/h4", "host/h5"];

#[test]
fn too_much_at_once_is_refused_alone_and_the_rest_applies() {
    let (mut holdings, table) = holdings();
    applied(&mut holdings, ten_hosts());
    let mut removals = SIX.to_vec();
    removals.push("backend/eu/shop/web:80");
    let moved = update(vec![backend("web", 2), backend("new", 3), host("h9", "new"), host("x", "new")], &removals);
    let outcome = applied(&mut holdings, moved);
    let refused: Vec<&str> = outcome.refusals.iter().map(|refusal| &*refusal.key).collect();
    assert_eq!(refused, SIX);
    for refusal in &outcome.refusals {
        assert!(refusal.guarded && refusal.digest.is_empty(), "{refusal:?}");
        assert!(refusal.reason.starts_with("cluster eu in pool public would lose"), "{}", refusal.reason);
    }
    let expected = update(vec![backend("web", 2), backend("new", 3), host("h9", "new"), host("x", "new")], &[]);
    assert_eq!(outcome.effective, Some(expected), "what is held is not journalled");
    assert_eq!(addresses(&table, "h0").unwrap(), ["10.0.0.2:80"], "backends change under hosts that are held");
    assert_eq!(addresses(&table, "h9").unwrap(), ["10.0.0.3:80"]);
    assert!(keys(&holdings).contains(&"backend/eu/shop/web:80".to_owned()), "hosts that are held name it");
    let shown: Vec<(String, &str)> = holdings.refused().collect();
    assert_eq!(shown.len(), 6);
    assert_eq!(shown[0], ("host/h0".to_owned(), &*outcome.refusals[0].reason));
}

#[test]
fn a_host_that_would_lose_its_routes_is_held_in_its_form() {
    let (mut holdings, table) = holdings();
    applied(&mut holdings, ten_hosts());
    let bare = |n: usize| host_with(&format!("h{n}"), "public", PathMatch::Exact("/only".into()), "web");
    let outcome = applied(&mut holdings, update((0..6).map(bare).collect(), &[]));
    let refused: Vec<_> = outcome.refusals.iter().map(|refusal| (&*refusal.key, refusal.guarded)).collect();
    assert_eq!(refused, SIX.map(|key| (key, true)));
    assert_eq!(outcome.refusals[3].digest, bare(3).digest);
    assert_eq!(outcome.effective, Some(update(vec![], &[])));
    assert!(table.find("h0", "/").is_some());
    assert_eq!(holdings.held[&ResourceKey::parse("host/h0").unwrap()].digest.to_vec(), host("h0", "web").digest);
}

#[test]
fn what_was_held_is_taken_as_soon_as_it_may_go() {
    let (mut holdings, table) = holdings();
    applied(&mut holdings, ten_hosts());
    let bare = |n: usize| host_with(&format!("h{n}"), "public", PathMatch::Exact("/only".into()), "web");
    let withdrawal = update((0..6).map(bare).collect(), &[]);
    assert_eq!(applied(&mut holdings, withdrawal.clone()).refusals.len(), 6);
    assert_eq!(applied(&mut holdings, withdrawal.clone()).refusals.len(), 6, "asking again changes nothing");
    let approved = (0..6).map(|n| format!("h{n}")).collect();
    let guard = Some(wire::GuardContext { approved, ..wire::GuardContext::default() });
    let outcome = applied(&mut holdings, wire::Update { guard, ..withdrawal.clone() });
    assert_eq!(outcome, Applied { refusals: vec![], effective: Some(withdrawal) }, "the context is not journalled");
    assert!(table.find("h0", "/").is_none() && table.find("h0", "/only").is_some());
    assert_eq!(holdings.refused().count(), 0);
}

#[test]
fn what_was_held_and_is_not_wanted_any_more_is_forgotten() {
    let (mut holdings, _table) = holdings();
    applied(&mut holdings, ten_hosts());
    applied(&mut holdings, update(vec![], &SIX));
    assert_eq!(holdings.refused().count(), 6);
    applied(&mut holdings, update(vec![host("h0", "web")], &[]));
    assert_eq!(holdings.refused().count(), 5, "the controller wants it as it is");
    applied(&mut holdings, update(vec![host("h1", "other")], &[]));
    assert_eq!(holdings.refused().count(), 4, "or in a form that withdraws nothing");
}

#[test]
fn a_restart_does_not_make_the_guard_forget_what_was_served() {
    let (mut holdings, _table) = holdings();
    let journal = vec![applied(&mut holdings, ten_hosts()).effective.unwrap()];
    let (mut again, _table) = replayed(journal.clone(), true);
    let removing = wire::Update { synced: true, ..update(vec![], &SIX) };
    assert_eq!(applied(&mut again, removing.clone()).refusals.len(), 6, "the first set is judged too");
    let (mut stale, table) = replayed(journal, true);
    stale.in_step_before_start(Duration::from_secs(601));
    assert_eq!(applied(&mut stale, removing).refusals, [], "the controller has a baseline, this edge has none");
    assert!(table.find("h0", "/").is_none());
}

#[test]
fn the_first_set_of_another_world_is_judged_however_long_the_edge_was_alone() {
    for world in [world(1, 2), other_world(2, 1, &[1])] {
        let (mut holdings, _table) = holdings();
        applied(&mut holdings, ten_hosts());
        holdings.stream_ended();
        let first_part = wire::Update { world: world.clone(), ..update(vec![], &SIX) };
        let late = Duration::from_secs(7_200);
        assert_eq!(holdings.apply(first_part.clone(), late).unwrap().refusals.len(), 6);
        // It breaks off before it is complete, and begins again.
        holdings.stream_ended();
        let again = wire::Update { synced: true, ..first_part };
        assert_eq!(holdings.apply(again, late).unwrap().refusals.len(), 6);
    }
}

#[test]
fn nothing_is_held_before_there_is_a_complete_table() {
    let (mut holdings, _table) = holdings();
    applied(&mut holdings, wire::Update { synced: false, ..ten_hosts() });
    assert_eq!(applied(&mut holdings, update(vec![], &SIX)).refusals, [], "nothing was served so far");
    applied(&mut holdings, ten_hosts());
    assert_eq!(applied(&mut holdings, update(vec![], &SIX)).refusals.len(), 6);
}

#[test]
fn without_a_guard_everything_goes() {
    let table = LiveTable::new();
    let mut holdings = Holdings::unguarded("public".into(), TableWriter::new(table.clone(), Locality::default()));
    applied(&mut holdings, ten_hosts());
    assert_eq!(applied(&mut holdings, update(vec![], &SIX)).refusals, []);
    assert!(table.find("h0", "/").is_none() && !holdings.is_in_step());
}

#[test]
fn the_last_word_about_a_host_counts() {
    let (mut holdings, table) = holdings();
    applied(&mut holdings, update(vec![backend("a", 1), backend("b", 2), host("x", "a")], &[]));
    let outcome = applied(&mut holdings, update(vec![host("x", "b"), host("y", "a"), host("y", "b")], &[]));
    assert_eq!(outcome.effective, Some(update(vec![host("x", "b"), host("y", "b")], &[])));
    // Back to what is held, and away again before it was ever there.
    let outcome = applied(&mut holdings, update(vec![host("x", "a"), host("x", "b"), host("z", "a")], &["host/z"]));
    assert_eq!(outcome.effective, Some(update(vec![], &[])));
    assert_eq!(addresses(&table, "x").unwrap(), ["10.0.0.2:80"]);
    assert!(table.find("z", "/").is_none());
}

#[test]
fn an_answer_is_of_a_size_that_a_controller_reads() {
    let (mut holdings, _table) = holdings();
    let names: Vec<String> = (0..10_000).map(|n| format!("h{n}")).collect();
    let hosts = names.iter().map(|name| host(name, "web")).collect();
    applied(&mut holdings, wire::Update { synced: true, ..update(hosts, &[]) });
    let keys: Vec<String> = names.iter().map(|name| format!("host/{name}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let refusals = applied(&mut holdings, update(vec![], &keys)).refusals;
    assert_eq!(refusals.len(), 10_000);
    let bytes: usize = refusals.iter().map(|refusal| refusal.reason.len()).sum();
    assert!(bytes <= MESSAGE_BYTES_MAX && !refusals[0].reason.is_empty());
    assert!(holdings.refused().count() > 0 && holdings.refused().all(|(_, reason)| !reason.is_empty()));
}

#[test]
fn contents_say_which_clusters_have_a_part_in_a_host() {
    let (mut holdings, _table) = holdings();
    let upserts = vec![backend("web", 1), host("a", "web"), shared_host("b", &["us", "eu", "ap", "us"])];
    applied(&mut holdings, update(upserts, &[]));
    let all: Vec<u32> = (0..1_024).collect();
    let messages = holdings.contents(&all);
    let held = messages.iter().flat_map(|message| &message.buckets).flat_map(|bucket| &bucket.held);
    let clusters: BTreeMap<&str, Vec<&str>> =
        held.map(|held| (&*held.key, held.clusters.iter().map(String::as_str).collect())).collect();
    let expected: [(&str, Vec<&str>); 3] =
        [("backend/eu/shop/web:80", vec![]), ("host/a", vec!["eu"]), ("host/b", vec!["ap", "eu", "us"])];
    assert_eq!(clusters, BTreeMap::from(expected));
}

#[test]
fn a_bucket_that_is_too_large_for_a_message_goes_on_in_the_next() {
    let (mut holdings, _table) = holdings();
    let clusters: Vec<String> = (0..100).map(|n| format!("{n:0>60}")).collect();
    let clusters: Vec<&str> = clusters.iter().map(String::as_str).collect();
    let names = (0..).map(|n| format!("h{n}")).filter(|name| bucket_of(&format!("host/{name}")) == 7);
    let hosts: Vec<_> = names.take(250).map(|name| shared_host(&name, &clusters)).collect();
    applied(&mut holdings, update(hosts, &[]));
    let messages = holdings.contents(&[7, 8]);
    assert!(messages.len() == 2 && messages.iter().all(|message| message.encoded_len() <= MESSAGE_BYTES_MAX));
    let buckets: Vec<_> = messages.iter().flat_map(|it| &it.buckets).map(|it| (it.index, it.held.len())).collect();
    assert_eq!((buckets.len(), buckets[0].1 + buckets[1].1, buckets[2]), (3, 250, (8, 0)));
    assert!(buckets[0].1 > 0 && !messages[0].last && messages[1].last);
}

#[test]
fn contents_are_what_the_hashes_say_in_bounded_messages() {
    let (mut holdings, _table) = holdings();
    let names: Vec<String> = (0..30_000).map(|n| format!("{n}.{}.example.com", "x".repeat(40))).collect();
    for names in names.chunks(500) {
        applied(&mut holdings, update(names.iter().map(|name| host(name, "web")).collect(), &[]));
    }
    let all: Vec<u32> = (0..1_024).collect();
    let messages = holdings.contents(&all);
    assert!(messages.len() > 1 && messages.iter().all(|message| message.encoded_len() <= MESSAGE_BYTES_MAX));
    assert!(messages.iter().rev().skip(1).all(|message| !message.last) && messages.last().unwrap().last);
    let mut hashes = BucketHashes::default();
    for held in messages.iter().flat_map(|message| &message.buckets).flat_map(|bucket| &bucket.held) {
        hashes.toggle(&held.key, &Digest::from_slice(&held.digest).unwrap());
    }
    assert_eq!(hashes, *holdings.hashes());
    let one = holdings.contents(&[7]);
    assert_eq!((one.len(), one[0].buckets.len(), one[0].buckets[0].index), (1, 1, 7));
    assert!(one[0].buckets[0].held.iter().all(|held| bucket_of(&held.key) == 7));
    let none = holdings.contents(&[]);
    assert_eq!((none.len(), none[0].last), (1, true), "somebody waits for the last one");
}

#[test]
fn a_snapshot_has_bounded_parts_and_its_last_one_says_how_far_it_is() {
    let (mut holdings, _table) = holdings();
    assert_eq!(holdings.snapshot().count(), 0);
    let names: Vec<String> = (0..20_000).map(|n| format!("{n}.{}.example.com", "x".repeat(60))).collect();
    for names in names.chunks(500) {
        applied(&mut holdings, update(names.iter().map(|name| host(name, "web")).collect(), &[]));
    }
    applied(
        &mut holdings,
        wire::Update { synced: true, positions: at(&[("eu", 1, 2)]), ..update(vec![backend("web", 1)], &[]) },
    );
    let parts: Vec<wire::Update> = holdings.snapshot().collect();
    assert!(parts.len() > 2 && parts.iter().all(|part| part.encoded_len() < MESSAGE_BYTES_MAX + 64 * 1024));
    let (last, others) = parts.split_last().unwrap();
    assert!(last.synced && last.positions == told(1, &[("eu", 1, 2)]));
    assert!(others.iter().all(|part| !part.synced && part.positions.is_none() && part.world.is_some()));
    let (again, table) = replayed(parts, true);
    assert_eq!((again.hashes(), again.hosts()), (holdings.hashes(), 20_000));
    assert!(table.is_complete());
}

#[test]
fn what_another_build_wrote_serves_but_does_not_count_as_held() {
    let (mut holdings, _table) = holdings();
    let complete = wire::Update { synced: true, ..update(vec![backend("web", 1), host("a", "web")], &[]) };
    let journal = vec![applied(&mut holdings, complete.clone()).effective.unwrap()];
    let (mut other, table) = replayed(journal, false);
    assert_eq!(addresses(&table, "a").unwrap(), ["10.0.0.1:80"]);
    assert_ne!(other.hashes(), holdings.hashes());
    // Not even after the journal was rewritten under this build's name.
    let (rewritten, _table) = replayed(other.snapshot().collect(), true);
    assert_eq!(rewritten.hashes(), other.hashes());
    applied(&mut other, complete);
    assert_eq!(other.hashes(), holdings.hashes());
}

#[test]
fn refusals_beyond_the_limit_are_made_but_not_remembered() {
    let (mut holdings, _table) = holdings();
    let nowhere = |n: usize| host_with(&format!("h{n}"), "internal", PathMatch::Prefix("".into()), "web");
    let outcome = applied(&mut holdings, update((0..REFUSED_MAX + 5).map(nowhere).collect(), &[]));
    assert_eq!((outcome.refusals.len(), holdings.refused().count()), (REFUSED_MAX + 5, REFUSED_MAX));
    assert_eq!(applied(&mut holdings, update(vec![nowhere(REFUSED_MAX + 1)], &[])).refusals.len(), 1);
}

#[derive(Clone, Debug)]
enum Change {
    PutHost(u8, u8),
    PutBroken(u8),
    PutBackend(u8, u8),
    RemoveHost(u8),
    RemoveBackend(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0u8..6, 0u8..4).prop_map(|(name, service)| Change::PutHost(name, service)),
        (0u8..6).prop_map(Change::PutBroken),
        (0u8..4, 1u8..250).prop_map(|(service, byte)| Change::PutBackend(service, byte)),
        (0u8..6).prop_map(Change::RemoveHost),
        (0u8..4).prop_map(Change::RemoveBackend),
    ]
}

fn update_of(changes: &[Change]) -> wire::Update {
    let mut made = update(vec![], &[]);
    for change in changes {
        match change {
            Change::PutHost(name, service) => made.upserts.push(host(&format!("h{name}"), &format!("s{service}"))),
            Change::PutBroken(name) => {
                let pattern = PathMatch::Regex("(".into());
                made.upserts.push(host_with(&format!("h{name}"), "public", pattern, "s0"));
            }
            Change::PutBackend(service, byte) => made.upserts.push(backend(&format!("s{service}"), *byte)),
            Change::RemoveHost(name) => made.removals.push(format!("host/h{name}")),
            Change::RemoveBackend(service) => made.removals.push(format!("backend/eu/shop/s{service}:80")),
        }
    }
    made
}

/// What the guard should know of what is held.
fn served(holdings: &Holdings) -> Summary {
    let hosts = holdings.held.values().filter_map(|held| {
        let upsert = wire::ResourceUpsert::decode(held.encoded.clone()).unwrap();
        let Some(wire::resource_upsert::Resource::Host(host)) = upsert.resource else { return None };
        Some(roadstead_proto::resource::host_from_wire(host).unwrap())
    });
    Summary::of(&"public".into(), &hosts.collect::<Vec<_>>())
}

proptest! {
    /// After any Updates: the hashes are those of what is held, so is what the guard takes for served, no held host
    /// lost a backend that was put, and both the journal and a snapshot lead to the same table.
    #[test]
    fn a_restart_finds_what_was_held(changes in prop::collection::vec(prop::collection::vec(change(), 0..5), 0..20)) {
        let (mut live, table) = holdings();
        let mut journal = Vec::new();
        for (index, changes) in changes.into_iter().enumerate() {
            let update = wire::Update { synced: index == 3, ..update_of(&changes) };
            journal.extend(applied(&mut live, update).effective);
        }
        let mut hashes = BucketHashes::default();
        for (key, held) in &live.held {
            hashes.toggle(&key.to_string(), &held.digest);
        }
        prop_assert_eq!(&hashes, live.hashes());
        let served = served(&live);
        prop_assert_eq!(live.guard.as_ref().unwrap().published(), &served);
        let snapshot: Vec<wire::Update> = live.snapshot().collect();
        for updates in [journal, snapshot] {
            let (again, table_again) = replayed(updates, true);
            prop_assert_eq!(again.hashes(), live.hashes());
            prop_assert_eq!(again.guard.as_ref().unwrap().published(), &served);
            for name in 0..6 {
                let name = format!("h{name}");
                prop_assert_eq!(addresses(&table_again, &name), addresses(&table, &name), "{}", name);
            }
        }
    }
}
