//! The sending half of one stream: a bounded queue that never waits, and the switch that stops its reader.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::core::message::Close;

/// Messages that may wait for an agent: its first synchronisation takes a few dozen.
pub const AGENT_QUEUE_MAX: usize = 512;
/// Messages that may wait for an edge: a window of Updates and some heartbeats.
pub const EDGE_QUEUE_MAX: usize = 64;

/// Messages that may wait for another replica: the differences of many clusters at once.
pub const PEER_QUEUE_MAX: usize = 4_096;

pub struct Link<T> {
    messages: mpsc::Sender<Result<T, Status>>,
    /// Cancelled when the stream is over, so that its reader ends too.
    over: CancellationToken,
}

/// The peer is gone or does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost;

impl<T> Link<T> {
    pub fn new(messages: mpsc::Sender<Result<T, Status>>, over: CancellationToken) -> Self {
        Self { messages, over }
    }

    /// # Errors
    /// If the queue is full or the peer is gone. The link is of no use then.
    pub fn send(&self, message: T) -> Result<(), Lost> {
        self.messages.try_send(Ok(message)).map_err(|_| Lost)
    }

    /// Ends the stream with a reason. If the queue is full the peer sees a broken stream instead.
    pub fn close(self, status: Status) {
        let _ = self.messages.try_send(Err(status));
    }
}

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// As the peer sees it.
pub fn status_of(why: &Close) -> Status {
    let code = match why {
        Close::Identity { .. } => Code::PermissionDenied,
        Close::OtherCluster { .. } | Close::OtherWorld { .. } => Code::FailedPrecondition,
        Close::Protocol(_) => Code::InvalidArgument,
        Close::Silent => Code::DeadlineExceeded,
        Close::Fenced | Close::Replaced | Close::Adopted => Code::Aborted,
        Close::Limit(_) => Code::ResourceExhausted,
        Close::Store(_) => Code::Unavailable,
    };
    Status::new(code, why.to_string())
}
