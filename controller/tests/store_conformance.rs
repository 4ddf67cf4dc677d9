//! What every [`Store`] must do, run against the one in memory and against a real Postgres.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use roadstead_controller::guard::hold::{Hold, State};
use roadstead_controller::guard::kept::{Keep, Kept};
use roadstead_controller::guard::overrides::{Effect, Override};
use roadstead_controller::observe::metrics::StoreMetrics;
use roadstead_controller::store::memory::Memory;
use roadstead_controller::store::postgres::{MIGRATIONS, Postgres};
use roadstead_controller::store::queue::{Queue, Request, Write};
use roadstead_controller::store::writer::{Event, Writer};
use roadstead_controller::store::{
    ADOPTED_MAX, Batch, Beat, Cause, Changes, Clerk, ClusterBatch, HostBody, HostRevision, LifecycleAnswer,
    LifecycleChange, Live, NewPolicy, Removed, ReplicaRow, Store, StoreError, StoredObject, TakeOver, TakeOverAnswer,
};
use roadstead_proto::digest::Digest;
use roadstead_proto::object;
use roadstead_routing::guard::Scope;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, ObjectName, PortRef, Position};
use roadstead_routing::membership::Lifecycle;
use roadstead_routing::object::{
    ClassParameters, EndpointSlice, Hidden, Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, Meta,
    Node, NodeAddress, NodeAddressKind, Object, PathType, Secret, SecretContent, Service, ServicePort, SliceEndpoint,
    SlicePort,
};
use roadstead_runtime::seal::SealKey;
use roadstead_testkit::postgres::TestDatabase;
use sqlx::Row;
use tokio::sync::mpsc;

/// A store and what only tests look at.
trait Case {
    type Store: Store;
    fn store(&self) -> Arc<Self::Store>;
    async fn tombstones(&self) -> Vec<(String, Position)>;
    /// (host, is it served) in the order of writing; a gap row is ("", false).
    async fn revisions(&self) -> Vec<(String, bool)>;
}

struct InMemory(Arc<Memory>);

impl Case for InMemory {
    type Store = Memory;

    fn store(&self) -> Arc<Memory> {
        self.0.clone()
    }

    async fn tombstones(&self) -> Vec<(String, Position)> {
        self.0.tombstones().into_iter().map(|(_, key, at)| (key.name.name.to_string(), at)).collect()
    }

    async fn revisions(&self) -> Vec<(String, bool)> {
        self.0.revisions().into_iter().map(|it| (it.host.to_string(), it.body.is_some())).collect()
    }
}

struct InPostgres {
    store: Arc<Postgres>,
    database: TestDatabase,
}

impl InPostgres {
    async fn new() -> Self {
        let database = TestDatabase::migrated(&MIGRATIONS).await.unwrap();
        let store = Postgres::new(&database.url()).unwrap().sealing(Some(SealKey::new(&[7; 32])));
        Self { store: Arc::new(store), database }
    }

    async fn rows(&self, sql: &'static str) -> Vec<sqlx::postgres::PgRow> {
        let pool = sqlx::PgPool::connect(&self.database.url()).await.unwrap();
        let rows = sqlx::query(sql).fetch_all(&pool).await.unwrap();
        pool.close().await;
        rows
    }
}

impl Case for InPostgres {
    type Store = Postgres;

    fn store(&self) -> Arc<Postgres> {
        self.store.clone()
    }

    async fn tombstones(&self) -> Vec<(String, Position)> {
        let rows = self.rows("SELECT name, epoch, seq FROM tombstones ORDER BY name").await;
        let position = |row: &sqlx::postgres::PgRow| Position {
            epoch: row.get::<i64, _>("epoch") as u64,
            seq: row.get::<i64, _>("seq") as u64,
        };
        rows.iter().map(|row| (row.get("name"), position(row))).collect()
    }

    async fn revisions(&self) -> Vec<(String, bool)> {
        let rows = self.rows("SELECT coalesce(host, '') AS host, digest FROM host_revisions ORDER BY id").await;
        rows.iter().map(|row| (row.get("host"), row.get::<Option<Vec<u8>>, _>("digest").is_some())).collect()
    }
}

macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::InMemory(std::sync::Arc::default())).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::InPostgres::new().await).await;
            })*
        }
    };
}

conformance! {
    a_world_is_made_once,
    epochs_rise_and_the_uid_is_pinned,
    a_stale_epoch_is_dropped_and_the_rest_commits,
    what_is_loaded_equals_what_was_stored,
    removals_leave_tombstones_and_a_return_clears_them,
    refused_data_writes_nothing,
    the_writer_finds_the_culprits_and_stores_the_rest,
    the_writer_takes_over_after_everything_queued,
    revisions_are_written_on_change_only,
    policies_are_accepted_by_compare_and_set,
    what_the_guard_keeps_is_loaded_until_it_ends,
    what_was_published_and_withdrawn_is_loaded_with_its_bodies,
    clusters_that_lists_found_smaller_lately_are_loaded,
    a_keep_that_is_refused_stops_nothing_else,
    a_new_holder_gets_exactly_what_it_lacks,
    a_cluster_is_left_to_a_replica_that_is_there,
    there_is_one_clerk_and_a_former_one_writes_no_history,
    a_beat_brings_what_others_wrote,
    lives_of_clusters_are_moved_by_people_and_by_the_clerk,
    a_decision_about_a_hold_is_final,
    worlds_are_adopted,
}

