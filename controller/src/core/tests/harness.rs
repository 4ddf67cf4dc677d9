//! One core with everything around it played: a store that answers at once unless told otherwise, agents that speak the
//! protocol, edges that keep what they are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use roadstead_proto::digest::{BUCKETS, BucketHashes, Digest, bucket_of};
use roadstead_proto::finding::{key_to_wire, kind_to_wire};
use roadstead_proto::resource::{ResourceKey, backend_from_wire, host_from_wire};
use roadstead_proto::wire;
use roadstead_proto::wire::agent_message::Message as AgentSays;
use roadstead_proto::wire::config_message::Message as ToEdge;
use roadstead_proto::wire::controller_message::Message as ToAgent;
use roadstead_proto::wire::edge_message::Message as EdgeSays;
use roadstead_routing::id::{ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName, PortRef};
use roadstead_routing::object::{
    EndpointSlice, Ingress, IngressBackend, IngressPath, IngressRule, Object, PathType, Service, ServicePort,
    SliceEndpoint, SlicePort,
};
use roadstead_routing::table::Table;

use crate::core::message::{Close, EdgeId, Input, Output, StreamId};
use crate::core::turn::LISTENING_STEP_MS_MAX;
use crate::core::{Core, Start};
use crate::guard::decide::{Decided, Decision, Refused};
use crate::guard::kept::{Keep, Kept, Key, Loss};
use crate::observe::metrics::Metrics;
use crate::policy::{AcceptedPolicy, file};
use crate::store::queue::Request;
use crate::store::writer::Event;
use crate::store::{HostRevision, Loaded, StoredObject, TakeOverAnswer, WorldId};
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
    pub epochs: BTreeMap<ClusterId, (u64, String)>,
    pub stored: BTreeMap<(ClusterId, ObjectKey), StoredObject>,
    pub revisions: Vec<HostRevision>,
    pub keeps: BTreeMap<Key, Keep>,
    pub to_agents: BTreeMap<StreamId, Vec<ToAgent>>,
    pub edges: BTreeMap<StreamId, EdgeModel>,
    pub closed: BTreeMap<StreamId, Close>,
    last_stream: u64,
}

