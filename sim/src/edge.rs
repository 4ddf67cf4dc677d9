//! Edges: the real conversation, holdings and live table, with a disk that forgets what was not yet synced.

use std::sync::Arc;
use std::time::Duration;

use roadstead_edge::last_good::journal::Replayed;
use roadstead_edge::subscribe::holdings::Holdings;
use roadstead_edge::subscribe::machine::{Input, Introduction, Machine, Output};
use roadstead_edge::table::{LiveTable, TableWriter};
use roadstead_proto::wire;
use roadstead_routing::endpoints::Locality;
use roadstead_routing::id::{PoolName, Position};
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
}

pub struct Running {
    pub machine: Machine,
    pub table: Arc<LiveTable>,
    pub mirror: Mirror,
    positions: Vec<(String, Position)>,
    incarnation: u64,
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
        let mut holdings = Holdings::new(edge.pool.clone(), TableWriter::new(table.clone(), Locality::default()));
        holdings.replay(Replayed { same_build: true, updates: edge.synced.clone(), bytes_lost: 0 });
        let mut mirror = Mirror::default();
        for update in &edge.synced {
            mirror.apply(update, |_, _| false);
        }
        let introduction =
            Introduction { edge: edge.name.clone(), pool: edge.pool.to_string(), ..Introduction::default() };
        let machine = Machine::new(introduction, holdings, controllers, seed);
        edge.running = Some(Running { machine, table, mirror, positions: Vec::new(), incarnation: 0 });
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

    pub fn edge_hears(&mut self, index: usize, link: LinkId, message: wire::ConfigMessage) {
        if self.edges[index].link != Some(link) {
            return;
        }
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
            // Histories have nothing that an edge should refuse, but for what is old.
            && !refusal.reason.starts_with("older than held")
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
        let faults = edge.running.as_mut().map(|running| running.mirror.apply(&update, is_gone)).unwrap_or_default();
        edge.written.push(update);
        let name = edge.name.clone();
        for fault in faults {
            let invariant = match &fault {
                Fault::Unusable(_) => "edges take what is right",
                Fault::Dangles(..) => "nothing dangles",
                Fault::Older { what, .. } if self.avoids_known() && self.is_known(what.cluster()) => continue,
                Fault::Older { .. } => "no edge goes back in time",
            };
            self.fail(invariant, format!("edge {name}: {fault}"));
        }
    }

    /// What an edge says about positions never goes back within a world.
    fn check_positions(&mut self, index: usize) {
        let Some(running) = &mut self.edges[index].running else { return };
        let holdings = running.machine.holdings();
        let now: Vec<(String, Position)> =
            holdings.positions().clusters().map(|(cluster, at)| (cluster.to_owned(), at)).collect();
        let incarnation = holdings.world().map_or(0, |world| world.to_wire().incarnation);
        let is_same_line = std::mem::replace(&mut running.incarnation, incarnation) == incarnation;
        let before = std::mem::replace(&mut running.positions, now);
        let at = |cluster: &str| running.positions.iter().find(|(id, _)| id == cluster).map(|(_, at)| *at);
        let back = before.iter().find(|(cluster, before)| at(cluster).is_none_or(|now| now < *before));
        if let Some((cluster, before)) =
            back.filter(|_| is_same_line && self.options.broken != Some(Broken::PositionCheck))
        {
            let detail = format!("edge {index}: {cluster} was at {before}");
            self.fail("positions of an edge only grow", detail);
        }
    }

    /// Edges count from their start.
    fn edge_time(&self, index: usize) -> Duration {
        Duration::from_millis(self.now - self.edges[index].started)
    }
}
