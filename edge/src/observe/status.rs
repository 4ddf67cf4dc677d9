//! The page `/status`: which table this edge serves and how it stands with its controllers. For people and tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

/// What the edge says about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Status {
    pub pool: String,
    pub edge: String,
    /// Whether a complete table is served.
    pub complete: bool,
    /// Whether a controller is connected now.
    pub connected: bool,
    /// Whether this process has been in step with a controller at least once.
    pub synced: bool,
    /// A standing problem that does not keep the edge from serving, such as a controller of another world or that the
    /// edge is frozen.
    pub problem: Option<String>,
    /// Hexadecimal id and incarnation of the world the table belongs to.
    pub world: Option<String>,
    /// `EPOCH.SEQ` by cluster.
    pub positions: BTreeMap<String, String>,
    pub policy_rev: u64,
    pub hosts: usize,
    pub backends: usize,
    /// Certificates that hosts show or may show.
    pub certificates: usize,
    /// Whether they are kept, sealed, with the last good table. If not, HTTPS shows the default certificate after a restart
    /// until a controller is reached.
    pub certificates_kept: bool,
    /// Resources that were refused and are not held in the refused form, for what they are or by the guard: key and
    /// reason.
    pub refused: BTreeMap<String, String>,
}

/// The latest status, replaced as a whole.
#[derive(Clone, Default)]
pub struct SharedStatus(Arc<ArcSwap<Status>>);

impl SharedStatus {
    pub fn set(&self, status: Status) {
        self.0.store(Arc::new(status));
    }

    pub fn get(&self) -> Arc<Status> {
        self.0.load_full()
    }

    /// The pages to add to the probe listener.
    pub fn router(&self) -> Router {
        let status = self.clone();
        Router::new().route("/status", get(async move || Json(Status::clone(&status.get()))))
    }
}
