//! One core with everything around it played: a store that answers at once unless told otherwise, agents that speak the
//! protocol, edges that keep what they are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use roadstead_proto::digest::{BUCKETS, BucketHashes, Digest, bucket_of};
use roadstead_proto::finding::{key_to_wire, kind_to_wire};
use roadstead_proto::resource::{ResourceKey, backend_from_wire, host_from_wire, secret};
use roadstead_proto::wire;
use roadstead_proto::wire::agent_message::Message as AgentSays;
use roadstead_proto::wire::config_message::Message as ToEdge;
use roadstead_proto::wire::controller_message::Message as ToAgent;
use roadstead_proto::wire::edge_message::Message as EdgeSays;
use roadstead_proto::wire::peer_message::Message as PeerSays;
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, ObjectName, PortRef, Position};
use roadstead_routing::object::{
    EndpointSlice, Ingress, IngressBackend, IngressPath, IngressRule, Object, PathType, Service, ServicePort,
    SliceEndpoint, SlicePort,
};
use roadstead_routing::table::Table;

use crate::core::message::{Close, EdgeId, Input, Output, StreamId};
use crate::core::turn::LISTENING_STEP_MS_MAX;
use crate::core::{Core, Start};
use crate::guard::decide::{Decided, Decision, Refused};
use crate::guard::kept::{Keep, Kept, Key};
use crate::observe::metrics::Metrics;
use crate::policy::{AcceptedPolicy, file};
use crate::store::model::Model;
use crate::store::queue::{Pending, Request};
use crate::store::writer::Event;
use crate::store::{Batch, HostRevision, Loaded, ReplicaRow, StoredObject, TakeOver};
use crate::world::Limits;

pub(super) const POLICY: &str = "
pools:
  public: {kind: edge, addresses: [203.0.113.10], default: true}
classes:
  roadstead: {pool: public}
";

pub(super) struct Harness {
    pub core: Core,
    pub now_ms: u64,
    /// Answers of the store that are held back while `store_away`.
    pub store_away: bool,
    pub held_back: Vec<Request>,
    pub model: Model,
    pub stored: BTreeMap<(ClusterId, ObjectKey), StoredObject>,
    pub revisions: Vec<HostRevision>,
    pub keeps: BTreeMap<Key, Keep>,
    pub to_agents: BTreeMap<StreamId, Vec<ToAgent>>,
    pub edges: BTreeMap<StreamId, EdgeModel>,
    pub closed: BTreeMap<StreamId, Close>,
    /// What other replicas were told.
    pub reported: Vec<PeerSays>,
    last_stream: u64,
}

/// What one edge holds and how it behaves.
#[derive(Default)]
pub(super) struct EdgeModel {
    pub id: String,
    pub held: BTreeMap<ResourceKey, (Digest, wire::resource_upsert::Resource)>,
    pub positions: BTreeMap<String, wire::Position>,
    pub policy_rev: u64,
    pub world: Option<wire::World>,
    pub updates: Vec<wire::Update>,
    /// Updates are kept and not answered.
    pub is_stuck: bool,
    pub refuses: BTreeSet<ResourceKey>,
}

impl Harness {
    pub fn new() -> Self {
        Self::with(POLICY, Limits::default())
    }

    pub fn with(policy: &str, limits: Limits) -> Self {
        Self::begun(Model::with_world(uuid::Uuid::from_u128(7)), policy, |start| Core::start(Start { limits, ..start }))
    }

    /// A store that keeps no Secrets, or one that does.
    pub fn forgetful(forgets_secrets: bool) -> Self {
        let mut model = Model::with_world(uuid::Uuid::from_u128(7));
        model.forgets_secrets = forgets_secrets;
        Self::begun(model, POLICY, Core::start)
    }

    /// A core that starts with what a store held.
    pub fn restarted(loaded: Loaded, policy: &str, limits: Limits) -> Self {
        Self::begun(Model::holding(loaded), policy, |start| Core::start(Start { limits, ..start }))
    }

    /// With the guard on, as a real controller runs.
    pub fn guarded() -> Self {
        let model = Model::with_world(uuid::Uuid::from_u128(7));
        Self::begun(model, POLICY, |start| Core::start_guarded(start, Kept::default()))
    }

    /// Another process that finds what this one stored, some time later.
    pub fn restart_guarded(&self, later_ms: u64) -> Self {
        self.restart_with(later_ms, self.model.load_kept(self.now_ms + later_ms))
    }

