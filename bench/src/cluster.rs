//! One synthetic cluster: a real agent stream without a Kubernetes API behind it.
//!
//! Objects of a cluster, then single changed objects → the agent protocol of `sync.proto` over mutual TLS. It does
//! what an agent does (differences only, chunks, a window of unacknowledged Deltas, heartbeats) and never reconnects:
//! a stream that breaks ends the measurement.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use anyhow::{Context, bail};
use roadstead_proto::digest::{BUCKETS, BucketHashes, Digest};
use roadstead_proto::object::{key_text, to_wire};
use roadstead_proto::wire::agent_message::Message as Out;
use roadstead_proto::wire::controller_message::Message as In;
use roadstead_proto::wire::{self, AgentMessage, ControllerMessage};
use roadstead_routing::id::{ClusterId, Kind};
use roadstead_routing::object::Object;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// Bytes of one Delta while the cluster is loaded. Well below the protocol's 1 MiB, as an agent chunks.
const CHUNK_BYTES: usize = 256 * 1024;
/// Deltas that may be unacknowledged at a time.
const WINDOW: u64 = 64;
const OUTGOING_MESSAGES: usize = 64;
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How to reach the controller as one cluster.
pub struct Link {
    pub cluster: ClusterId,
    /// `https://HOST:PORT`.
    pub controller: String,
    pub tls: ClientTlsConfig,
}

/// Runs the stream until `changes` closes.
///
/// `synced` is completed once everything in `objects` is acknowledged, that is, durable.
///
/// # Errors
/// If the stream cannot be opened, breaks, or the controller says something that only an agent in trouble hears.
pub async fn run(
    link: Link,
    objects: Vec<Object>,
    mut changes: mpsc::Receiver<Object>,
    synced: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let mut stream = Stream::open(&link).await?;
    let held = stream.held().await?;
    stream.backlog = backlog(&objects, &held);
    drop(objects);
    let mut synced = Some(synced);
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        stream.send_backlog().await?;
        if stream.backlog.is_empty() && stream.unacknowledged() == 0 {
            synced.take().map(|synced| synced.send(()));
        }
        tokio::select! {
            message = stream.incoming.message() => stream.receive(message?)?,
            change = changes.recv(), if stream.backlog.is_empty() && stream.window_open() => {
                let Some(object) = change else { return Ok(()) };
                stream.send_upserts(vec![upsert(&object)]).await?;
            }
            _ = heartbeat.tick() => stream.beat().await?,
        }
    }
}

struct Stream {
    outgoing: mpsc::Sender<AgentMessage>,
    incoming: Streaming<ControllerMessage>,
    /// Bucket hashes of what the controller holds of this cluster.
    known: BucketHashes,
    backlog: VecDeque<Step>,
    sent: u64,
    acknowledged: u64,
    heartbeats: u64,
}

/// What remains to be sent of the first synchronisation.
enum Step {
    Upserts(Vec<wire::Upsert>),
    Complete { kind: Kind, count: u64 },
}

impl Stream {
    async fn open(link: &Link) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(link.controller.clone())?.tls_config(link.tls.clone())?;
        let channel: Channel = endpoint.connect().await.with_context(|| format!("connect to {}", link.controller))?;
        let (outgoing, receiver) = mpsc::channel(OUTGOING_MESSAGES);
        outgoing.send(message(Out::Hello(hello(&link.cluster)))).await?;
        let mut client = wire::agent_sync_client::AgentSyncClient::new(channel);
        let mut incoming = client.sync(ReceiverStream::new(receiver)).await?.into_inner();
        let welcome = loop {
            match incoming.message().await?.and_then(|message| message.message) {
                Some(In::Welcome(welcome)) => break welcome,
                Some(In::Heartbeat(_)) => {}
                other => bail!("cluster {}: expected Welcome, got {other:?}", link.cluster),
            }
        };
        let known = BucketHashes::from_bytes(&welcome.known).context("Welcome.known has a wrong length")?;
        let backlog = VecDeque::new();
        Ok(Self { outgoing, incoming, known, backlog, sent: 0, acknowledged: 0, heartbeats: 0 })
    }

    /// What the controller holds of this cluster already: `(key, digest)` pairs.
    async fn held(&mut self) -> anyhow::Result<HashSet<(String, Vec<u8>)>> {
        let mut held = HashSet::new();
        let buckets = self.known.differing(&BucketHashes::default());
        if buckets.is_empty() {
            return Ok(held);
        }
        debug_assert!(buckets.len() <= BUCKETS);
        self.send(Out::BucketRequest(wire::BucketRequest { buckets, number: 1 })).await?;
        loop {
            match self.incoming.message().await?.and_then(|message| message.message) {
                Some(In::BucketContents(contents)) => {
                    let pairs = contents.buckets.into_iter().flat_map(|bucket| bucket.held);
                    held.extend(pairs.map(|pair| (pair.key, pair.digest)));
                    if contents.last {
                        return Ok(held);
                    }
                }
                Some(_) => {}
                None => bail!("the controller closed the stream during the first synchronisation"),
            }
        }
    }

    async fn send_backlog(&mut self) -> anyhow::Result<()> {
        while self.window_open() {
            match self.backlog.pop_front() {
                Some(Step::Upserts(upserts)) => self.send_upserts(upserts).await?,
                Some(Step::Complete { kind, count }) => {
                    self.send(Out::SyncComplete(wire::SyncComplete { kind: kind as i32, count })).await?;
                }
                None => break,
            }
        }
        Ok(())
    }

    async fn send_upserts(&mut self, upserts: Vec<wire::Upsert>) -> anyhow::Result<()> {
        self.sent += 1;
        self.send(Out::Delta(wire::Delta { seq: self.sent, upserts, ..wire::Delta::default() })).await
    }

    async fn beat(&mut self) -> anyhow::Result<()> {
        self.heartbeats += 1;
        self.send(Out::Heartbeat(wire::Heartbeat { seq: self.heartbeats })).await
    }

    async fn send(&self, out: Out) -> anyhow::Result<()> {
        self.outgoing.send(message(out)).await.context("the controller closed the stream")
    }

    fn receive(&mut self, message: Option<ControllerMessage>) -> anyhow::Result<()> {
        match message.context("the controller closed the stream")?.message {
            Some(In::Ack(ack)) => self.acknowledged = self.acknowledged.max(ack.seq),
            Some(In::Standby(_)) => bail!("the controller put a live stream on standby"),
            // Statuses, findings and policy are for Kubernetes, which this cluster does not have.
            _ => {}
        }
        Ok(())
    }

    fn unacknowledged(&self) -> u64 {
        self.sent.saturating_sub(self.acknowledged)
    }

    fn window_open(&self) -> bool {
        self.unacknowledged() < WINDOW
    }
}

