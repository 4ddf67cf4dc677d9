//! The first half of a start: everything that can fail because somebody mistyped something, and the load.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use roadstead_proto::identity::Identity;
use roadstead_proto::tls::{TlsFiles, TlsMaterial};
use roadstead_runtime::ready::Readiness;

use crate::core::message::Output;
use crate::core::{Core, Start};
use crate::observe::metrics::Metrics;
use crate::policy::{self, Problem};
use crate::serve::core_task::now_ms;
use crate::store::postgres::Postgres;
use crate::store::queue::Queue;
use crate::store::{Store, StoreError};
use crate::world::Limits;

/// Between two attempts to reach the database.
const DATABASE_RETRY: Duration = Duration::from_millis(500);

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

/// Connects and migrates, as often as it takes within `wait`.
pub(super) async fn connect(url: &str, wait: Duration, readiness: &Readiness) -> anyhow::Result<Postgres> {
    let store = Postgres::new(url).map_err(|reason| {
        anyhow::anyhow!("--database-url: {reason}; it should look like postgres://USER@HOST/DATABASE")
    })?;
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

/// Policy, world, first table, check. What differs from what was published last is queued for the store.
pub(super) async fn load(
    store: &impl Store,
    policy: &Path,
    metrics: &Metrics,
    queue: &Arc<Queue>,
) -> anyhow::Result<(Core, Option<Problem>)> {
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
        policy,
        policy_problem: policy_problem.clone(),
        loaded,
        limits: Limits::default(),
        metrics: metrics.clone(),
    };
    let (core, outputs) = Core::start_guarded(start, kept);
    for output in outputs {
        if let Output::Store(request) = output {
            queue.push(request);
        }
    }
    metrics.publish.start_seconds.set(started.elapsed().as_secs_f64());
    tracing::info!(load_ms = started.elapsed().as_millis() as u64, "The world is loaded and computed");
    Ok((core, policy_problem))
}
