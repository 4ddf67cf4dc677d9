//! An agent and an edge as small as the protocol allows.

use std::collections::BTreeMap;
use std::time::Duration;

use roadstead_proto::digest::{BucketHashes, Digest, bucket_of};
use roadstead_proto::finding::key_to_wire;
use roadstead_proto::resource::{backend_from_wire, secret};
use roadstead_proto::wire;
use roadstead_proto::wire::agent_message::Message as AgentSays;
use roadstead_proto::wire::config_message::Message as ToEdge;
use roadstead_proto::wire::controller_message::Message as ToAgent;
use roadstead_proto::wire::edge_message::Message as EdgeSays;
use roadstead_routing::id::{Kind, ObjectName, PortRef};
use roadstead_routing::object::{Ingress, IngressBackend, IngressPath, IngressRule, Object, PathType};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::setup::Setup;

const DEADLINE: Duration = Duration::from_secs(60);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);

pub struct Agent {
    pub welcome: wire::Welcome,
    sender: mpsc::Sender<wire::AgentMessage>,
    stream: Streaming<wire::ControllerMessage>,
    statuses: BTreeMap<String, Vec<String>>,
}

impl Agent {
    pub async fn connect(setup: &Setup, cluster: &str) -> Self {
        Self::connect_as(setup, cluster, "uid").await
    }

    /// From a cluster with this uid of namespace kube-system.
    pub async fn connect_as(setup: &Setup, cluster: &str, uid: &str) -> Self {
        let (sender, mut stream) = open_agent(setup, &format!("cluster/{cluster}")).await.unwrap();
        let hello = wire::Hello {
            cluster: cluster.to_owned(),
            agent: "test".to_owned(),
            cluster_uid: uid.to_owned(),
            ..wire::Hello::default()
        };
        sender.send(agent_says(AgentSays::Hello(hello))).await.unwrap();
        tokio::spawn(beat(sender.downgrade(), || agent_says(AgentSays::Heartbeat(wire::Heartbeat::default()))));
        loop {
            if let ToAgent::Welcome(welcome) = next(&mut stream).await.message.unwrap() {
                return Self { welcome, sender, stream, statuses: BTreeMap::new() };
            }
        }
    }

    /// One Ingress per name, for the host NAME.example.com.
    pub async fn report(&mut self, seq: u64, names: &[&str]) {
        let upserts = names.iter().map(|name| {
            let object = roadstead_proto::object::to_wire(&ingress(name));
            wire::Upsert { digest: Digest::of(&object).to_vec(), object: Some(object) }
        });
        let delta = wire::Delta { seq, upserts: upserts.collect(), ..wire::Delta::default() };
        self.sender.send(agent_says(AgentSays::Delta(delta))).await.unwrap();
    }

    pub async fn remove(&mut self, seq: u64, names: &[&str], cause: wire::RemovalCause) {
        let removal =
            |name: &&str| wire::Removal { object: Some(key_to_wire(&ingress(name).key())), cause: cause.into() };
        let delta = wire::Delta { seq, removals: names.iter().map(removal).collect(), ..wire::Delta::default() };
        self.sender.send(agent_says(AgentSays::Delta(delta))).await.unwrap();
    }

    /// Everything was listed. There are no objects but `ingresses`.
    pub async fn complete(&mut self, ingresses: u64) {
        for kind in Kind::ALL {
            let count = if kind == Kind::Ingress { ingresses } else { 0 };
            let complete = wire::SyncComplete { kind: kind as i32, count };
            self.sender.send(agent_says(AgentSays::SyncComplete(complete))).await.unwrap();
        }
    }

    pub async fn acknowledged(&mut self, seq: u64) {
        while self.hear().await != Some(seq) {}
    }

    pub async fn status_of(&mut self, name: &str) -> Vec<String> {
        while !self.statuses.contains_key(name) {
            self.hear().await;
        }
        self.statuses[name].clone()
    }

    /// Takes one message; returns what it acknowledges.
    async fn hear(&mut self) -> Option<u64> {
        match next(&mut self.stream).await.message.unwrap() {
            ToAgent::Ack(ack) => return Some(ack.seq),
            ToAgent::DesiredStatuses(told) => {
                self.statuses.extend(told.statuses.into_iter().map(|it| (it.name, it.addresses)));
            }
            _ => {}
        }
        None
    }
}

pub struct Edge {
    held: BTreeMap<String, Digest>,
    sender: mpsc::Sender<wire::EdgeMessage>,
    stream: Streaming<wire::ConfigMessage>,
}

impl Edge {
    pub async fn connect(setup: &Setup, id: &str, held: BTreeMap<String, Digest>) -> Self {
        let (sender, stream) = open_edge(setup, &format!("pool/public/edge/{id}")).await.unwrap();
        let mut hashes = BucketHashes::default();
        held.iter().for_each(|(key, digest)| hashes.replace(key, None, Some(digest)));
        let hello = wire::EdgeHello {
            edge: id.to_owned(),
            pool: "public".to_owned(),
            held: hashes.to_bytes(),
            ..wire::EdgeHello::default()
        };
        sender.send(edge_says(EdgeSays::Hello(hello))).await.unwrap();
        tokio::spawn(beat(sender.downgrade(), || edge_says(EdgeSays::Heartbeat(wire::Heartbeat::default()))));
        Self { held, sender, stream }
    }

