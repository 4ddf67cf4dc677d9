//! Whatever agents and edges go through, in the end everybody agrees with one full build of the truth.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use roadstead_proto::digest::{BUCKETS, BucketHashes, Digest};
use roadstead_proto::wire;
use roadstead_proto::wire::RemovalCause;
use roadstead_proto::wire::agent_message::Message as AgentSays;
use roadstead_proto::wire::controller_message::Message as ToAgent;
use roadstead_routing::compute::build;
use roadstead_routing::id::{BackendId, Kind, ObjectKey};
use roadstead_routing::inputs::Inputs;
use roadstead_routing::object::Object;

use super::harness::*;
use crate::compute::backends_of;
use crate::core::message::{Input, StreamId};
use crate::policy::file;
use crate::world::Limits;

const CLUSTERS: [&str; 3] = ["ap", "eu", "us"];

#[derive(Clone, Debug)]
enum Step {
    /// (cluster, object) appears or changes; the agent is told at once if it is connected.
    Put(usize, Thing),
    Drop(usize, Thing),
    AgentLost(usize),
    AgentBack(usize),
    EdgeLost,
    EdgeBack,
    EdgeStuck,
    ControllerRestarts,
    StoreAway,
    StoreBack,
}

#[derive(Clone, Debug)]
enum Thing {
    Ingress(u8, u8, u8),
    Service(u8),
    Slice(u8, u8),
}

impl Thing {
    fn object(&self) -> Object {
        match self {
            Thing::Ingress(name, host, to) => {
                ingress(&format!("i{name}"), &format!("h{host}.example.com"), &format!("s{to}"))
            }
            Thing::Service(name) => service(&format!("s{name}")),
            Thing::Slice(name, octet) => slice(&format!("s{name}"), &[*octet]),
        }
    }
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        3 => (0..4u8, 0..4u8, 0..3u8).prop_map(|(name, host, to)| Thing::Ingress(name, host, to)),
        1 => (0..3u8).prop_map(Thing::Service),
        2 => (0..3u8, 1..5u8).prop_map(|(name, octet)| Thing::Slice(name, octet)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3usize, thing()).prop_map(|(cluster, thing)| Step::Put(cluster, thing)),
        5 => (0..3usize, thing()).prop_map(|(cluster, thing)| Step::Drop(cluster, thing)),
        2 => (0..3usize).prop_map(Step::AgentLost),
        3 => (0..3usize).prop_map(Step::AgentBack),
        1 => Just(Step::EdgeLost),
        2 => Just(Step::EdgeBack),
        1 => Just(Step::EdgeStuck),
        1 => Just(Step::ControllerRestarts),
        1 => Just(Step::StoreAway),
        1 => Just(Step::StoreBack),
    ]
}

/// The clusters as they really are, and who is connected.
struct Play {
    it: Harness,
    truth: [BTreeMap<ObjectKey, Object>; 3],
    agents: [Option<StreamId>; 3],
    edge: Option<StreamId>,
    /// What the edge holds while it is away.
    parked: Option<EdgeModel>,
    seq: u64,
}

