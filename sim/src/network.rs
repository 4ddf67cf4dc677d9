//! Connections between processes: in order, late, sometimes stuck, sometimes gone.
//!
//! A link carries messages both ways, each way a FIFO. A partition holds everything up, as TCP does, until it heals or
//! one end gives up; a cut loses what is on its way and tells both ends, each in its own time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roadstead_proto::wire;

use crate::agenda::{Ms, Node};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkId(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Who dialled.
    Client,
    Replica,
}

#[derive(Clone, Debug)]
pub enum Parcel {
    FromAgent(wire::AgentMessage),
    ToAgent(wire::ControllerMessage),
    FromEdge(wire::EdgeMessage),
    ToEdge(wire::ConfigMessage),
    FromPeer(wire::PeerMessage),
    ToPeer(wire::PeerAnswer),
    /// The other end closed the connection.
    Over,
}

pub struct Link {
    pub client: Node,
    pub replica: usize,
    /// What the client says first.
    pub hello: Option<Box<wire::EdgeMessage>>,
    client_open: bool,
    replica_open: bool,
    /// Nothing gets through any more, but the ends do not know it yet.
    dead: bool,
    up: Pipe,
    down: Pipe,
}

#[derive(Default)]
struct Pipe {
    parcels: VecDeque<(Ms, Parcel)>,
    last: Ms,
}

#[derive(Default)]
pub struct Network {
    links: BTreeMap<LinkId, Link>,
    count: u64,
    partitions: BTreeSet<(Node, usize)>,
}

impl Network {
    pub fn dial(&mut self, client: Node, replica: usize, hello: Option<Box<wire::EdgeMessage>>) -> LinkId {
        self.count += 1;
        let id = LinkId(self.count);
        let link = Link {
            client,
            replica,
            hello,
            client_open: true,
            replica_open: false,
            dead: false,
            up: Pipe::default(),
            down: Pipe::default(),
        };
        self.links.insert(id, link);
        id
    }

    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    pub fn is_open(&self, id: LinkId, end: End) -> bool {
        self.links.get(&id).is_some_and(|link| match end {
            End::Client => link.client_open,
            End::Replica => link.replica_open,
        })
    }

    pub fn accept(&mut self, id: LinkId) -> Option<Box<wire::EdgeMessage>> {
        let link = self.links.get_mut(&id)?;
        link.replica_open = true;
        link.hello.take()
    }

    /// Puts a parcel on its way to `to`. Returns when it arrives, unless there is no such link.
    pub fn send(&mut self, id: LinkId, to: End, at: Ms, parcel: Parcel) -> Option<Ms> {
        let link = self.links.get_mut(&id).filter(|link| !link.dead)?;
        let pipe = match to {
            End::Client => &mut link.down,
            End::Replica => &mut link.up,
        };
        pipe.last = pipe.last.max(at);
        pipe.parcels.push_back((at, parcel));
        Some(pipe.last)
    }

    /// The oldest parcel on its way to an end that still listens, and when it was to arrive.
    pub fn take(&mut self, id: LinkId, to: End) -> Option<(Ms, Parcel)> {
        let link = self.links.get_mut(&id)?;
        let (pipe, listens) = match to {
            End::Client => (&mut link.down, link.client_open),
            End::Replica => (&mut link.up, link.replica_open),
        };
        pipe.parcels.pop_front().filter(|_| listens)
    }

    /// One end neither hears nor says anything any more. Returns whether it was open.
    pub fn close(&mut self, id: LinkId, end: End) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let was_open = match end {
            End::Client => std::mem::replace(&mut link.client_open, false),
            End::Replica => std::mem::replace(&mut link.replica_open, false),
        };
        if !link.client_open && !link.replica_open {
            self.links.remove(&id);
        }
        was_open
    }

    /// Loses everything that is on its way and whatever is still said.
    pub fn lose(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.dead = true;
            link.up.parcels.clear();
            link.down.parcels.clear();
        }
    }

    pub fn links(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    pub fn partition(&mut self, node: Node, replica: usize) {
        self.partitions.insert((node, replica));
    }

    pub fn heal(&mut self) {
        self.partitions.clear();
    }

    pub fn partitions(&self) -> &BTreeSet<(Node, usize)> {
        &self.partitions
    }

    pub fn heal_one(&mut self, node: Node, replica: usize) {
        self.partitions.remove(&(node, replica));
    }

    pub fn is_stuck(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(|link| self.partitions.contains(&(link.client, link.replica)))
    }

    /// Who is at this end.
    pub fn node(&self, id: LinkId, end: End) -> Option<Node> {
        let link = self.links.get(&id)?;
        Some(match end {
            End::Client => link.client,
            End::Replica => Node::Replica(link.replica),
        })
    }
}
