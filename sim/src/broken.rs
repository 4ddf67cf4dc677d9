//! Rules of the system that a test can break on purpose, to prove that the simulation would notice. Broken is never the
//! system's own code: messages are changed on their way, or the model of the database or of the Kubernetes API errs.

use roadstead_proto::wire;
use roadstead_proto::wire::agent_message::Message as FromAgent;
use roadstead_proto::wire::config_message::Message as ToEdge;
use roadstead_proto::wire::edge_message::Message as FromEdge;

use crate::dice::Dice;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// The database takes every commit, whatever its epoch.
    Fencing,
    /// Edges neither say nor hear how far they are in a cluster's history.
    PositionCheck,
    /// A list that breaks half-way counts as complete.
    FailedListIsComplete,
    /// Controllers hear that a commit is durable when it is sent.
    DurableBeforeCommit,
    /// Some removals seen live get lost between agent and controller.
    RemovalsArrive,
    /// Hosts reach edges before the backends that they use.
    BackendsFirst,
    /// No guard, neither at controllers nor at edges.
    Guard,
}

impl Broken {
    pub const ALL: [Broken; 7] = [
        Broken::Fencing,
        Broken::PositionCheck,
        Broken::FailedListIsComplete,
        Broken::DurableBeforeCommit,
        Broken::RemovalsArrive,
        Broken::BackendsFirst,
        Broken::Guard,
    ];
}

/// Loses some removals of a message, if that is what is broken.
pub fn from_agent(broken: Option<Broken>, message: &mut wire::AgentMessage, dice: &mut Dice) {
    if broken == Some(Broken::RemovalsArrive)
        && let Some(FromAgent::Delta(delta)) = &mut message.message
    {
        delta.removals.retain(|removal| removal.cause() != wire::RemovalCause::Deleted || !dice.percent(25));
    }
}

pub fn from_edge(broken: Option<Broken>, message: &mut wire::EdgeMessage) {
    if broken == Some(Broken::PositionCheck)
        && let Some(FromEdge::Hello(hello)) = &mut message.message
    {
        hello.positions = None;
    }
}

/// What an edge gets to see of a message, in order. Of several, only the last one's answer counts.
pub fn to_edge(broken: Option<Broken>, mut message: wire::ConfigMessage) -> Vec<wire::ConfigMessage> {
    let Some(ToEdge::Update(update)) = &mut message.message else { return vec![message] };
    match broken {
        Some(Broken::PositionCheck) => update.positions = None,
        Some(Broken::BackendsFirst) => {
            let is_host = |upsert: &wire::ResourceUpsert| {
                matches!(upsert.resource, Some(wire::resource_upsert::Resource::Host(_)))
            };
            let (hosts, others) = std::mem::take(&mut update.upserts).into_iter().partition(is_host);
            let first = wire::Update { upserts: hosts, removals: Vec::new(), synced: false, ..update.clone() };
            update.upserts = others;
            let first = wire::ConfigMessage { message: Some(ToEdge::Update(first)) };
            return vec![first, message];
        }
        Some(
            Broken::Fencing
            | Broken::FailedListIsComplete
            | Broken::DurableBeforeCommit
            | Broken::RemovalsArrive
            | Broken::Guard,
        )
        | None => {}
    }
    vec![message]
}
