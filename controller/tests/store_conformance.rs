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
    Batch, Cause, ClusterBatch, HostBody, HostRevision, NewPolicy, Store, StoreError, StoredObject, TakeOver,
    TakeOverAnswer,
};
use roadstead_proto::digest::Digest;
use roadstead_proto::object;
use roadstead_routing::guard::Scope;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, ObjectName, PortRef, Position};
use roadstead_routing::object::{
    ClassParameters, EndpointSlice, Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, Meta, Object,
    PathType, Service, ServicePort, SliceEndpoint, SlicePort,
};
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
        Self { store: Arc::new(Postgres::new(&database.url()).unwrap()), database }
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
    a_keep_that_is_refused_stops_nothing_else,
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
    let ask = |uid: &str, key| TakeOver { cluster: "eu".into(), uid: uid.to_owned(), fresh_key: [key; 32] };
    assert_eq!(store.take_over(&ask("u1", 7)).await, Ok(TakeOverAnswer::Granted { epoch: 1, digest_key: [7; 32] }));
    assert_eq!(store.take_over(&ask("u1", 8)).await, Ok(TakeOverAnswer::Granted { epoch: 2, digest_key: [7; 32] }));
    assert_eq!(store.take_over(&ask("u2", 9)).await, Ok(TakeOverAnswer::OtherUid { pinned: "u1".to_owned() }));
    let row = &store.load().await.unwrap().clusters[&ClusterId::from("eu")];
    assert_eq!((row.epoch, row.durable_seq, row.uid.as_str()), (2, 0, "u1"));
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
    assert_eq!(loaded.clusters[&ClusterId::from("eu")].durable_seq, 0);
    assert_eq!(loaded.clusters[&ClusterId::from("us")].durable_seq, 5);
}

async fn what_is_loaded_equals_what_was_stored(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 1).await;
    let stored = [class(), ingress("web", "/a?b=\"c\"&\u{1F6A2}"), service(), slice()].map(|it| stored(it, 3));
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
    removal.removals.insert(ingress("a", "/").key(), gone);
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
    assert_eq!(loaded.clusters[&ClusterId::from("eu")].durable_seq, 0);
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
    assert_eq!(loaded.clusters[&ClusterId::from("eu")].durable_seq, 20);
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
    }));
    queue.push(Request::TakeOver { ticket: 42, cluster: "eu".into(), uid: "uid".to_owned() });
    assert!(matches!(next(&mut events).await, Event::Durable { .. }));
    let Event::TakenOver { ticket: 42, answer: Ok(TakeOverAnswer::Granted { epoch: 2, .. }), .. } =
        next(&mut events).await
    else {
        panic!("not taken over")
    };
    assert_eq!(names(&store.load().await.unwrap().objects), ["late"]);
    queue.push(Request::Write(Write {
        cluster: "eu".into(),
        position: Position { epoch: 1, seq: 2 },
        upserts: vec![stored(ingress("too-late", "/"), 2)],
        removals: Vec::new(),
    }));
    assert_eq!(next(&mut events).await, Event::Fenced { cluster: "eu".into(), epoch: 1 });
    assert_eq!(names(&store.load().await.unwrap().objects), ["late"]);
}

async fn revisions_are_written_on_change_only(case: impl Case) {
    let store = case.store();
    let write = async |host: &str, body: Option<&str>| {
        let body = body.map(|text| HostBody { digest: Digest::of_bytes(text.as_bytes()), encoded: text.into() });
        let revision = HostRevision {
            pool: "public".into(),
            host: HostKey::parse(host).unwrap(),
            body,
            cause: Cause::Objects,
            positions: BTreeMap::from([("eu".into(), Position { epoch: 1, seq: 2 })]),
        };
        let batch = Batch { revisions: vec![revision], ..Batch::default() };
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
    let publish = async |host: &str, text: Option<&str>| {
        let body = text.map(|text| HostBody { digest: Digest::of_bytes(text.as_bytes()), encoded: text.into() });
        let (pool, host) = ("public".into(), HostKey::parse(host).unwrap());
        let revision = HostRevision { pool, host, body, cause: Cause::Objects, positions: BTreeMap::new() };
        store.commit(&Batch { revisions: vec![revision], ..Batch::default() }).await.unwrap();
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

async fn a_keep_that_is_refused_stops_nothing_else(case: impl Case) {
    let store = case.store();
    hold(&*store, "eu", 1).await;
    let (queue, mut events) = writer(&store);
    for (id, message) in [("h-1", "good"), ("h-2", "bad \0"), ("h-3", "good")] {
        queue.push(Request::Keep(Keep::Hold { hold: Box::new(hold_row(id, message)), is_live: true }));
    }
    queue.push(Request::TakeOver { ticket: 1, cluster: "eu".into(), uid: "uid".to_owned() });
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
    }));
    assert!(matches!(next(&mut events).await, Event::Away(_)));
    store.set_away(false);
    assert_eq!(next(&mut events).await, Event::Back);
    assert!(matches!(next(&mut events).await, Event::Durable { .. }));
    queue.push(Request::TakeOver { ticket: 1, cluster: "us".into(), uid: "u".to_owned() });
    assert!(matches!(next(&mut events).await, Event::TakenOver { .. }));
    queue.push(Request::Write(Write {
        cluster: "eu".into(),
        position: Position { epoch: 1, seq: 2 },
        upserts: vec![stored(ingress("a", "/b"), 2)],
        removals: Vec::new(),
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
    removal.removals.insert(ingress("web", "/").key(), Position { epoch: 1, seq: 2 });
    commit(&*case.store, removal).await;
    assert_eq!(case.store.compact().await, Ok(0));
    case.rows("UPDATE tombstones SET removed_at = now() - interval '25 hours'").await;
    assert_eq!(case.store.compact().await, Ok(1));
    let rows = case.rows("SELECT compacted_epoch, compacted_seq FROM clusters").await;
    assert_eq!((rows[0].get::<i64, _>(0), rows[0].get::<i64, _>(1)), (1, 2));
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
        let request = TakeOver { cluster: cluster.into(), uid: "uid".to_owned(), fresh_key: [1; 32] };
        store.take_over(&request).await.unwrap();
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
    ClusterBatch { epoch, durable_seq, upserts, removals: BTreeMap::new() }
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
        Service {
            name: ObjectName::new("shop", "web"),
            meta: meta(),
            service_type: Default::default(),
            external_name: "".into(),
            ports: vec![port],
        }
        .into(),
    )
}

fn slice() -> Object {
    let endpoint = SliceEndpoint {
        address: "10.0.0.1".parse().unwrap(),
        ready: Some(true),
        serving: None,
        terminating: Some(false),
        zone: Some("a".into()),
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

#[test]
fn the_kinds_in_a_suite_are_all_kinds() {
    let kinds = [class(), ingress("a", "/"), service(), slice()].map(|it| it.key().kind);
    assert_eq!(kinds, Kind::ALL);
}
