//! A controller of a few lines: believes what it is told, remembers how it was told, answers as the protocol says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use roadstead_proto::digest::{BucketHashes, Digest, bucket_of};
use roadstead_proto::object::{from_wire, key_text};
use roadstead_proto::tls::TlsFiles;
use roadstead_proto::wire::agent_message::Message as FromAgent;
use roadstead_proto::wire::agent_sync_server::{AgentSync, AgentSyncServer};
use roadstead_proto::wire::controller_message::Message as ToAgent;
use roadstead_proto::{finding, wire};
use roadstead_routing::finding::Finding;
use roadstead_routing::id::{Kind, ObjectKey};
use roadstead_routing::object::Object;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// What one stream brought. The last of them is the current one.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) hello: wire::Hello,
    pub(crate) upserts: Vec<ObjectKey>,
    pub(crate) removals: Vec<(ObjectKey, wire::RemovalCause)>,
    pub(crate) completes: Vec<Kind>,
    pub(crate) heartbeats: u64,
    pub(crate) findings: Vec<Finding>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<ObjectKey, (Digest, Object)>,
    held_back: Vec<ObjectKey>,
    pub(crate) streams: Vec<Heard>,
    to_agent: Option<mpsc::Sender<Result<wire::ControllerMessage, Status>>>,
}

impl State {
    /// The current stream.
    pub(crate) fn heard(&mut self) -> &mut Heard {
        self.streams.last_mut().expect("a stream was opened")
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.objects.keys().map(ToString::to_string).collect()
    }

    pub(crate) fn completed(&self) -> Vec<Kind> {
        let mut kinds = self.streams.last().map(|heard| heard.completes.clone()).unwrap_or_default();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn take(&mut self, message: wire::AgentMessage) -> Option<ToAgent> {
        match message.message? {
            FromAgent::Hello(hello) => {
                self.streams.push(Heard { hello, ..Heard::default() });
                self.held_back.clear();
                return Some(self.welcome());
            }
            FromAgent::BucketRequest(request) => return Some(self.contents(&request)),
            FromAgent::Delta(delta) => return Some(self.apply(delta)),
            FromAgent::SyncComplete(complete) => {
                let kind = Kind::from_number(complete.kind).unwrap();
                self.heard().completes.push(kind);
                for key in std::mem::take(&mut self.held_back) {
                    if key.kind == kind { drop(self.objects.remove(&key)) } else { self.held_back.push(key) }
                }
            }
            FromAgent::Heartbeat(beat) => {
                self.heard().heartbeats += 1;
                return Some(ToAgent::Heartbeat(beat));
            }
            FromAgent::Findings(findings) => {
                self.heard().findings = findings.findings.into_iter().filter_map(finding::from_wire).collect();
            }
        }
        None
    }

    fn welcome(&self) -> ToAgent {
        let mut known = BucketHashes::default();
        self.objects.iter().for_each(|(key, (digest, _))| known.toggle(&key_text(key), digest));
        ToAgent::Welcome(wire::Welcome {
            epoch: 1,
            known: known.to_bytes(),
            policy: Some(wire::AgentPolicy::default()),
            ..wire::Welcome::default()
        })
    }

    fn contents(&self, request: &wire::BucketRequest) -> ToAgent {
        let pairs = || self.objects.iter().map(|(key, (digest, _))| (key_text(key), digest.to_vec()));
        let bucket = |index: &u32| wire::Bucket {
            index: *index,
            held: pairs()
                .filter(|(key, _)| bucket_of(key) as u32 == *index)
                .map(|(key, digest)| wire::Held { key, digest, clusters: Vec::new() })
                .collect(),
        };
        ToAgent::BucketContents(wire::BucketContents {
            buckets: request.buckets.iter().map(bucket).collect(),
            last: true,
            position: None,
            number: request.number,
        })
    }

    fn apply(&mut self, delta: wire::Delta) -> ToAgent {
        for upsert in delta.upserts {
            let object = from_wire(upsert.object.unwrap()).unwrap();
            let digest = Digest::from_slice(&upsert.digest).unwrap();
            self.heard().upserts.push(object.key());
            self.objects.insert(object.key(), (digest, object));
        }
        for removal in delta.removals {
            let key = finding::key_from_wire(removal.object.as_ref().unwrap()).unwrap();
            self.heard().removals.push((key.clone(), removal.cause()));
            match removal.cause() {
                wire::RemovalCause::Inferred => self.held_back.push(key),
                _ => drop(self.objects.remove(&key)),
            }
        }
        ToAgent::Ack(wire::Ack { seq: delta.seq })
    }
}

/// A running controller, or one that is away. Its state outlives both.
pub(crate) struct Controller {
    state: Arc<Mutex<State>>,
    tls: TlsFiles,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Controller {
    pub(crate) async fn start(tls: TlsFiles) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut controller = Self { state: Arc::default(), tls, address, stop: CancellationToken::new() };
        controller.serve(listener);
        controller
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Closes the listener and every stream.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.state().to_agent = None;
    }

    pub(crate) async fn start_again(&mut self) {
        let deadline = std::time::Instant::now() + super::rig::DEADLINE;
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return self.serve(listener),
                Err(error) if std::time::Instant::now() > deadline => panic!("{}: {error}", self.address),
                Err(_) => tokio::time::sleep(super::rig::POLL).await,
            }
        }
    }

    pub(crate) async fn say(&self, message: ToAgent) {
        let to_agent = self.state().to_agent.clone().expect("an agent is connected");
        to_agent.send(Ok(wire::ControllerMessage { message: Some(message) })).await.expect("the stream is open");
    }

    fn serve(&mut self, listener: TcpListener) {
        self.stop = CancellationToken::new();
        let service = Service { state: Arc::clone(&self.state), stop: self.stop.clone() };
        let tls = self.tls.load().unwrap().server();
        let server = tonic::transport::Server::builder().tls_config(tls).unwrap();
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let serving = { server }
                .add_service(AgentSyncServer::new(service))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned());
            serving.await.unwrap();
        });
    }
}

struct Service {
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl AgentSync for Service {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<wire::ControllerMessage, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let mut incoming = request.into_inner();
        let (sender, outgoing) = mpsc::channel(64);
        let (state, stop) = (Arc::clone(&self.state), self.stop.clone());
        tokio::spawn(async move {
            state.lock().unwrap().to_agent = Some(sender.clone());
            loop {
                let next = tokio::select! {
                    next = incoming.next() => next,
                    () = stop.cancelled() => break,
                };
                let Some(Ok(message)) = next else { break };
                let answer = state.lock().unwrap().take(message);
                if let Some(answer) = answer
                    && sender.send(Ok(wire::ControllerMessage { message: Some(answer) })).await.is_err()
                {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}
