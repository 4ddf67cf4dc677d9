//! Lineages on the wire.

use roadstead_proto::position::{position_from_wire, position_to_wire};
use roadstead_proto::wire;

use crate::world::lineage::{ENDS_MAX, Lineage};

pub(super) fn to_wire(lineage: &Lineage) -> wire::PeerDelta {
    wire::PeerDelta {
        position: Some(position_to_wire(lineage.position)),
        settled: lineage.settled,
        floor: lineage.floor,
        ends: lineage.ends.iter().copied().map(position_to_wire).collect(),
        settled_incarnation: lineage.incarnation,
        ..wire::PeerDelta::default()
    }
}

pub(super) fn from_wire(delta: &wire::PeerDelta) -> Lineage {
    Lineage {
        position: position_from_wire(delta.position),
        settled: delta.settled,
        floor: delta.floor,
        ends: delta.ends.iter().take(ENDS_MAX).map(|end| position_from_wire(Some(*end))).collect(),
        incarnation: delta.settled_incarnation,
    }
}
