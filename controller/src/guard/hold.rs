//! One Hold: changes that would withdraw too much at once and therefore wait for a person.
//!
//! Data only, as it is stored and shown. Must not decide anything; that is [`super`]'s part.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_proto::digest::Digest;
use roadstead_routing::guard::{Scope, ScopeText, Trip};
use roadstead_routing::id::{ClusterId, HostKey, PoolName};
use serde::{Deserialize, Serialize};

/// Field managers named as the cause of one Hold.
pub const MANAGERS_MAX: usize = 10;

/// One per pool and scope; it grows while further changes trip.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    pub id: String,
    pub pool: PoolName,
    #[serde(with = "scope_text")]
    pub scope: Scope,
    /// One sentence for a person on call, as of the last time it grew.
    pub message: String,
    pub cause: Cause,
    /// The hosts that keep their form, as text, and the digest of what each would become (absent: it would go).
    pub hosts: BTreeMap<String, Option<String>>,
    /// Milliseconds since the Unix epoch.
    pub since_ms: u64,
    pub state: State,
    pub closed_ms: Option<u64>,
    pub closed_by: Option<String>,
    /// The replica that opened it and says which hosts are its. Empty: whoever is the clerk.
    #[serde(default)]
    pub owner: String,
}

/// Where the changes come from, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cause {
    pub clusters: BTreeSet<ClusterId>,
    /// `CLUSTER/NAMESPACE`.
    pub namespaces: BTreeSet<String>,
    /// Who wrote the Ingresses last (`argocd-controller`). Empty after a restart: what was deleted is not stored.
    pub managers: BTreeSet<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its hosts keep their form until somebody decides or the objects come back.
    Open,
    /// Its hosts may lose what they were to lose, until the guard's window has passed.
    Approved,
    /// Its hosts keep their form, without further notice, until their objects change again.
    Discarded,
    /// Nothing of it is left to hold: the objects came back.
    Resolved,
}

impl Hold {
    pub(super) fn new(id: String, trip: &Trip, since_ms: u64, owner: String) -> Self {
        Self {
            id,
            pool: trip.pool.clone(),
            scope: trip.scope.clone(),
            message: trip.to_string(),
            cause: Cause::default(),
            hosts: BTreeMap::new(),
            since_ms,
            state: State::Open,
            closed_ms: None,
            closed_by: None,
            owner,
        }
    }

    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Short and the same wherever it is computed from the same facts.
    pub(super) fn id_of(pool: &PoolName, scope: &Scope, since_ms: u64) -> String {
        let hash = blake3::hash(format!("{pool}\n{}\n{since_ms}", ScopeText(scope)).as_bytes());
        format!("h-{}", &hash.to_hex()[..10])
    }

    pub(super) fn add(&mut self, host: &HostKey, wanted: Option<Digest>) {
        self.hosts.insert(host.to_string(), wanted.map(|digest| digest.to_string()));
    }

    /// The hosts that can be read back; all, unless somebody edited the row.
    pub fn host_keys(&self) -> impl Iterator<Item = HostKey> {
        self.hosts.keys().filter_map(|host| HostKey::parse(host))
    }
}

/// For `#[serde(with)]`: a scope as its text.
pub(super) mod scope_text {
    use roadstead_routing::guard::{Scope, ScopeText};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(scope: &Scope, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&ScopeText(scope))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Scope, D::Error> {
        let text = String::deserialize(from)?;
        Scope::parse(&text).ok_or_else(|| D::Error::custom(format!("not a scope: {text}")))
    }
}