async fn a_world_is_made_once(case: impl Case) {
    let store = case.store();
    let first = store.load().await.unwrap();
    assert_eq!(store.load().await.unwrap().world, first.world);
    assert_eq!(first.world.incarnation, 1);
    assert!(first.objects.is_empty() && first.clusters.is_empty() && first.published.is_empty());
}

async fn epochs_rise_and_the_uid_is_pinned(case: impl Case) {
    let store = case.store();
    let ask = |uid: &str, key| TakeOver { uid: uid.to_owned(), fresh_key: [key; 32], ..asked("eu") };
    for epoch in 1..3 {
        let answer = store.take_over(&ask("u1", 6 + epoch as u8)).await.unwrap();
        let TakeOverAnswer::Granted { digest_key, stored } = answer else { panic!("{answer:?}") };
        assert_eq!((digest_key, stored.row.lineage.position), ([7; 32], Position { epoch, seq: 0 }));
    }
    for (at_ms, epoch) in [(5_000, 5_000), (3_000, 5_001)] {
        let answer = store.take_over(&TakeOver { at_ms, ..ask("u1", 9) }).await.unwrap();
        let TakeOverAnswer::Granted { stored, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(stored.row.lineage.position, Position { epoch, seq: 0 });
    }
    assert_eq!(store.take_over(&ask("u2", 9)).await, Ok(TakeOverAnswer::OtherUid { pinned: "u1".to_owned() }));
    let row = &store.load().await.unwrap().clusters[&ClusterId::from("eu")];
    assert_eq!((row.lineage.position, row.uid.as_str()), (Position { epoch: 5_001, seq: 0 }, "u1"));
    assert!(!store.readopt(&"xx".into(), "u2").await.unwrap() && store.readopt(&"eu".into(), "u2").await.unwrap());
    assert!(matches!(store.take_over(&ask("u2", 9)).await, Ok(TakeOverAnswer::Granted { .. })));
}

async fn a_stale_epoch_is_dropped_and_the_rest_commits(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 2).await;
    hold(&*store, "us", 1).await;
    let mut batch = Batch::default();
    batch.clusters.insert("eu".into(), part(1, 5, vec![ingress("old", "/")]));
    batch.clusters.insert("us".into(), part(1, 5, vec![ingress("new", "/")]));
    batch.clusters.insert("xx".into(), part(1, 1, Vec::new()));
    let lost = store.commit(&batch).await.unwrap();
    assert_eq!(lost, BTreeSet::from(["eu".into(), "xx".into()]));
    let loaded = store.load().await.unwrap();
    assert_eq!(names(&loaded.objects), ["new"]);
    assert_eq!(loaded.clusters[&ClusterId::from("eu")].lineage.position, Position { epoch: 2, seq: 0 });
    assert_eq!(loaded.clusters[&ClusterId::from("us")].lineage.position, Position { epoch: 1, seq: 5 });
}

async fn what_is_loaded_equals_what_was_stored(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 1).await;
    let objects = [class(), ingress("web", "/a?b=\"c\"&\u{1F6A2}"), service(), node(), slice(), secret()];
    let stored = objects.map(|it| stored(it, 3));
    let mut part = ClusterBatch { epoch: 1, durable_seq: 3, ..ClusterBatch::default() };
    part.upserts.extend(stored.iter().map(|it| (it.object.key(), it.clone())));
    commit(&*store, part.clone()).await;
    let loaded = store.load().await.unwrap();
    let found: BTreeMap<ObjectKey, StoredObject> =
        loaded.objects.into_iter().map(|(_, it)| (it.object.key(), it)).collect();
    assert_eq!(found, part.upserts);
    for it in found.values() {
        assert_eq!(Digest::of(&object::to_wire(&it.object)), it.digest, "{}", it.object.key());
    }
    assert!(loaded.unreadable.is_empty());
}

async fn removals_leave_tombstones_and_a_return_clears_them(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 1).await;
    commit(&*store, part(1, 1, vec![ingress("a", "/"), ingress("b", "/")])).await;
    let gone = Position { epoch: 1, seq: 2 };
    let mut removal = ClusterBatch { epoch: 1, durable_seq: 2, ..ClusterBatch::default() };
    removal.removals.insert(ingress("a", "/").key(), Removed { position: gone, inferred: true });
    commit(&*store, removal).await;
    assert_eq!(names(&store.load().await.unwrap().objects), ["b"]);
    assert_eq!(case.tombstones().await, [("a".to_owned(), gone)]);
    commit(&*store, part(1, 3, vec![ingress("a", "/")])).await;
    assert_eq!(names(&store.load().await.unwrap().objects), ["a", "b"]);
    assert!(case.tombstones().await.is_empty());
    assert_eq!(store.compact().await, Ok(0));
}

async fn refused_data_writes_nothing(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 1).await;
    let mut batch = Batch::default();
    batch.clusters.insert("eu".into(), part(1, 9, vec![ingress("good", "/"), ingress("bad", "/\0")]));
    assert!(matches!(store.commit(&batch).await, Err(StoreError::Rejected(_))));
    let loaded = store.load().await.unwrap();
    assert!(loaded.objects.is_empty());
    assert_eq!(loaded.clusters[&ClusterId::from("eu")].lineage.position.seq, 0);
}

