//! What the API shows of the core's state: a report → the part that was asked for.

use axum::Json;
use axum::extract::State;
use roadstead_api as api;

use super::present;
use super::problem::Failure;
use super::reach::Core;

pub(super) async fn clusters(State(core): State<Core>) -> Result<Json<api::Clusters>, Failure> {
    Ok(Json(present::clusters(core.report().await?)))
}

pub(super) async fn edges(State(core): State<Core>) -> Result<Json<api::Edges>, Failure> {
    Ok(Json(present::edges(core.report().await?)))
}

pub(super) async fn pools(State(core): State<Core>) -> Result<Json<api::Pools>, Failure> {
    Ok(Json(present::pools(core.report().await?)))
}

pub(super) async fn findings(State(core): State<Core>) -> Result<Json<api::Findings>, Failure> {
    Ok(Json(present::findings(core.report().await?)))
}

pub(super) async fn alerts(State(core): State<Core>) -> Result<Json<api::Alerts>, Failure> {
    Ok(Json(api::Alerts { alerts: core.report().await?.alerts }))
}

pub(super) async fn replicas(State(core): State<Core>) -> Result<Json<api::Replicas>, Failure> {
    Ok(Json(api::Replicas { replicas: core.report().await?.replicas }))
}

pub(super) async fn world(State(core): State<Core>) -> Result<Json<api::World>, Failure> {
    Ok(Json(core.report().await?.world))
}

pub(super) async fn holds(State(core): State<Core>) -> Result<Json<api::Holds>, Failure> {
    Ok(Json(api::Holds { holds: core.report().await?.holds }))
}

pub(super) async fn overrides(State(core): State<Core>) -> Result<Json<api::Overrides>, Failure> {
    Ok(Json(api::Overrides { overrides: core.report().await?.overrides }))
}