    pub fn restart_with(&self, later_ms: u64, kept: Kept) -> Self {
        let (model, now_ms) = (self.model.clone(), self.now_ms + later_ms);
        let start = |start| Core::start_guarded(Start { now_ms, ..start }, kept);
        let mut harness = Self::begun_at(now_ms, model, POLICY, start);
        (harness.stored, harness.last_stream) = (self.stored.clone(), self.last_stream);
        harness.revisions.splice(0..0, self.revisions.iter().cloned());
        let newer = std::mem::replace(&mut harness.keeps, self.keeps.clone());
        harness.keeps.extend(newer);
        harness
    }

    fn begun(model: Model, policy: &str, begin: impl FnOnce(Start) -> (Core, Vec<Output>)) -> Self {
        Self::begun_at(1_000_000, model, policy, begin)
    }

    fn begun_at(now_ms: u64, mut model: Model, policy: &str, begin: impl FnOnce(Start) -> (Core, Vec<Output>)) -> Self {
        let (loaded, replica) = (model.load(), ReplicaRow { id: "r1".to_owned(), ..ReplicaRow::default() });
        let policy = AcceptedPolicy { rev: 1, policy: file::parse(policy).unwrap(), source: "test".to_owned() };
        let (limits, metrics) = (Limits::default(), Metrics::default());
        let (core, outputs) =
            begin(Start { now_ms: 1_000_000, replica, policy, policy_problem: None, loaded, limits, metrics });
        let mut harness = Self {
            core,
            now_ms,
            store_away: false,
            held_back: Vec::new(),
            model,
            stored: BTreeMap::new(),
            revisions: Vec::new(),
            keeps: BTreeMap::new(),
            to_agents: BTreeMap::new(),
            edges: BTreeMap::new(),
            closed: BTreeMap::new(),
            reported: Vec::new(),
            last_stream: 0,
        };
        harness.digest(outputs);
        harness
    }

    /// One turn with these inputs, then further turns until nobody has anything left to say.
    pub fn send(&mut self, inputs: Vec<Input>) {
        let outputs = self.core.handle(self.now_ms, inputs);
        self.digest(outputs);
    }

    fn digest(&mut self, mut outputs: Vec<Output>) {
        while !outputs.is_empty() {
            let answers = outputs.into_iter().flat_map(|output| self.answer(output)).collect::<Vec<_>>();
            outputs = if answers.is_empty() { Vec::new() } else { self.core.handle(self.now_ms, answers) };
        }
    }

    fn answer(&mut self, output: Output) -> Vec<Input> {
        match output {
            Output::Agent { stream, message } => {
                self.to_agents.entry(stream).or_default().extend(message.message);
                Vec::new()
            }
            Output::Close { stream, why } => {
                self.edges.remove(&stream);
                self.closed.insert(stream, why);
                Vec::new()
            }
            Output::Edge { stream, message } => {
                let model = self.edges.get_mut(&stream).expect("an edge that is connected");
                let answer = model.hear(message.message.unwrap());
                answer.map(|said| edge_says(stream, said)).into_iter().collect()
            }
            Output::Report { message, .. } => {
                self.reported.extend(message.message);
                Vec::new()
            }
            Output::Peer { .. } | Output::Peers(_) => Vec::new(),
            Output::Beat(_) if self.store_away => Vec::new(),
            Output::Beat(beat) => vec![Input::News(Box::new(self.model.beat(&beat, self.now_ms)))],
            Output::Store(request) if self.store_away => {
                self.held_back.push(request);
                Vec::new()
            }
            Output::Store(request) => self.store(request).into_iter().map(Input::Store).collect(),
        }
    }

    fn store(&mut self, request: Request) -> Vec<Event> {
        match request.clone() {
            Request::TakeOver { ticket, request } => {
                let request = TakeOver { fresh_key: [1; 32], ..request };
                return vec![Event::TakenOver { ticket, answer: Ok(self.model.take_over(&request, self.now_ms)) }];
            }
            Request::Release { cluster, epoch } => {
                self.model.release(&cluster, epoch, self.now_ms);
                return Vec::new();
            }
            Request::Revision { revision, .. } => self.revisions.push(revision),
            Request::Keep(keep) => drop(self.keeps.insert(keep.key(), keep)),
            Request::Write(write) => {
                for stored in write.upserts {
                    self.stored.insert((write.cluster.clone(), stored.object.key()), stored);
                }
                for key in write.removals {
                    self.stored.remove(&(write.cluster.clone(), key));
                }
            }
            Request::Settled { .. } => {}
        }
        let mut pending = Pending::default();
        pending.push(request);
        pending.batches().into_iter().flat_map(|batch| self.commit(&batch)).collect()
    }

