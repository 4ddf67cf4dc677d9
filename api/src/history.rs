//! Versions of a host over time, and keeping an earlier one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Versions in one answer if the request names no limit.
pub const REVISIONS_SHOWN: u32 = 20;
/// More are not given at once.
pub const REVISIONS_SHOWN_MAX: u32 = 200;

/// One version of a host, as it was published in a pool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    pub id: i64,
    pub at: String,
    /// Of the whole host. Absent: the host was gone from here on.
    pub digest: Option<String>,
    /// `objects`, `policy`, `start`, `lifecycle` or `decision`; or how long the store was away.
    pub cause: String,
}

/// Newest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Revisions {
    pub revisions: Vec<Revision>,
}

/// Makes a host keep one of its earlier versions, whatever its objects say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub pool: String,
    pub host: String,
    /// The id of a [`Revision`] of this host in this pool.
    pub revision: i64,
    /// 1 second to 7 days.
    pub for_seconds: u64,
    pub reason: String,
    pub by: String,
}

/// The pool has no trial any more: all its edges get what one had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Released {
    pub pool: String,
}