/// The differences to what is held, in chunks, kind by kind, each kind followed by its completion.
fn backlog(objects: &[Object], held: &HashSet<(String, Vec<u8>)>) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    for kind in Kind::ROUTING {
        let of_kind = || objects.iter().filter(move |object| object.key().kind == kind);
        let missing = of_kind().map(|object| (key_text(&object.key()), upsert(object)));
        let missing = missing.filter(|(key, upsert)| !held.contains(&(key.clone(), upsert.digest.clone())));
        steps.extend(chunks(missing.map(|(_, upsert)| upsert), CHUNK_BYTES).into_iter().map(Step::Upserts));
        steps.push_back(Step::Complete { kind, count: of_kind().count() as u64 });
    }
    steps
}

/// Groups of at most `bytes` encoded bytes, in order. A larger single upsert is a group of its own.
fn chunks(upserts: impl Iterator<Item = wire::Upsert>, bytes: usize) -> Vec<Vec<wire::Upsert>> {
    let mut groups: Vec<Vec<wire::Upsert>> = Vec::new();
    let mut room = 0;
    for upsert in upserts {
        let size = prost::Message::encoded_len(&upsert);
        match groups.last_mut() {
            Some(group) if size <= room => {
                group.push(upsert);
                room -= size;
            }
            _ => {
                groups.push(vec![upsert]);
                room = bytes.saturating_sub(size);
            }
        }
    }
    groups
}

fn upsert(object: &Object) -> wire::Upsert {
    let object = to_wire(object);
    wire::Upsert { digest: Digest::of(&object).to_vec(), object: Some(object) }
}

fn message(out: Out) -> AgentMessage {
    AgentMessage { message: Some(out) }
}

fn hello(cluster: &ClusterId) -> wire::Hello {
    wire::Hello {
        cluster: cluster.to_string(),
        agent: format!("bench-{}", std::process::id()),
        cluster_uid: format!("bench-{cluster}"),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kubernetes_version: "v1.34.0".to_owned(),
        ..wire::Hello::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Addresses, Shape, World};

    fn objects() -> Vec<Object> {
        let shape = Shape { clusters: vec!["c0".into()], hosts: 20, endpoints: 400, domain: "t".to_owned(), port: 9 };
        World::new(shape, &mut Addresses::default()).objects(0)
    }

    fn counts(steps: &VecDeque<Step>) -> (usize, Vec<u64>) {
        let mut upserts = 0;
        let mut complete = Vec::new();
        for step in steps {
            match step {
                Step::Upserts(chunk) => upserts += chunk.len(),
                Step::Complete { count, .. } => complete.push(*count),
            }
        }
        (upserts, complete)
    }

    #[test]
    fn every_kind_is_completed_with_its_count_after_its_objects() {
        let steps = backlog(&objects(), &HashSet::new());
        assert_eq!(counts(&steps), (61, vec![1, 20, 20, 20]));
        assert!(matches!(steps.back(), Some(Step::Complete { kind: Kind::EndpointSlice, .. })));
    }

    #[test]
    fn what_the_controller_holds_is_not_sent_again() {
        let objects = objects();
        let held = objects.iter().take(30).map(|object| (key_text(&object.key()), upsert(object).digest)).collect();
        assert_eq!(counts(&backlog(&objects, &held)), (31, vec![1, 20, 20, 20]));
    }

    #[test]
    fn chunks_keep_the_order_and_stay_below_the_size() {
        let all: Vec<wire::Upsert> = objects().iter().map(upsert).collect();
        let groups = chunks(all.iter().cloned(), 2_000);
        assert!(groups.len() > 2);
        for group in &groups {
            let size: usize = group.iter().map(prost::Message::encoded_len).sum();
            assert!(size <= 2_000 || group.len() == 1, "{size} bytes in {} upserts", group.len());
        }
        assert_eq!(groups.concat(), all);
    }
}
