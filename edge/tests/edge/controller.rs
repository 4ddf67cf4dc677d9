//! The edge process and a controller: first contact, loss, a restart without any controller, another world.

use std::net::SocketAddr;

use roadstead_proto::digest::{BucketHashes, Digest};
use roadstead_proto::resource::{backend_key, backend_to_wire, host_to_wire};
use roadstead_proto::tls::TlsFiles;
use roadstead_proto::wire;
use roadstead_proto::wire::config_message::Message as Tell;
use roadstead_proto::wire::edge_config_server::{EdgeConfig, EdgeConfigServer};
use roadstead_proto::wire::edge_message::Message as Heard;
use roadstead_routing::table::{PathMatch, Route, Target};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::pki::Authority;
use crate::process::{EdgeProcess, free_address};
use crate::support::{PATIENCE, Pod, backend, eventually, get, host_of, id};

pub const HOST: &str = "a.example.com";

/// A controller that does what the test says.
pub struct Controller {
    pub sessions: mpsc::Receiver<Session>,
    task: JoinHandle<()>,
}

/// One edge's stream.
pub struct Session {
    pub hello: wire::EdgeHello,
    heard: Streaming<wire::EdgeMessage>,
    tell: mpsc::Sender<Result<wire::ConfigMessage, Status>>,
}

struct Service(mpsc::Sender<Session>);