async fn the_writer_finds_the_culprits_and_stores_the_rest(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 1).await;
    let (queue, mut events) = writer(&store);
    for seq in 1..=20 {
        let path = if seq == 4 || seq == 13 { "/\0" } else { "/" };
        queue.push(Request::Write(Write {
            cluster: "eu".into(),
            position: Position { epoch: 1, seq },
            upserts: vec![stored(ingress(&format!("i{seq:02}"), path), seq)],
            removals: Vec::new(),
            inferred: false,
        }));
    }
    let mut refused = BTreeSet::new();
    loop {
        match next(&mut events).await {
            Event::Unstorable { key, .. } => refused.insert(key.name.name.to_string()),
            Event::Durable { position, .. } if position.seq == 20 => break,
            Event::Durable { .. } => continue,
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(refused, BTreeSet::from(["i04".to_owned(), "i13".to_owned()]));
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.objects.len(), 18);
    assert_eq!(loaded.clusters[&ClusterId::from("eu")].lineage.position.seq, 20);
}

async fn the_writer_takes_over_after_everything_queued(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 1).await;
    let (queue, mut events) = writer(&store);
    queue.push(Request::Write(Write {
        cluster: "eu".into(),
        position: Position { epoch: 1, seq: 1 },
        upserts: vec![stored(ingress("late", "/"), 1)],
        removals: Vec::new(),
        inferred: false,
    }));
    queue.push(Request::TakeOver { ticket: 42, request: asked("eu") });
    assert!(matches!(next(&mut events).await, Event::Durable { .. }));
    let Event::TakenOver { ticket: 42, answer: Ok(TakeOverAnswer::Granted { stored: news, .. }) } =
        next(&mut events).await
    else {
        panic!("not taken over")
    };
    assert_eq!(news.row.lineage.position.epoch, 2);
    assert_eq!(names(&store.load().await.unwrap().objects), ["late"]);
    queue.push(Request::Write(Write {
        cluster: "eu".into(),
        position: Position { epoch: 1, seq: 2 },
        upserts: vec![stored(ingress("too-late", "/"), 2)],
        removals: Vec::new(),
        inferred: false,
    }));
    assert_eq!(next(&mut events).await, Event::Fenced { cluster: "eu".into(), epoch: 1 });
    assert_eq!(names(&store.load().await.unwrap().objects), ["late"]);
}

async fn revisions_are_written_on_change_only(case: impl Case) {
    let store = case.store();
    store.load().await.unwrap();
    let token = be_clerk(&*store, "r1", 0).await.unwrap();
    let write = async |host: &str, body: Option<&str>| {
        let body = body.map(|text| HostBody { digest: Digest::of_bytes(text.as_bytes()), encoded: text.into() });
        let revision = HostRevision {
            pool: "public".into(),
            host: HostKey::parse(host).unwrap(),
            body,
            cause: Cause::Objects,
            positions: BTreeMap::from([("eu".into(), Position { epoch: 1, seq: 2 })]),
        };
        let batch = Batch { revisions: vec![revision], token, ..Batch::default() };
        assert!(store.commit(&batch).await.unwrap().is_empty());
    };
    write("a.example.com", Some("one")).await;
    write("a.example.com", Some("one")).await; // the same batch again after a lost answer
    write("a.example.com", Some("two")).await;
    write("a.example.com", Some("one")).await;
    write("*.example.com", Some("one")).await;
    write("a.example.com", None).await;
    write("a.example.com", None).await;
    let a = |served| ("a.example.com".to_owned(), served);
    assert_eq!(case.revisions().await, [a(true), a(true), a(true), ("*.example.com".to_owned(), true), a(false)]);
    let published = store.load().await.unwrap().published;
    let host = ("public".into(), HostKey::Wildcard("example.com".into()));
    assert_eq!(published, BTreeMap::from([(host, Digest::of_bytes(b"one"))]));
}

async fn policies_are_accepted_by_compare_and_set(case: impl Case) {
    let store = case.store();
    assert_eq!(store.latest_policy().await, Ok(None));
    let policy =
        |body: &str| NewPolicy { digest: Digest::of_bytes(body.as_bytes()), body: body.into(), source: "f".into() };
    assert_eq!(store.accept_policy(0, &policy("a")).await, Ok(Some(1)));
    assert_eq!(store.accept_policy(0, &policy("b")).await, Ok(None), "somebody else was first");
    assert_eq!(store.accept_policy(1, &policy("b")).await, Ok(Some(2)));
    let latest = store.latest_policy().await.unwrap().unwrap();
    assert_eq!((latest.rev, latest.body.as_str()), (2, "b"));
}

async fn what_the_guard_keeps_is_loaded_until_it_ends(case: impl Case) {
    let store = case.store();
    assert_eq!(store.load_kept().await, Ok(Kept::default()));
    let backend =
        BackendId { cluster: "eu".into(), service: ObjectName::new("shop", "web"), port: PortRef::Number(80) };
    let open = Keep::Hold { hold: Box::new(hold_row("h-1", "grown")), is_live: true };
    let over = Keep::Hold { hold: Box::new(hold_row("h-2", "over")), is_live: false };
    let first = Keep::Hold { hold: Box::new(hold_row("h-1", "small")), is_live: true };
    keep(&*store, [first]).await;
    let (one, two) = (override_row("o-1"), override_row("o-2"));
    let kept = Keep::Backend(backend.clone(), Some(vec![1, 2, 3]));
    keep(&*store, [open, over, Keep::Override(one.clone()), Keep::Override(two), kept]).await;
    keep(&*store, [Keep::Lift("o-2".to_owned()), Keep::Lift("o-3".to_owned())]).await;
    let loaded = store.load_kept().await.unwrap();
    assert_eq!(loaded.holds, [hold_row("h-1", "grown")]);
    assert_eq!(loaded.overrides, [one]);
    assert_eq!(loaded.backends, [vec![1, 2, 3]]);
    keep(&*store, [Keep::Backend(backend, None)]).await;
    assert!(store.load_kept().await.unwrap().backends.is_empty());
}

