//! Edges: the real conversation, holdings and live table, with a disk that forgets what was not yet synced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use roadstead_edge::last_good::journal::Replayed;
use roadstead_edge::subscribe::holdings::Holdings;
use roadstead_edge::subscribe::machine::{Input, Introduction, Machine, Output};
use roadstead_edge::table::{LiveTable, TableWriter};
use roadstead_proto::position::position_from_wire;
use roadstead_proto::wire;
use roadstead_routing::endpoints::Locality;
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, ObjectName, PoolName, Position};
use wire::config_message::Message as Told;
use wire::edge_message::Message as Said;

use crate::agenda::{Event, Ms, Node};
use crate::broken::{self, Broken};
use crate::mirror::{Fault, Mirror};
use crate::network::{End, LinkId, Parcel};
use crate::simulation::Simulation;
use crate::words;

/// The disk is looked after at least this often.
const WAKE_MAX: Ms = 1_000;

pub struct EdgeNode {
    pub pool: PoolName,
    pub name: String,
    life: u32,
    started: Ms,
    running: Option<Running>,
    link: Option<LinkId>,
    /// What is on disk for sure.
    synced: Vec<wire::Update>,
    /// What a crash may lose, oldest first.
    written: Vec<wire::Update>,
    /// When it heard a controller last.
    in_step_at: Ms,
    /// When what it heard last was to arrive.
    heard_due: Ms,
    /// The link on which it got a complete set.
    synced_on: Option<LinkId>,
}

pub struct Running {
    pub machine: Machine,
    pub table: Arc<LiveTable>,
    pub mirror: Mirror,
    /// By cluster, with the incarnation of the world.
    positions: BTreeMap<String, (u64, Position)>,
}

impl EdgeNode {
    pub fn new(pool: PoolName, name: &str) -> Self {
        Self {
            pool,
            name: name.to_owned(),
            life: 0,
            started: 0,
            running: None,
            link: None,
            synced: Vec::new(),
            written: Vec::new(),
            in_step_at: 0,
            heard_due: 0,
            synced_on: None,
        }
    }

    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// Why it is not at rest.
    pub fn restless(&self) -> Option<&'static str> {
        let Some(running) = &self.running else { return Some("is not running") };
        if !running.machine.is_connected() {
            Some("is not connected")
        } else if !running.machine.is_synced() {
            Some("is not in step with a controller")
        } else {
            None
        }
    }
}

impl Simulation {
    /// Starts with what the disk has.
    pub fn edge_start(&mut self, index: usize) {
        let (seed, controllers) = (self.dice.between(0, u64::MAX), self.replicas.len());
        let (now, edge) = (self.now, &mut self.edges[index]);
        if edge.running.is_some() {
            return;
        }
        edge.life += 1;
        edge.started = now;
        let table = LiveTable::new();
        let writer = TableWriter::new(table.clone(), Locality::default());
        let mut holdings = match self.options.broken {
            Some(Broken::Guard) => Holdings::unguarded(edge.pool.clone(), writer),
            _ => Holdings::new(edge.pool.clone(), writer),
        };
        holdings.replay(Replayed { same_build: true, updates: edge.synced.clone(), bytes_lost: 0 });
        let mut mirror = Mirror::default();
        for update in &edge.synced {
            mirror.apply(update, |_, _| false);
        }
        holdings.in_step_before_start(Duration::from_millis(now.saturating_sub(edge.in_step_at)));
        let introduction =
            Introduction { edge: edge.name.clone(), pool: edge.pool.to_string(), ..Introduction::default() };
        let machine = Machine::new(introduction, holdings, controllers, seed);
        edge.running = Some(Running { machine, table, mirror, positions: BTreeMap::new() });
        let (life, name, updates) = (edge.life, edge.name.clone(), edge.synced.len());
        self.note(format_args!("edge {name} starts with {updates} updates"));
        self.plan(0, Event::EdgeWake { edge: index, life });
    }

    /// The process is gone, and with it a part of what was not on disk for sure.
    pub fn edge_crash(&mut self, index: usize) {
        let kept = self.dice.between(0, self.edges[index].written.len() as u64) as usize;
        let edge = &mut self.edges[index];
        edge.running = None;
        edge.link = None;
        edge.life += 1;
        edge.synced.extend(std::mem::take(&mut edge.written).into_iter().take(kept));
        self.drop_links(Node::Edge(index));
    }

    /// The disk has everything; sometimes the journal is written anew.
    pub fn edge_syncs(&mut self, index: usize) {
        let rewrite = self.dice.percent(30);
        let edge = &mut self.edges[index];
        edge.synced.append(&mut edge.written);
        if let Some(running) = edge.running.as_ref().filter(|_| rewrite) {
            edge.synced = running.machine.holdings().snapshot().collect();
        }
    }

