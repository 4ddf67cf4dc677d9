//! Controllers: the real core, with its inbox, its writer and its streams around it.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_controller::core::message::{EdgeId, Input, Output, StreamId};
use roadstead_controller::core::{Core, Start};
use roadstead_controller::guard::decide::Decision;
use roadstead_controller::guard::kept::Keep;
use roadstead_controller::held::Held;
use roadstead_controller::observe::metrics::Metrics;
use roadstead_controller::policy::{AcceptedPolicy, follow};
use roadstead_controller::store::queue::Request;
use roadstead_controller::store::{Beat, News, TakeOverAnswer};
use roadstead_controller::world::Limits;
use roadstead_proto::digest::Digest;
use roadstead_proto::wire;
use roadstead_routing::id::{ClusterId, Kind, ObjectKey};
use roadstead_routing::policy::Policy;
use wire::agent_message::Message as FromAgent;
use wire::controller_message::Message as ToAgent;

use crate::agenda::{Event, Ms, Node};
use crate::broken::Broken;
use crate::network::{End, LinkId, Parcel};
use crate::peers::row;
use crate::simulation::Simulation;
use crate::words;
use crate::writer::{Ask, Stage, Writer, news_of, taken_over};

const TICK_EVERY: Ms = 1_000;
/// A controller that cannot load tries again after this.
const LOAD_AGAIN: Ms = 700;

#[derive(Default)]
pub struct Replica {
    life: u32,
    core: Option<Core>,
    inbox: Vec<Input>,
    turn_planned: bool,
    writer: Writer,
    /// Ingresses of its world, as of the last turn, and the epochs of their clusters.
    ingresses: BTreeMap<(ClusterId, ObjectKey), Digest>,
    epochs: BTreeMap<ClusterId, u64>,
    /// On its way to the database, and the answer on its way back.
    beat: Option<Beat>,
    news: Option<News>,
    /// Links on which it reports to other controllers, by their index.
    reports: BTreeMap<usize, LinkId>,
    peers: BTreeSet<usize>,
}

impl Replica {
    pub fn is_up(&self) -> bool {
        self.core.is_some()
    }

    pub fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    pub fn life(&self) -> u32 {
        self.life
    }

    pub fn core_mut(&mut self) -> Option<&mut Core> {
        self.core.as_mut()
    }

    pub fn beat_mut(&mut self) -> &mut Option<Beat> {
        &mut self.beat
    }

    pub fn news_mut(&mut self) -> &mut Option<News> {
        &mut self.news
    }

    pub fn reports_mut(&mut self) -> &mut BTreeMap<usize, LinkId> {
        &mut self.reports
    }

    pub fn peers_mut(&mut self) -> &mut BTreeSet<usize> {
        &mut self.peers
    }

    pub fn writer(&self) -> &Writer {
        &self.writer
    }
}

impl Simulation {
    /// Loads what the database has. Not possible while it is away.
    pub fn replica_start(&mut self, index: usize) {
        if self.replicas[index].is_up() {
            return;
        }
        if self.database_away {
            return self.plan(LOAD_AGAIN, Event::Start(Node::Replica(index)));
        }
        self.note(format_args!("controller {index} starts"));
        let now_ms = self.unix_ms();
        let start = Start {
            now_ms,
            replica: row(index, self.replicas[index].life + 1),
            policy: self.accepted_policy(),
            policy_problem: None,
            loaded: self.database.model.load(),
            limits: Limits::default(),
            metrics: Metrics::default(),
        };
        let (core, outputs) = match self.options.broken {
            Some(Broken::Guard) => Core::start(start),
            _ => Core::start_guarded(start, self.database.model.load_kept(now_ms)),
        };
        let replica = &mut self.replicas[index];
        let life = replica.life + 1;
        *replica = Replica { life, core: Some(core), ..Replica::default() };
        replica.ingresses = ingresses(replica.core.as_ref());
        self.replica_does(index, outputs);
        self.plan(TICK_EVERY, Event::Tick { replica: index, life });
    }

    pub fn replica_crash(&mut self, index: usize) {
        if !self.replicas[index].is_up() {
            return;
        }
        let life = self.replicas[index].life + 1;
        let dead = std::mem::replace(&mut self.replicas[index], Replica { life, ..Replica::default() });
        if let Some(batch) = dead.writer.committing() {
            self.orphaned(batch.clone());
        }
        self.drop_links(Node::Replica(index));
    }

