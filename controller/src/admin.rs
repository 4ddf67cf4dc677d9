//! The admin API: HTTP and JSON for people and their tools, on loopback only, with a bearer token.
//!
//! Request → who asks → the core's inbox → answer, or a problem document (RFC 9457). Every request but health needs the
//! token, whatever its path, so that nobody learns what exists. Holds no state of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use roadstead_api as api;
use roadstead_routing::guard::Scope;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::admin::token::Token;
use crate::guard::decide::{Decided, Decision, Terms};
use crate::observe::status::Report;
use crate::serve::core_task::Command;

use problem::Failure;

pub mod present;
pub mod token;

mod problem;

/// How long the core may take. It answers within a turn; before the world is loaded nobody does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024;

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

/// Serves until `stop` is cancelled.
///
/// # Errors
/// If the listener fails.
pub fn serve(
    listener: TcpListener,
    token: Token,
    inbox: mpsc::Sender<Command>,
    stop: CancellationToken,
) -> impl Future<Output = Result<(), AdminError>> {
    let serving = axum::serve(listener, router(token, inbox)).with_graceful_shutdown(stop.cancelled_owned());
    async { serving.await.map_err(AdminError::Serve) }
}

pub fn router(token: Token, inbox: mpsc::Sender<Command>) -> Router {
    let guarded = Router::new()
        .route("/clusters", get(clusters))
        .route("/edges", get(edges))
        .route("/findings", get(findings))
        .route("/holds", get(holds))
        .route("/holds/{id}/approve", post(approve))
        .route("/holds/{id}/discard", post(discard))
        .route("/overrides", get(overrides))
        .route("/overrides/{id}", delete(lift))
        .route("/expect-removals", post(expect_removal))
        .route("/freezes", post(freeze))
        .with_state(Core(inbox));
    let guarded = Router::new()
        .nest(api::ROOT, guarded)
        .fallback(async || Failure::no_such_page())
        .method_not_allowed_fallback(async || Failure::no_such_method())
        .layer(from_fn_with_state(token, authenticate))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    Router::new().route(api::HEALTH, get(health)).merge(guarded)
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

/// The way to the core.
#[derive(Clone)]
struct Core(mpsc::Sender<Command>);

impl Core {
    async fn report(&self) -> Result<Report, Failure> {
        let (asked, answer) = oneshot::channel();
        self.ask(Command::Report(asked), answer).await
    }

    async fn decide(&self, decision: Decision) -> Result<Decided, Failure> {
        let (asked, answer) = oneshot::channel();
        self.ask(Command::Decide(decision, asked), answer).await?.map_err(|refused| Failure::refused(&refused))
    }

    async fn ask<T>(&self, command: Command, answer: oneshot::Receiver<T>) -> Result<T, Failure> {
        let asking = async {
            self.0.send(command).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asking).await.ok().flatten().ok_or_else(Failure::not_ready)
    }
}

async fn clusters(State(core): State<Core>) -> Result<Json<api::Clusters>, Failure> {
    Ok(Json(present::clusters(core.report().await?)))
}

async fn edges(State(core): State<Core>) -> Result<Json<api::Edges>, Failure> {
    Ok(Json(present::edges(core.report().await?)))
}

async fn findings(State(core): State<Core>) -> Result<Json<api::Findings>, Failure> {
    Ok(Json(present::findings(core.report().await?)))
}

async fn holds(State(core): State<Core>) -> Result<Json<api::Holds>, Failure> {
    Ok(Json(api::Holds { holds: core.report().await?.holds }))
}

async fn overrides(State(core): State<Core>) -> Result<Json<api::Overrides>, Failure> {
    Ok(Json(api::Overrides { overrides: core.report().await?.overrides }))
}

type Body<T> = Result<Json<T>, JsonRejection>;

async fn approve(
    State(core): State<Core>,
    Path(hold): Path<String>,
    body: Body<api::Decision>,
) -> Result<Response, Failure> {
    let Json(api::Decision { by }) = body?;
    Ok(answer(StatusCode::OK, core.decide(Decision::Approve { hold, by }).await?))
}

async fn discard(
    State(core): State<Core>,
    Path(hold): Path<String>,
    body: Body<api::Decision>,
) -> Result<Response, Failure> {
    let Json(api::Decision { by }) = body?;
    Ok(answer(StatusCode::OK, core.decide(Decision::Discard { hold, by }).await?))
}

async fn expect_removal(State(core): State<Core>, body: Body<api::ExpectRemoval>) -> Result<Response, Failure> {
    let Json(api::ExpectRemoval { cluster, namespace, for_seconds, reason, by }) = body?;
    let cluster = cluster.as_str().into();
    let scope = match namespace {
        Some(namespace) => Scope::Namespace(cluster, namespace.into()),
        None => Scope::Cluster(cluster),
    };
    let terms = Terms { for_ms: for_seconds.saturating_mul(1_000), reason, by };
    Ok(answer(StatusCode::CREATED, core.decide(Decision::ExpectRemoval { scope, terms }).await?))
}

async fn freeze(State(core): State<Core>, body: Body<api::Freeze>) -> Result<Response, Failure> {
    let Json(api::Freeze { pool, for_seconds, reason, by }) = body?;
    let terms = Terms { for_ms: for_seconds.saturating_mul(1_000), reason, by };
    let pool = pool.map(|pool| pool.as_str().into());
    Ok(answer(StatusCode::CREATED, core.decide(Decision::Freeze { pool, terms }).await?))
}

async fn lift(State(core): State<Core>, Path(id): Path<String>) -> Result<Response, Failure> {
    Ok(answer(StatusCode::OK, core.decide(Decision::Lift { id }).await?))
}

fn answer(status: StatusCode, decided: Decided) -> Response {
    match decided {
        Decided::Hold(hold) => (status, Json(present::hold(&hold))).into_response(),
        Decided::Override(it) => (status, Json(present::an_override(&it))).into_response(),
    }
}
