//! The first half of a start: everything that can fail because somebody mistyped something, and the load.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::http::Uri;
use roadstead_proto::identity::Identity;
use roadstead_proto::tls::{TlsFiles, TlsMaterial};
use roadstead_runtime::ready::Readiness;
use roadstead_runtime::seal::SealKey;
use tokio::sync::mpsc;

use crate::core::message::Output;
use crate::core::{Core, Start};
use crate::observe::metrics::Metrics;
use crate::policy::{self, Problem};
use crate::serve::core_task::now_ms;
use crate::store::postgres::Postgres;
use crate::store::queue::Queue;
use crate::store::{Beat, ReplicaRow, Store, StoreError};
use crate::world::Limits;

/// Between two attempts to reach the database.
const DATABASE_RETRY: Duration = Duration::from_millis(500);

/// Bytes of a replica's name.
const NAME_BYTES_MAX: usize = 200;

/// Reads and checks the TLS files. Only a controller's certificate may serve.
pub(super) fn tls_material(files: &TlsFiles) -> anyhow::Result<TlsMaterial> {
    let tls = files.load()?;
    match &tls.identity {
        Identity::Controller(_) => Ok(tls),
        other => anyhow::bail!(
            "--tls-cert {}: its identity is {other}, but only controller/ID may serve; issue one with `ca issue --identity controller/ID`",
            files.certificate.display(),
        ),
    }
}

/// What this replica is called, and where its peers reach it.
pub(super) fn replica(
    tls: &TlsMaterial,
    id: Option<String>,
    address: Option<String>,
    grpc_listen: SocketAddr,
) -> anyhow::Result<ReplicaRow> {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = machine.trim();
    let certificate = match &tls.identity {
        Identity::Controller(id) => id.clone(),
        other => anyhow::bail!("--tls-cert: {other} is no controller"),
    };
    let id = id.unwrap_or_else(|| format!("{certificate}.{machine}"));
    anyhow::ensure!(
        !id.is_empty() && id.len() <= NAME_BYTES_MAX && !id.contains(char::is_control),
        "--replica-id: must have 1 to {NAME_BYTES_MAX} characters and no control characters"
    );
    let address = address.unwrap_or_else(|| match grpc_listen.ip().is_unspecified() {
        true => format!("{machine}:{}", grpc_listen.port()),
        false => grpc_listen.to_string(),
    });
    let is_uri = format!("https://{address}").parse::<Uri>().is_ok_and(|uri| uri.port().is_some());
    anyhow::ensure!(is_uri, "--peer-address {address}: expected HOST:PORT");
    let instance = uuid::Uuid::new_v4().to_string();
    Ok(ReplicaRow { id, address, version: env!("CARGO_PKG_VERSION").to_owned(), instance })
}

/// The store, not connected yet.
pub(super) fn store(url: &str, secrets_key: Option<&Path>) -> anyhow::Result<Postgres> {
    let key = secrets_key.map(|path| SealKey::from_file("--secrets-key-file", path)).transpose()?;
    if key.is_none() {
        tracing::info!(
            "Secrets are not stored: after a restart edges without certificates get none before agents have reported again; \
             --secrets-key-file FILE stores them sealed"
        );
    }
    let store = Postgres::new(url).map_err(|reason| {
        anyhow::anyhow!("--database-url: {reason}; it should look like postgres://USER@HOST/DATABASE")
    })?;
    Ok(store.sealing(key))
}

/// Connects and migrates, as often as it takes within `wait`.
pub(super) async fn connect(store: Postgres, wait: Duration, readiness: &Readiness) -> anyhow::Result<Postgres> {
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

pub(super) struct Started {
    core: Core,
    outputs: Vec<Output>,
    problem: Option<Problem>,
}

/// Policy, world, first table, check.
pub(super) async fn load(
    store: &impl Store,
    policy: &Path,
    replica: ReplicaRow,
    metrics: &Metrics,
) -> anyhow::Result<Started> {
    let (policy, policy_problem) = policy::at_start(store, policy).await?;
    if let Some(problem) = &policy_problem {
        tracing::error!(
            problem,
            policy.rev = policy.rev,
            "The last accepted policy is in force, not the file (--policy)"
        );
    }
    let started = Instant::now();
    let loaded = store.load().await.context("--database-url: load the world")?;
    let kept = store.load_kept().await.context("--database-url: load what the guard keeps")?;
    let start = Start {
        now_ms: now_ms(),
        replica,
        policy,
        policy_problem: policy_problem.clone(),
        loaded,
        limits: Limits::default(),
        metrics: metrics.clone(),
    };
    let (core, outputs) = Core::start_guarded(start, kept);
    metrics.publish.start_seconds.set(started.elapsed().as_secs_f64());
    tracing::info!(load_ms = started.elapsed().as_millis() as u64, "The world is loaded and computed");
    Ok(Started { core, outputs, problem: policy_problem })
}

/// What differs from what was published last is queued for the store.
pub(super) fn hand_on(started: Started, queue: &Queue, beats: &mpsc::Sender<Beat>) -> (Core, Option<Problem>) {
    for output in started.outputs {
        match output {
            Output::Store(request) => queue.push(request),
            Output::Beat(beat) => drop(beats.try_send(*beat)),
            _ => {}
        }
    }
    (started.core, started.problem)
}
