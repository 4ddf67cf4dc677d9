//! The admin API of the controller: the types of its requests and answers, and its OpenAPI document.
//!
//! Shared by the controller, which serves it, and by the command line, which asks. Types only: no I/O, and nothing of
//! the controller's inside. All times are RFC 3339 in UTC; a list is wrapped in an object, so that it can grow.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use history::{Pin, REVISIONS_SHOWN, REVISIONS_SHOWN_MAX, Released, Revision, Revisions};
pub use members::{
    ChangeLifecycle, LAST_BACKEND_HOSTS_SHOWN_MAX, Lifecycle, Member, OVER_SECONDS_MAX, Readopt, Readopted,
    UID_CHARS_MAX,
};
pub use world::{AdoptWorld, Alert, Alerts, OtherWorld, Pool, Pools, Replica, Replicas, World};

pub mod document;
mod history;
mod members;
mod world;

/// Where the API begins. Every path below needs the bearer token, except [`HEALTH`].
pub const ROOT: &str = "/api/v1";
/// Answers 200 without a token while the controller serves.
pub const HEALTH: &str = "/api/v1/health";
/// Hosts that one [`Hold`] names; `hosts_total` says how many there are.
pub const HOSTS_SHOWN_MAX: usize = 100;
/// Findings in one answer; `total` says how many there are.
pub const FINDINGS_SHOWN_MAX: usize = 1_000;

/// An error, as RFC 9457 has it. Sent as `application/problem+json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `about:blank`, or one of this API's, such as `/problems/no-such-hold`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What is wrong in this case and what to do.
    pub detail: String,
}

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
}

/// Changes that wait for a decision, because they would withdraw too much at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    pub id: String,
    pub pool: String,
    /// `pool`, `cluster/ID` or `namespace/CLUSTER/NAMESPACE`.
    pub scope: String,
    /// `open`, `approved` or `discarded`.
    pub state: String,
    pub since: String,
    /// One sentence for a person on call.
    pub message: String,
    pub cause: Cause,
    /// The first of them, sorted.
    pub hosts: Vec<String>,
    pub hosts_total: usize,
}

/// Where held changes come from, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Cause {
    pub clusters: Vec<String>,
    /// `CLUSTER/NAMESPACE`.
    pub namespaces: Vec<String>,
    /// Who wrote the Ingresses last, as their `managedFields` say.
    pub managers: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Holds {
    pub holds: Vec<Hold>,
}

/// Something a person told the guard beforehand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Override {
    pub id: String,
    /// `expect-removal`, `freeze` or `pin`.
    pub kind: String,
    /// `cluster/ID` or `namespace/CLUSTER/NAMESPACE`; of a freeze `pool/NAME`, or `all`; of a pin
    /// `pool/NAME/host/HOST@REVISION`.
    pub scope: String,
    pub reason: String,
    pub by: String,
    pub created: String,
    pub expires: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Overrides {
    pub overrides: Vec<Override>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    pub id: String,
    /// Of its agent's stream: `live`, `standby`, `reconnecting`, `stale` or `never`.
    pub state: String,
    /// Absent: never seen.
    pub since: Option<String>,
    /// `joining`, `active`, `draining`, `drained`, `offline` or `removed`.
    pub lifecycle: String,
    /// How far an activation or drain is: the share of the cluster's weight that counts.
    pub percent: u8,
    /// How fresh the cluster's word is: `fresh`, `stale` or `expired`.
    pub liveness: String,
    /// The controller that has its agent's stream. Absent: none.
    pub replica: Option<String>,
    /// Whether its agent has reported everything since it took the cluster over last.
    pub settled: bool,
    pub hosts: usize,
    pub findings: usize,
    /// Absent while no agent is connected to the controller that answers.
    pub agent_version: Option<String>,
    pub kubernetes_version: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Clusters {
    pub clusters: Vec<Cluster>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Edge {
    pub pool: String,
    pub id: String,
    pub connected: bool,
    /// The controller that it is connected to. Absent: none.
    pub replica: Option<String>,
    pub since: String,
    pub synced: bool,
    /// Hosts it has in their newest version, of so many in its pool.
    pub hosts_held: usize,
    pub hosts: usize,
    /// Resources that it refused.
    pub refused: Vec<String>,
    /// Backends of which it could not connect to some endpoints lately: `CLUSTER/NAMESPACE/SERVICE:PORT`.
    pub failing: Vec<String>,
    /// The world whose table it serves, if that is another one: then it is sent nothing.
    pub world: Option<OtherWorld>,
    pub version: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Edges {
    pub edges: Vec<Edge>,
}

/// A problem for a person, with a stable code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    pub cluster: String,
    /// Kind, namespace and name. Absent: the cluster as a whole.
    pub object: Option<String>,
    pub code: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    pub message: String,
    pub remedy: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Findings {
    pub findings: Vec<Finding>,
    pub total: usize,
}

/// Approves or discards a Hold, or ends a trial on one edge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Who decides.
    pub by: String,
}

/// Says that a cluster, or one of its namespaces, is about to lose Ingresses, and that this is meant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectRemoval {
    pub cluster: String,
    /// Absent: the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// 1 second to 7 days.
    pub for_seconds: u64,
    pub reason: String,
    pub by: String,
}

/// Stops every change of hosts at the edges of a pool; endpoints go on changing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Absent: every pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// 1 second to 7 days.
    pub for_seconds: u64,
    pub reason: String,
    pub by: String,
}
