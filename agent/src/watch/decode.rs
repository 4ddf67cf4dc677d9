//! One object or watch event → one [`Observation`], whatever its shape.

use roadstead_manifests::{decode, key_of};
use roadstead_routing::id::Kind;
use serde_json::Value;

use super::request::Event;
use crate::reduce::{Observation, Sighting, Unreadable};
use crate::status::StatusSeen;

/// `None` for types of newer servers.
pub(super) fn observation(kind: Kind, event: Event) -> Option<Observation> {
    match event.kind.as_str() {
        "ADDED" | "MODIFIED" => Some(seen(kind, event.object)),
        "DELETED" => key_of(kind, &event.object).map(Observation::Deleted),
        "BOOKMARK" => Some(Observation::Bookmark),
        _ => None,
    }
}

/// An object that exists.
pub(super) fn seen(kind: Kind, object: Value) -> Observation {
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
    let status = (kind == Kind::Ingress).then(|| StatusSeen::of(&object));
    match decode(kind, object) {
        Ok(converted) => Observation::Seen(Box::new(Sighting { converted, status })),
        Err(problem) => Observation::Unreadable(Unreadable { problem, uid }),
    }
}