    fn commit(&mut self, batch: &Batch) -> Vec<Event> {
        let lost = self.model.commit(batch, self.now_ms).unwrap_or_default().lost;
        let news = batch.clusters.iter().map(|(cluster, part)| {
            let (cluster, epoch) = (cluster.clone(), part.epoch);
            if lost.contains(&cluster) {
                return Event::Fenced { cluster, epoch };
            }
            Event::Durable { cluster, position: Position { epoch, seq: part.durable_seq } }
        });
        news.collect()
    }

    /// The database is back.
    pub fn store_back(&mut self) {
        self.store_away = false;
        let events = std::mem::take(&mut self.held_back).into_iter().flat_map(|request| self.store(request));
        let events: Vec<Input> = events.map(Input::Store).collect();
        self.send(events);
    }

    /// Time passes in which peers are listened to.
    pub fn tick(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.stall((end_ms - self.now_ms).min(LISTENING_STEP_MS_MAX));
        }
    }

    /// Time passes at once, as while the process is paused.
    pub fn stall(&mut self, ms: u64) {
        self.now_ms += ms;
        self.send(vec![Input::Tick]);
    }

    pub fn stream(&mut self) -> StreamId {
        self.last_stream += 1;
        StreamId(self.last_stream)
    }

    /// An agent connects and says Hello; what it is told is in `to_agents`.
    pub fn agent(&mut self, cluster: &str) -> StreamId {
        self.agent_of(cluster, "uid-1", &format!("agent-{}", self.last_stream))
    }

    pub fn agent_of(&mut self, cluster: &str, uid: &str, agent: &str) -> StreamId {
        let stream = self.stream();
        let hello = wire::Hello {
            cluster: cluster.to_owned(),
            agent: agent.to_owned(),
            cluster_uid: uid.to_owned(),
            ..wire::Hello::default()
        };
        let opened = Input::AgentOpened { stream, cluster: cluster.into() };
        self.send(vec![opened, agent_says(stream, AgentSays::Hello(hello))]);
        stream
    }

    pub fn says(&mut self, stream: StreamId, said: AgentSays) {
        self.send(vec![agent_says(stream, said)]);
    }

    pub fn upsert(&mut self, stream: StreamId, seq: u64, objects: &[Object]) {
        self.says(stream, AgentSays::Delta(delta(seq, objects, &[])));
    }

    pub fn remove(&mut self, stream: StreamId, seq: u64, removals: &[(ObjectKey, wire::RemovalCause)]) {
        self.says(stream, AgentSays::Delta(delta(seq, &[], removals)));
    }

    pub fn complete(&mut self, stream: StreamId, kind: Kind, count: u64) {
        let kind = kind_to_wire(kind).into();
        self.says(stream, AgentSays::SyncComplete(wire::SyncComplete { kind, count }));
    }

    pub fn welcome(&self, stream: StreamId) -> Option<&wire::Welcome> {
        self.heard(stream).find_map(|message| if let ToAgent::Welcome(it) = message { Some(it) } else { None })
    }

    pub fn acks(&self, stream: StreamId) -> Vec<u64> {
        self.heard(stream).filter_map(|it| if let ToAgent::Ack(ack) = it { Some(ack.seq) } else { None }).collect()
    }

    /// (name, addresses), in the order in which they were told.
    pub fn statuses(&self, stream: StreamId) -> Vec<(String, Vec<String>)> {
        let told =
            self.heard(stream).filter_map(|it| if let ToAgent::DesiredStatuses(it) = it { Some(it) } else { None });
        told.flat_map(|it| it.statuses.iter().map(|it| (it.name.clone(), it.addresses.clone()))).collect()
    }

    pub fn heard(&self, stream: StreamId) -> impl Iterator<Item = &ToAgent> {
        self.to_agents.get(&stream).into_iter().flatten()
    }

    pub fn codes(&self) -> Vec<String> {
        let mut codes: Vec<String> = self.core.findings().iter().map(|finding| finding.code.to_string()).collect();
        codes.dedup();
        codes
    }

    /// An edge connects with what `model` holds.
    pub fn edge(&mut self, model: EdgeModel) -> StreamId {
        let stream = self.stream();
        let id = EdgeId { pool: "public".into(), edge: model.id.clone() };
        let hello = model.hello();
        self.edges.insert(stream, model);
        self.send(vec![Input::EdgeOpened { stream, edge: id }, edge_says(stream, EdgeSays::Hello(hello))]);
        stream
    }

    /// The edge loses its connection and keeps what it holds.
    pub fn edge_leaves(&mut self, stream: StreamId) -> EdgeModel {
        self.send(vec![Input::EdgeClosed { stream }]);
        self.edges.remove(&stream).unwrap()
    }

    /// From now on the edge keeps Updates without answering.
    pub fn stick(&mut self, stream: StreamId) {
        let model = self.edges.get_mut(&stream).unwrap();
        model.is_stuck = true;
        model.updates.clear();
    }

    /// A stuck edge answers everything it has.
    pub fn unstick(&mut self, stream: StreamId) {
        let model = self.edges.get_mut(&stream).unwrap();
        model.is_stuck = false;
        let results: Vec<Input> = std::mem::take(&mut model.updates)
            .into_iter()
            .map(|update| edge_says(stream, model.apply(update)))
            .collect();
        self.send(results);
    }

    pub fn what_is_stored(&self) -> Loaded {
        self.model.clone().load()
    }

    /// A person decides, and the next turn follows at once.
    pub fn decide(&mut self, decision: Decision) -> Result<Decided, Refused> {
        let decided = self.core.decide(decision);
        self.send(Vec::new());
        decided
    }

    /// The hosts that are published, sorted.
    pub fn hosts(&self) -> Vec<String> {
        self.core.publish().table().hosts.keys().map(|(_, host)| host.to_string()).collect()
    }
}

