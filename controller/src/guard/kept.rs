//! What the guard keeps in the store: Holds, overrides, and backends that nothing in the world describes any more.

use std::collections::BTreeMap;

use prost::Message;
use roadstead_proto::digest::Digest;
use roadstead_proto::resource::host_from_wire;
use roadstead_proto::wire;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, PoolName};
use roadstead_routing::table::Host;

use super::hold::Hold;
use super::overrides::Override;

/// One row to write. A later one of the same [`Keep::key`] replaces it.
#[derive(Clone, PartialEq, Debug)]
pub enum Keep {
    Hold {
        hold: Box<Hold>,
        /// Whether a start must know it: open, or closed with an effect that lasts.
        is_live: bool,
    },
    Override(Override),
    /// It was lifted or ran out.
    Lift(String),
    /// Encoded `wire::Backend`, to which a held Host refers; `None`: no Host does any more.
    Backend(BackendId, Option<Vec<u8>>),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Key {
    Hold(String),
    Override(String),
    Backend(BackendId),
}

impl Keep {
    pub fn key(&self) -> Key {
        match self {
            Keep::Hold { hold, .. } => Key::Hold(hold.id.clone()),
            Keep::Override(it) => Key::Override(it.id.clone()),
            Keep::Lift(id) => Key::Override(id.clone()),
            Keep::Backend(id, _) => Key::Backend(id.clone()),
        }
    }
}

/// What a start needs so that the guard goes on where it was.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Kept {
    /// Those that are live.
    pub holds: Vec<Hold>,
    pub overrides: Vec<Override>,
    /// Encoded `wire::Backend`s.
    pub backends: Vec<Vec<u8>>,
    /// Encoded `wire::Host`s, as published.
    pub published: BTreeMap<(PoolName, HostKey), Vec<u8>>,
    /// In the order of time.
    pub losses: Vec<Loss>,
    /// When each cluster last lost something because a list lacked it, within the guard's window. Milliseconds since the
    /// Unix epoch.
    pub inferred: BTreeMap<ClusterId, u64>,
}

/// A version of a Host that was replaced or withdrawn within the guard's window.
#[derive(Clone, PartialEq, Debug)]
pub struct Loss {
    pub at_ms: u64,
    pub pool: PoolName,
    pub host: HostKey,
    /// Encoded `wire::Host`.
    pub before: Vec<u8>,
}

/// The text form in which a Hold names what a host would become.
pub fn digest_text(digest: Option<Digest>) -> Option<String> {
    digest.map(|digest| digest.to_string())
}

/// A Host as it is stored. `None`: this build cannot read it.
pub(crate) fn stored_host(body: &[u8]) -> Option<Host> {
    host_from_wire(wire::Host::decode(body).ok()?).ok()
}
