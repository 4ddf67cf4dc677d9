//! What should be, worked out from the clusters' truth alone, and the comparison of everybody with it.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_controller::core::Core;
use roadstead_controller::held::Held;
use roadstead_proto::digest::Digest;
use roadstead_proto::resource::{backend_to_wire, host_to_wire};
use roadstead_routing::check::check;
use roadstead_routing::compute::build;
use roadstead_routing::finding::Code;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, PoolName};
use roadstead_routing::inputs::Inputs;
use roadstead_routing::lookup::{request_host, request_path};
use roadstead_routing::object::Object;
use roadstead_routing::table::{Host, PathMatch, Table, Target};

use crate::agenda::Node;
use crate::agent::AgentNode;
use crate::cluster::Cluster;
use crate::edge::Running;
use crate::mirror::parts_of;
use crate::network::LinkId;
use crate::objects::{CLASSES, INGRESSES, IngressWish, class, digest_of, ingress, key, service, slice};
use crate::simulation::Simulation;

/// The part of a cluster's truth that routing needs: what its agent should report.
pub fn reported(cluster: &Cluster) -> BTreeMap<ObjectKey, Object> {
    let truth = cluster.truth();
    let exists = |class: &str| CLASSES.contains(&class) && truth.contains_key(&key(Kind::IngressClass, class));
    let is_ours = |object: &Object| match object {
        Object::Ingress(ingress) => ingress.class_name.as_deref().is_some_and(exists),
        Object::IngressClass(class) => CLASSES.contains(&&*class.name),
        Object::Service(_) | Object::EndpointSlice(_) => false,
    };
    let ours = truth.values().filter(|object| is_ours(object));
    let services: BTreeSet<&str> = ours
        .filter_map(|object| if let Object::Ingress(ingress) = object { Some(ingress) } else { None })
        .flat_map(|ingress| ingress.service_names().map(|name| &**name))
        .collect();
    let wanted = |object: &Object| match object {
        Object::IngressClass(_) | Object::Ingress(_) => is_ours(object),
        Object::Service(service) => services.contains(&*service.name.name),
        Object::EndpointSlice(slice) => services.contains(&*slice.service),
    };
    truth.iter().filter(|(_, object)| wanted(object)).map(|(key, object)| (key.clone(), object.clone())).collect()
}

/// Whether a controller holds back what a cluster's lists no longer had.
pub fn withholds(core: &Core, cluster: &ClusterId) -> bool {
    core.findings().iter().any(|finding| finding.code == Code::PruneWithheld && finding.cluster == *cluster)
}

impl Simulation {
    /// The expensive invariants, of every running controller: what it publishes is what a full build of its world
    /// gives, and has no fault.
    pub fn check_tables(&mut self) {
        for index in 0..self.replicas.len() {
            let Some(core) = self.replicas[index].core() else { continue };
            let (inputs, table) = (core.world().inputs(), core.publish().table());
            let violations = check(inputs, &table);
            let is_full_build = build(inputs).table == table;
            if let Some(violation) = violations.first() {
                self.fail("check", format!("controller {index}: {violation}"));
            } else if !is_full_build {
                self.fail("incremental is a full build", format!("controller {index}"));
            }
        }
    }

    /// Everything at rest: everybody must agree with the truth.
    pub fn compare(&mut self) {
        self.check_tables();
        for index in 0..self.replicas.len() {
            let Some(core) = self.replicas[index].core() else { continue };
            let (_, weight) = self.database.policy;
            let mut inputs = Inputs::new(self.policy_of(weight));
            let mut wrong = Vec::new();
            for cluster in &self.clusters {
                let (expected, faults) = self.world_should_hold(core, cluster);
                wrong.extend(faults);
                for (key, object) in &expected {
                    inputs.apply(&cluster.id, key, Some(object.clone()));
                }
                let expected: BTreeMap<ObjectKey, Digest> =
                    expected.iter().map(|(key, object)| (key.clone(), digest_of(object))).collect();
                wrong.extend(difference("world", &cluster.id, &held(core, &cluster.id), &expected));
                wrong.extend(difference("store", &cluster.id, &self.database.objects(&cluster.id), &expected));
            }
            let oracle = build(&inputs).table;
            wrong.extend((core.publish().table() != oracle).then(|| "its table is not the oracle's".to_owned()));
            wrong.extend(self.published_differs(&oracle));
            for fault in wrong {
                self.fail("everybody ends with the truth", format!("controller {index}: {fault}"));
            }
            self.compare_edges(&oracle);
        }
    }