    pub fn replica_accepts(&mut self, index: usize, link: LinkId, client: Node) {
        let stream = StreamId(link.0);
        match client {
            Node::Agent(agent) => {
                let cluster = self.clusters[self.agents[agent].cluster].id.clone();
                self.acks.opened(link, cluster.clone());
                self.replica_input(index, Input::AgentOpened { stream, cluster });
            }
            Node::Edge(edge) => {
                let edge = EdgeId { pool: self.edges[edge].pool.clone(), edge: self.edges[edge].name.clone() };
                self.replica_input(index, Input::EdgeOpened { stream, edge });
            }
            Node::Replica(peer) => self.replica_input(index, Input::PeerOpened { stream, replica: format!("r{peer}") }),
        }
    }

    pub fn replica_hears(&mut self, link: LinkId, parcel: Parcel) {
        let Some(index) = self.network.link(link).map(|link| link.replica) else { return };
        let stream = StreamId(link.0);
        match parcel {
            Parcel::FromAgent(message) => {
                if let Some(what) = words::from_agent(&message) {
                    self.note(format_args!("controller {index} ← link {} {what}", link.0));
                }
                if let Some(FromAgent::Delta(delta)) = &message.message {
                    self.note_causes(link, delta);
                    self.acks.heard(link, delta);
                }
                self.replica_input(index, Input::Agent { stream, message });
            }
            Parcel::FromEdge(message) => {
                if let Some(what) = words::from_edge(&message) {
                    self.note(format_args!("controller {index} ← link {} {what}", link.0));
                }
                self.replica_input(index, Input::Edge { stream, message });
            }
            Parcel::FromPeer(message) => {
                if let Some(what) = words::from_peer(&message) {
                    self.note(format_args!("controller {index} ← link {} {what}", link.0));
                    self.active_at = self.now;
                }
                self.replica_input(index, Input::Peer { stream, message });
            }
            Parcel::ToAgent(_) | Parcel::ToEdge(_) | Parcel::ToPeer(_) | Parcel::Over => {}
        }
    }

    pub fn replica_lost(&mut self, index: usize, link: LinkId, client: Node) {
        let stream = StreamId(link.0);
        self.acks.closed(link);
        self.replica_input(
            index,
            match client {
                Node::Agent(_) => Input::AgentClosed { stream },
                Node::Replica(_) => Input::PeerClosed { stream },
                Node::Edge(_) => Input::EdgeClosed { stream },
            },
        );
    }

    pub fn tick(&mut self, index: usize, life: u32) {
        if self.replicas[index].life == life {
            self.replica_input(index, Input::Tick);
            self.plan(TICK_EVERY, Event::Tick { replica: index, life });
        }
    }

    /// The controller has read the policy in force.
    pub fn policy_known(&mut self, index: usize, life: u32) {
        if self.replicas[index].life == life {
            let policy = self.accepted_policy();
            self.replica_input(index, Input::Policy(follow::Event::Accepted(policy)));
        }
    }

    /// A person decides something at this controller.
    pub fn decide(&mut self, index: usize, decision: Decision) {
        if let Some(core) = self.replicas[index].core_mut()
            && let Err(refused) = core.decide(decision)
        {
            self.note(format_args!("controller {index} refuses: {refused}"));
        }
        self.replica_input(index, Input::Tick);
    }

    /// Everything that waits, as one turn.
    pub fn turn(&mut self, index: usize, life: u32) {
        let now_ms = self.unix_ms();
        let replica = &mut self.replicas[index];
        let Some(core) = replica.core.as_mut().filter(|_| replica.life == life) else { return };
        replica.turn_planned = false;
        let outputs = core.handle(now_ms, std::mem::take(&mut replica.inbox));
        let is_quiet = outputs.iter().all(|output| match output {
            Output::Agent { message, .. } => words::to_agent(message).is_none(),
            Output::Edge { message, .. } => words::to_edge(message).is_none(),
            Output::Report { message, .. } => words::from_peer(message).is_none(),
            Output::Peer { message, .. } => words::to_peer(message).is_none(),
            Output::Beat(_) | Output::Store(Request::TakeOver { .. }) => true,
            Output::Close { .. } | Output::Store(_) | Output::Peers(_) => false,
        });
        if !is_quiet {
            self.active_at = self.now;
            self.replica_does(index, outputs);
            self.check_removals(index);
        } else {
            self.replica_does(index, outputs);
        }
    }