impl Play {
    fn new() -> Self {
        let parked = Some(EdgeModel::named("e1"));
        Self { it: Harness::new(), truth: Default::default(), agents: [None; 3], edge: None, parked, seq: 0 }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Put(cluster, thing) => self.change(*cluster, &thing.object().key(), Some(thing.object())),
            Step::Drop(cluster, thing) => self.change(*cluster, &thing.object().key(), None),
            Step::AgentLost(cluster) => {
                if let Some(stream) = self.agents[*cluster].take() {
                    self.it.send(vec![Input::AgentClosed { stream }]);
                }
            }
            Step::AgentBack(cluster) => self.agent_back(*cluster),
            Step::EdgeLost => {
                if let Some(stream) = self.edge.take() {
                    self.parked = Some(self.it.edge_leaves(stream));
                }
            }
            Step::EdgeBack => self.edge_back(),
            Step::EdgeStuck => {
                if let Some(stream) = self.edge.filter(|stream| !self.it.edges[stream].is_stuck) {
                    self.it.stick(stream);
                }
            }
            Step::ControllerRestarts => self.restart(),
            Step::StoreAway => self.it.store_away = true,
            Step::StoreBack => self.store_back(),
        }
    }

    fn change(&mut self, cluster: usize, key: &ObjectKey, object: Option<Object>) {
        let existed = self.truth[cluster].contains_key(key);
        match &object {
            Some(object) => self.truth[cluster].insert(key.clone(), object.clone()),
            None => self.truth[cluster].remove(key),
        };
        // An agent that waits for Welcome sends nothing; it will list the truth.
        let Some(stream) = self.agents[cluster].filter(|stream| self.it.welcome(*stream).is_some()) else { return };
        self.seq += 1;
        match object {
            Some(object) => self.it.upsert(stream, self.seq, &[object]),
            None if existed => self.it.remove(stream, self.seq, &[(key.clone(), RemovalCause::Deleted)]),
            None => {}
        }
    }

    fn agent_back(&mut self, cluster: usize) {
        if self.agents[cluster].is_none() {
            self.agents[cluster] = Some(self.it.agent(CLUSTERS[cluster]));
            self.synchronise(cluster);
        }
    }

    /// What an agent does after Welcome: compare buckets, send the differences, complete every kind.
    fn synchronise(&mut self, cluster: usize) {
        let Some(stream) = self.agents[cluster] else { return };
        let Some(known) = self.it.welcome(stream).map(|it| BucketHashes::from_bytes(&it.known).unwrap()) else {
            return;
        };
        let digest = |object: &Object| Digest::of(&roadstead_proto::object::to_wire(object));
        let mut own = BucketHashes::default();
        for (key, object) in &self.truth[cluster] {
            own.replace(&roadstead_proto::object::key_text(key), None, Some(&digest(object)));
        }
        let request = wire::BucketRequest { buckets: own.differing(&known), number: 1 };
        self.it.says(stream, AgentSays::BucketRequest(request));
        let contents =
            self.it.heard(stream).filter_map(|it| if let ToAgent::BucketContents(it) = it { Some(it) } else { None });
        let held: BTreeMap<ObjectKey, Vec<u8>> = contents
            .flat_map(|it| &it.buckets)
            .flat_map(|it| &it.held)
            .map(|it| (roadstead_proto::object::key_parse(&it.key).unwrap(), it.digest.clone()))
            .collect();
        let differing: Vec<u32> = own.differing(&known);
        assert!(differing.len() <= BUCKETS);
        let in_doubt = |key: &ObjectKey| {
            let bucket = roadstead_proto::digest::bucket_of(&roadstead_proto::object::key_text(key)) as u32;
            differing.contains(&bucket)
        };
        let upserts: Vec<Object> = self.truth[cluster]
            .iter()
            .filter(|(key, object)| in_doubt(key) && held.get(*key) != Some(&digest(object).to_vec()))
            .map(|(_, object)| object.clone())
            .collect();
        let gone: Vec<_> = held
            .keys()
            .filter(|key| !self.truth[cluster].contains_key(*key))
            .map(|key| (key.clone(), RemovalCause::Inferred))
            .collect();
        self.seq += 1;
        self.it.says(stream, AgentSays::Delta(delta(self.seq, &upserts, &gone)));
        for kind in Kind::ALL {
            let count = self.truth[cluster].keys().filter(|key| key.kind == kind).count();
            self.it.complete(stream, kind, count as u64);
        }
    }

    fn edge_back(&mut self) {
        if let Some(stream) = self.edge
            && self.it.edges[&stream].is_stuck
        {
            self.it.unstick(stream);
        }
        if let Some(mut model) = self.parked.take() {
            model.is_stuck = false;
            self.edge = Some(self.it.edge(model));
        }
    }

    fn restart(&mut self) {
        if let Some(stream) = self.edge.take() {
            self.parked = self.it.edges.remove(&stream);
        }
        self.agents = [None; 3];
        let (stored, objects) = (self.it.what_is_stored(), self.it.stored.clone());
        self.it = Harness::restarted(stored, POLICY, Limits::default());
        self.it.stored = objects;
    }

    fn store_back(&mut self) {
        if self.it.store_away {
            let waited: Vec<usize> = (0..3)
                .filter(|cluster| self.agents[*cluster].is_some_and(|stream| self.it.welcome(stream).is_none()))
                .collect();
            self.it.store_back();
            waited.into_iter().for_each(|cluster| self.synchronise(cluster));
        }
    }

    /// Everybody is connected and has said everything.
    fn calm_down(&mut self) {
        self.store_back();
        (0..3).for_each(|cluster| self.agent_back(cluster));
        self.edge_back();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn everybody_ends_with_the_full_build_of_the_truth(steps in prop::collection::vec(step(), 1..60)) {
        let mut play = Play::new();
        // An application that stays, so that no list ever looks like a lost cluster.
        for cluster in 0..3 {
            play.agent_back(cluster);
            let host = format!("anchor-{cluster}.example.com");
            for anchor in [ingress("anchor", &host, "anchor"), service("anchor"), slice("anchor", &[9])] {
                play.change(cluster, &anchor.key(), Some(anchor));
            }
        }
        for step in &steps {
            play.run(step);
        }
        play.calm_down();

        let mut inputs = Inputs::new(file::parse(POLICY).unwrap());
        for (cluster, objects) in CLUSTERS.iter().zip(&play.truth) {
            for (key, object) in objects {
                inputs.apply(&(*cluster).into(), key, Some(object.clone()));
            }
        }
        let truth = build(&inputs).table;
        prop_assert!(truth.hosts.len() >= CLUSTERS.len(), "the anchors are served");
        prop_assert_eq!(&play.it.core.publish().table(), &truth);
        // Edges get the backends that some host uses.
        let used: BTreeSet<&BackendId> = truth.hosts.values().flat_map(backends_of).collect();
        let mut served = truth.clone();
        served.backends.retain(|id, _| used.contains(id));
        prop_assert_eq!(&play.it.edges[&play.edge.unwrap()].table(), &served);
        let pool = play.it.core.publish().pools().get(&"public".into()).unwrap();
        prop_assert_eq!(pool.held().len(), served.hosts.len() + served.backends.len());
    }
}