async fn what_was_published_and_withdrawn_is_loaded_with_its_bodies(case: impl Case) {
    let store = case.store();
    store.load().await.unwrap();
    let token = be_clerk(&*store, "r1", 0).await.unwrap();
    let publish = async |host: &str, text: Option<&str>| {
        let body = text.map(|text| HostBody { digest: Digest::of_bytes(text.as_bytes()), encoded: text.into() });
        let (pool, host) = ("public".into(), HostKey::parse(host).unwrap());
        let revision = HostRevision { pool, host, body, cause: Cause::Objects, positions: BTreeMap::new() };
        store.commit(&Batch { revisions: vec![revision], token, ..Batch::default() }).await.unwrap();
    };
    publish("a.example.com", Some("one")).await;
    publish("a.example.com", Some("two")).await;
    publish("b.example.com", Some("three")).await;
    publish("b.example.com", None).await;
    let kept = store.load_kept().await.unwrap();
    let a = ("public".into(), HostKey::parse("a.example.com").unwrap());
    assert_eq!(kept.published, BTreeMap::from([(a, b"two".to_vec())]));
    let losses: Vec<_> = kept.losses.iter().map(|loss| (loss.host.to_string(), loss.before.clone())).collect();
    assert_eq!(
        losses,
        [("a.example.com".to_owned(), b"one".to_vec()), ("b.example.com".to_owned(), b"three".to_vec())]
    );
    assert!(kept.losses.iter().all(|loss| loss.at_ms > 1_700_000_000_000));
}

fn upserted(changes: &Changes) -> (bool, Vec<String>, Vec<String>) {
    let name = |object: &StoredObject| object.object.key().name.name.to_string();
    let mut found = match changes {
        Changes::Whole { objects } => (true, objects.iter().map(name).collect::<Vec<_>>(), Vec::new()),
        Changes::Since { objects, removals, .. } => {
            let removals = removals.iter().map(|(key, removed)| format!("{} {}", key.name.name, removed.inferred));
            (false, objects.iter().map(name).collect(), removals.collect())
        }
    };
    found.1.sort();
    found
}

async fn clusters_that_lists_found_smaller_lately_are_loaded(case: impl Case) {
    let store = case.store();
    for (cluster, inferred) in [("eu", true), ("us", false)] {
        hold(&*store, cluster, 1).await;
        let removed = Removed { position: Position { epoch: 1, seq: 2 }, inferred };
        let mut part = part(1, 2, vec![ingress("b", "/")]);
        part.removals.insert(ingress("a", "/").key(), removed);
        store.commit(&Batch { clusters: [(cluster.into(), part)].into(), ..Batch::default() }).await.unwrap();
    }
    let inferred = store.load_kept().await.unwrap().inferred;
    assert_eq!(inferred.keys().map(ClusterId::as_str).collect::<Vec<_>>(), ["eu"]);
    assert!(inferred.values().all(|at_ms| *at_ms > 1_700_000_000_000));
}

async fn a_new_holder_gets_exactly_what_it_lacks(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 1).await;
    commit(&*store, part(1, 1, vec![ingress("a", "/"), ingress("b", "/")])).await;
    let mut second = part(1, 2, vec![ingress("c", "/")]);
    second.settled = Some(1);
    let removed = Removed { position: Position { epoch: 1, seq: 2 }, inferred: true };
    second.removals.insert(ingress("a", "/").key(), removed);
    commit(&*store, second).await;
    let ask = async |epoch, seq| {
        let request = TakeOver { known: Position { epoch, seq }, ..asked("eu") };
        match store.take_over(&request).await.unwrap() {
            TakeOverAnswer::Granted { stored, .. } => *stored,
            other => panic!("{other:?}"),
        }
    };
    let stored = ask(1, 1).await;
    let (is_whole, upserts, removals) = upserted(stored.changes.as_ref().unwrap());
    assert_eq!((is_whole, upserts, removals), (false, vec!["c".to_owned()], vec!["a true".to_owned()]));
    let lineage = &stored.row.lineage;
    assert_eq!((lineage.position, lineage.floor), (Position { epoch: 2, seq: 0 }, 1));
    assert_eq!((lineage.ends.clone(), lineage.settled), (vec![Position { epoch: 1, seq: 2 }], false));
    assert_eq!(
        ask(1, 2).await.changes,
        Some(Changes::Since { since: Position { epoch: 1, seq: 2 }, objects: vec![], removals: vec![] })
    );
    // Beyond what was stored of its epoch: something was lost, so everything is compared.
    let (is_whole, upserts, _) = upserted(ask(1, 9).await.changes.as_ref().unwrap());
    assert_eq!((is_whole, upserts), (true, vec!["b".to_owned(), "c".to_owned()]));
}