    /// The writer or the database is one step further.
    pub fn store(&mut self, index: usize, life: u32) {
        if self.replicas[index].life != life {
            return;
        }
        if !self.replicas[index].writer.is_asking_again() {
            self.active_at = self.now;
        }
        match self.replicas[index].writer.stage() {
            Stage::Nothing => {}
            Stage::Hears(events) => {
                for event in events {
                    self.replica_input(index, Input::Store(event));
                }
                self.writer_begins(index);
            }
            Stage::Lands(ask) if self.database_away => {
                let away = self.replicas[index].writer.failed(ask);
                away.into_iter().for_each(|event| self.replica_input(index, Input::Store(event)));
                let pause = self.dice.between(100, 2_000);
                self.plan(pause, Event::Store { replica: index, life });
            }
            Stage::Lands(ask) => self.lands(index, ask),
        }
    }

    fn lands(&mut self, index: usize, ask: Ask) {
        let events = match &ask {
            Ask::Commit(batch) => {
                let committed = self.database.model.commit(batch, self.unix_ms()).unwrap_or_default();
                self.note(format_args!(
                    "the database commits {} of controller {index}, token {}, fenced: {:?}",
                    describe(batch),
                    batch.token,
                    committed.lost
                ));
                self.check_committed(&committed);
                news_of(batch, &committed.lost)
            }
            Ask::Release(cluster, epoch) => {
                self.database.model.release(cluster, *epoch, self.unix_ms());
                self.note(format_args!("the database takes {cluster} back from controller {index}"));
                Vec::new()
            }
            Ask::TakeOver(asked) => {
                let answer = self.database.model.take_over(&asked.request, self.unix_ms());
                let cluster = &asked.request.cluster;
                let what = match &answer {
                    TakeOverAnswer::Granted { stored, .. } => {
                        let lineage = &stored.row.lineage;
                        format!("gives epoch {} of {cluster} to controller {index}", lineage.position.epoch)
                    }
                    TakeOverAnswer::Held { replica } => {
                        format!("leaves {cluster} to {replica}, not controller {index}")
                    }
                    TakeOverAnswer::OtherUid { .. } => format!("refuses {cluster} to controller {index}"),
                };
                self.note(format_args!("the database {what}"));
                vec![taken_over(asked, answer)]
            }
        };
        // The answer may get lost: the same is then asked again, which must do no harm.
        if matches!(ask, Ask::Commit(_)) && self.dice.percent(3) {
            self.fault("commit answer lost", format_args!(""));
            let away = self.replicas[index].writer.failed(ask);
            away.into_iter().for_each(|event| self.replica_input(index, Input::Store(event)));
        } else {
            self.replicas[index].writer.landed(events);
        }
        let (delay, life) = (self.dice.between(1, 10), self.replicas[index].life);
        self.plan(delay, Event::Store { replica: index, life });
    }

    pub fn replica_input(&mut self, index: usize, input: Input) {
        let replica = &mut self.replicas[index];
        if !replica.is_up() {
            return;
        }
        replica.inbox.push(input);
        if !std::mem::replace(&mut replica.turn_planned, true) {
            let life = replica.life;
            let delay = self.dice.between(0, 8);
            self.plan(delay, Event::Turn { replica: index, life });
        }
    }

