//! What follows from stored rows, the same for every [`super::Store`]: what a copy lacks, who is there, who is the clerk.
//! Pure; the stores do the reading and writing.

use roadstead_routing::id::Position;

use super::{ClusterRow, LEASE_MS, PRESENCE_MS};

/// What to read for somebody whose copy of a cluster is at `known`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    Nothing,
    Since(Position),
    Everything,
}

/// `compacted`: up to where tombstones are forgotten.
pub fn lack(row: &ClusterRow, compacted: Position, known: Position) -> Lack {
    let stored = row.lineage.position;
    if known >= stored && known.epoch == stored.epoch {
        // Equal, or ahead of what is stored by what a peer said.
        Lack::Nothing
    } else if row.lineage.continues(known) && known >= compacted {
        Lack::Since(known)
    } else {
        Lack::Everything
    }
}

/// The number of the epoch that begins now: the time, so that a database that was put back, and forgot epochs with it,
/// does not give the number of one of those to another.
pub fn next_epoch(last: u64, now_ms: u64) -> u64 {
    now_ms.max(last + 1)
}

/// Whether a replica that beat at `beat_ms` is still there.
pub fn is_present(beat_ms: u64, now_ms: u64) -> bool {
    now_ms < beat_ms + PRESENCE_MS
}

/// When a lease renewed now runs out.
pub fn lease_until(now_ms: u64) -> u64 {
    now_ms + LEASE_MS
}