async fn a_cluster_is_left_to_a_replica_that_is_there(case: impl Case) {
    let store = case.store();
    store.load().await.unwrap();
    store.beat(&beat("r1")).await.unwrap();
    hold(&*store, "eu", 1).await;
    let other = |agent: &str| {
        let by = Live { replica: "r2".to_owned(), instance: "1".to_owned(), agent: agent.to_owned() };
        TakeOver { by, ..asked("eu") }
    };
    let held = Ok(TakeOverAnswer::Held { replica: "r1".to_owned() });
    assert_eq!(store.take_over(&other("b")).await, held);
    let same_agent = store.take_over(&other("a")).await;
    assert!(matches!(same_agent, Ok(TakeOverAnswer::Granted { .. })), "the agent itself has moved: {same_agent:?}");
    hold(&*store, "eu", 1).await;
    store.release(&"eu".into(), 2).await.unwrap();
    assert_eq!(store.take_over(&other("b")).await, held, "of a former epoch nobody gives anything back");
    store.release(&"eu".into(), 3).await.unwrap();
    assert!(matches!(store.take_over(&other("b")).await, Ok(TakeOverAnswer::Granted { .. })));
    // The process that held it is gone, although the replica is there again.
    store.beat(&beat("r2")).await.unwrap();
    assert!(matches!(store.take_over(&asked("eu")).await, Ok(TakeOverAnswer::Held { .. })));
    let mut restarted = beat("r2");
    restarted.replica.instance = "2".to_owned();
    store.beat(&restarted).await.unwrap();
    assert!(matches!(store.take_over(&asked("eu")).await, Ok(TakeOverAnswer::Granted { .. })));
}

async fn there_is_one_clerk_and_a_former_one_writes_no_history(case: impl Case) {
    let store = case.store();
    store.load().await.unwrap();
    let first = be_clerk(&*store, "r1", 0).await.unwrap();
    assert_eq!(be_clerk(&*store, "r1", first).await, Some(first));
    assert_eq!(be_clerk(&*store, "r2", 0).await, None);
    store.leave("r1").await.unwrap();
    let second = be_clerk(&*store, "r2", 0).await.unwrap();
    assert!(second > first);
    let write = async |token, host: &str| {
        let body = Some(HostBody { digest: Digest::of_bytes(b"x"), encoded: b"x".to_vec() });
        let (pool, host) = ("public".into(), HostKey::parse(host).unwrap());
        let revision = HostRevision { pool, host, body, cause: Cause::Start, positions: BTreeMap::new() };
        store.commit(&Batch { revisions: vec![revision], token, ..Batch::default() }).await.unwrap();
    };
    write(first, "late.example.com").await;
    write(second, "a.example.com").await;
    assert_eq!(case.revisions().await, [("a.example.com".to_owned(), true)]);
    let (pool, host) = ("public".into(), HostKey::parse("a.example.com").unwrap());
    let history = store.host_revisions(&pool, &host, 5).await.unwrap();
    assert_eq!((history.len(), history[0].cause.as_str()), (1, "start"));
    let body = store.revision_body(&pool, &host, history[0].id).await.unwrap().unwrap();
    assert_eq!(body.encoded, b"x");
    assert_eq!(store.revision_body(&pool, &HostKey::parse("b.example.com").unwrap(), history[0].id).await, Ok(None));
}

async fn a_beat_brings_what_others_wrote(case: impl Case) {
    let store = case.store();
    store.load().await.unwrap();
    hold(&*store, "eu", 1).await;
    commit(&*store, part(1, 1, vec![ingress("a", "/")])).await;
    store.beat(&beat("r1")).await.unwrap();
    let news = store.beat(&beat("r2")).await.unwrap();
    assert_eq!(news.replicas.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["r1"]);
    let eu = &news.clusters[&ClusterId::from("eu")];
    assert_eq!(upserted(eu.changes.as_ref().unwrap()).1, ["a"]);
    assert_eq!(eu.row.live.as_ref().map(|live| live.replica.as_str()), Some("r1"));
    assert!(news.policy.is_none());

    let policy = NewPolicy { digest: Digest::of_bytes(b"p"), body: "p".into(), source: "f".into() };
    store.accept_policy(0, &policy).await.unwrap();
    keep(&*store, [Keep::Override(override_row("o-1"))]).await;
    let mut knows = beat("r2");
    knows.known.insert("eu".into(), Position { epoch: 1, seq: 1 });
    knows.keeps_stamp = news.keeps.map_or(0, |keeps| keeps.stamp);
    let news = store.beat(&knows).await.unwrap();
    assert_eq!(news.clusters[&ClusterId::from("eu")].changes, None);
    assert_eq!(news.policy.map(|row| row.rev), Some(1));
    let keeps = news.keeps.unwrap();
    assert_eq!(keeps.overrides, [override_row("o-1")]);
    let knows = Beat { keeps_stamp: keeps.stamp, policy_rev: 1, ..knows };
    let news = store.beat(&knows).await.unwrap();
    assert!(news.keeps.is_none() && news.policy.is_none());
    // What a cluster's own holder is told about it: who holds it, and nothing else.
    let held = Beat { held: ["eu".into()].into(), ..beat("r1") };
    assert_eq!(store.beat(&held).await.unwrap().clusters[&ClusterId::from("eu")].changes, None);
}