#[tonic::async_trait]
impl EdgeConfig for Service {
    type SubscribeStream = ReceiverStream<Result<wire::ConfigMessage, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<wire::EdgeMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        assert_eq!(request.peer_certs().expect("the edge must present a certificate").len(), 1);
        let mut heard = request.into_inner();
        let Some(Heard::Hello(hello)) = heard.message().await?.and_then(|message| message.message) else {
            return Err(Status::invalid_argument("expected a Hello"));
        };
        let (tell, told) = mpsc::channel(64);
        self.0.send(Session { hello, heard, tell }).await.map_err(|_| Status::unavailable("the test has ended"))?;
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

impl Controller {
    pub async fn start(address: SocketAddr, tls: &TlsFiles) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (sender, sessions) = mpsc::channel(8);
        let mut server = tonic::transport::Server::builder().tls_config(tls.load().unwrap().server()).unwrap();
        let serving = server.add_service(EdgeConfigServer::new(Service(sender)));
        let task =
            tokio::spawn(async move { serving.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        Self { sessions, task }
    }

    pub async fn session(&mut self) -> Session {
        tokio::time::timeout(PATIENCE, self.sessions.recv()).await.expect("an edge must connect").unwrap()
    }

    pub async fn stop(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

impl Session {
    pub async fn tell(&self, message: Tell) {
        self.tell.send(Ok(wire::ConfigMessage { message: Some(message) })).await.unwrap();
    }

    /// The next message but heartbeats; `None` when the edge has hung up.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let heard =
                tokio::time::timeout(PATIENCE, self.heard.message()).await.expect("the edge must say something");
            match heard.ok().flatten()?.message? {
                Heard::Heartbeat(_) => {}
                other => return Some(other),
            }
        }
    }

    /// Sends an Update and returns what came of it.
    pub async fn update(&mut self, update: wire::Update) -> wire::UpdateResult {
        self.tell(Tell::Update(update)).await;
        let Some(Heard::Result(result)) = self.next().await else { panic!("expected a result") };
        result
    }
}

pub fn world(byte: u8) -> Option<wire::World> {
    Some(wire::World { id: vec![byte; 16], incarnation: 1, adopted: Vec::new() })
}

pub fn upsert(resource: wire::resource_upsert::Resource) -> wire::ResourceUpsert {
    let mut upsert = wire::ResourceUpsert { digest: Vec::new(), resource: Some(resource) };
    upsert.digest = Digest::of(&upsert).to_vec();
    upsert
}

/// A first set: `HOST` on this address.
pub fn first_set(address: SocketAddr) -> wire::Update {
    let host = host_of(HOST, vec![("eu", 100, Target::Backend(id("eu")))]);
    let position = wire::Position { epoch: 3, seq: 14 };
    wire::Update {
        nonce: 1,
        world: world(1),
        positions: Some(wire::Positions {
            clusters: vec![wire::ClusterPosition {
                cluster: "eu".to_owned(),
                position: Some(position),
                ..Default::default()
            }],
            policy_rev: 2,
            clerk_rev: 0,
        }),
        upserts: vec![
            upsert(wire::resource_upsert::Resource::Backend(backend_to_wire(&backend("eu", &[address])))),
            upsert(wire::resource_upsert::Resource::Host(host_to_wire(&host))),
        ],
        removals: Vec::new(),
        synced: true,
        guard: None,
    }
}

/// Positions of an Update as an edge says them: with the incarnation of the world that told it.
pub fn positions_of(update: &wire::Update) -> Option<wire::Positions> {
    let mut positions = update.positions.clone()?;
    positions.clusters.iter_mut().for_each(|entry| entry.incarnation = 1);
    Some(positions)
}

/// What an edge that holds the first set says about it.
fn hashes(update: &wire::Update) -> Vec<u8> {
    let mut hashes = BucketHashes::default();
    let keys = [backend_key(&id("eu")), format!("host/{HOST}")];
    for (key, upsert) in keys.iter().zip(&update.upserts) {
        hashes.toggle(key, &Digest::from_slice(&upsert.digest).unwrap());
    }
    hashes.to_bytes()
}

pub async fn answers(edge: &EdgeProcess, status: u16) {
    eventually(&format!("the edge answers {status}"), async || {
        tokio::net::TcpStream::connect(edge.http).await.is_ok() && get(edge.http, HOST, "/").await.status() == status
    })
    .await;
}

#[tokio::test]
async fn an_edge_follows_a_controller_and_outlives_it() {
    let (authority, pod) = (Authority::new(), Pod::saying("from the pod").await);
    let (tls, controller_tls) = (authority.issue("pool/public/edge/e1"), authority.issue("controller/c1"));
    let (state, address) = (authority.path().join("state"), free_address());
    let edge = EdgeProcess::start(&tls, &state, address);
    answers(&edge, 503).await;
    let not_ready = get(edge.observe, "x", "/readyz").await;
    assert_eq!(not_ready.status(), 503);
    assert!(not_ready.text().starts_with("table: no table yet"), "{}", not_ready.text());

    // First contact: nothing is held, everything is taken.
    let mut controller = Controller::start(address, &controller_tls).await;
    let mut session = controller.session().await;
    assert_eq!((&*session.hello.pool, &*session.hello.edge, &session.hello.world), ("public", "e1", &None));
    assert_eq!(BucketHashes::from_bytes(&session.hello.held), Some(BucketHashes::default()));
    let first = first_set(pod.address);
    let result = session.update(first.clone()).await;
    assert_eq!(result, wire::UpdateResult { nonce: 1, refusals: vec![] });
    assert_eq!(get(edge.http, HOST, "/").await.text(), "from the pod");
    eventually("the edge is ready", async || get(edge.observe, "x", "/readyz").await.status() == 200).await;

    // A bad resource is refused alone; what it is about goes on.
    let mut broken = host_of(HOST, vec![("eu", 100, Target::Backend(id("eu")))]);
    broken.routes.push(Route::new(PathMatch::Regex("(".into()), broken.routes[0].backends.clone()));
    let broken = upsert(wire::resource_upsert::Resource::Host(host_to_wire(&broken)));
    let result = session.update(wire::Update { nonce: 2, upserts: vec![broken], synced: false, ..first.clone() }).await;
    assert_eq!((result.nonce, &*result.refusals[0].key), (2, "host/a.example.com"));
    assert_eq!(get(edge.http, HOST, "/").await.status(), 200);

    // Without the controller, and after a crash without the controller: the last good table serves.
    controller.stop().await;
    drop(session);
    assert_eq!(get(edge.http, HOST, "/").await.status(), 200);
    eventually("the update is on disk", async || std::fs::metadata(state.join("table.journal")).unwrap().len() > 200)
        .await;
    edge.kill();
    let edge = EdgeProcess::start(&tls, &state, address);
    answers(&edge, 200).await;
    assert_eq!(get(edge.observe, "x", "/readyz").await.status(), 200);

    // The controller is back: the edge says what it holds, so nothing needs to be sent again.
    let mut controller = Controller::start(address, &controller_tls).await;
    let mut session = controller.session().await;
    assert_eq!(session.hello.world, world(1));
    assert_eq!(session.hello.positions, positions_of(&first));
    assert_eq!(session.hello.held, hashes(&first));
    session.tell(Tell::HeldRequest(wire::HeldRequest { buckets: (0..1_024).collect() })).await;
    let Some(Heard::HeldContents(contents)) = session.next().await else { panic!("expected contents") };
    assert_eq!(contents.buckets.iter().map(|bucket| bucket.held.len()).sum::<usize>(), 2);

    // Another world is refused whole: the edge hangs up, says so, and serves on.
    session
        .tell(Tell::Update(wire::Update {
            world: world(2),
            removals: vec![format!("host/{HOST}")],
            ..wire::Update::default()
        }))
        .await;
    assert!(session.next().await.is_none(), "the edge must hang up");
    eventually("the status names the problem", async || {
        get(edge.observe, "x", "/status").await.text().contains("belongs to world")
    })
    .await;
    assert_eq!(get(edge.http, HOST, "/").await.status(), 200);
    assert_eq!(get(edge.observe, "x", "/readyz").await.status(), 200);

    // A clean end leaves a compact table that the next start serves.
    assert!(edge.terminate().success());
    let edge = EdgeProcess::start(&tls, &state, free_address());
    answers(&edge, 200).await;
}

#[tokio::test]
async fn an_edge_follows_a_world_that_continues_its_own() {
    let (authority, pod) = (Authority::new(), Pod::saying("from the pod").await);
    let (tls, controller_tls) = (authority.issue("pool/public/edge/e1"), authority.issue("controller/c1"));
    let address = free_address();
    let mut controller = Controller::start(address, &controller_tls).await;
    let edge = EdgeProcess::start(&tls, &authority.path().join("state"), address);
    let first = first_set(pod.address);
    let mut session = controller.session().await;
    session.update(first.clone()).await;

    // Nobody has declared anything: the edge hangs up and says what there is to decide.
    session.tell(Tell::Update(wire::Update { world: world(2), ..wire::Update::default() })).await;
    assert!(session.next().await.is_none(), "the edge must hang up");
    eventually("the status names what to run", async || {
        get(edge.observe, "x", "/status").await.text().contains("roadstead adopt-world")
    })
    .await;

    // Somebody has: its positions count anew, and the table is corrected by digests.
    let mut session = controller.session().await;
    let adopting = wire::World { id: vec![2; 16], incarnation: 1, adopted: vec![vec![1; 16]] };
    let position = wire::ClusterPosition { cluster: "eu".to_owned(), position: None, ..Default::default() };
    let positions = wire::Positions { clusters: vec![position], policy_rev: 1, clerk_rev: 0 };
    let continued =
        wire::Update { nonce: 7, world: Some(adopting), positions: Some(positions.clone()), ..wire::Update::default() };
    let result = session.update(wire::Update { synced: true, ..continued }).await;
    assert_eq!(result, wire::UpdateResult { nonce: 7, refusals: vec![] });
    assert_eq!(get(edge.http, HOST, "/").await.text(), "from the pod");
    drop(session);
    let session = controller.session().await;
    assert_eq!(session.hello.world, world(2));
    assert_eq!(session.hello.positions.unwrap().policy_rev, 1);
    assert_eq!(session.hello.held, hashes(&first));
}

#[tokio::test]
async fn an_edge_turns_to_the_next_controller() {
    let authority = Authority::new();
    let (tls, controller_tls) = (authority.issue("pool/public/edge/e1"), authority.issue("controller/c1"));
    let (nowhere, address) = (free_address(), free_address());
    let mut controller = Controller::start(address, &controller_tls).await;
    let mut command = crate::process::command(&tls, &authority.path().join("state"), nowhere);
    command.args(["--controller", &format!("https://{address}")]);
    command.args(["--http-listen", "127.0.0.1:0", "--observe-listen", "127.0.0.1:0"]);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let session = controller.session().await;
    assert_eq!(session.hello.edge, "e1");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn an_edge_talks_to_nobody_that_another_authority_signed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (tls, address) = (authority.issue("pool/public/edge/e1"), free_address());
    let mut controller = Controller::start(address, &other.issue("controller/c1")).await;
    let edge = EdgeProcess::start(&tls, &authority.path().join("state"), address);
    eventually("the edge says why it is not ready", async || {
        tokio::net::TcpStream::connect(edge.observe).await.is_ok()
            && get(edge.observe, "x", "/readyz").await.text().contains("certificate")
    })
    .await;
    assert!(controller.sessions.try_recv().is_err());
}
