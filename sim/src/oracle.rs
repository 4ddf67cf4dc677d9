//! What should be, worked out from the clusters' truth alone, and the comparison of everybody with it.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_controller::core::Core;
use roadstead_controller::guard::decide::{Decision, Terms};
use roadstead_controller::held::Held;
use roadstead_proto::digest::Digest;
use roadstead_proto::resource::{ResourceKey, backend_to_wire, host_to_wire};
use roadstead_routing::check::check;
use roadstead_routing::compute::build;
use roadstead_routing::guard::Scope;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, PoolName};
use roadstead_routing::inputs::Inputs;
use roadstead_routing::lookup::{request_host, request_path};
use roadstead_routing::object::Object;
use roadstead_routing::table::{Host, PathMatch, RouteBackend, Table, Target};

use crate::cluster::Cluster;
use crate::edge::Running;
use crate::mirror::parts_of;
use crate::network::LinkId;
use crate::objects::{CLASSES, digest_of, key};
use crate::simulation::Simulation;

/// The part of a cluster's truth that routing needs: what its agent should report.
pub fn reported(cluster: &Cluster) -> BTreeMap<ObjectKey, Object> {
    let truth = cluster.truth();
    let exists = |class: &str| CLASSES.contains(&class) && truth.contains_key(&key(Kind::IngressClass, class));
    let is_ours = |object: &Object| match object {
        Object::Ingress(ingress) => ingress.class_name.as_deref().is_some_and(exists),
        Object::IngressClass(class) => CLASSES.contains(&&*class.name),
        Object::Service(_) | Object::Node(_) | Object::EndpointSlice(_) | Object::Secret(_) => false,
    };
    let ours = truth.values().filter(|object| is_ours(object));
    let services: BTreeSet<&str> = ours
        .filter_map(|object| if let Object::Ingress(ingress) = object { Some(ingress) } else { None })
        .flat_map(|ingress| ingress.service_names().map(|name| &**name))
        .collect();
    let wanted = |object: &Object| match object {
        Object::IngressClass(_) | Object::Ingress(_) => is_ours(object),
        Object::Node(_) => true,
        Object::Service(service) => services.contains(&*service.name.name),
        Object::EndpointSlice(slice) => services.contains(&*slice.service),
        Object::Secret(_) => false,
    };
    truth.iter().filter(|(_, object)| wanted(object)).map(|(key, object)| (key.clone(), object.clone())).collect()
}

impl Simulation {
    /// The expensive invariants, of every running controller: what it publishes is what a full build of its world
    /// gives, and has no fault.
    pub fn check_tables(&mut self) {
        for index in 0..self.replicas.len() {
            let Some(core) = self.replicas[index].core() else { continue };
            if core.guard().held().next().is_some() {
                // What is held differs from what the objects say: that is what a Hold is.
                continue;
            }
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
                let row = self.database.model.row(&cluster.id);
                inputs.set_membership(&cluster.id, row.map(|row| row.member.membership).unwrap_or_default());
                let expected = reported(cluster);
                for (key, object) in &expected {
                    inputs.apply(&cluster.id, key, Some(object.clone()));
                }
                let expected: BTreeMap<ObjectKey, Digest> =
                    expected.iter().map(|(key, object)| (key.clone(), digest_of(object))).collect();
                wrong.extend(difference("world", &cluster.id, &held(core, &cluster.id), &expected));
                let stored = self.database.model.objects(&cluster.id);
                wrong.extend(difference("store", &cluster.id, &stored, &expected));
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

    fn published_differs(&self, oracle: &Table) -> Option<String> {
        let digest = |host: &Host| Digest::of(&host_to_wire(host));
        let expected: BTreeMap<(PoolName, HostKey), Digest> =
            oracle.hosts.iter().map(|(key, host)| (key.clone(), digest(host))).collect();
        let stored = self.database.model.published();
        let keys: BTreeSet<&(PoolName, HostKey)> = stored.keys().chain(expected.keys()).collect();
        let wrong: Vec<String> = keys
            .into_iter()
            .filter(|key| stored.get(*key) != expected.get(*key))
            .map(|(pool, host)| format!("{host} of {pool}"))
            .collect();
        (!wrong.is_empty()).then(|| format!("what is stored as published is not what is: {}", wrong.join(", ")))
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

    /// A person approves everything that is held anywhere. Returns whether anything was.
    pub fn approve_holds(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.replicas.len() {
            let Some(core) = self.replicas[index].core() else { continue };
            let holds: Vec<String> = core.guard().holds().map(|hold| hold.id.clone()).collect();
            any |= !holds.is_empty() || core.guard().held().next().is_some();
            for hold in holds {
                self.note(format_args!("== a person approves {hold} at controller {index}"));
                self.decide(index, Decision::Approve { hold, by: "somebody".to_owned() });
            }
        }
        any | self.expect_what_edges_refuse()
    }

    /// What an edge's own guard refused because it saw another history than the controller, as after a backup was put
    /// back: a person says that it is meant.
    fn expect_what_edges_refuse(&mut self) -> bool {
        let running = self.edges.iter().filter_map(|edge| edge.running());
        let refuses = running.into_iter().any(|it| it.machine.holdings().refused().next().is_some());
        let up = self.replicas.iter().position(|replica| replica.core().is_some());
        let Some(index) = up.filter(|_| refuses) else { return false };
        self.note(format_args!("== a person expects what edges refuse"));
        for cluster in self.clusters.iter().map(|cluster| cluster.id.clone()).collect::<Vec<_>>() {
            let terms = Terms { for_ms: 3_600_000, reason: "meant".to_owned(), by: "somebody".to_owned() };
            self.decide(index, Decision::ExpectRemoval { scope: Scope::Cluster(cluster), terms });
        }
        true
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
        let rows = self.clusters.iter().filter_map(|cluster| self.database.model.row(&cluster.id));
        let ramps = rows.filter(|row| row.member.ramp.is_some()).map(|_| "a cluster is on a ramp".to_owned());
        let cores = || self.replicas.iter().filter_map(|replica| replica.core());
        let refused = self.edges.iter().filter_map(|edge| Some((&edge.pool, edge.running()?)));
        let refused = refused.flat_map(|(pool, running)| {
            let refused = running.machine.holdings().refused();
            refused.filter_map(move |(key, _)| Some((pool.clone(), ResourceKey::parse(&key)?.host()?.clone())))
        });
        let held = cores().flat_map(|core| core.guard().held()).map(|(pool, host)| (pool.clone(), host.clone()));
        let held: BTreeSet<(PoolName, HostKey)> = held.chain(refused).collect();
        let trials = cores().flat_map(|core| core.publish().pools()).filter_map(|(name, pool)| {
            // What another replica holds at the edge that is to try it, or that edge itself, waits for a person.
            let waits = |(host, _): (&HostKey, &_)| held.contains(&(name.clone(), host.clone()));
            let trial = pool.canary().trial().filter(|trial| !trial.hosts.iter().any(waits));
            trial.and_then(|_| pool.canary().state())
        });
        let trials = trials.map(|state| format!("an edge tries something: {state:?}"));
        let paused = paused.chain(ramps).chain(trials);
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
    let used: BTreeSet<&BackendId> = hosts.values().flat_map(parts_of).flat_map(RouteBackend::backends).collect();
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