async fn lives_of_clusters_are_moved_by_people_and_by_the_clerk(case: impl Case) {
    let store = case.store();
    store.load().await.unwrap();
    store.take_over(&TakeOver { joins_as: Lifecycle::Joining, ..asked("eu") }).await.unwrap();
    let change = |cluster: &str, to| LifecycleChange {
        cluster: cluster.into(),
        to,
        seconds: 0,
        by: "ann".to_owned(),
        reason: "a \"test\"".to_owned(),
    };
    let stands = async || store.load().await.unwrap().clusters[&ClusterId::from("eu")].member.clone();
    assert_eq!(stands().await.membership.lifecycle, Lifecycle::Joining);
    assert_eq!(store.change_lifecycle(&change("xx", Lifecycle::Active)).await, Ok(LifecycleAnswer::NoCluster));
    let refused = store.change_lifecycle(&change("eu", Lifecycle::Draining)).await;
    assert_eq!(refused, Ok(LifecycleAnswer::NotFrom(Lifecycle::Joining)));
    let before = store.beat(&beat("r1")).await.unwrap().clerk_rev;
    let changed = store.change_lifecycle(&change("eu", Lifecycle::Active)).await.unwrap();
    let LifecycleAnswer::Changed(row) = changed else { panic!("{changed:?}") };
    assert_eq!((row.by.as_str(), row.membership.lifecycle), ("ann", Lifecycle::Active));
    assert_eq!(stands().await.reason, "a \"test\"");
    assert!(store.beat(&beat("r1")).await.unwrap().clerk_rev > before, "every replica must notice");

    store.change_lifecycle(&change("eu", Lifecycle::Draining)).await.unwrap();
    let mut drained = beat("r1");
    drained.terms.drained.insert("eu".into());
    let news = store.beat(&drained).await.unwrap();
    assert_eq!(news.clusters[&ClusterId::from("eu")].row.member.membership.lifecycle, Lifecycle::Drained);
}

async fn a_decision_about_a_hold_is_final(case: impl Case) {
    let store = case.store();
    let row = |state| {
        let hold = Box::new(Hold { state, ..hold_row("h-1", "why") });
        Keep::Hold { hold, is_live: true }
    };
    keep(&*store, [row(State::Open)]).await;
    keep(&*store, [row(State::Approved)]).await;
    keep(&*store, [row(State::Open)]).await; // of a replica that has not heard of it
    let holds = store.load_kept().await.unwrap().holds;
    assert_eq!(holds.iter().map(|hold| hold.state).collect::<Vec<_>>(), [State::Approved]);
}

async fn worlds_are_adopted(case: impl Case) {
    let store = case.store();
    let world = store.load().await.unwrap().world;
    assert_eq!(store.adopt_world(None).await.unwrap().incarnation, world.incarnation + 1);
    let others: Vec<uuid::Uuid> = (1..20).map(uuid::Uuid::from_u128).collect();
    for other in &others {
        store.adopt_world(Some(*other)).await.unwrap();
        store.adopt_world(Some(*other)).await.unwrap();
    }
    let adopted = store.load().await.unwrap().world.adopted;
    assert_eq!(adopted, others[others.len() - ADOPTED_MAX..], "the newest are kept, each once");
}

async fn a_keep_that_is_refused_stops_nothing_else(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 1).await;
    let (queue, mut events) = writer(&store);
    for (id, message) in [("h-1", "good"), ("h-2", "bad \0"), ("h-3", "good")] {
        queue.push(Request::Keep(Keep::Hold { hold: Box::new(hold_row(id, message)), is_live: true }));
    }
    queue.push(Request::TakeOver { ticket: 1, request: asked("eu") });
    assert!(matches!(next(&mut events).await, Event::TakenOver { .. }));
    let ids: Vec<String> = store.load_kept().await.unwrap().holds.into_iter().map(|hold| hold.id).collect();
    assert_eq!(ids, ["h-1", "h-3"]);
}

#[tokio::test]
async fn an_outage_is_reported_survived_and_leaves_a_gap_row() {
    let store = Arc::new(Memory::default());
    hold(&*store, "eu", 1).await;
    store.set_away(true);
    let (queue, mut events) = writer(&store);
    queue.push(Request::Write(Write {
        cluster: "eu".into(),
        position: Position { epoch: 1, seq: 1 },
        upserts: vec![stored(ingress("a", "/"), 1)],
        removals: Vec::new(),
        inferred: false,
    }));
    assert!(matches!(next(&mut events).await, Event::Away(_)));
    store.set_away(false);
    assert_eq!(next(&mut events).await, Event::Back);
    assert!(matches!(next(&mut events).await, Event::Durable { .. }));
    queue.push(Request::TakeOver { ticket: 1, request: asked("us") });
    assert!(matches!(next(&mut events).await, Event::TakenOver { .. }));
    queue.push(Request::Write(Write {
        cluster: "eu".into(),
        position: Position { epoch: 1, seq: 2 },
        upserts: vec![stored(ingress("a", "/b"), 2)],
        removals: Vec::new(),
        inferred: false,
    }));
    assert!(matches!(next(&mut events).await, Event::Durable { .. }));
    assert_eq!(store.gaps().len(), 1);
}

