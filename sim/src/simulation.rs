//! One history: processes, network, clusters and database under one clock, and the loop that makes time pass.
//!
//! A seed → random steps, each followed by some virtual time; then everything heals and must come to rest; then what
//! everybody holds is compared with the truth. Invariants are looked at all the time; the first violation ends it.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::id::{ClusterId, ObjectKey, PoolName};
use roadstead_routing::policy::Policy;

use crate::acks::Acks;
use crate::agenda::{Agenda, Event, Ms, Node};
use crate::agent::AgentNode;
use crate::broken::Broken;
use crate::cluster::Cluster;
use crate::database::Database;
use crate::dice::Dice;
use crate::edge::EdgeNode;
use crate::network::{End, LinkId, Network, Parcel};
use crate::objects::POOLS;
use crate::orphans::Orphans;
use crate::replica::Replica;
use crate::trace::{Keep, Trace};

/// Real controllers count from the Unix epoch; so does virtual time, from here.
pub const STARTED_MS: u64 = 1_700_000_000_000;
/// Everything must be at rest this long after healing.
pub const QUIET_WITHIN: Ms = 240_000;
/// Nothing but heartbeats for this long is rest: longer than any pause between two attempts.
const QUIET_FOR: Ms = 6_500;

/// Approving may show what could not be seen before; but not often.
const APPROVALS_MAX: usize = 4;
/// The expensive invariants are looked at every so many steps.
const CHECK_EVERY: u32 = 8;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    /// Before everything heals.
    pub steps: u32,
    pub keep: Keep,
    pub broken: Option<Broken>,
    /// Controllers. 0: one to three, by the seed.
    pub replicas: usize,
}

impl Options {
    pub fn new(seed: u64) -> Self {
        Self { seed, steps: 100, keep: Keep::Last, broken: None, replicas: 0 }
    }
}

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub invariant: &'static str,
    pub detail: String,
    /// The step after which it was seen; the number of steps: after healing.
    pub step: u32,
    pub at: Ms,
}

pub struct Outcome {
    pub seed: u64,
    pub violation: Option<Violation>,
    pub steps: u32,
    pub faults: BTreeMap<&'static str, u64>,
    pub hash: u64,
    pub lines: Vec<String>,
}

pub struct Simulation {
    pub options: Options,
    pub now: Ms,
    pub step: u32,
    pub agenda: Agenda,
    pub dice: Dice,
    pub trace: Trace,
    pub network: Network,
    pub clusters: Vec<Cluster>,
    pub agents: Vec<AgentNode>,
    pub replicas: Vec<Replica>,
    pub edges: Vec<EdgeNode>,
    pub database: Database,
    pub database_away: bool,
    /// Commits take seconds.
    pub database_slow: bool,
    pub backups: Vec<Database>,
    pub orphans: Orphans,
    pub policy: Policy,
    pub acks: Acks,
    /// Ingresses that were last reported gone because a list lacked them, and when.
    pub inferred: BTreeMap<(ClusterId, ObjectKey), Ms>,
    /// Clusters of which somebody saw a class being deleted: all its Ingresses may go with it.
    pub classless: BTreeSet<ClusterId>,
    /// Clusters whose life a person changed: what leaves a table may be meant.
    pub moved: BTreeSet<ClusterId>,
    pub paused: BTreeMap<Node, Ms>,
    /// When something other than heartbeats happened last.
    pub active_at: Ms,
    /// A person approves whatever is held.
    pub approved: bool,
    pub faults: BTreeMap<&'static str, u64>,
    pub violation: Option<Violation>,
}

