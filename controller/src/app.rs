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
use prometheus_client::registry::Registry;
use roadstead_proto::tls::TlsFiles;
use roadstead_runtime::ready::Readiness;
use roadstead_runtime::{log, observe, stop};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::token::Token;
pub use crate::app::args::{Command, ServeArgs};
use crate::observe::metrics::Metrics;
use crate::policy::follow;
use crate::serve::core_task::{Command as CoreCommand, CoreTask, INBOX_MAX};
use crate::serve::streams::Streams;
use crate::store::queue::Queue;
use crate::store::writer::Writer;
use crate::{admin, ca, serve};

mod args;
mod start;

/// Events of one kind that may wait for the core.
const EVENTS_MAX: usize = 1_024;
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
    let ServeArgs {
        database_url,
        database_wait_seconds,
        policy,
        policy_poll_seconds,
        grpc_listen,
        observe_listen,
        api_listen,
        api_token_file,
        tls_cert,
        tls_key,
        tls_ca,
        log: _,
    } = args;
    let tls = TlsFiles { certificate: tls_cert, key: tls_key, authority: tls_ca };
    let server = serve::builder(&start::tls_material(&tls)?)?;
    admin::check_address(api_listen)?;
    let token = api_token_file.as_deref().map(Token::from_file).transpose()?;
    let stop = stop::on_signal().context("install signal handlers")?;
    let (metrics, readiness, mut tasks) = (Metrics::default(), Readiness::new(), JoinSet::new());
    let (inbox, commands) = mpsc::channel(INBOX_MAX);
    readiness.set("start", Err("connecting to the database (--database-url)".to_owned()));
    let listener = observe::bind("--observe-listen", observe_listen).await?;
    tasks.spawn(observing(listener, &metrics, &readiness, inbox.clone(), stop.clone()));

    if let Some(token) = token {
        let listener = observe::bind("--api-listen", api_listen).await?;
        let serving = admin::serve(listener, token, inbox.clone(), stop.clone());
        tasks.spawn(async { serving.await.map_err(anyhow::Error::from) });
    } else {
        tracing::info!("The admin API is off; --api-token-file FILE turns it on");
    }

    let wait = Duration::from_secs(database_wait_seconds);
    let store = tokio::select! {
        store = start::connect(&database_url, wait, &readiness) => Arc::new(store?),
        () = stop.cancelled() => return Ok(()),
    };
    readiness.set("start", Err("loading the world".to_owned()));
    let queue = Arc::new(Queue::default());
    let (core, problem) = start::load(&*store, &policy, &metrics, &queue).await?;

    let (store_events_in, store_events) = mpsc::channel(EVENTS_MAX);
    let (policy_events_in, policy_events) = mpsc::channel(EVENTS_MAX);
    let writer = Writer::new(store.clone(), queue.clone(), store_events_in, metrics.store.clone());
    let poll = Duration::from_secs(policy_poll_seconds);
    tasks.spawn(ended(writer.run(), "the store's writer"));
    tasks.spawn(ended(follow::run(store, policy, poll, problem, policy_events_in), "the policy's follower"));
    let core = CoreTask { core, queue, metrics, inbox: commands, store_events, policy_events };
    tasks.spawn(ended(core.run(), "the core"));

    let listener = observe::bind("--grpc-listen", grpc_listen).await?;
    let streams = serve::run(server, listener, Streams::new(inbox), stop.clone());
    tasks.spawn(async { streams.await.map_err(anyhow::Error::from) });
    readiness.set("start", Ok(()));
    tracing::info!(address = %grpc_listen, "Serving agents and edges");
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => ended.context("a task panicked").flatten(),
    };
    // What is not durable yet was not acknowledged, so nothing needs to be waited for.
    tasks.shutdown().await;
    ended
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
