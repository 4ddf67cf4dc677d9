//! Where a cluster stands in its life, and what a person asks of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Seconds that an activation or drain may take: a day.
pub const OVER_SECONDS_MAX: u64 = 86_400;
/// Characters of a cluster's uid.
pub const UID_CHARS_MAX: usize = 200;
/// Hosts that `/problems/last-backend` names; it also says how many there are.
pub const LAST_BACKEND_HOSTS_SHOWN_MAX: usize = 10;

/// The parts of a cluster's life, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Its objects are known and its findings are shown; nothing is routed to it.
    Joining,
    Active,
    /// On its way out, step by step.
    Draining,
    /// Nothing reaches it any more: safe to switch off.
    Drained,
    /// Switched off.
    Offline,
    /// Its objects mean nothing and are forgotten after a day.
    Removed,
}

/// Begins the next part of a cluster's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeLifecycle {
    pub to: Lifecycle,
    /// How long an activation or drain takes, at most a day. 0: at once. Of no other part of the life.
    #[serde(default)]
    pub over_seconds: u64,
    /// Also if some hosts have no backend without the cluster.
    #[serde(default)]
    pub force: bool,
    pub by: String,
    pub reason: String,
}

/// Where a cluster stands, and who put it there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Member {
    pub cluster: String,
    /// `joining`, `active`, `draining`, `drained`, `offline` or `removed`.
    pub lifecycle: String,
    /// How far an activation or drain is: the share of the cluster's weight that counts.
    pub percent: u8,
    pub since: String,
    pub by: String,
    pub reason: String,
}

/// Says that a cluster was rebuilt: from now on its identity belongs to the cluster with this uid.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Readopt {
    /// Of namespace kube-system; 1 to 200 characters. The finding `cluster-identity` names it.
    pub uid: String,
    pub by: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Readopted {
    pub cluster: String,
    pub uid: String,
}