    /// Does what the core wants done.
    fn replica_does(&mut self, index: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Agent { stream, message } => self.says_to_agent(LinkId(stream.0), message),
                Output::Edge { stream, message } => self.send(LinkId(stream.0), End::Client, Parcel::ToEdge(message)),
                Output::Peer { stream, message } => self.send(LinkId(stream.0), End::Client, Parcel::ToPeer(message)),
                Output::Report { stream, message } => {
                    self.send(LinkId(stream.0), End::Replica, Parcel::FromPeer(message));
                }
                Output::Peers(rows) => self.found_peers(index, &rows),
                Output::Beat(beat) => self.beat_begins(index, *beat),
                Output::Close { stream, why } => {
                    self.note(format_args!("controller {index} ends link {}: {why}", stream.0));
                    self.acks.closed(LinkId(stream.0));
                    let is_own = self.network.node(LinkId(stream.0), End::Client) == Some(Node::Replica(index));
                    if is_own {
                        self.report_over(index, LinkId(stream.0));
                    }
                    self.hang_up(LinkId(stream.0), if is_own { End::Client } else { End::Replica });
                }
                Output::Store(request) => self.ask_store(index, request),
            }
        }
        self.writer_begins(index);
    }

    fn says_to_agent(&mut self, link: LinkId, message: wire::ControllerMessage) {
        match &message.message {
            Some(ToAgent::Welcome(welcome)) => self.acks.welcomed(link, welcome.epoch),
            Some(ToAgent::Ack(ack)) => {
                let missing = self.acks.acknowledged(link, ack.seq, &self.database.model);
                if let Some(missing) = missing.into_iter().next() {
                    self.fail("acknowledged is stored", missing);
                }
            }
            _ => {}
        }
        self.send(link, End::Client, Parcel::ToAgent(message));
    }

    fn ask_store(&mut self, index: usize, request: Request) {
        if self.options.broken == Some(Broken::DurableBeforeCommit)
            && let Request::Write(write) = &request
        {
            let (cluster, position) = (write.cluster.clone(), write.position);
            let durable = roadstead_controller::store::writer::Event::Durable { cluster, position };
            self.replica_input(index, Input::Store(durable));
        }
        self.replicas[index].writer.push(request);
    }

    fn writer_begins(&mut self, index: usize) {
        if self.replicas[index].writer.begin() {
            let slow = self.database_slow;
            let delay = if slow { self.dice.between(500, 5_000) } else { self.dice.between(1, 40) };
            let life = self.replicas[index].life;
            self.plan(delay, Event::Store { replica: index, life });
        }
    }

    /// No Ingress leaves a world unless it could have ended in its cluster.
    fn check_removals(&mut self, index: usize) {
        let now = ingresses(self.replicas[index].core.as_ref());
        let before = std::mem::replace(&mut self.replicas[index].ingresses, now);
        let epochs = epochs(self.replicas[index].core.as_ref());
        let before_epochs = std::mem::replace(&mut self.replicas[index].epochs, epochs);
        let replica = &self.replicas[index];
        // A new epoch begins with what is stored; what it lost of the last one its agent reports again.
        let is_same = |cluster: &ClusterId| before_epochs.get(cluster) == replica.epochs.get(cluster);
        let now = &replica.ingresses;
        let gone = before.into_iter().filter(|(key, _)| !now.contains_key(key) && is_same(&key.0));
        let wrong = gone.into_iter().find(|((id, key), digest)| {
            let cluster = self.clusters.iter().find(|cluster| cluster.id == *id);
            !cluster.is_some_and(|cluster| cluster.may_have_ended(key, *digest))
        });
        if let Some(((cluster, key), _)) = wrong {
            let detail =
                format!("controller {index} forgot {key} of {cluster}, which was never gone since it was written");
            self.fail("nothing is removed that may exist", detail);
        }
    }

    pub fn policy_of(&self, weight: u32) -> Policy {
        let mut policy = self.policy.clone();
        policy.clusters.entry("c0".into()).or_default().weight = weight;
        policy
    }

    fn accepted_policy(&self) -> AcceptedPolicy {
        let (rev, weight) = self.database.policy;
        AcceptedPolicy { rev, policy: self.policy_of(weight), source: "simulation".to_owned() }
    }
}

fn ingresses(core: Option<&Core>) -> BTreeMap<(ClusterId, ObjectKey), Digest> {
    let Some(world) = core.map(Core::world) else { return BTreeMap::new() };
    let clusters: BTreeSet<ClusterId> = world.positions().map(|(cluster, _)| cluster.clone()).collect();
    let of = |cluster: ClusterId| {
        let held: Vec<_> = world.held(&cluster).into_iter().flat_map(Held::iter).collect();
        held.into_iter()
            .filter(|(key, _)| key.kind == Kind::Ingress)
            .map(move |(key, digest)| ((cluster.clone(), key.clone()), *digest))
    };
    clusters.into_iter().flat_map(of).collect()
}

fn epochs(core: Option<&Core>) -> BTreeMap<ClusterId, u64> {
    let positions = core.into_iter().flat_map(|core| core.world().positions());
    positions.map(|(cluster, position)| (cluster.clone(), position.epoch)).collect()
}

fn keep_words(keep: &Keep) -> String {
    match keep {
        Keep::Hold { hold, .. } => format!("{} {:?} of {}: {:?}", hold.id, hold.state, hold.owner, hold.hosts.keys()),
        Keep::Override(it) => it.id.clone(),
        Keep::Lift(id) => format!("-{id}"),
        Keep::Backend(id, encoded) => format!("{id} {}", if encoded.is_some() { "kept" } else { "gone" }),
    }
}

fn describe(batch: &roadstead_controller::store::Batch) -> String {
    let parts = batch.clusters.iter().map(|(cluster, part)| {
        format!("{cluster}:{}.{} +{} -{}", part.epoch, part.durable_seq, part.upserts.len(), part.removals.len())
    });
    let keeps: Vec<String> = batch.keeps.values().map(keep_words).collect();
    let parts = parts.collect::<Vec<_>>().join(" ");
    format!("[{parts}], {} host versions, keeps [{}]", batch.revisions.len(), keeps.join(" "))
}