impl Simulation {
    /// `policy` is [`crate::objects::POLICY`], parsed.
    pub fn new(options: Options, policy: Policy) -> Self {
        let mut dice = Dice::new(options.seed);
        let replicas = if options.replicas == 0 { dice.between(1, 3) as usize } else { options.replicas };
        let clusters: Vec<Cluster> = (0..dice.between(2, 3)).map(|index| Cluster::new(&format!("c{index}"))).collect();
        let mut agents: Vec<AgentNode> = (0..clusters.len()).map(|index| AgentNode::new(index, "a")).collect();
        if dice.percent(25) {
            agents.push(AgentNode::new(0, "b"));
        }
        let second = if dice.percent(30) { POOLS[1] } else { POOLS[0] };
        let edges = [POOLS[0], second].into_iter().enumerate();
        let edges = edges.map(|(index, pool)| EdgeNode::new(PoolName::from(pool), &format!("e{index}"))).collect();
        Self {
            now: 0,
            step: 0,
            agenda: Agenda::default(),
            trace: Trace::new(options.keep),
            network: Network::default(),
            agents,
            replicas: (0..replicas).map(|_| Replica::default()).collect(),
            edges,
            database: Database::new(u128::from(options.seed) + 1, options.broken != Some(Broken::Fencing)),
            database_away: false,
            database_slow: false,
            backups: Vec::new(),
            orphans: Orphans::default(),
            policy,
            acks: Acks::default(),
            inferred: BTreeMap::new(),
            classless: BTreeSet::new(),
            moved: BTreeSet::new(),
            paused: BTreeMap::new(),
            active_at: 0,
            approved: false,
            faults: BTreeMap::new(),
            violation: None,
            clusters,
            dice,
            options,
        }
    }

    /// The whole history, or as much of it as there is until something is wrong.
    pub fn play(&mut self) {
        self.begin();
        while self.step < self.options.steps && self.violation.is_none() {
            self.step += 1;
            self.take_step();
            let pause = if self.dice.percent(8) { self.dice.between(2_000, 9_000) } else { self.dice.between(0, 400) };
            self.advance(self.now + pause);
            if self.step.is_multiple_of(CHECK_EVERY) {
                self.check_tables();
            }
        }
        self.finish();
    }

    pub fn into_outcome(self) -> Outcome {
        Outcome {
            seed: self.options.seed,
            violation: self.violation,
            steps: self.step,
            faults: self.faults,
            hash: self.trace.hash(),
            lines: self.trace.into_lines(),
        }
    }

    /// Heals everything, waits for rest, lets a person approve what is held, compares.
    fn finish(&mut self) {
        self.heal();
        if !self.rest() {
            return;
        }
        self.approved = true;
        for _ in 0..APPROVALS_MAX {
            if !self.approve_holds() {
                return self.compare();
            }
            if !self.rest() {
                return;
            }
        }
        self.fail("decisions take effect", format!("after {APPROVALS_MAX} approvals something is still held"));
    }

    /// Lets time pass until nothing happens any more. Returns whether that came to be without a violation.
    fn rest(&mut self) -> bool {
        let deadline = self.now + QUIET_WITHIN;
        self.active_at = self.now;
        while self.violation.is_none() {
            self.advance(self.now + 500);
            if self.now >= self.active_at + QUIET_FOR && self.restless().is_none() {
                return true;
            }
            if self.now >= deadline {
                let why = self.restless().unwrap_or_else(|| "something keeps happening".to_owned());
                self.fail("comes to rest", format!("not within {} s after healing: {why}", QUIET_WITHIN / 1_000));
            }
        }
        false
    }

    /// Makes time pass, with everything that is due until then.
    pub fn advance(&mut self, until: Ms) {
        while self.violation.is_none() {
            let Some((at, event)) = self.agenda.next(until) else { break };
            self.now = self.now.max(at);
            match self.node_of(&event).and_then(|node| self.paused.get(&node)).copied() {
                Some(resumes) if resumes > self.now => self.agenda.plan(resumes, event),
                Some(_) | None => self.happen(event),
            }
        }
        self.now = self.now.max(until);
    }

    pub fn plan(&mut self, after: Ms, event: Event) {
        self.agenda.plan(self.now + after, event);
    }