/// What one edge holds and how it behaves.
#[derive(Default)]
pub(super) struct EdgeModel {
    pub id: String,
    pub held: BTreeMap<ResourceKey, (Digest, wire::resource_upsert::Resource)>,
    pub positions: BTreeMap<String, wire::Position>,
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
        let loaded = Loaded {
            world: WorldId { id: uuid::Uuid::from_u128(7), incarnation: 1 },
            clusters: BTreeMap::new(),
            objects: Vec::new(),
            unreadable: Vec::new(),
            published: BTreeMap::new(),
        };
        Self::restarted(loaded, policy, limits)
    }

    /// A core that starts with what a store held.
    pub fn restarted(loaded: Loaded, policy: &str, limits: Limits) -> Self {
        Self::begun(loaded, policy, |start| Core::start(Start { limits, ..start }))
    }

    /// With the guard on, as a real controller runs.
    pub fn guarded() -> Self {
        Self::begun(Self::new().what_is_stored(), POLICY, |start| Core::start_guarded(start, Kept::default()))
    }

    /// Another process that finds what this one stored, some time later.
    pub fn restart_guarded(&self, later_ms: u64) -> Self {
        let (loaded, now_ms) = (self.what_is_stored(), self.now_ms + later_ms);
        let start = |start| Core::start_guarded(Start { now_ms, ..start }, self.what_is_kept());
        let mut harness = Self::begun(loaded, POLICY, start);
        harness.now_ms = now_ms;
        (harness.stored, harness.last_stream) = (self.stored.clone(), self.last_stream);
        harness.revisions.splice(0..0, self.revisions.iter().cloned());
        let newer = std::mem::replace(&mut harness.keeps, self.keeps.clone());
        harness.keeps.extend(newer);
        harness
    }

    fn begun(loaded: Loaded, policy: &str, begin: impl FnOnce(Start) -> (Core, Vec<Output>)) -> Self {
        let epochs = loaded.clusters.iter().map(|(id, row)| (id.clone(), (row.epoch, row.uid.clone()))).collect();
        let policy = AcceptedPolicy { rev: 1, policy: file::parse(policy).unwrap(), source: "test".to_owned() };
        let (limits, metrics) = (Limits::default(), Metrics::default());
        let (core, outputs) = begin(Start { now_ms: 1_000_000, policy, policy_problem: None, loaded, limits, metrics });
        let mut harness = Self {
            core,
            now_ms: 1_000_000,
            store_away: false,
            held_back: Vec::new(),
            epochs,
            stored: BTreeMap::new(),
            revisions: Vec::new(),
            keeps: BTreeMap::new(),
            to_agents: BTreeMap::new(),
            edges: BTreeMap::new(),
            closed: BTreeMap::new(),
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
            Output::Store(request) if self.store_away => {
                self.held_back.push(request);
                Vec::new()
            }
            Output::Store(request) => self.store(request).into_iter().map(Input::Store).collect(),
        }
    }

    fn store(&mut self, request: Request) -> Option<Event> {
        match request {
            Request::TakeOver { ticket, cluster, uid } => {
                let entry = self.epochs.entry(cluster.clone()).or_insert((0, uid));
                entry.0 += 1;
                let answer = Ok(TakeOverAnswer::Granted { epoch: entry.0, digest_key: [1; 32] });
                Some(Event::TakenOver { ticket, cluster, answer })
            }
            Request::Revision(revision) => {
                self.revisions.push(revision);
                None
            }
            Request::Keep(keep) => {
                self.keeps.insert(keep.key(), keep);
                None
            }
            Request::Write(write) => {
                for stored in write.upserts {
                    self.stored.insert((write.cluster.clone(), stored.object.key()), stored);
                }
                for key in write.removals {
                    self.stored.remove(&(write.cluster.clone(), key));
                }
                Some(Event::Durable { cluster: write.cluster, position: write.position })
            }
        }
    }

    /// The database is back.
    pub fn store_back(&mut self) {
        self.store_away = false;
        let events = std::mem::take(&mut self.held_back).into_iter().filter_map(|request| self.store(request));
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
        let row = |(epoch, uid): &(u64, String)| crate::store::ClusterRow {
            uid: uid.clone(),
            epoch: *epoch,
            durable_seq: 0,
            digest_key: [1; 32],
        };
        Loaded {
            world: WorldId { id: uuid::Uuid::from_u128(7), incarnation: 1 },
            clusters: self.epochs.iter().map(|(id, entry)| (id.clone(), row(entry))).collect(),
            objects: self.stored.iter().map(|((cluster, _), stored)| (cluster.clone(), stored.clone())).collect(),
            unreadable: Vec::new(),
            published: self
                .published()
                .into_iter()
                .filter_map(|(key, revision)| Some((key, revision.body.as_ref()?.digest)))
                .collect(),
        }
    }

    fn what_is_kept(&self) -> Kept {
        let mut kept = Kept::default();
        for keep in self.keeps.values().cloned() {
            match keep {
                Keep::Hold { hold, is_live: true } => kept.holds.push(*hold),
                Keep::Override(it) => kept.overrides.push(it),
                Keep::Backend(_, Some(encoded)) => kept.backends.push(encoded),
                _ => {}
            }
        }
        let bodies =
            self.published().into_iter().filter_map(|(key, it)| Some((key, it.body.as_ref()?.encoded.clone())));
        kept.published = bodies.collect();
        for (index, revision) in self.revisions.iter().enumerate() {
            let same = |it: &&HostRevision| (&it.pool, &it.host) == (&revision.pool, &revision.host);
            let before = self.revisions[..index].iter().rev().find(same).and_then(|it| it.body.as_ref());
            kept.losses.extend(before.map(|body| Loss {
                at_ms: self.now_ms,
                pool: revision.pool.clone(),
                host: revision.host.clone(),
                before: body.encoded.clone(),
            }));
        }
        kept
    }

    /// The last version of every host.
    fn published(&self) -> BTreeMap<(PoolName, HostKey), &HostRevision> {
        self.revisions.iter().map(|it| ((it.pool.clone(), it.host.clone()), it)).collect()
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
            }
        }
        table
    }

    fn hello(&self) -> wire::EdgeHello {
        let mut hashes = BucketHashes::default();
        for (key, (digest, _)) in &self.held {
            hashes.replace(&key.to_string(), None, Some(digest));
        }
        let clusters = self
            .positions
            .iter()
            .map(|(cluster, position)| wire::ClusterPosition { cluster: cluster.clone(), position: Some(*position) });
        wire::EdgeHello {
            edge: self.id.clone(),
            pool: "public".to_owned(),
            world: self.world.clone(),
            positions: Some(wire::Positions { clusters: clusters.collect(), ..wire::Positions::default() }),
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
                        let held = wire::Held { key: key.to_string(), digest: digest.to_vec() };
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
            };
            if self.refuses.contains(&key) {
                let reason = "not today".to_owned();
                refusals.push(wire::Refusal { key: key.to_string(), digest: upsert.digest, reason });
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
    wire::Delta { seq, upserts: upserts.collect(), removals: removals.collect(), position: None }
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
    Object::Service(
        Service {
            name: ObjectName::new("shop", name),
            meta: Default::default(),
            service_type: Default::default(),
            external_name: "".into(),
            ports: vec![port],
        }
        .into(),
    )
}

pub(super) fn slice(service: &str, last_octets: &[u8]) -> Object {
    let endpoint = |octet: &u8| SliceEndpoint {
        address: IpAddr::from([10, 0, 0, *octet]),
        ready: Some(true),
        serving: None,
        terminating: None,
        zone: None,
        for_zones: Vec::new(),
    };
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
