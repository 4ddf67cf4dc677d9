//! What a person decides about Holds and overrides. Takes effect in the same turn; stored behind, as everything.

use roadstead_routing::guard::Scope;
use roadstead_routing::id::PoolName;

use super::Guard;
use super::hold::{Hold, State};
use super::kept::Keep;
use super::overrides::{Effect, Override, Pin};
use super::pinned;
use crate::core::message::Output;
use crate::core::turn::Turn;
use crate::store::queue::Request;

/// Overrides in force at a time.
pub const OVERRIDES_MAX: usize = 1_000;
/// An override that is needed for longer is no exception any more.
pub const OVERRIDE_MS_MAX: u64 = 7 * 24 * 3_600 * 1_000;
/// Characters of a reason, and of who gives it.
pub const TEXT_CHARS_MAX: usize = 500;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The held changes are published, and the same hosts may lose more until the guard's window has passed.
    Approve { hold: String, by: String },
    /// The Hold is closed and its hosts keep the form that is published, although their objects want another, until
    /// these objects change again; then the new wish is judged like any other. It survives a restart. It is for changes
    /// that are known to be wrong while the repair takes its time.
    Discard { hold: String, by: String },
    /// What the scope loses from now on is meant; what is held of it already is published.
    ExpectRemoval { scope: Scope, terms: Terms },
    /// No Host of the pool (`None`: of any) changes until it ends; see [`Effect::Freeze`].
    Freeze { pool: Option<PoolName>, terms: Terms },
    /// The host keeps an earlier version until it ends.
    Pin { pin: Pin, terms: Terms },
    /// Ends an override early.
    Lift { id: String },
    /// Everybody gets what one edge is still trying.
    ReleaseCanary { pool: PoolName, by: String },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    pub for_ms: u64,
    pub reason: String,
    pub by: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decided {
    Hold(Hold),
    Override(Override),
    /// The pool has no trial any more.
    Released(PoolName),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error("there is no open Hold {0}")]
    NoHold(String),
    #[error("there is no override {0}")]
    NoOverride(String),
    #[error("no cluster {0} ever reported, and the policy names none")]
    NoCluster(String),
    #[error("the policy has no pool {0}")]
    NoPool(String),
    #[error("pool {0} tries nothing on one edge")]
    NoCanary(String),
    #[error("revision {revision} of {host} cannot be read; choose another one")]
    Unreadable { host: String, revision: i64 },
    #[error("a duration must be between 1 second and 7 days")]
    Duration,
    #[error("`{0}` must have 1 to {TEXT_CHARS_MAX} characters and no control characters")]
    Text(&'static str),
    #[error("{OVERRIDES_MAX} overrides are in force; lift one first")]
    TooMany,
}

impl Guard {
    /// # Errors
    /// If what it is about does not exist, or the terms are not acceptable.
    pub(crate) fn decide(&mut self, decision: Decision, turn: &mut Turn) -> Result<Decided, Refused> {
        match decision {
            Decision::Approve { hold, by } => self.close(&hold, State::Approved, by, turn),
            Decision::Discard { hold, by } => self.close(&hold, State::Discarded, by, turn),
            Decision::ExpectRemoval { scope: Scope::Cluster(cluster) | Scope::Namespace(cluster, _), .. }
                if turn.world.held(&cluster).is_none() && !turn.policy.policy.clusters.contains_key(&cluster) =>
            {
                Err(Refused::NoCluster(cluster.to_string()))
            }
            Decision::Freeze { pool: Some(pool), .. } if !turn.policy.policy.pools.contains_key(&pool) => {
                Err(Refused::NoPool(pool.to_string()))
            }
            Decision::ExpectRemoval { scope, terms } => self.set(Effect::ExpectRemoval(scope), terms, turn),
            Decision::Freeze { pool, terms } => self.set(Effect::Freeze(pool), terms, turn),
            Decision::Pin { pin, .. } if !turn.policy.policy.pools.contains_key(&pin.pool) => {
                Err(Refused::NoPool(pin.pool.to_string()))
            }
            Decision::Pin { pin, .. } if pinned(&pin).is_none() => {
                Err(Refused::Unreadable { host: pin.host, revision: pin.revision })
            }
            Decision::Pin { pin, terms } => self.pin(pin, terms, turn),
            // Known to the publish stage, which has taken it already if there was anything to release.
            Decision::ReleaseCanary { pool, .. } => Err(Refused::NoCanary(pool.to_string())),
            Decision::Lift { id } => self.lift(&id, turn).map(Decided::Override).ok_or(Refused::NoOverride(id)),
        }
    }

    /// A newer pin of the same host replaces the older one.
    fn pin(&mut self, pin: Pin, terms: Terms, turn: &mut Turn) -> Result<Decided, Refused> {
        let is_same =
            |it: &&Override| matches!(&it.effect, Effect::Pin(old) if (&old.pool, &old.host) == (&pin.pool, &pin.host));
        let older: Vec<String> = self.overrides.values().filter(is_same).map(|it| it.id.clone()).collect();
        let decided = self.set(Effect::Pin(pin), terms, turn)?;
        for id in older {
            self.lift(&id, turn);
        }
        Ok(decided)
    }

    fn close(&mut self, id: &str, state: State, by: String, turn: &mut Turn) -> Result<Decided, Refused> {
        let by = text("by", by)?;
        let open = self.holds.get_mut(id).filter(|hold| hold.is_open());
        let hold = open.ok_or_else(|| Refused::NoHold(id.to_owned()))?;
        tracing::warn!(hold.id = id, ?state, by, hosts = hold.hosts.len(), "A Hold is decided");
        (hold.state, hold.closed_ms, hold.closed_by) = (state, Some(turn.now_ms), Some(by));
        let decided = hold.clone();
        self.disobey(id);
        self.touched.insert(id.to_owned());
        self.rejudge = true;
        self.write(turn);
        Ok(Decided::Hold(decided))
    }

    fn set(&mut self, effect: Effect, terms: Terms, turn: &mut Turn) -> Result<Decided, Refused> {
        let Terms { for_ms, reason, by } = terms;
        if !(1_000..=OVERRIDE_MS_MAX).contains(&for_ms) {
            return Err(Refused::Duration);
        }
        if self.overrides.len() >= OVERRIDES_MAX {
            return Err(Refused::TooMany);
        }
        let times = (turn.now_ms, turn.now_ms + for_ms);
        let it = Override::new(effect, text("reason", reason)?, text("by", by)?, times);
        tracing::warn!(override.id = it.id, effect = ?it.effect, by = it.by, reason = it.reason, "An override is set");
        turn.out.push(Output::Store(Request::Keep(Keep::Override(it.clone()))));
        self.unsaved.insert(it.id.clone());
        self.overrides.insert(it.id.clone(), it.clone());
        self.rejudge = true;
        Ok(Decided::Override(it))
    }
}

/// What a person says about themselves or their reasons.
///
/// # Errors
/// If it says nothing, or is too long.
pub(crate) fn text(field: &'static str, text: String) -> Result<String, Refused> {
    let is_good = !text.trim().is_empty() && text.chars().count() <= TEXT_CHARS_MAX && !text.contains(char::is_control);
    if is_good { Ok(text) } else { Err(Refused::Text(field)) }
}