    /// What the world should hold of a cluster: what the cluster reports and, only where a prune that would take all
    /// of its hosts is withheld, what was there before.
    fn world_should_hold(&self, core: &Core, cluster: &Cluster) -> (BTreeMap<ObjectKey, Object>, Vec<String>) {
        let mut expected = reported(cluster);
        let mut faults = Vec::new();
        if withholds(core, &cluster.id) {
            let of = |agent: &AgentNode| self.clusters[agent.cluster].id == cluster.id;
            if self.approved || !self.agents.iter().any(|agent| of(agent) && agent.had_nothing()) {
                faults.push(format!("a prune of {} is withheld, which never had nothing to serve", cluster.id));
            }
            for object in core.world().inputs().objects(&cluster.id) {
                expected.entry(object.key()).or_insert(object);
            }
        }
        (expected, faults)
    }

    fn published_differs(&self, oracle: &Table) -> Option<String> {
        let digest = |host: &Host| Digest::of(&host_to_wire(host));
        let expected: BTreeMap<(PoolName, HostKey), Digest> =
            oracle.hosts.iter().map(|(key, host)| (key.clone(), digest(host))).collect();
        (*self.database.published() != expected).then(|| "what is stored as published is not what is".to_owned())
    }

    fn compare_edges(&mut self, oracle: &Table) {
        for index in 0..self.edges.len() {
            let edge = &self.edges[index];
            let Some(running) = edge.running() else { continue };
            let (hosts, backends) = part_of_pool(oracle, &edge.pool);
            let name = &edge.name;
            let fault = if running.mirror.hosts != hosts {
                Some(format!(
                    "edge {name} holds other hosts: {:?}, not {:?}",
                    keys(&running.mirror.hosts),
                    keys(&hosts)
                ))
            } else if running.mirror.backends.keys().ne(backends.keys()) {
                Some(format!("edge {name} holds other backends"))
            } else if let Some((id, _)) = backends.iter().find(|(id, it)| running.mirror.backends[id] != ***it) {
                Some(format!("edge {name} has other endpoints of {id}"))
            } else if holds(running) != digests(&hosts, &backends) {
                Some(format!("what edge {name} says it holds is not what it was sent"))
            } else {
                serves(running, &hosts, &backends).map(|fault| format!("edge {name}: {fault}"))
            };
            if let Some(fault) = fault {
                self.fail("everybody ends with the truth", fault);
            }
        }
    }

    /// What a person does about withheld prunes, as the finding says: something to serve, then a new list. Returns whether
    /// there were any.
    pub fn approve_withheld(&mut self) -> bool {
        let withheld: Vec<usize> = (0..self.clusters.len())
            .filter(|index| {
                let id = &self.clusters[*index].id;
                self.replicas.iter().filter_map(|replica| replica.core()).any(|core| withholds(core, id))
            })
            .collect();
        for index in &withheld {
            self.note(format_args!("== a person deals with the withheld prune of c{index}"));
            let cluster = &mut self.clusters[*index];
            if !cluster.truth().contains_key(&key(Kind::IngressClass, CLASSES[0])) {
                let object = class(CLASSES[0], cluster.next_version());
                cluster.put(object);
            }
            let wish = IngressWish { name: INGRESSES, class: 0, host: 0, service: 0 };
            let version = cluster.next_version();
            cluster.put(ingress(wish, version, version));
            cluster.put(service(0, 80, version + 1));
            cluster.put(slice(0, 0, version + 2));
            for agent in 0..self.agents.len() {
                if self.agents[agent].cluster == *index {
                    self.agent_crash(agent);
                    self.plan(100, crate::agenda::Event::Start(Node::Agent(agent)));
                }
            }
        }
        self.approved = true;
        !withheld.is_empty()
    }

    /// Who is not at rest, and why.
    pub fn restless(&self) -> Option<String> {
        let paused = self.paused.iter().filter(|(_, resumes)| **resumes > self.now);
        let paused = paused.map(|(node, _)| format!("{node:?} is paused"));
        let agents = self.agents.iter().filter_map(|it| Some(format!("{} {}", it.name(), it.restless()?)));
        let edges = self.edges.iter().filter_map(|it| Some(format!("edge {} {}", it.name, it.restless()?)));
        let replicas = self.replicas.iter().enumerate().filter_map(|(index, it)| {
            let is_resting = it.is_up() && it.writer().is_idle();
            (!is_resting).then(|| format!("controller {index} is down or has something to store"))
        });
        paused.chain(agents).chain(edges).chain(replicas).next()
    }

