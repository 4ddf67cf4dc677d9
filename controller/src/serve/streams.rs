//! The gRPC services: who is it, then every message into the core's inbox.
//!
//! The inbox is bounded and readers wait for room, so a flood slows down its senders and nobody else's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roadstead_proto::identity::Identity;
use roadstead_proto::wire;
use roadstead_proto::wire::agent_sync_server::AgentSync;
use roadstead_proto::wire::edge_config_server::EdgeConfig;
use roadstead_proto::wire::peer_sync_server::PeerSync;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::core::message::{EdgeId, Input, StreamId};
use crate::serve::core_task::Command;
use crate::serve::link::{AGENT_QUEUE_MAX, EDGE_QUEUE_MAX, Link, PEER_QUEUE_MAX};

#[derive(Clone)]
pub struct Streams {
    inbox: mpsc::Sender<Command>,
    last_stream: Arc<AtomicU64>,
}

impl Streams {
    pub fn new(inbox: mpsc::Sender<Command>) -> Self {
        Self { inbox, last_stream: Arc::default() }
    }

    pub(super) fn next(&self) -> StreamId {
        StreamId(self.last_stream.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) async fn tell(&self, command: Command) -> Result<(), Status> {
        self.inbox.send(command).await.map_err(|_| Status::unavailable("the controller is stopping"))
    }

    pub(super) fn reader(&self, over: CancellationToken) -> Reader {
        Reader { inbox: self.inbox.clone(), over }
    }
}

#[tonic::async_trait]
impl AgentSync for Streams {
    type SyncStream = ReceiverStream<Result<wire::ControllerMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let cluster = match identity(&request)? {
            Identity::Cluster(cluster) => cluster,
            other => return Err(not_for(&other, "agents (cluster/ID)")),
        };
        let (stream, over) = (self.next(), CancellationToken::new());
        let (sender, receiver) = mpsc::channel(AGENT_QUEUE_MAX);
        self.tell(Command::OpenAgent { stream, cluster, link: Link::new(sender, over.clone()) }).await?;
        let to_input = move |message| Input::Agent { stream, message };
        tokio::spawn(self.reader(over).run(request.into_inner(), to_input, Input::AgentClosed { stream }));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl EdgeConfig for Streams {
    type SubscribeStream = ReceiverStream<Result<wire::ConfigMessage, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<wire::EdgeMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let edge = match identity(&request)? {
            Identity::Edge { pool, edge } => EdgeId { pool, edge },
            other => return Err(not_for(&other, "edges (pool/NAME/edge/ID)")),
        };
        let (stream, over) = (self.next(), CancellationToken::new());
        let (sender, receiver) = mpsc::channel(EDGE_QUEUE_MAX);
        self.tell(Command::OpenEdge { stream, edge, link: Link::new(sender, over.clone()) }).await?;
        let to_input = move |message| Input::Edge { stream, message };
        tokio::spawn(self.reader(over).run(request.into_inner(), to_input, Input::EdgeClosed { stream }));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl PeerSync for Streams {
    type SyncStream = ReceiverStream<Result<wire::PeerAnswer, Status>>;

    async fn sync(&self, request: Request<Streaming<wire::PeerMessage>>) -> Result<Response<Self::SyncStream>, Status> {
        let replica = match identity(&request)? {
            Identity::Controller(replica) => replica,
            other => return Err(not_for(&other, "controllers (controller/ID)")),
        };
        let (stream, over) = (self.next(), CancellationToken::new());
        let (sender, receiver) = mpsc::channel(PEER_QUEUE_MAX);
        self.tell(Command::OpenPeer { stream, replica, link: Link::new(sender, over.clone()) }).await?;
        let to_input = move |message| Input::Peer { stream, message };
        tokio::spawn(self.reader(over).run(request.into_inner(), to_input, Input::PeerClosed { stream }));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Reads one stream until it ends or the core is done with it.
pub(super) struct Reader {
    inbox: mpsc::Sender<Command>,
    over: CancellationToken,
}

impl Reader {
    pub(super) async fn run<T>(self, mut messages: Streaming<T>, to_input: impl Fn(T) -> Input, closed: Input) {
        loop {
            let message = tokio::select! {
                () = self.over.cancelled() => break,
                message = messages.message() => message,
            };
            match message {
                Ok(Some(message)) => {
                    if self.inbox.send(Command::Input(to_input(message))).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(reason = status.message(), "A stream broke");
                    break;
                }
            }
        }
        // If nobody listens the process is ending.
        let _ = self.inbox.send(Command::Input(closed)).await;
    }
}

/// Who the peer is. TLS has verified the chain; the leaf comes first.
fn identity<T>(request: &Request<T>) -> Result<Identity, Status> {
    let certificates = request.peer_certs().ok_or_else(|| Status::unauthenticated("no client certificate"))?;
    let leaf = certificates.first().ok_or_else(|| Status::unauthenticated("no client certificate"))?;
    Identity::from_certificate(leaf).map_err(|error| Status::unauthenticated(error.to_string()))
}

fn not_for(identity: &Identity, expected: &str) -> Status {
    Status::permission_denied(format!("this service is for {expected}, the certificate says {identity}"))
}
