//! The command line: how many histories, from which seed; what they showed.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;

use crate::run;
use crate::simulation::{Options, Outcome};
use crate::trace::Keep;

/// Failing histories that are shown; the run ends then.
const FAILURES_MAX: usize = 3;

/// Random histories of the whole control plane, in virtual time. Exits with 1 if an invariant does not hold.
#[derive(Parser)]
#[command(name = "roadstead-sim")]
struct Cli {
    /// How many histories.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Steps of each history before everything heals.
    #[arg(long, default_value_t = 100)]
    steps: u32,
    /// Controllers; 0: one to three, by the seed.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=5))]
    replicas: u8,
    /// Histories at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Only this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens. With --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
}

pub fn main() -> ExitCode {
    match execute(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody reads standard error if this fails.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every invariant held.
fn execute(cli: &Cli) -> anyhow::Result<bool> {
    let out = &mut std::io::stdout().lock();
    let options = Options { steps: cli.steps, replicas: usize::from(cli.replicas), ..Options::new(0) };
    if let Some(seed) = cli.seed {
        let keep = if cli.trace { Keep::All } else { Keep::Last };
        let outcome = run::one(&Options { seed, keep, ..options }, &run::policy());
        if cli.trace && outcome.violation.is_none() {
            outcome.lines.iter().try_for_each(|line| writeln!(out, "{line}")).context("print")?;
        }
        show(out, &outcome, &options_text(cli)).context("print")?;
        return Ok(outcome.violation.is_none());
    }
    let started = Instant::now();
    let end = cli.first.saturating_add(cli.seeds);
    let summary = run::many(&options, cli.first..end, usize::from(cli.jobs), FAILURES_MAX);
    for outcome in summary.failed.values() {
        show(out, outcome, &options_text(cli)).context("print")?;
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let (histories, failed) = (summary.histories, summary.failed.len());
    writeln!(out, "{histories} histories, {} steps, {failed} failed", summary.steps).context("print")?;
    let faults: Vec<String> = summary.faults.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    writeln!(out, "faults injected: {}", faults.join(", ")).context("print")?;
    writeln!(out, "{:.0} histories per minute", histories as f64 / minutes).context("print")?;
    Ok(failed == 0)
}

fn options_text(cli: &Cli) -> String {
    format!("--steps {} --replicas {}", cli.steps, cli.replicas)
}

fn show(out: &mut impl Write, outcome: &Outcome, options: &str) -> std::io::Result<()> {
    let seed = outcome.seed;
    let Some(violation) = &outcome.violation else {
        return writeln!(
            out,
            "seed {seed}: every invariant held in {} steps, trace {:016x}",
            outcome.steps, outcome.hash
        );
    };
    for line in &outcome.lines {
        writeln!(out, "{line}")?;
    }
    let (step, at) = (violation.step, violation.at);
    writeln!(out, "seed {seed} violates `{}` at step {step}, {at} ms: {}", violation.invariant, violation.detail)?;
    writeln!(out, "replay: roadstead-sim --seed {seed} {options} --trace")
}
