//! A person says that edges shall follow this database: a request → whether every cluster has reported → the store.

use axum::Json;
use axum::extract::State;
use roadstead_api as api;
use uuid::Uuid;

use super::problem::{Failure, text};
use super::reach::{Controller, Purpose, stored};
use super::{Body, present};
use crate::observe::status::{ClusterReport, Report};
use crate::store::Store;

pub(super) async fn adopt<S: Store>(
    State(at): State<Controller<S>>,
    body: Body<api::AdoptWorld>,
) -> Result<Json<api::World>, Failure> {
    let Json(api::AdoptWorld { world, force, by }) = body?;
    let (by, other) = (text("by", by)?, world.as_deref().map(parse).transpose()?);
    let store = at.store()?;
    let report = at.core.report().await?;
    if other.is_some_and(|other| other.to_string() == report.world.id) {
        let detail = "`world` is the world of this database; leave it out to follow an older backup of it";
        return Err(Failure::invalid(detail));
    }
    let missing = unsettled(&report);
    if !force && !missing.is_empty() {
        return Err(Failure::not_settled(&missing));
    }
    let adopted = present::world(&stored(Purpose::Change, store.adopt_world(other)).await?);
    tracing::warn!(
        world = adopted.id,
        incarnation = adopted.incarnation,
        ?other,
        by,
        "Edges are to follow this database"
    );
    Ok(Json(adopted))
}

fn parse(world: &str) -> Result<Uuid, Failure> {
    Uuid::parse_str(world).map_err(|_| Failure::invalid(format!("`world` must be a UUID, not `{world}`")))
}

/// Clusters that have not reported everything, with their states. Removed ones are not waited for.
fn unsettled(report: &Report) -> Vec<String> {
    let is_missing = |it: &&ClusterReport| !it.settled && it.lifecycle != "removed";
    report.clusters.iter().filter(is_missing).map(|it| format!("{} ({})", it.id, it.state)).collect()
}