    pub fn leave(self) -> BTreeMap<String, Digest> {
        self.held
    }

    pub fn hosts(&self) -> Vec<&str> {
        self.held.keys().filter_map(|key| key.strip_prefix("host/")).collect()
    }

    /// Returns how many resources came with it.
    pub async fn until_synced(&mut self) -> usize {
        let mut resources = 0;
        loop {
            let Some(update) = self.hear().await else { continue };
            resources += update.upserts.len() + update.removals.len();
            if update.synced {
                return resources;
            }
        }
    }

    pub async fn until_host(&mut self, host: &str) -> usize {
        let mut resources = 0;
        while !self.hosts().contains(&host) {
            let update = self.hear().await;
            resources += update.map_or(0, |update| update.upserts.len() + update.removals.len());
        }
        resources
    }

    pub async fn until_hosts(&mut self, count: usize) {
        while self.hosts().len() != count {
            self.hear().await;
        }
    }

    async fn hear(&mut self) -> Option<wire::Update> {
        match next(&mut self.stream).await.message.unwrap() {
            ToEdge::Heartbeat(_) => None,
            ToEdge::HeldRequest(request) => {
                let asked = self.held.iter().filter(|(key, _)| request.buckets.contains(&(bucket_of(key) as u32)));
                let held = |(key, digest): (&String, &Digest)| wire::Bucket {
                    index: bucket_of(key) as u32,
                    held: vec![wire::Held { key: key.clone(), digest: digest.to_vec(), clusters: Vec::new() }],
                };
                let contents = wire::HeldContents { buckets: asked.map(held).collect(), last: true };
                self.sender.send(edge_says(EdgeSays::HeldContents(contents))).await.unwrap();
                None
            }
            ToEdge::Update(update) => {
                for upsert in &update.upserts {
                    let key = match upsert.resource.clone().unwrap() {
                        wire::resource_upsert::Resource::Host(host) => format!("host/{}", host.name),
                        wire::resource_upsert::Resource::Backend(backend) => {
                            format!("backend/{}", backend_from_wire(backend).unwrap().id)
                        }
                        wire::resource_upsert::Resource::Secret(it) => {
                            format!("secret/{}", secret::from_wire(it).unwrap().id)
                        }
                    };
                    self.held.insert(key, Digest::from_slice(&upsert.digest).unwrap());
                }
                self.held.retain(|key, _| !update.removals.contains(key));
                let result = wire::UpdateResult { nonce: update.nonce, refusals: Vec::new() };
                self.sender.send(edge_says(EdgeSays::Result(result))).await.unwrap();
                Some(update)
            }
        }
    }
}

pub async fn open_agent(
    setup: &Setup,
    identity: &str,
) -> Result<(mpsc::Sender<wire::AgentMessage>, Streaming<wire::ControllerMessage>), Status> {
    let (sender, receiver) = mpsc::channel(16);
    let mut client = wire::agent_sync_client::AgentSyncClient::new(channel(setup, identity).await);
    let stream = client.sync(ReceiverStream::new(receiver)).await?.into_inner();
    Ok((sender, stream))
}

pub async fn open_edge(
    setup: &Setup,
    identity: &str,
) -> Result<(mpsc::Sender<wire::EdgeMessage>, Streaming<wire::ConfigMessage>), Status> {
    let (sender, receiver) = mpsc::channel(16);
    let mut client = wire::edge_config_client::EdgeConfigClient::new(channel(setup, identity).await);
    let stream = client.subscribe(ReceiverStream::new(receiver)).await?.into_inner();
    Ok((sender, stream))
}

pub fn agent_says(said: AgentSays) -> wire::AgentMessage {
    wire::AgentMessage { message: Some(said) }
}

fn edge_says(said: EdgeSays) -> wire::EdgeMessage {
    wire::EdgeMessage { message: Some(said) }
}

async fn channel(setup: &Setup, identity: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("https://{}", setup.grpc)).unwrap();
    endpoint.tls_config(setup.tls(identity).client()).unwrap().connect().await.unwrap()
}

/// Says that the peer is there for as long as it is, however long a test takes elsewhere.
async fn beat<T>(sender: mpsc::WeakSender<T>, heartbeat: impl Fn() -> T) {
    loop {
        tokio::time::sleep(HEARTBEAT_EVERY).await;
        let Some(sender) = sender.upgrade() else { return };
        if sender.send(heartbeat()).await.is_err() {
            return;
        }
    }
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    let message = tokio::time::timeout(DEADLINE, stream.message()).await.expect("a message in time");
    message.expect("a stream that goes on").expect("a stream that goes on")
}

fn ingress(name: &str) -> Object {
    let backend = IngressBackend::Service { name: "web".into(), port: Some(PortRef::Number(80)) };
    let path = IngressPath { path: "/".into(), path_type: PathType::Prefix, backend };
    Object::Ingress(
        Ingress {
            name: ObjectName::new("shop", name),
            annotations: BTreeMap::from([("kubernetes.io/ingress.class".into(), "roadstead".into())]),
            rules: vec![IngressRule { host: format!("{name}.example.com").into(), paths: Some(vec![path]) }],
            ..Ingress::default()
        }
        .into(),
    )
}
