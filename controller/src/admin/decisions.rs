//! What a person decides about Holds, overrides and trials: a request → a decision of the core → what came of it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use roadstead_api as api;
use roadstead_routing::guard::Scope;

use super::problem::{Failure, text};
use super::reach::Core;
use super::{Body, present};
use crate::guard::decide::{Decided, Decision, Terms};

pub(super) async fn approve(
    State(core): State<Core>,
    Path(hold): Path<String>,
    body: Body<api::Decision>,
) -> Result<Response, Failure> {
    let Json(api::Decision { by }) = body?;
    Ok(answer(StatusCode::OK, core.decide(Decision::Approve { hold, by }).await?))
}

pub(super) async fn discard(
    State(core): State<Core>,
    Path(hold): Path<String>,
    body: Body<api::Decision>,
) -> Result<Response, Failure> {
    let Json(api::Decision { by }) = body?;
    Ok(answer(StatusCode::OK, core.decide(Decision::Discard { hold, by }).await?))
}

pub(super) async fn expect_removal(
    State(core): State<Core>,
    body: Body<api::ExpectRemoval>,
) -> Result<Response, Failure> {
    let Json(api::ExpectRemoval { cluster, namespace, for_seconds, reason, by }) = body?;
    let cluster = cluster.as_str().into();
    let scope = match namespace {
        Some(namespace) => Scope::Namespace(cluster, namespace.into()),
        None => Scope::Cluster(cluster),
    };
    let terms = terms(for_seconds, reason, by);
    Ok(answer(StatusCode::CREATED, core.decide(Decision::ExpectRemoval { scope, terms }).await?))
}

pub(super) async fn freeze(State(core): State<Core>, body: Body<api::Freeze>) -> Result<Response, Failure> {
    let Json(api::Freeze { pool, for_seconds, reason, by }) = body?;
    let (pool, terms) = (pool.map(|pool| pool.as_str().into()), terms(for_seconds, reason, by));
    Ok(answer(StatusCode::CREATED, core.decide(Decision::Freeze { pool, terms }).await?))
}

pub(super) async fn lift(State(core): State<Core>, Path(id): Path<String>) -> Result<Response, Failure> {
    Ok(answer(StatusCode::OK, core.decide(Decision::Lift { id }).await?))
}

pub(super) async fn release_canary(
    State(core): State<Core>,
    Path(pool): Path<String>,
    body: Body<api::Decision>,
) -> Result<Response, Failure> {
    let Json(api::Decision { by }) = body?;
    let (pool, by) = (pool.as_str().into(), text("by", by)?);
    Ok(answer(StatusCode::OK, core.decide(Decision::ReleaseCanary { pool, by }).await?))
}

pub(super) fn terms(for_seconds: u64, reason: String, by: String) -> Terms {
    Terms { for_ms: for_seconds.saturating_mul(1_000), reason, by }
}

pub(super) fn answer(status: StatusCode, decided: Decided) -> Response {
    match decided {
        Decided::Hold(hold) => (status, Json(present::hold(&hold))).into_response(),
        Decided::Override(it) => (status, Json(present::an_override(&it))).into_response(),
        Decided::Released(pool) => (status, Json(api::Released { pool: pool.to_string() })).into_response(),
    }
}
