//! The course of a run: start everything, load the world, make changes in an open loop, report.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use roadstead_testkit::exit;
use tokio::task::JoinSet;

use crate::args::{Cli, Command, Propagation};
use crate::compute;
use crate::report::{AllQuantiles, Quantiles, Report};
use crate::schedule::{self, Pace};
use crate::system::System;
use crate::tracker::Series;

/// After this a change counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(10);
const EXPIRE_EVERY: Duration = Duration::from_millis(500);

pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Propagation(args) => tokio::runtime::Runtime::new().context("start the runtime").and_then(|runtime| {
            let outcome = runtime.block_on(bounded(&args));
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome
        }),
        Command::Compute(args) => args.check().and_then(|()| compute::run(&args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The run, ended by its deadline or a signal. Dropping what it has started ends all processes.
async fn bounded(args: &Propagation) -> anyhow::Result<()> {
    args.check()?;
    tokio::select! {
        outcome = tokio::time::timeout(Duration::from_secs(args.deadline_s), propagation(args)) => {
            outcome.map_err(|_| anyhow!("--deadline-s: not finished after {} s", args.deadline_s))?
        }
        () = exit::requested() => bail!("interrupted"),
    }
}

async fn propagation(args: &Propagation) -> anyhow::Result<()> {
    say(&format!("starting Postgres, a controller, {} edges and an agent", args.edges));
    let mut system = System::start(args).await?;
    let outcome = run(args, &mut system).await;
    if outcome.is_err() {
        say(&system.problems());
    }
    system.stop().await;
    let report = outcome?;
    print(&report.to_string())?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json + "\n").with_context(|| format!("--json {}", path.display()))?;
    }
    report.verdict().map_err(anyhow::Error::msg)
}

async fn run(args: &Propagation, system: &mut System) -> anyhow::Result<Report> {
    say(&format!("loading {} hosts and {} endpoints of {} clusters", args.hosts, args.endpoints, args.clusters));
    let initial_sync = system.load().await?;
    let duration = args.duration();
    say(&format!(
        "loaded after {:.1} s; making changes for {:.0} s",
        initial_sync.as_secs_f64(),
        duration.as_secs_f64()
    ));
    let before = system.usage();
    let start = Instant::now();
    measure(args, system, start).await?;
    let measured = start.elapsed();
    let after = system.usage();

    let bench = &system.bench;
    let tracker = bench.tracker();
    let quantiles = |series| Quantiles::of(tracker.latencies(series));
    let all = AllQuantiles {
        endpoint: quantiles(Series::Endpoint),
        ingress: quantiles(Series::Ingress),
        agent_endpoint: quantiles(Series::AgentEndpoint),
        agent_ingress: quantiles(Series::AgentIngress),
    };
    let mut report = Report::new(args, &all);
    report.lost = Series::MEASURED.into_iter().map(|series| tracker.lost(series)).sum();
    report.confirmed = bench.confirmed.load(Ordering::Relaxed);
    report.unconfirmed = bench.unconfirmed.load(Ordering::Relaxed);
    report.set_times(initial_sync, measured);
    report.set_usage(&before, &after);
    Ok(report)
}

/// Makes all changes and returns when each has either been applied and confirmed, or is lost.
async fn measure(args: &Propagation, system: &mut System, start: Instant) -> anyhow::Result<()> {
    let duration = args.duration();
    let paces = [
        (&system.synthetic, Series::Endpoint, args.rate),
        (&system.synthetic, Series::Ingress, args.ingress_rate),
        (&system.real, Series::AgentEndpoint, args.agent_rate),
        (&system.real, Series::AgentIngress, args.agent_ingress_rate),
    ];
    let mut loops = JoinSet::new();
    for (source, series, per_second) in paces {
        let pace = Pace { series, per_second, duration, seed: args.seed };
        loops.spawn(schedule::run(Arc::clone(&system.bench), Arc::clone(source), pace, start));
    }
    let mut expire = tokio::time::interval(EXPIRE_EVERY);
    loop {
        tokio::select! {
            ended = loops.join_next(), if !loops.is_empty() => {
                ended.context("a loop must be running")?.context("a loop panicked")??;
            }
            broken = system.stream_ended() => bail!("a cluster's stream ended: {broken:#}"),
            _ = expire.tick() => {
                let mut tracker = system.bench.tracker();
                tracker.expire(system.bench.clock.now_nanos(), LOST_AFTER);
                if loops.is_empty() && tracker.waiting() == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// Progress and errors, on stderr.
pub fn say(line: &str) {
    // Nothing is left to do when nobody can be told.
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("write the report to standard output")
}
