//! Wiring: parses nothing and decides nothing, but says in which order things start and what ends with what.
//!
//! Always: database and migrations → load the world → compute everything → check → only then listen for agents and
//! edges. Any task that ends, ends the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use roadstead_proto::identity::Identity;
use roadstead_proto::tls::{TlsFiles, TlsMaterial};
use roadstead_runtime::ready::Readiness;
use roadstead_runtime::{log, observe, stop};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use crate::app::args::{Command, ServeArgs};
use crate::core::message::Output;
use crate::core::{Core, Start};
use crate::observe::metrics::Metrics;
use crate::policy::{self, follow};
use crate::serve::core_task::{Command as CoreCommand, CoreTask, INBOX_MAX, now_ms};
use crate::serve::streams::Streams;
use crate::store::postgres::Postgres;
use crate::store::queue::Queue;
use crate::store::writer::Writer;
use crate::store::{Store, StoreError};
use crate::world::Limits;
use crate::{ca, serve};

mod args;

/// Between two attempts to reach the database at start.
const DATABASE_RETRY: Duration = Duration::from_millis(500);
/// Events that may wait for the core.
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
        tls_cert,
        tls_key,
        tls_ca,
        log: _,
    } = args;
    let server = serve::builder(&tls_material(TlsFiles { certificate: tls_cert, key: tls_key, authority: tls_ca })?)?;
    let stop = stop::on_signal().context("install signal handlers")?;
    let (metrics, readiness, mut tasks) = (Metrics::default(), Readiness::new(), JoinSet::new());
    let (inbox, commands) = mpsc::channel(INBOX_MAX);
    readiness.set("start", Err("connecting to --database-url".to_owned()));
    let listener = observe::bind("--observe-listen", observe_listen).await?;
    tasks.spawn(observing(listener, &metrics, &readiness, inbox.clone(), stop.clone()));

    let database = connect(&database_url, Duration::from_secs(database_wait_seconds), &readiness);
    let store = tokio::select! {
        store = database => Arc::new(store?),
        () = stop.cancelled() => return Ok(()),
    };
    let (accepted, problem) = policy::at_start(&*store, &policy).await?;
    if let Some(problem) = &problem {
        tracing::error!(problem, policy.rev = accepted.rev, "--policy is not usable; the last accepted policy is in force");
    }
    readiness.set("start", Err("loading the world".to_owned()));
    let started = Instant::now();
    let loaded = store.load().await.context("--database-url: load the world")?;
    let start = Start {
        now_ms: now_ms(),
        policy: accepted,
        policy_problem: problem.clone(),
        loaded,
        limits: Limits::default(),
        metrics: metrics.clone(),
    };
    let (core, outputs) = Core::start(start);
    metrics.publish.start_seconds.set(started.elapsed().as_secs_f64());

    let queue = Arc::new(Queue::default());
    outputs.into_iter().for_each(|output| if let Output::Store(request) = output { queue.push(request) });
    let (store_events_in, store_events) = mpsc::channel(EVENTS_MAX);
    let (policy_events_in, policy_events) = mpsc::channel(EVENTS_MAX);
    let writer = Writer::new(store.clone(), queue.clone(), store_events_in, metrics.store.clone());
    let poll = Duration::from_secs(policy_poll_seconds);
    tasks.spawn(ended(writer.run(), "the store's writer"));
    tasks.spawn(ended(follow::run(store, policy, poll, problem, policy_events_in), "the policy's follower"));
    let core = CoreTask { core, queue, metrics, inbox: commands, store_events, policy_events };
    tasks.spawn(ended(core.run(), "the core"));

    let listener = observe::bind("--grpc-listen", grpc_listen).await?;
    let address = listener.local_addr().context("--grpc-listen")?;
    let streams = serve::run(server, listener, Streams::new(inbox), stop.clone());
    tasks.spawn(async { streams.await.map_err(anyhow::Error::from) });
    readiness.set("start", Ok(()));
    tracing::info!(%address, start_ms = started.elapsed().as_millis() as u64, "Serving agents and edges");
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => ended.context("a task panicked").flatten(),
    };
    // What is not durable yet was not acknowledged, so nothing needs to be waited for.
    tasks.shutdown().await;
    ended
}

/// Reads and checks the TLS files. Only a controller's certificate may serve.
fn tls_material(files: TlsFiles) -> anyhow::Result<TlsMaterial> {
    let tls = files.load()?;
    match &tls.identity {
        Identity::Controller(_) => Ok(tls),
        other => anyhow::bail!(
            "--tls-cert {}: its identity is {other}, but only controller/ID may serve; issue one with `ca issue --identity controller/ID`",
            files.certificate.display(),
        ),
    }
}

/// Connects and migrates, as often as it takes within `wait`.
async fn connect(url: &str, wait: Duration, readiness: &Readiness) -> anyhow::Result<Postgres> {
    let store = Postgres::new(url).map_err(|reason| anyhow::anyhow!("--database-url: {reason}; it should look like postgres://USER@HOST/DATABASE"))?;
    let deadline = Instant::now() + wait;
    let mut said = String::new();
    loop {
        let problem = match store.migrate().await {
            Ok(()) => return Ok(store),
            Err(StoreError::Unavailable(reason)) if Instant::now() < deadline => reason,
            Err(error) => {
                anyhow::bail!("--database-url: {error}; check that the database runs and that the URL is right")
            }
        };
        if problem != said {
            tracing::warn!(problem, "Waiting for the database (--database-url)");
            readiness.set("start", Err(format!("waiting for the database (--database-url): {problem}")));
            said = problem;
        }
        tokio::time::sleep(DATABASE_RETRY).await;
    }
}

fn observing(
    listener: tokio::net::TcpListener,
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
