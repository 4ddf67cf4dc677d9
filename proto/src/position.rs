//! Positions to and from the wire. One that is missing is the beginning of everything.

use roadstead_routing::id::Position;

use crate::wire;

pub fn position_to_wire(position: Position) -> wire::Position {
    wire::Position { epoch: position.epoch, seq: position.seq }
}

pub fn position_from_wire(position: Option<wire::Position>) -> Position {
    let wire::Position { epoch, seq } = position.unwrap_or_default();
    Position { epoch, seq }
}
