//! Versions of a host: reading them from the store, and making one stay.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use roadstead_api as api;
use roadstead_routing::id::{HostKey, PoolName};
use serde::Deserialize;

use super::decisions::{answer, terms};
use super::problem::Failure;
use super::reach::{Controller, Purpose, stored};
use super::{Body, present};
use crate::guard::decide::Decision;
use crate::guard::overrides::Pin;
use crate::store::Store;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    limit: Option<u32>,
}

pub(super) async fn revisions<S: Store>(
    State(at): State<Controller<S>>,
    Path((pool, host)): Path<(String, String)>,
    limit: Result<Query<Limit>, QueryRejection>,
) -> Result<Json<api::Revisions>, Failure> {
    let Query(Limit { limit }) = limit?;
    let limit = limit.unwrap_or(api::REVISIONS_SHOWN);
    if !(1..=api::REVISIONS_SHOWN_MAX).contains(&limit) {
        return Err(Failure::invalid(format!("`limit` must be 1 to {}", api::REVISIONS_SHOWN_MAX)));
    }
    let (pool, host) = (PoolName::from(pool.as_str()), host_key(&host)?);
    let rows = stored(Purpose::History, at.store()?.host_revisions(&pool, &host, limit)).await?;
    Ok(Json(api::Revisions { revisions: rows.iter().map(present::revision).collect() }))
}

pub(super) async fn pin<S: Store>(State(at): State<Controller<S>>, body: Body<api::Pin>) -> Result<Response, Failure> {
    let Json(api::Pin { pool, host, revision, for_seconds, reason, by }) = body?;
    let (pool, host) = (PoolName::from(pool.as_str()), host_key(&host)?);
    let found = stored(Purpose::History, at.store()?.revision_body(&pool, &host, revision)).await?;
    let body = found.ok_or_else(|| Failure::no_revision(&pool, &host, revision))?.encoded;
    let pin = Pin { pool, host: host.to_string(), revision, body };
    let decision = Decision::Pin { pin, terms: terms(for_seconds, reason, by) };
    Ok(answer(StatusCode::CREATED, at.core.decide(decision).await?))
}

/// Hosts are written in lower case everywhere but by people.
fn host_key(host: &str) -> Result<HostKey, Failure> {
    let parsed = HostKey::parse(&host.to_ascii_lowercase());
    parsed.ok_or_else(|| Failure::invalid(format!("`{host}` is not a host; write it as the Ingress has it")))
}
