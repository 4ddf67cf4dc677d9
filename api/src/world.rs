//! What is true of the whole: the world, other replicas, pools, and what needs a person beyond single objects.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The last known state of all clusters, as one database holds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct World {
    pub id: String,
    /// Raised by a person after an older backup was put back.
    pub incarnation: u64,
    /// Other worlds that this one continues.
    pub adopted: Vec<String>,
}

/// A world as an edge knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct OtherWorld {
    pub id: String,
    pub incarnation: u64,
}

/// Says that edges shall follow this database from now on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptWorld {
    /// Edges of that world follow, too: its UUID. Absent: edges that know more of this world than the database does,
    /// because an older backup was put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<String>,
    /// Also if some clusters have not reported everything yet.
    #[serde(default)]
    pub force: bool,
    pub by: String,
}

/// Something that is wrong with the whole and needs a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Stable.
    pub code: String,
    pub message: String,
    pub remedy: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Alerts {
    pub alerts: Vec<Alert>,
}

/// One controller, as the one that answers knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    pub id: String,
    /// Where the others reach it: HOST:PORT.
    pub address: String,
    pub version: String,
    /// The one that answers.
    pub is_self: bool,
    /// The one that turns time into data and writes history.
    pub is_clerk: bool,
    /// Whether the one that answers reports to it at present.
    pub reports_to: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Replicas {
    pub replicas: Vec<Replica>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    pub name: String,
    /// The pool of what names none.
    pub default: bool,
    pub hosts: usize,
    pub backends: usize,
}

/// Pools of the policy, and others that edges ask for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Pools {
    pub pools: Vec<Pool>,
}
