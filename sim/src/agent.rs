//! Agents: the real core, with a model of the watches and of the dialling around it.

use std::time::Duration;

use roadstead_agent::core::{Core, Input, Output};
use roadstead_agent::reduce::Observation;
use roadstead_agent::session::Introduction;
use roadstead_agent::status::StatusWrite;
use roadstead_proto::wire;
use roadstead_routing::id::Kind;
use wire::agent_message::Message as Said;

use crate::agenda::{Event, Ms, Node};
use crate::broken::{self, Broken};
use crate::cluster::Watch;
use crate::network::{End, LinkId, Parcel};
use crate::simulation::Simulation;
use crate::words;

const POLL_EVERY: Ms = 1_000;
const BOOKMARK_EVERY: Ms = 2_000;
const RETRY_MIN: Ms = 100;
const RETRY_MAX: Ms = 5_000;

pub struct AgentNode {
    pub cluster: usize,
    name: String,
    life: u32,
    started: Ms,
    /// `None`: not running.
    core: Option<Core>,
    watches: [Watch; Kind::ALL.len()],
    link: Option<LinkId>,
    failures: u32,
    next_controller: usize,
}

impl AgentNode {
    /// `role` tells apart the agents of one cluster.
    pub fn new(cluster: usize, role: &str) -> Self {
        Self {
            cluster,
            name: format!("agent {role} of c{cluster}"),
            life: 0,
            started: 0,
            core: None,
            watches: Default::default(),
            link: None,
            failures: 0,
            next_controller: 0,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why it is not at rest.
    pub fn restless(&self) -> Option<&'static str> {
        let Some(core) = &self.core else { return Some("is not running") };
        let session = core.session();
        if !self.watches.iter().all(Watch::is_watching) {
            Some("is not watching everything")
        } else if !Kind::ALL.iter().all(|kind| core.reducer().complete(*kind)) {
            Some("does not know yet what is gone")
        } else if !session.is_synced() && !session.is_standing_by() {
            Some("is neither in step with a controller nor standing by")
        } else if session.unacked() > 0 {
            Some("waits for acknowledgements")
        } else {
            None
        }
    }
}

impl Simulation {
    pub fn agent_start(&mut self, index: usize) {
        let (now, agent) = (self.now, &mut self.agents[index]);
        if agent.core.is_some() {
            return;
        }
        let cluster = &self.clusters[agent.cluster];
        agent.life += 1;
        agent.started = now;
        agent.watches = Default::default();
        agent.failures = 0;
        agent.core = Some(Core::new(Introduction {
            cluster: cluster.id.to_string(),
            agent: format!("{} {}", agent.name, agent.life),
            cluster_uid: cluster.uid.clone(),
            ..Introduction::default()
        }));
        let (life, name) = (agent.life, agent.name.clone());
        self.note(format_args!("{name} starts"));
        for kind in Kind::ALL {
            let delay = self.dice.between(0, 50);
            self.plan(delay, Event::Watch { agent: index, life, kind });
            self.plan(delay + BOOKMARK_EVERY, Event::Bookmark { agent: index, life, kind });
        }
        self.plan(0, Event::AgentDial { agent: index, life });
        self.plan(POLL_EVERY, Event::AgentPoll { agent: index, life });
    }

    pub fn agent_crash(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        agent.core = None;
        agent.link = None;
        agent.life += 1;
        self.drop_links(Node::Agent(index));
    }

    pub fn agent_poll(&mut self, index: usize, life: u32) {
        if self.agents[index].life == life {
            self.agent_acts(index);
            self.plan(POLL_EVERY, Event::AgentPoll { agent: index, life });
        }
    }

    pub fn agent_dial(&mut self, index: usize, life: u32) {
        let controllers = self.replicas.len();
        let agent = &mut self.agents[index];
        if agent.life != life || agent.link.is_some() {
            return;
        }
        let replica = agent.next_controller % controllers;
        agent.next_controller += 1;
        let link = self.network.dial(Node::Agent(index), replica, None);
        agent.link = Some(link);
        let delay = self.dice.between(1, 60);
        self.plan(delay, Event::Opened(link));
    }

    pub fn agent_connected(&mut self, index: usize) {
        self.agent_input(index, Input::Connected);
    }

    pub fn agent_lost(&mut self, index: usize, link: LinkId) {
        if self.agents[index].link != Some(link) {
            return;
        }
        self.agents[index].link = None;
        let name = self.agents[index].name.clone();
        self.note(format_args!("{name} lost its stream"));
        self.agent_input(index, Input::Disconnected);
        self.agent_redials(index);
    }

