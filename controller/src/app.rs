//! Wiring: decides nothing, but says in which order things start and what ends with what.
//!
//! Always: database and migrations → load the world → compute everything → check → only then listen for agents and
//! edges. Any task that ends, ends the process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::TryFutureExt;
use prometheus_client::registry::Registry;
use roadstead_proto::tls::TlsFiles;
use roadstead_runtime::ready::Readiness;
use roadstead_runtime::{log, observe, stop};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::StoreCell;
use crate::admin::token::Token;
pub use crate::app::args::{Command, ServeArgs};
use crate::observe::metrics::Metrics;
use crate::policy::follow;
use crate::serve::core_task::{Command as CoreCommand, CoreTask, INBOX_MAX};
use crate::serve::dial::{self, Dialler};
use crate::serve::streams::Streams;
use crate::store::queue::Queue;
use crate::store::writer::Writer;
use crate::store::{ReplicaRow, Store, poller};
use crate::{admin, ca, serve};

mod args;
mod start;

/// Events of one kind that may wait for the core.
const EVENTS_MAX: usize = 1_024;
/// How long a clean stop tries to tell the database.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// `/status` gives up after this; before the world is loaded nobody answers.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

impl Command {
    /// # Errors
    /// One line for a person, naming the flag where there is one.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Command::Ca(command) => Ok(ca::run(command)?),
            Command::Serve(args) => {
                log::init(&args.log)?;
                let runtime = tokio::runtime::Runtime::new().context("start the async runtime")?;
                runtime.block_on(serve(*args))
            }
        }
    }
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let tls = TlsFiles { certificate: args.tls_cert, key: args.tls_key, authority: args.tls_ca };
    let tls = start::tls_material(&tls)?;
    let server = serve::builder(&tls)?;
    let replica = start::replica(&tls, args.replica_id, args.peer_address, args.grpc_listen)?;
    admin::check_address(args.api_listen)?;
    let store = start::store(&args.database_url, args.secrets_key_file.as_deref())?;
    let token = args.api_token_file.as_deref().map(Token::from_file).transpose()?;
    let stop = stop::on_signal().context("install signal handlers")?;
    let (metrics, readiness, mut tasks) = (Metrics::default(), Readiness::new(), JoinSet::new());
    let (inbox, commands) = mpsc::channel(INBOX_MAX);
    readiness.set("start", Err("connecting to the database (--database-url)".to_owned()));
    let listener = observe::bind("--observe-listen", args.observe_listen).await?;
    tasks.spawn(observing(listener, &metrics, &readiness, inbox.clone(), stop.clone()));

    // The admin API says that it is not ready before it has a store.
    let loaded = StoreCell::default();
    if let Some(token) = token {
        let listener = observe::bind("--api-listen", args.api_listen).await?;
        let serving = admin::serve(listener, token, inbox.clone(), loaded.clone(), stop.clone());
        tasks.spawn(async { serving.await.map_err(anyhow::Error::from) });
    } else {
        tracing::info!("The admin API is off; --api-token-file FILE turns it on");
    }

    let store = tokio::select! {
        store = start::connect(store, Duration::from_secs(args.database_wait_seconds), &readiness) => Arc::new(store?),
        () = stop.cancelled() => return Ok(()),
    };
    readiness.set("start", Err("loading the world".to_owned()));
    let queue = Arc::new(Queue::default());
    let (beats, beaten) = mpsc::channel(1);
    let started = start::load(&*store, &args.policy, replica.clone(), &metrics).await?;
    let (core, problem) = start::hand_on(started, &queue, &beats);
    // Nothing else fills it.
    let _ = loaded.set(store.clone());

    let (store_events_in, store_events) = mpsc::channel(EVENTS_MAX);
    let (policy_events_in, policy_events) = mpsc::channel(EVENTS_MAX);
    let writer = Writer::new(store.clone(), queue.clone(), store_events_in, metrics.store.clone());
    let poll = Duration::from_secs(args.policy_poll_seconds);
    tasks.spawn(ended(writer.run(), "the store's writer"));
    let (news_in, news) = mpsc::channel(EVENTS_MAX);
    tasks.spawn(ended(poller::run(store.clone(), beaten, news_in), "the store's poller"));
    let follower = follow::run(store.clone(), args.policy, poll, problem, policy_events_in);
    tasks.spawn(ended(follower, "the policy's follower"));
    let (peers, named) = watch::channel(Vec::new());
    let core = CoreTask {
        core,
        queue,
        metrics,
        readiness: readiness.clone(),
        inbox: commands,
        store_events,
        policy_events,
        news,
        beats,
        peers,
    };
    tasks.spawn(ended(core.run(), "the core"));

    let listener = observe::bind("--grpc-listen", args.grpc_listen).await?;
    let streams = Streams::new(inbox);
    let dialler = Dialler { streams: streams.clone(), tls: Arc::new(tls), name: args.peer_name };
    tasks.spawn(ended(dial::run(dialler, named), "the connections to other replicas"));
    tasks.spawn(serve::run(server, listener, streams, stop.clone()).map_err(anyhow::Error::from));
    readiness.set("start", Ok(()));
    tracing::info!(address = %args.grpc_listen, "Serving agents and edges");
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => ended.context("a task panicked").flatten(),
    };
    // What is not durable yet was not acknowledged, so nothing needs to be waited for.
    tasks.shutdown().await;
    leave(&*store, &replica).await;
    ended
}

/// Others take over at once instead of waiting until presence and lease run out.
async fn leave(store: &impl Store, replica: &ReplicaRow) {
    let leaving = tokio::time::timeout(LEAVE_TIMEOUT, store.leave(&replica.id)).await;
    if !matches!(leaving, Ok(Ok(()))) {
        tracing::warn!("The database was not told that this replica leaves; others notice it in a few seconds");
    }
}

fn observing(
    listener: TcpListener,
    metrics: &Metrics,
    readiness: &Readiness,
    inbox: mpsc::Sender<CoreCommand>,
    stop: CancellationToken,
) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let extra = Router::new().route("/status", get(status).with_state(inbox));
    let serving = observe::serve(listener, Arc::new(registry), readiness.clone(), extra, stop);
    async { serving.await.map_err(anyhow::Error::from) }
}

async fn status(State(inbox): State<mpsc::Sender<CoreCommand>>) -> Response {
    let (asked, answer) = oneshot::channel();
    let report = async {
        inbox.send(CoreCommand::Report(asked)).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(REPORT_TIMEOUT, report).await {
        Ok(Some(report)) => axum::Json(report).into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the world is not loaded yet; see /readyz\n").into_response(),
    }
}

/// A task that should run for ever.
async fn ended(task: impl Future<Output = ()>, name: &'static str) -> anyhow::Result<()> {
    task.await;
    anyhow::bail!("{name} ended")
}