#[tokio::test]
async fn a_person_can_read_what_is_stored_and_old_tombstones_are_compacted() {
    let case = InPostgres::new().await;
    hold(&*case.store, "eu", 1).await;
    commit(&*case.store, part(1, 1, vec![ingress("web", "/shop"), slice()])).await;
    let rows =
        case.rows("SELECT document #>> '{spec,rules,0,http,paths,0,path}' AS path FROM objects WHERE kind = 2").await;
    assert_eq!(rows[0].get::<String, _>("path"), "/shop");
    let packed_only = case.rows("SELECT document IS NULL AS packed_only FROM objects WHERE kind = 4").await;
    assert!(packed_only[0].get::<bool, _>("packed_only"));

    let mut removal = ClusterBatch { epoch: 1, durable_seq: 2, ..ClusterBatch::default() };
    let gone = Removed { position: Position { epoch: 1, seq: 2 }, inferred: false };
    removal.removals.insert(ingress("web", "/").key(), gone);
    commit(&*case.store, removal).await;
    assert_eq!(case.store.compact().await, Ok(0));
    case.rows("UPDATE tombstones SET removed_at = now() - interval '25 hours'").await;
    assert_eq!(case.store.compact().await, Ok(1));
    let rows = case.rows("SELECT compacted_epoch, compacted_seq FROM clusters").await;
    assert_eq!((rows[0].get::<i64, _>(0), rows[0].get::<i64, _>(1)), (1, 2));
}

#[tokio::test]
async fn secrets_are_stored_sealed_and_only_their_key_opens_them() {
    let case = InPostgres::new().await;
    hold(&*case.store, "eu", 1).await;
    commit(&*case.store, part(1, 1, vec![ingress("web", "/"), secret()])).await;
    let rows = case.rows("SELECT packed, document IS NULL AS hidden FROM objects WHERE kind = 5").await;
    let packed = rows[0].get::<Vec<u8>, _>("packed");
    assert!(!packed.windows(8).any(|part| part == b"ann:hash") && rows[0].get::<bool, _>("hidden"));

    for key in [Some(SealKey::new(&[8; 32])), None] {
        let other = Postgres::new(&case.database.url()).unwrap().sealing(key);
        let loaded = other.load().await.unwrap();
        assert_eq!((names(&loaded.objects), loaded.unreadable.len()), (vec!["web".to_owned()], 0));
        let TakeOverAnswer::Granted { stored, .. } = other.take_over(&asked("eu")).await.unwrap() else {
            panic!("held")
        };
        let Some(Changes::Whole { objects }) = stored.changes else { panic!("{stored:?}") };
        assert_eq!(objects.len(), 1);
    }
    case.rows("UPDATE objects SET name = 'other' WHERE kind = 5").await;
    assert_eq!(names(&case.store.load().await.unwrap().objects), ["web"], "a sealed row is nobody else's");
}