    pub fn agent_hears(&mut self, index: usize, link: LinkId, message: wire::ControllerMessage) {
        if self.agents[index].link != Some(link) {
            return;
        }
        if let Some(what) = words::to_agent(&message) {
            let name = self.agents[index].name.clone();
            self.note(format_args!("{name} ← {what}"));
            self.active_at = self.now;
        }
        self.agents[index].failures = 0;
        self.agent_input(index, Input::Received(message));
    }

    /// The Kubernetes API may have something for this watch.
    pub fn watch(&mut self, index: usize, life: u32, kind: Kind) {
        if self.agents[index].life != life || self.agents[index].core.is_none() {
            return;
        }
        let agent = &mut self.agents[index];
        let cluster = &mut self.clusters[agent.cluster];
        let (seen, again) = agent.watches[kind as usize - 1].step(kind, cluster, &mut self.dice);
        if let Some(delay) = again {
            self.plan(delay, Event::Watch { agent: index, life, kind });
        }
        if seen.is_empty() {
            return;
        }
        self.active_at = self.now;
        for mut observation in seen {
            if self.options.broken == Some(Broken::FailedListIsComplete)
                && matches!(&observation, Observation::Failed(failure) if failure.message.starts_with("500"))
            {
                observation = Observation::Listed;
            }
            let (name, what) = (self.agents[index].name.clone(), words::observation(&observation));
            self.note(format_args!("{name} sees {kind} {what}"));
            let now = self.agent_time(index);
            if let Some(core) = &mut self.agents[index].core {
                core.handle(now, Input::Observed(kind, observation));
            }
        }
        self.agent_acts(index);
    }

    pub fn bookmark(&mut self, index: usize, life: u32, kind: Kind) {
        let agent = &self.agents[index];
        if agent.life != life {
            return;
        }
        self.plan(BOOKMARK_EVERY, Event::Bookmark { agent: index, life, kind });
        let agent = &self.agents[index];
        if agent.watches[kind as usize - 1].is_current(kind, &self.clusters[agent.cluster]) {
            self.agent_input(index, Input::Observed(kind, Observation::Bookmark));
        }
    }

    pub fn status_written(&mut self, index: usize, life: u32, write: &StatusWrite) {
        if self.agents[index].life != life {
            return;
        }
        let cluster = self.agents[index].cluster;
        if self.clusters[cluster].write_status(write) {
            self.cluster_changed(cluster, Kind::Ingress);
        }
        self.agent_input(index, Input::StatusWritten(write.ingress.clone()));
    }

    /// A cluster has news of a kind: its agents will see it, each in its own time.
    pub fn cluster_changed(&mut self, cluster: usize, kind: Kind) {
        for agent in 0..self.agents.len() {
            if self.agents[agent].cluster == cluster {
                let (delay, life) = (self.dice.between(0, 150), self.agents[agent].life);
                self.plan(delay, Event::Watch { agent, life, kind });
            }
        }
    }

    fn agent_input(&mut self, index: usize, input: Input) {
        let now = self.agent_time(index);
        if let Some(core) = &mut self.agents[index].core {
            core.handle(now, input);
            self.agent_acts(index);
        }
    }

    /// Does what the core wants done.
    fn agent_acts(&mut self, index: usize) {
        let now = self.agent_time(index);
        let Some(core) = &mut self.agents[index].core else { return };
        for output in core.poll(now) {
            match output {
                Output::Send(message) => self.agent_says(index, message),
                Output::Disconnect(why) => self.agent_gives_up(index, &why),
                Output::WriteStatus(write) => {
                    let (delay, life) = (self.dice.between(5, 100), self.agents[index].life);
                    self.plan(delay, Event::StatusWritten { agent: index, life, write });
                }
                Output::CreateEvent(_) => {}
            }
        }
    }

    fn agent_says(&mut self, index: usize, mut message: wire::AgentMessage) {
        let Some(link) = self.agents[index].link else { return };
        if !matches!(message.message, Some(Said::Heartbeat(_))) {
            self.active_at = self.now;
        }
        broken::from_agent(self.options.broken, &mut message, &mut self.dice);
        self.send(link, End::Replica, Parcel::FromAgent(message));
    }

    fn agent_gives_up(&mut self, index: usize, why: &str) {
        let Some(link) = self.agents[index].link.take() else { return };
        let name = self.agents[index].name.clone();
        self.note(format_args!("{name} gives its stream up: {why}"));
        self.hang_up(link, End::Client);
        self.agent_redials(index);
    }

    fn agent_redials(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        let range = (RETRY_MIN << agent.failures.min(10)).min(RETRY_MAX);
        agent.failures += 1;
        let life = agent.life;
        let delay = self.dice.between(0, range);
        self.plan(delay, Event::AgentDial { agent: index, life });
    }

    /// Agents count from their start.
    fn agent_time(&self, index: usize) -> Duration {
        Duration::from_millis(self.now - self.agents[index].started)
    }
}