    pub fn edge_wake(&mut self, index: usize, life: u32) {
        if self.edges[index].life == life {
            self.edge_input(index, Input::Tick);
            if self.dice.percent(30) {
                self.edge_syncs(index);
            }
            let now = self.edge_time(index);
            let wake = self.edges[index].running.as_ref().and_then(|running| running.machine.wake_at());
            let wait = wake.map_or(WAKE_MAX, |at| (at.saturating_sub(now).as_millis() as Ms).clamp(1, WAKE_MAX));
            self.plan(wait, Event::EdgeWake { edge: index, life });
        }
    }

    pub fn edge_connected(&mut self, index: usize, link: LinkId, hello: Option<Box<wire::EdgeMessage>>) {
        if let Some(mut hello) = hello {
            broken::from_edge(self.options.broken, &mut hello);
            self.send(link, End::Replica, Parcel::FromEdge(*hello));
        }
        self.edge_input(index, Input::Connected);
    }

    pub fn edge_lost(&mut self, index: usize, link: LinkId) {
        if self.edges[index].link == Some(link) {
            self.edges[index].link = None;
            let name = self.edges[index].name.clone();
            self.note(format_args!("edge {name} lost its stream"));
            self.edge_input(index, Input::Lost("the connection ended".to_owned()));
        }
    }

    pub fn edge_hears(&mut self, index: usize, link: LinkId, due: Ms, message: wire::ConfigMessage) {
        if self.edges[index].link != Some(link) {
            return;
        }
        (self.edges[index].in_step_at, self.edges[index].heard_due) = (self.now, due);
        if let Some(what) = words::to_edge(&message) {
            let name = self.edges[index].name.clone();
            self.note(format_args!("edge {name} ← {what}"));
            self.active_at = self.now;
        }
        let mut parts = broken::to_edge(self.options.broken, message);
        let last = parts.pop();
        for part in parts {
            // What a split message would answer to its first part goes nowhere.
            let now = self.edge_time(index);
            let outputs = self.edges[index].running.as_mut().map(|it| it.machine.handle(Input::Received(part), now));
            let silent = |output: &Output| !matches!(output, Output::Send(_));
            self.edge_does(index, outputs.into_iter().flatten().filter(silent).collect());
        }
        if let Some(message) = last {
            self.edge_input(index, Input::Received(message));
        }
    }

    fn edge_input(&mut self, index: usize, input: Input) {
        let now = self.edge_time(index);
        let Some(running) = &mut self.edges[index].running else { return };
        let is_update = matches!(&input, Input::Received(message) if matches!(message.message, Some(Told::Update(_))));
        let outputs = running.machine.handle(input, now);
        self.edge_does(index, outputs);
        if is_update {
            self.check_positions(index);
        }
    }