impl EdgeModel {
    pub fn named(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    pub fn sent(&self) -> usize {
        self.updates.iter().map(|update| update.upserts.len() + update.removals.len()).sum()
    }

    /// What it would route by.
    pub fn table(&self) -> Table {
        let mut table = Table::default();
        for (_, resource) in self.held.values() {
            match resource.clone() {
                wire::resource_upsert::Resource::Host(it) => {
                    let host = host_from_wire(it).unwrap();
                    table.hosts.insert((host.pool.clone(), host.name.clone()), host);
                }
                wire::resource_upsert::Resource::Backend(it) => {
                    let backend = backend_from_wire(it).unwrap();
                    table.backends.insert(backend.id.clone(), backend);
                }
                wire::resource_upsert::Resource::Secret(_) => {}
            }
        }
        table
    }

    fn hello(&self) -> wire::EdgeHello {
        let mut hashes = BucketHashes::default();
        for (key, (digest, _)) in &self.held {
            hashes.replace(&key.to_string(), None, Some(digest));
        }
        let clusters = self.positions.iter().map(|(cluster, position)| wire::ClusterPosition {
            cluster: cluster.clone(),
            position: Some(*position),
            ..Default::default()
        });
        wire::EdgeHello {
            edge: self.id.clone(),
            pool: "public".to_owned(),
            world: self.world.clone(),
            positions: Some(wire::Positions {
                clusters: clusters.collect(),
                policy_rev: self.policy_rev,
                ..wire::Positions::default()
            }),
            held: hashes.to_bytes(),
            ..wire::EdgeHello::default()
        }
    }

    fn hear(&mut self, message: ToEdge) -> Option<EdgeSays> {
        match message {
            ToEdge::Heartbeat(_) => None,
            ToEdge::HeldRequest(request) => {
                assert!(request.buckets.iter().all(|bucket| (*bucket as usize) < BUCKETS));
                let wanted: BTreeSet<u32> = request.buckets.into_iter().collect();
                let mut buckets: BTreeMap<u32, Vec<wire::Held>> = BTreeMap::new();
                for (key, (digest, _)) in &self.held {
                    let bucket = bucket_of(&key.to_string()) as u32;
                    if wanted.contains(&bucket) {
                        let held = wire::Held { key: key.to_string(), digest: digest.to_vec(), clusters: Vec::new() };
                        buckets.entry(bucket).or_default().push(held);
                    }
                }
                let buckets = buckets.into_iter().map(|(index, held)| wire::Bucket { index, held }).collect();
                Some(EdgeSays::HeldContents(wire::HeldContents { buckets, last: true }))
            }
            ToEdge::Update(update) => {
                self.updates.push(update.clone());
                if self.is_stuck { None } else { Some(self.apply(update)) }
            }
        }
    }

    fn apply(&mut self, update: wire::Update) -> EdgeSays {
        let mut refusals = Vec::new();
        for upsert in update.upserts {
            let resource = upsert.resource.unwrap();
            let key = match &resource {
                wire::resource_upsert::Resource::Host(it) => ResourceKey::parse(&format!("host/{}", it.name)).unwrap(),
                wire::resource_upsert::Resource::Backend(it) => {
                    ResourceKey::Backend(backend_from_wire(it.clone()).unwrap().id)
                }
                wire::resource_upsert::Resource::Secret(it) => {
                    ResourceKey::Secret(secret::from_wire(it.clone()).unwrap().id)
                }
            };
            if self.refuses.contains(&key) {
                let reason = "not today".to_owned();
                refusals.push(wire::Refusal { key: key.to_string(), digest: upsert.digest, reason, guarded: false });
                continue;
            }
            self.held.insert(key, (Digest::from_slice(&upsert.digest).unwrap(), resource));
        }
        for key in update.removals {
            self.held.remove(&ResourceKey::parse(&key).unwrap());
        }
        for entry in update.positions.unwrap_or_default().clusters {
            self.positions.insert(entry.cluster, entry.position.unwrap());
        }
        self.world = update.world;
        self.assert_nothing_dangles();
        EdgeSays::Result(wire::UpdateResult { nonce: update.nonce, refusals })
    }

    /// Whatever has arrived so far, every host finds its backends.
    fn assert_nothing_dangles(&self) {
        let table = self.table();
        for host in table.hosts.values() {
            for id in crate::compute::backends_of(host) {
                assert!(table.backends.contains_key(id) || !self.refuses.is_empty(), "{} refers to {id}", host.name);
            }
        }
    }
}

pub(super) fn agent_says(stream: StreamId, said: AgentSays) -> Input {
    Input::Agent { stream, message: wire::AgentMessage { message: Some(said) } }
}

pub(super) fn edge_says(stream: StreamId, said: EdgeSays) -> Input {
    Input::Edge { stream, message: wire::EdgeMessage { message: Some(said) } }
}

pub(super) fn delta(seq: u64, objects: &[Object], removals: &[(ObjectKey, wire::RemovalCause)]) -> wire::Delta {
    let upserts = objects.iter().map(|object| {
        let object = roadstead_proto::object::to_wire(object);
        wire::Upsert { digest: Digest::of(&object).to_vec(), object: Some(object) }
    });
    let removals =
        removals.iter().map(|(key, cause)| wire::Removal { object: Some(key_to_wire(key)), cause: (*cause).into() });
    wire::Delta { seq, upserts: upserts.collect(), removals: removals.collect(), peer: None }
}

/// `host` → Service `service`, port 80; class `roadstead` by annotation, so that no IngressClass is needed.
pub(super) fn ingress(name: &str, host: &str, service: &str) -> Object {
    let backend = IngressBackend::Service { name: service.into(), port: Some(PortRef::Number(80)) };
    let path = IngressPath { path: "/".into(), path_type: PathType::Prefix, backend };
    Object::Ingress(
        Ingress {
            name: ObjectName::new("shop", name),
            annotations: [("kubernetes.io/ingress.class".into(), "roadstead".into())].into(),
            rules: vec![IngressRule { host: host.into(), paths: Some(vec![path]) }],
            ..Ingress::default()
        }
        .into(),
    )
}

pub(super) fn service(name: &str) -> Object {
    let port = ServicePort { port: 80, ..ServicePort::default() };
    Object::Service(Service { name: ObjectName::new("shop", name), ports: vec![port], ..Service::default() }.into())
}

pub(super) fn slice(service: &str, last_octets: &[u8]) -> Object {
    let endpoint = |octet: &u8| SliceEndpoint::ready(IpAddr::from([10, 0, 0, *octet]));
    Object::EndpointSlice(
        EndpointSlice {
            name: ObjectName::new("shop", format!("{service}-1")),
            meta: Default::default(),
            service: service.into(),
            address_type: Default::default(),
            ports: vec![SlicePort { port: Some(8080), ..SlicePort::default() }],
            endpoints: last_octets.iter().map(endpoint).collect(),
        }
        .into(),
    )
}

pub(super) fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::new(kind, "shop", name)
}
