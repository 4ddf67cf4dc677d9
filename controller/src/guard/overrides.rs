//! What a person told the guard beforehand: removals that are expected, and pools that are frozen. Each ends by itself.

use roadstead_proto::digest::Digest;
use roadstead_routing::guard::{Scope, ScopeText};
use roadstead_routing::id::{HostKey, PoolName};
use serde::{Deserialize, Serialize};

use super::hold::scope_text;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Override {
    pub id: String,
    pub effect: Effect,
    pub reason: String,
    /// Who asked for it, in their own words: the token says only that they may.
    pub by: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    pub expires_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The guard does not count what a cluster or namespace loses; what it held of them goes.
    ExpectRemoval(#[serde(with = "scope_text")] Scope),
    /// No Host of the pool changes, for better or worse, and none is added. Endpoints go on changing, because pods come
    /// and go meanwhile and stale addresses would break what the freeze protects. `None`: every pool.
    Freeze(Option<PoolName>),
    /// The host keeps an earlier version, whatever its objects say.
    Pin(Pin),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pin {
    pub pool: PoolName,
    /// As text.
    pub host: String,
    /// The number of the version in the history.
    pub revision: i64,
    /// Encoded `wire::Host`.
    pub body: Vec<u8>,
}

impl Pin {
    pub fn host(&self) -> Option<HostKey> {
        HostKey::parse(&self.host)
    }

    /// Of what is published.
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(&self.body)
    }
}

impl Override {
    pub(super) fn new(effect: Effect, reason: String, by: String, (created_ms, expires_ms): (u64, u64)) -> Self {
        let what = match &effect {
            Effect::ExpectRemoval(scope) => format!("expect\n{}", ScopeText(scope)),
            Effect::Freeze(pool) => format!("freeze\n{}", pool.as_ref().map_or("", PoolName::as_str)),
            Effect::Pin(pin) => format!("pin\n{}\n{}\n{}", pin.pool, pin.host, pin.revision),
        };
        let hash = blake3::hash(format!("{what}\n{created_ms}\n{expires_ms}").as_bytes());
        Self { id: format!("o-{}", &hash.to_hex()[..10]), effect, reason, by, created_ms, expires_ms }
    }

    pub fn freezes(&self, pool: &PoolName) -> bool {
        matches!(&self.effect, Effect::Freeze(frozen) if frozen.as_ref().is_none_or(|it| it == pool))
    }
}