    /// Does what the machine wants done.
    fn edge_does(&mut self, index: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Dial { controller, hello } => {
                    let link = self.network.dial(Node::Edge(index), controller, Some(hello));
                    self.edges[index].link = Some(link);
                    let delay = self.dice.between(1, 60);
                    self.plan(delay, Event::Opened(link));
                }
                Output::Send(message) => self.edge_says(index, message),
                Output::HangUp => {
                    if let Some(link) = self.edges[index].link.take() {
                        let name = self.edges[index].name.clone();
                        self.note(format_args!("edge {name} hangs up"));
                        self.hang_up(link, End::Client);
                    }
                }
                Output::Journal(update) => self.edge_applied(index, update),
            }
        }
    }

    fn edge_says(&mut self, index: usize, message: wire::EdgeMessage) {
        let Some(link) = self.edges[index].link else { return };
        if !matches!(message.message, Some(Said::Heartbeat(_))) {
            self.active_at = self.now;
        }
        if let Some(Said::Result(result)) = &message.message
            && let Some(refusal) = result.refusals.first()
            // Histories have nothing that an edge should refuse for what it is.
            && !refusal.guarded
        {
            self.fail("edges take what is right", format!("{} was refused: {}", refusal.key, refusal.reason));
        }
        self.send(link, End::Replica, Parcel::FromEdge(message));
    }

    /// An Update took effect.
    fn edge_applied(&mut self, index: usize, update: wire::Update) {
        let clusters = &self.clusters;
        let is_gone =
            |id: &_, name: &_| clusters.iter().any(|cluster| cluster.id == *id && cluster.is_gone_for_good(name));
        let edge = &mut self.edges[index];
        let before = edge.running.as_ref().map(|running| running.mirror.ingresses()).unwrap_or_default();
        let faults = edge.running.as_mut().map(|running| running.mirror.apply(&update, is_gone)).unwrap_or_default();
        let was_in_step = edge.synced_on.is_some() && edge.synced_on == edge.link;
        edge.synced_on = if update.synced { edge.link } else { edge.synced_on };
        edge.written.push(update);
        let name = edge.name.clone();
        for fault in faults {
            let invariant = match &fault {
                Fault::Unusable(_) => "edges take what is right",
                Fault::Dangles(..) => "nothing dangles",
                Fault::Older { .. } if self.holds_a_backup() => continue,
                Fault::Older { .. } => "no edge goes back in time",
            };
            self.fail(invariant, format!("edge {name}: {fault}"));
        }
        self.check_withdrawn(index, &before, was_in_step);
    }

    /// A person put a backup back, and hosts are held since: they keep the form that the backup has.
    fn holds_a_backup(&self) -> bool {
        let mut cores = self.replicas.iter().filter_map(|replica| replica.core());
        self.faults.contains_key("backup restored") && cores.any(|core| core.guard().held().next().is_some())
    }

    /// Nothing vanishes from an edge that is in its cluster all the time, and no cluster loses its last part only because
    /// lists lacked it, unless a person decided.
    fn check_withdrawn(&mut self, index: usize, before: &BTreeMap<(ClusterId, ObjectName), u64>, was_in_step: bool) {
        let edge = &self.edges[index];
        let Some(running) = &edge.running else { return };
        let (now, name) = (running.mirror.ingresses(), edge.name.clone());
        let gone = || before.iter().filter(|(key, _)| !now.contains_key(*key) && !self.moved.contains(&key.0));
        let still_there = gone().find(|((id, ingress), version)| {
            let cluster = self.clusters.iter().find(|cluster| cluster.id == *id);
            cluster.is_some_and(|cluster| cluster.is_unchanged_since(ingress, **version))
        });
        let still_there =
            still_there.map(|((cluster, ingress), version)| format!("{ingress} of {cluster} in version {version}"));
        let emptied = gone().map(|((cluster, _), _)| cluster).find(|cluster| {
            let is_own = |key: &&(ClusterId, ObjectName)| key.0 == **cluster;
            let is_inferred = |((id, ingress), version): (&(ClusterId, ObjectName), &u64)| {
                let key = (id.clone(), ObjectKey { kind: Kind::Ingress, name: ingress.clone() });
                // An Update that was on its way for long knew nothing of it.
                let is_heard = self.inferred.get(&key).is_some_and(|at| *at <= edge.heard_due);
                // A held host may show a version whose successor left it by itself.
                let mut clusters = self.clusters.iter().filter(|cluster| cluster.id == *id);
                is_heard && clusters.all(|cluster| cluster.is_last_version(ingress, *version))
            };
            !now.keys().any(|key| is_own(&key)) && before.iter().filter(|(key, _)| is_own(key)).all(is_inferred)
        });
        // What an edge missed while it was away was decided then; so was what a backup lacks that a person adopted.
        let is_decided = self.approved || self.faults.contains_key("backup restored");
        let is_unseen = |cluster: &&ClusterId| was_in_step && !is_decided && !self.classless.contains(*cluster);
        let emptied = emptied.filter(is_unseen).cloned();
        if let Some(what) = still_there {
            self.fail("nothing vanishes that is there", format!("edge {name} lost {what}"));
        }
        if let Some(cluster) = emptied {
            self.fail("nothing is emptied without a decision", format!("edge {name} lost all of {cluster}"));
        }
    }

    /// What an edge says about positions never goes back within a world.
    fn check_positions(&mut self, index: usize) {
        let Some(running) = &mut self.edges[index].running else { return };
        let position = |entry: &wire::ClusterPosition| {
            (entry.cluster.clone(), (entry.incarnation, position_from_wire(entry.position)))
        };
        let now = running.machine.holdings().positions().to_wire().clusters.iter().map(position).collect();
        let before = std::mem::replace(&mut running.positions, now);
        let is_back = |(cluster, (line, at)): &(&String, &(u64, Position))| {
            running.positions.get(*cluster).is_none_or(|(line_now, now)| line_now == line && now < at)
        };
        let back = before.iter().find(is_back).filter(|_| self.options.broken != Some(Broken::PositionCheck));
        if let Some((cluster, (_, before))) = back {
            let detail = format!("edge {index}: {cluster} was at {before}");
            self.fail("positions of an edge only grow", detail);
        }
    }

    /// Edges count from their start.
    fn edge_time(&self, index: usize) -> Duration {
        Duration::from_millis(self.now - self.edges[index].started)
    }
}
