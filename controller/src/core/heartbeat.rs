//! When it is time to tell peers that this controller lives.

use roadstead_proto::wire;

use crate::ingest::HEARTBEAT_EVERY_MS;

#[derive(Default)]
pub struct Heartbeats {
    seq: u64,
    next_at_ms: u64,
}

impl Heartbeats {
    /// The heartbeat to send to every peer now; `None` if it is not time yet.
    pub fn due(&mut self, now_ms: u64) -> Option<wire::Heartbeat> {
        if now_ms < self.next_at_ms {
            return None;
        }
        self.next_at_ms = now_ms + HEARTBEAT_EVERY_MS;
        self.seq += 1;
        Some(wire::Heartbeat { seq: self.seq })
    }
}
