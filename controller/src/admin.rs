//! The admin API: HTTP and JSON for people and their tools, on loopback only, with a bearer token.
//!
//! Request → who asks → the core's inbox or the store → answer, or a problem document (RFC 9457). Every request but
//! health needs the token, whatever its path, so that nobody learns what exists. Holds no state of its own.

use std::future::Future;
use std::net::SocketAddr;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use roadstead_api as api;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admin::token::Token;
use crate::serve::core_task::Command;
use crate::store::Store;

use problem::Failure;
pub use reach::StoreCell;
use reach::{Controller, Core};

pub mod present;
pub mod token;

mod decisions;
mod history;
mod members;
mod problem;
mod reach;
mod reports;
mod worlds;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request's body, or why it is none.
type Body<T> = Result<Json<T>, JsonRejection>;

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(
        "--api-listen {0}: the admin API listens on loopback addresses only, because its token would cross the network in the clear; use 127.0.0.1 and, from elsewhere, a tunnel"
    )]
    NotLoopback(SocketAddr),
    #[error("serve the admin API: {0}")]
    Serve(#[source] std::io::Error),
}

/// # Errors
/// If others than this machine could reach the address.
pub fn check_address(address: SocketAddr) -> Result<(), AdminError> {
    if address.ip().is_loopback() { Ok(()) } else { Err(AdminError::NotLoopback(address)) }
}

/// Serves until `stop` is cancelled. What needs the store is refused until it is there.
///
/// # Errors
/// If the listener fails.
pub fn serve<S: Store>(
    listener: TcpListener,
    token: Token,
    inbox: mpsc::Sender<Command>,
    store: StoreCell<S>,
    stop: CancellationToken,
) -> impl Future<Output = Result<(), AdminError>> {
    let serving = axum::serve(listener, router(token, inbox, store)).with_graceful_shutdown(stop.cancelled_owned());
    async { serving.await.map_err(AdminError::Serve) }
}

pub fn router<S: Store>(token: Token, inbox: mpsc::Sender<Command>, store: StoreCell<S>) -> Router {
    let core = Core::new(inbox);
    let guarded =
        about_the_core().with_state(core.clone()).merge(with_the_store().with_state(Controller::new(core, store)));
    let guarded = Router::new()
        .nest(api::ROOT, guarded)
        .fallback(async || Failure::no_such_page())
        .method_not_allowed_fallback(async || Failure::no_such_method())
        .layer(from_fn_with_state(token, authenticate))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    Router::new().route(api::HEALTH, get(health)).merge(guarded)
}

/// What the core answers alone.
fn about_the_core() -> Router<Core> {
    Router::new()
        .route("/clusters", get(reports::clusters))
        .route("/edges", get(reports::edges))
        .route("/pools", get(reports::pools))
        .route("/findings", get(reports::findings))
        .route("/alerts", get(reports::alerts))
        .route("/replicas", get(reports::replicas))
        .route("/world", get(reports::world))
        .route("/holds", get(reports::holds))
        .route("/holds/{id}/approve", post(decisions::approve))
        .route("/holds/{id}/discard", post(decisions::discard))
        .route("/overrides", get(reports::overrides))
        .route("/overrides/{id}", delete(decisions::lift))
        .route("/expect-removals", post(decisions::expect_removal))
        .route("/freezes", post(decisions::freeze))
        .route("/pools/{pool}/canary/release", post(decisions::release_canary))
}

/// What is read from the store, or takes effect once it is stored.
fn with_the_store<S: Store>() -> Router<Controller<S>> {
    Router::new()
        .route("/clusters/{id}/lifecycle", post(members::change::<S>))
        .route("/clusters/{id}/readopt", post(members::readopt::<S>))
        .route("/adopt-world", post(worlds::adopt::<S>))
        .route("/pools/{pool}/hosts/{host}/revisions", get(history::revisions::<S>))
        .route("/pins", post(history::pin::<S>))
}

async fn health() -> Json<api::Health> {
    Json(api::Health { status: "ok".to_owned() })
}

async fn authenticate(State(token): State<Token>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match presented.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(presented) if token.is(presented.trim()) => next.run(request).await,
        _ => Failure::unauthorized().into_response(),
    }
}

#[cfg(test)]
mod tests;
