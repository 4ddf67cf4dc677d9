//! The scenario: what must hold while things break, one step after the other on one running fleet. Every step sends
//! requests with clients that never retry and reports what they saw.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use roadstead_testkit::load::Report as LoadReport;
use serde::Serialize;

use crate::fleet::Fleet;
use crate::say;
use crate::traffic::Report;

mod changes;
mod failures;
mod reports;

/// Fewer requests than this prove nothing.
pub const SENT_MIN: u64 = 500;
const ERRORS_SHOWN: usize = 3;

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub step: &'static str,
    pub claim: &'static str,
    pub ok: bool,
    pub sent: u64,
    pub failed: u64,
    pub misrouted: u64,
    /// Figures and, on a miss, what was seen instead.
    pub detail: String,
}

/// What a step found out: `Ok` is the detail of a row that holds.
pub struct Finding {
    pub requests: Report,
    pub verdict: Result<String, String>,
}

impl Finding {
    /// Holds if the step's own condition does and no request failed or was answered by the wrong application.
    fn into_row(self, step: &'static str, claim: &'static str) -> Row {
        let LoadReport { sent, failed, misrouted, errors, .. } = self.requests.0;
        let clean = failed == 0 && misrouted == 0 && sent >= SENT_MIN;
        let ok = clean && self.verdict.is_ok();
        let mut detail = self.verdict.unwrap_or_else(|why| format!("MISSED: {why}"));
        if sent < SENT_MIN {
            detail.push_str(&format!("; only {sent} requests sent"));
        }
        for error in errors.iter().take(ERRORS_SHOWN) {
            detail.push_str(&format!("; after {} ms: {}", error.after.as_millis(), error.text));
        }
        Row { step, claim, ok, sent, failed, misrouted, detail }
    }
}

/// Runs every step; a step that cannot be carried out is a miss, and the next one still runs.
pub async fn run(fleet: &mut Fleet) -> Vec<Row> {
    let mut rows = Vec::new();
    macro_rules! step {
        ($letter:literal, $claim:literal, $run:path) => {
            let start = Instant::now();
            let row = match $run(fleet).await {
                Ok(finding) => finding.into_row($letter, $claim),
                Err(error) => {
                    let detail = format!("MISSED: {error:#}");
                    Row { step: $letter, claim: $claim, ok: false, sent: 0, failed: 0, misrouted: 0, detail }
                }
            };
            let mark = if row.ok { "✓" } else { "✗" };
            say::line(&format!("  {mark} ({}) {} ({:.1} s)", row.step, row.claim, start.elapsed().as_secs_f32()));
            rows.push(row);
        };
    }
    step!("a", "three clusters serve one host in the configured shares, ±5 points", changes::shares);
    step!("b", "an endpoint removed under load: none fail, none reach it after 1 s", changes::endpoint_removed);
    step!("c", "an edited path is live on every edge within 1 s", changes::path_edited);
    step!("d", "an agent killed: routing unchanged, its cluster shown stale", failures::agent_killed);
    step!("e", "all pods of a cluster die under load, then its slices empty: none fail", failures::pods_killed);
    step!("f", "the controller killed: edges serve on, also after an edge restart", failures::controller_killed);
    step!("g", "controller restart while a cluster's API is down: all served, others update", failures::api_down);
    step!("h", "a list that fails half-way after an agent restart removes nothing", failures::list_fails);
    step!("i", "the Ingress status shows the pool's address", reports::status_written);
    step!("j", "a bad Ingress gets an Event that says why, its neighbours are untouched", reports::bad_ingress);
    rows
}

/// The table for people.
pub fn print(rows: &[Row]) {
    say::line(
        "\n     claim                                                                          sent  failed  misrouted",
    );
    for row in rows {
        let mark = if row.ok { "ok  " } else { "MISS" };
        say::line(&format!(
            "{mark} ({}) {:<76} {:>6} {:>7} {:>10}",
            row.step, row.claim, row.sent, row.failed, row.misrouted
        ));
        say::line(&format!("         {}", row.detail));
    }
}

/// `{"ok": bool, "rows": […]}`.
pub fn write_json(rows: &[Row], file: &Path) -> anyhow::Result<()> {
    let ok = rows.iter().all(|row| row.ok);
    let text = serde_json::to_string_pretty(&serde_json::json!({"ok": ok, "rows": rows}))?;
    std::fs::write(file, text + "\n").with_context(|| format!("--json {}: write", file.display()))
}

/// Polls until `condition` holds; returns how long that took. An error after `within`.
async fn until(within: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while !condition().await {
        anyhow::ensure!(start.elapsed() < within, "after {} s still not: {what}", within.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(start.elapsed())
}