    /// As controllers and the database count.
    pub fn unix_ms(&self) -> u64 {
        STARTED_MS + self.now
    }

    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    /// The first violation counts.
    pub fn fail(&mut self, invariant: &'static str, detail: String) {
        if self.violation.is_none() {
            self.note(format_args!("VIOLATION {invariant}: {detail}"));
            self.violation = Some(Violation { invariant, detail, step: self.step, at: self.now });
        }
    }

    /// A fault or repair is injected now.
    pub fn fault(&mut self, kind: &'static str, detail: std::fmt::Arguments<'_>) {
        *self.faults.entry(kind).or_default() += 1;
        self.trace.note(self.now, format_args!("== {kind} {detail}"));
    }

    /// Says something on a link. Nothing happens if the link is gone.
    pub fn send(&mut self, link: LinkId, to: End, parcel: Parcel) {
        let at = self.now + self.dice.between(1, 30);
        if let Some(at) = self.network.send(link, to, at, parcel) {
            self.agenda.plan(at, Event::Deliver { link, to });
        }
    }

    /// One end closes; the other will notice, once what is on its way has arrived.
    pub fn hang_up(&mut self, link: LinkId, end: End) {
        let other = match end {
            End::Client => End::Replica,
            End::Replica => End::Client,
        };
        if self.network.is_open(link, other) {
            self.send(link, other, Parcel::Over);
        }
        self.network.close(link, end);
        self.active_at = self.now;
    }

    fn begin(&mut self) {
        for replica in 0..self.replicas.len() {
            self.plan(0, Event::Start(Node::Replica(replica)));
        }
        for edge in 0..self.edges.len() {
            self.plan(5, Event::Start(Node::Edge(edge)));
        }
        self.first_objects();
        for agent in 0..self.agents.len() {
            self.plan(10, Event::Start(Node::Agent(agent)));
        }
        let settle = self.dice.between(0, 3_000);
        self.advance(settle);
    }

    /// Whose event it is: it waits while that process is paused.
    fn node_of(&self, event: &Event) -> Option<Node> {
        match event {
            Event::Deliver { link, to } => self.network.node(*link, *to),
            Event::Broken { link, end } => self.network.node(*link, *end),
            Event::AgentPoll { agent, .. }
            | Event::AgentDial { agent, .. }
            | Event::Watch { agent, .. }
            | Event::Bookmark { agent, .. }
            | Event::StatusWritten { agent, .. } => Some(Node::Agent(*agent)),
            Event::Turn { replica, .. }
            | Event::Tick { replica, .. }
            | Event::PolicyKnown { replica, .. }
            | Event::News { replica, .. }
            | Event::PeerDial { replica, .. } => Some(Node::Replica(*replica)),
            // The network and the database do not pause with a process.
            Event::Opened(link) => self.network.link(*link).map(|link| Node::Replica(link.replica)),
            Event::Store { .. } | Event::Beat { .. } | Event::Orphan(_) | Event::Start(_) => None,
            Event::EdgeWake { edge, .. } => Some(Node::Edge(*edge)),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(Node::Agent(agent)) => self.agent_start(agent),
            Event::Start(Node::Replica(replica)) => self.replica_start(replica),
            Event::Start(Node::Edge(edge)) => self.edge_start(edge),
            Event::Deliver { link, to } => self.deliver(link, to),
            Event::Opened(link) => self.opened(link),
            Event::Broken { link, end } => self.broken(link, end),
            Event::AgentPoll { agent, life } => self.agent_poll(agent, life),
            Event::AgentDial { agent, life } => self.agent_dial(agent, life),
            Event::Watch { agent, life, kind } => self.watch(agent, life, kind),
            Event::Bookmark { agent, life, kind } => self.bookmark(agent, life, kind),
            Event::StatusWritten { agent, life, write } => self.status_written(agent, life, &write),
            Event::Turn { replica, life } => self.turn(replica, life),
            Event::Tick { replica, life } => self.tick(replica, life),
            Event::Store { replica, life } => self.store(replica, life),
            Event::PolicyKnown { replica, life } => self.policy_known(replica, life),
            Event::Beat { replica, life } => self.beat_lands(replica, life),
            Event::News { replica, life } => self.news_arrives(replica, life),
            Event::PeerDial { replica, life, to } => self.peer_dial(replica, life, to),
            Event::Orphan(number) => self.orphan(number),
            Event::EdgeWake { edge, life } => self.edge_wake(edge, life),
        }
    }

