//! What goes into the core and what comes out. Streams are named by numbers; the tasks that own the connections are
//! elsewhere (`serve`), so a simulation can stand in for them.

use roadstead_proto::wire;
use roadstead_routing::id::{ClusterId, PoolName};

use crate::policy::follow;
use crate::store::{Beat, News, ReplicaRow, queue, writer};

/// One gRPC stream, unique for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// One edge process, by its certificate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EdgeId {
    pub pool: PoolName,
    pub edge: String,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// An agent connected; `cluster` is what its certificate says.
    AgentOpened {
        stream: StreamId,
        cluster: ClusterId,
    },
    Agent {
        stream: StreamId,
        message: wire::AgentMessage,
    },
    AgentClosed {
        stream: StreamId,
    },
    /// An edge connected; `edge` is what its certificate says.
    EdgeOpened {
        stream: StreamId,
        edge: EdgeId,
    },
    Edge {
        stream: StreamId,
        message: wire::EdgeMessage,
    },
    EdgeClosed {
        stream: StreamId,
    },
    /// Another replica connected to report; `replica` is what its certificate says.
    PeerOpened {
        stream: StreamId,
        replica: String,
    },
    Peer {
        stream: StreamId,
        message: wire::PeerMessage,
    },
    PeerClosed {
        stream: StreamId,
    },
    /// This controller reached another replica, to report to it.
    ReportOpened {
        stream: StreamId,
        replica: String,
    },
    Report {
        stream: StreamId,
        message: wire::PeerAnswer,
    },
    ReportClosed {
        stream: StreamId,
    },
    Store(writer::Event),
    /// What other replicas wrote.
    News(Box<News>),
    Policy(follow::Event),
    /// Time passed, and everything that peers had said is handled.
    Tick,
    /// Time passed, but more waits to be handled: nothing can be told from a peer's silence.
    Busy,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    Agent {
        stream: StreamId,
        message: wire::ControllerMessage,
    },
    Edge {
        stream: StreamId,
        message: wire::ConfigMessage,
    },
    Peer {
        stream: StreamId,
        message: wire::PeerAnswer,
    },
    Report {
        stream: StreamId,
        message: wire::PeerMessage,
    },
    /// Report to exactly these replicas.
    Peers(Vec<ReplicaRow>),
    /// Once a second: to be said to the store, apart from everything that is written.
    Beat(Box<Beat>),
    /// End the stream. Nothing more is said on it, and nothing more is read from it.
    Close {
        stream: StreamId,
        why: Close,
    },
    Store(queue::Request),
}

/// Why a stream is ended, for the other end to log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Close {
    #[error("the message claims `{claimed}`, the certificate says `{certificate}`")]
    Identity { claimed: String, certificate: String },
    #[error(
        "this identity belongs to the cluster with kube-system uid {pinned}, not {presented}; check which certificate this agent uses"
    )]
    OtherCluster { pinned: String, presented: String },
    #[error("protocol error: {0}")]
    Protocol(String),
    #[error("no heartbeat within {} ms", crate::ingest::HEARTBEAT_TIMEOUT_MS)]
    Silent,
    #[error("another controller took this cluster over")]
    Fenced,
    #[error("this controller's database holds world {ours}, yours {theirs}")]
    OtherWorld { ours: String, theirs: String },
    #[error("the world was adopted: what everybody has is compared anew")]
    Adopted,
    #[error("a newer stream of the same peer replaced this one")]
    Replaced,
    #[error("{0}")]
    Limit(String),
    #[error("the database cannot take this cluster over: {0}")]
    Store(String),
}
