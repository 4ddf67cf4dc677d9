//! `cargo xtask test`: everything that must pass, counted on the last line.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::Context;

use crate::postgres::TestPostgres;
use crate::step::{self, cargo, say};
use crate::{codegen, setup};

#[derive(clap::Args)]
pub struct Options {
    /// Leave out what takes long: whole-system tests, licence checks, the check of the SQL queries.
    #[arg(long)]
    fast: bool,
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    failures: Vec<String>,
}

impl Tally {
    /// Counts a check that has no tests of its own as one.
    fn check(&mut self, title: &str, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                say(&format!("── {title}: FAILED: {error:#}"));
                self.failed += 1;
                self.failures.push(title.to_owned());
            }
        }
    }
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    let kubectl = setup::for_testing()?;
    let mut tally = Tally::default();
    tally.check("fmt", step::run("fmt", &mut cargo(&["fmt", "--all", "--check"])));
    tally.check("clippy", clippy());
    if !options.fast {
        tally.check("deny", deny());
        tally.check("sql", codegen::check());
    }
    let built = setup::build_all();
    let built_well = built.is_ok();
    tally.check("build", built);
    if built_well {
        nextest(options, &kubectl, &mut tally)?;
    }
    finish(&tally, start)
}

fn clippy() -> anyhow::Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"];
    step::run("clippy", &mut cargo(&arguments))
}

fn deny() -> anyhow::Result<()> {
    setup::cargo_deny()?;
    step::run("deny", &mut cargo(&["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}

fn nextest(options: &Options, kubectl: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    let postgres = TestPostgres::start(None)?;
    let ci = std::env::var_os("CI").is_some();
    let mut command = cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--color", "never"]);
    command.args(["--profile", if ci { "ci" } else { "default" }]);
    if options.fast {
        command.args(["-E", "not package(roadstead-e2e)"]);
    }
    command.env("ROADSTEAD_KUBECTL", kubectl).env("ROADSTEAD_TEST_POSTGRES", &postgres.url);
    say("── nextest");
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(tee_stderr)
        .context("run cargo nextest")?;
    let summary = output.lines().rev().find_map(parse_summary);
    match summary {
        Some((passed, failed, skipped)) => {
            tally.passed += passed;
            tally.failed += failed;
            tally.skipped += if options.fast { 0 } else { skipped };
            if failed > 0 {
                tally.failures.push(format!("{failed} tests"));
            }
        }
        None => tally.check("nextest", Err(anyhow::anyhow!("it printed no summary"))),
    }
    Ok(())
}

/// Passes nextest's report on and keeps it.
fn tee_stderr(mut child: Child) -> std::io::Result<String> {
    use std::io::BufRead;
    let mut kept = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in std::io::BufReader::new(stderr).lines() {
            let line = line?;
            say(&line);
            kept.push_str(&line);
            kept.push('\n');
        }
    }
    child.wait()?;
    Ok(kept)
}

/// Reads `Summary [ 1.2s] 13 tests run: 12 passed (1 slow), 1 failed, 0 skipped` as (passed, failed, skipped).
fn parse_summary(line: &str) -> Option<(u64, u64, u64)> {
    let counts = line.trim().strip_prefix("Summary")?.split_once("run:")?.1;
    let mut tally = (0, 0, 0);
    for part in counts.split(',') {
        let mut words = part.split_whitespace();
        let (Some(count), Some(what)) = (words.next(), words.next()) else { continue };
        let count: u64 = count.parse().ok()?;
        match what {
            "passed" => tally.0 += count,
            "failed" | "timed" | "exec" => tally.1 += count,
            "skipped" => tally.2 += count,
            _ => {}
        }
    }
    Some(tally)
}

fn finish(tally: &Tally, start: Instant) -> anyhow::Result<()> {
    for failure in &tally.failures {
        say(&format!("FAILED: {failure}"));
    }
    say(&format!("── {:.0} s", start.elapsed().as_secs_f32()));
    let Tally { passed, failed, skipped, .. } = tally;
    #[expect(clippy::print_stdout, reason = "the result, on stdout for whoever reads it")]
    {
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
    anyhow::ensure!(*failed == 0, "{failed} failed");
    anyhow::ensure!(*skipped == 0 || std::env::var_os("CI").is_none(), "{skipped} skipped, which CI does not allow");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_nextest_is_counted() {
        let line = "     Summary [   0.148s] 14 tests run: 12 passed (1 slow), 1 failed, 1 timed out, 3 skipped";
        assert_eq!(parse_summary(line), Some((12, 2, 3)));
        assert_eq!(parse_summary("     Summary [   0.1s] 4 tests run: 4 passed, 0 skipped"), Some((4, 0, 0)));
        assert_eq!(parse_summary("        PASS [   0.1s] x"), None);
    }
}