    fn deliver(&mut self, link: LinkId, to: End) {
        if self.network.is_stuck(link) {
            return self.plan(200, Event::Deliver { link, to });
        }
        let Some(client) = self.network.node(link, End::Client) else { return };
        let Some((due, parcel)) = self.network.take(link, to) else { return };
        match (client, to, parcel) {
            (_, _, Parcel::Over) => self.broken(link, to),
            (Node::Agent(agent), End::Client, Parcel::ToAgent(message)) => self.agent_hears(agent, link, message),
            (Node::Edge(edge), End::Client, Parcel::ToEdge(message)) => self.edge_hears(edge, link, due, message),
            (Node::Replica(peer), End::Client, Parcel::ToPeer(message)) => self.report_hears(peer, link, message),
            (_, End::Replica, parcel) => self.replica_hears(link, parcel),
            (..) => self.fail("simulation", "a parcel went astray".to_owned()),
        }
    }

    /// A dialled connection is made, if there is somebody.
    fn opened(&mut self, link: LinkId) {
        let Some((client, replica)) = self.network.link(link).map(|link| (link.client, link.replica)) else { return };
        if !self.network.is_open(link, End::Client) {
            return;
        }
        if self.network.is_stuck(link) || !self.replicas[replica].is_up() {
            let patience = self.dice.between(50, 1_000);
            return self.plan(patience, Event::Broken { link, end: End::Client });
        }
        self.active_at = self.now;
        let hello = self.network.accept(link);
        self.replica_accepts(replica, link, client);
        match client {
            Node::Agent(agent) => self.agent_connected(agent),
            Node::Edge(edge) => self.edge_connected(edge, link, hello),
            Node::Replica(peer) => self.report_connected(peer, link, replica),
        }
    }

    /// This end learns that the connection is over.
    pub fn broken(&mut self, link: LinkId, end: End) {
        if end == End::Replica && self.network.is_stuck(link) {
            return self.plan(300, Event::Broken { link, end });
        }
        let Some(node) = self.network.node(link, end) else { return };
        let client = self.network.node(link, End::Client);
        if !self.network.close(link, end) {
            return;
        }
        self.active_at = self.now;
        match (node, client) {
            (Node::Agent(agent), _) => self.agent_lost(agent, link),
            (Node::Edge(edge), _) => self.edge_lost(edge, link),
            (Node::Replica(peer), _) if end == End::Client => self.report_lost(peer, link),
            (Node::Replica(replica), Some(client)) => self.replica_lost(replica, link, client),
            (Node::Replica(_), None) => {}
        }
    }

    /// A process is gone: whoever is at the other ends of its links will notice.
    pub fn drop_links(&mut self, of: Node) {
        let own: Vec<(LinkId, End)> = self
            .network
            .links()
            .flat_map(|(id, link)| {
                let client = (link.client == of).then_some((id, End::Client));
                let replica = (Node::Replica(link.replica) == of).then_some((id, End::Replica));
                client.into_iter().chain(replica)
            })
            .collect();
        for (link, end) in own {
            self.network.lose(link);
            let other = if end == End::Client { End::Replica } else { End::Client };
            if self.network.is_open(link, other) {
                let delay = self.dice.between(1, 600);
                self.plan(delay, Event::Broken { link, end: other });
            }
            self.network.close(link, end);
        }
    }
}