    /// Links in use, for histories that cut them.
    pub fn open_links(&self) -> Vec<LinkId> {
        self.network.links().map(|(id, _)| id).collect()
    }
}

fn held(core: &Core, cluster: &ClusterId) -> BTreeMap<ObjectKey, Digest> {
    let held = core.world().held(cluster).into_iter().flat_map(Held::iter);
    held.map(|(key, digest)| (key.clone(), *digest)).collect()
}

fn difference(
    what: &str,
    cluster: &ClusterId,
    is: &BTreeMap<ObjectKey, Digest>,
    should: &BTreeMap<ObjectKey, Digest>,
) -> Option<String> {
    let keys: BTreeSet<&ObjectKey> = is.keys().chain(should.keys()).collect();
    let wrong: Vec<String> = keys
        .into_iter()
        .filter_map(|key| match (is.get(key), should.get(key)) {
            (Some(is), Some(should)) if is == should => None,
            (Some(_), Some(_)) => Some(format!("{key} is another version")),
            (Some(_), None) => Some(format!("{key} is too much")),
            (None, Some(_)) => Some(format!("{key} is missing")),
            (None, None) => None,
        })
        .collect();
    (!wrong.is_empty()).then(|| format!("{what} of {cluster}: {}", wrong.join(", ")))
}

type Hosts = BTreeMap<HostKey, Host>;
type Backends<'a> = BTreeMap<BackendId, &'a roadstead_routing::table::Backend>;

/// What edges of a pool should hold: its hosts, and the backends that these use.
fn part_of_pool<'a>(oracle: &'a Table, pool: &PoolName) -> (Hosts, Backends<'a>) {
    let hosts = oracle.hosts.iter().filter(|((of, _), _)| of == pool);
    let hosts: Hosts = hosts.map(|((_, name), host)| (name.clone(), host.clone())).collect();
    let used: BTreeSet<&BackendId> = hosts
        .values()
        .flat_map(parts_of)
        .filter_map(|part| if let Target::Backend(id) = &part.target { Some(id) } else { None })
        .collect();
    let backends = oracle.backends.iter().filter(|(id, _)| used.contains(id));
    let backends = backends.map(|(id, backend)| (id.clone(), backend)).collect();
    (hosts, backends)
}

fn digests(hosts: &Hosts, backends: &Backends<'_>) -> BTreeSet<Vec<u8>> {
    let hosts = hosts.values().map(|host| Digest::of(&host_to_wire(host)).to_vec());
    hosts.chain(backends.values().map(|backend| Digest::of(&backend_to_wire(backend)).to_vec())).collect()
}

/// Digests of everything the real holdings would tell a controller.
fn holds(running: &Running) -> BTreeSet<Vec<u8>> {
    let snapshot = running.machine.holdings().snapshot();
    snapshot.flat_map(|update| update.upserts).map(|upsert| upsert.digest).collect()
}

/// Whether requests end where they should: every route of every host, asked of the live table.
fn serves(running: &Running, hosts: &Hosts, backends: &Backends<'_>) -> Option<String> {
    for (name, host) in hosts {
        for route in &host.routes {
            let PathMatch::Prefix(path) = &route.path else { continue };
            let (host_name, path) = (name.to_string(), format!("{path}/x"));
            let Some(found) = running.table.find(&request_host(&host_name), &request_path(&path)) else {
                return Some(format!("{host_name}{path} is not found"));
            };
            let live: Vec<_> = found
                .route()
                .clusters
                .iter()
                .map(|it| {
                    let endpoints = it.backend.as_ref().map(|backend| {
                        let set = backend.endpoints();
                        set.as_slice().iter().map(|endpoint| endpoint.address).collect::<Vec<_>>()
                    });
                    (it.cluster.clone(), it.weight, endpoints)
                })
                .collect();
            let should: Vec<_> = route
                .backends
                .iter()
                .map(|part| {
                    let endpoints = match &part.target {
                        Target::Backend(id) => backends.get(id).map(|backend| {
                            backend.endpoints.iter().map(|endpoint| endpoint.address).collect::<Vec<_>>()
                        }),
                        Target::Resource | Target::Nothing => None,
                    };
                    (part.cluster.clone(), part.weight, endpoints)
                })
                .collect();
            if live != should {
                return Some(format!("{host_name}{path} goes to {live:?}, not to {should:?}"));
            }
        }
    }
    None
}

fn keys(hosts: &Hosts) -> Vec<String> {
    hosts.keys().map(ToString::to_string).collect()
}
