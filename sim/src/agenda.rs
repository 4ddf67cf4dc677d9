//! Virtual time: what happens when. Things due at the same millisecond happen in the order in which they were planned.

use std::collections::BTreeMap;

use roadstead_agent::status::StatusWrite;
use roadstead_routing::id::Kind;

use crate::network::{End, LinkId};

/// Milliseconds of virtual time since the history began.
pub type Ms = u64;

/// A process, by its index among its kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Node {
    Agent(usize),
    Replica(usize),
    Edge(usize),
}

/// Events of a process carry the `life` they were planned in: those of an earlier one come to nothing.
#[derive(Clone, Debug)]
pub enum Event {
    /// A process (re)starts.
    Start(Node),
    /// The next message of a link reaches this end.
    Deliver {
        link: LinkId,
        to: End,
    },
    /// A dialled connection is there, or cannot be made.
    Opened(LinkId),
    /// This end notices that the connection is gone.
    Broken {
        link: LinkId,
        end: End,
    },
    /// An agent does what time asks of it.
    AgentPoll {
        agent: usize,
        life: u32,
    },
    AgentDial {
        agent: usize,
        life: u32,
    },
    /// The Kubernetes API has something for one watch of an agent.
    Watch {
        agent: usize,
        life: u32,
        kind: Kind,
    },
    /// Time for a bookmark of one watch of an agent.
    Bookmark {
        agent: usize,
        life: u32,
        kind: Kind,
    },
    StatusWritten {
        agent: usize,
        life: u32,
        write: StatusWrite,
    },
    /// A controller handles what waits for it.
    Turn {
        replica: usize,
        life: u32,
    },
    Tick {
        replica: usize,
        life: u32,
    },
    /// A beat of a controller reaches the database.
    Beat {
        replica: usize,
        life: u32,
    },
    /// What the database answered to it reaches the controller.
    News {
        replica: usize,
        life: u32,
    },
    /// A controller dials another one, to report to it.
    PeerDial {
        replica: usize,
        life: u32,
        to: usize,
    },
    /// The database reached the next stage of what a controller's writer asked.
    Store {
        replica: usize,
        life: u32,
    },
    PolicyKnown {
        replica: usize,
        life: u32,
    },
    /// A transaction whose client is dead reaches the database after all.
    Orphan(u64),
    EdgeWake {
        edge: usize,
        life: u32,
    },
}

#[derive(Default)]
pub struct Agenda {
    planned: BTreeMap<(Ms, u64), Event>,
    count: u64,
}

impl Agenda {
    pub fn plan(&mut self, at: Ms, event: Event) {
        self.count += 1;
        self.planned.insert((at, self.count), event);
    }

    /// The next event that is due by `until`.
    pub fn next(&mut self, until: Ms) -> Option<(Ms, Event)> {
        let entry = self.planned.first_entry().filter(|entry| entry.key().0 <= until)?;
        let ((at, _), event) = entry.remove_entry();
        Some((at, event))
    }
}