#[tokio::test]
async fn without_a_key_a_secret_is_not_stored_and_an_older_form_goes() {
    let case = InPostgres::new().await;
    hold(&*case.store, "eu", 1).await;
    commit(&*case.store, part(1, 1, vec![secret()])).await;
    let keyless = Postgres::new(&case.database.url()).unwrap();
    assert!(case.store.stores_secrets() && !keyless.stores_secrets());
    commit(&keyless, part(1, 2, vec![ingress("web", "/"), secret()])).await;
    let rows = case.rows("SELECT kind FROM objects").await;
    assert_eq!(rows.iter().map(|row| row.get::<i16, _>("kind")).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn two_controllers_may_migrate_at_once() {
    let database = TestDatabase::create("empty", async |_| Ok::<(), std::convert::Infallible>(())).await.unwrap();
    let (one, two) = (Postgres::new(&database.url()).unwrap(), Postgres::new(&database.url()).unwrap());
    let (first, second) = tokio::join!(one.migrate(), two.migrate());
    assert_eq!((first, second), (Ok(()), Ok(())));
    let (one, two) = tokio::join!(one.load(), two.load());
    assert_eq!(one.unwrap().world, two.unwrap().world);
}

fn writer<S: Store>(store: &Arc<S>) -> (Arc<Queue>, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::channel(1_024);
    let queue = Arc::new(Queue::default());
    tokio::spawn(Writer::new(store.clone(), queue.clone(), sender, StoreMetrics::default()).run());
    (queue, events)
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(Duration::from_secs(30), events.recv()).await.expect("an event in time").expect("a writer")
}

/// Takes a cluster over until its epoch is `epoch`.
async fn hold(store: &impl Store, cluster: &str, epoch: u64) {
    for _ in 0..epoch {
        store.take_over(&asked(cluster)).await.unwrap();
    }
}

/// What replica r1 asks that knows nothing of the cluster.
fn asked(cluster: &str) -> TakeOver {
    let by = Live { replica: "r1".to_owned(), instance: "1".to_owned(), agent: "a".to_owned() };
    let (cluster, uid, known) = (cluster.into(), "uid".to_owned(), Position::default());
    TakeOver { cluster, uid, fresh_key: [1; 32], by, known, joins_as: Lifecycle::Active, at_ms: 0 }
}

fn beat(replica: &str) -> Beat {
    let (address, version) = ("127.0.0.1:1".to_owned(), "1".to_owned());
    let replica = ReplicaRow { id: replica.to_owned(), address, version, instance: "1".to_owned() };
    Beat { replica, ..Beat::default() }
}

/// The token of the lease, if the replica has it now.
async fn be_clerk(store: &impl Store, replica: &str, token: u64) -> Option<u64> {
    match store.beat(&Beat { token, ..beat(replica) }).await.unwrap().clerk {
        Clerk::New { token, .. } => Some(token),
        Clerk::Same => Some(token),
        Clerk::Other(_) => None,
    }
}

async fn keep<const N: usize>(store: &impl Store, keeps: [Keep; N]) {
    let keeps = keeps.into_iter().map(|keep| (keep.key(), keep)).collect();
    store.commit(&Batch { keeps, ..Batch::default() }).await.unwrap();
}

fn hold_row(id: &str, message: &str) -> Hold {
    Hold {
        id: id.to_owned(),
        pool: "public".into(),
        scope: Scope::Namespace("eu".into(), "shop".into()),
        message: message.to_owned(),
        cause: Default::default(),
        hosts: BTreeMap::from([
            ("a.example.com".to_owned(), None),
            ("b.example.com".to_owned(), Some("00".to_owned())),
        ]),
        since_ms: 1_700_000_000_000,
        state: State::Open,
        closed_ms: None,
        closed_by: None,
        owner: "r1".to_owned(),
    }
}

fn override_row(id: &str) -> Override {
    Override {
        id: id.to_owned(),
        effect: Effect::Freeze(Some("public".into())),
        reason: "a \"test\"".to_owned(),
        by: "somebody".to_owned(),
        created_ms: 1,
        expires_ms: 2,
    }
}

async fn commit(store: &impl Store, part: ClusterBatch) {
    let batch = Batch { clusters: BTreeMap::from([("eu".into(), part)]), ..Batch::default() };
    assert!(store.commit(&batch).await.unwrap().is_empty());
}

fn part(epoch: u64, durable_seq: u64, objects: Vec<Object>) -> ClusterBatch {
    let upserts = objects.into_iter().map(|object| (object.key(), stored(object, durable_seq))).collect();
    ClusterBatch { epoch, durable_seq, upserts, ..ClusterBatch::default() }
}

fn stored(object: Object, seq: u64) -> StoredObject {
    let wire = object::to_wire(&object);
    let packed = prost::Message::encode_to_vec(&wire);
    StoredObject { object, digest: Digest::of(&wire), position: Position { epoch: 1, seq }, packed }
}

fn names(objects: &[(ClusterId, StoredObject)]) -> Vec<String> {
    let mut names: Vec<String> = objects.iter().map(|(_, it)| it.object.key().name.name.to_string()).collect();
    names.sort();
    names
}

fn meta() -> Meta {
    Meta {
        uid: "uid".into(),
        resource_version: "42".into(),
        generation: 7,
        created_at: 1_700_000_000,
        last_manager: "argocd".into(),
    }
}

fn class() -> Object {
    let parameters = ClassParameters { api_group: "roadstead.dev".into(), kind: "Pool".into(), name: "public".into() };
    Object::IngressClass(
        IngressClass {
            name: "roadstead".into(),
            meta: meta(),
            controller: "roadstead.dev/ingress".into(),
            parameters: Some(parameters),
        }
        .into(),
    )
}

fn ingress(name: &str, path: &str) -> Object {
    let backend = IngressBackend::Service { name: "web".into(), port: Some(PortRef::Name("http".into())) };
    let paths = vec![IngressPath { path: path.into(), path_type: PathType::Exact, backend }];
    Object::Ingress(
        Ingress {
            name: ObjectName::new("shop", name),
            meta: meta(),
            class_name: Some("roadstead".into()),
            annotations: BTreeMap::from([("roadstead.dev/strategy".into(), "spread".into())]),
            default_backend: Some(IngressBackend::Resource { kind: "Bucket".into(), name: "b".into() }),
            rules: vec![IngressRule { host: "a.example.com".into(), paths: Some(paths) }],
            tls: Vec::new(),
        }
        .into(),
    )
}

fn service() -> Object {
    let port = ServicePort { name: "http".into(), port: 80, node_port: 30_080, ..ServicePort::default() };
    Object::Service(
        Service { name: ObjectName::new("shop", "web"), meta: meta(), ports: vec![port], ..Service::default() }.into(),
    )
}

fn node() -> Object {
    let addresses = vec![NodeAddress { kind: NodeAddressKind::External, address: "192.0.2.1".parse().unwrap() }];
    Object::Node(Node { name: "worker-1".into(), meta: meta(), is_ready: true, addresses, ..Node::default() }.into())
}

fn slice() -> Object {
    let endpoint = SliceEndpoint {
        address: "10.0.0.1".parse().unwrap(),
        ready: Some(true),
        serving: None,
        terminating: Some(false),
        zone: Some("a".into()),
        node: None,
        for_zones: vec!["a".into()],
    };
    Object::EndpointSlice(
        EndpointSlice {
            name: ObjectName::new("shop", "web-1"),
            meta: meta(),
            service: "web".into(),
            address_type: Default::default(),
            ports: vec![SlicePort { port: Some(8080), ..SlicePort::default() }],
            endpoints: vec![endpoint],
        }
        .into(),
    )
}

fn secret() -> Object {
    let values = BTreeMap::from([("auth".into(), Hidden(b"ann:hash".as_slice().into()))]);
    let name = ObjectName::new("shop", "users");
    Object::Secret(Secret { name, meta: meta(), content: SecretContent::Values(values) }.into())
}

#[test]
fn what_is_stored_is_not_shown_when_it_is_debugged() {
    let shown = format!("{:?}", stored(secret(), 1));
    let bytes = format!("{:?}", b"ann:hash".as_slice());
    assert!(shown.contains("shop/users") && !shown.contains("ann:hash") && !shown.contains(&bytes[1..20]), "{shown}");
}

#[test]
fn the_kinds_in_a_suite_are_all_kinds() {
    let kinds = [class(), ingress("a", "/"), service(), slice(), secret(), node()].map(|it| it.key().kind);
    assert_eq!(kinds, Kind::ALL);
}
