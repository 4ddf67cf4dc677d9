//! The process stack: readiness, logs, signals, and that nothing outlives it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use roadstead_testkit::stack::signal::{Signal, send};
use roadstead_testkit::stack::{Process, Ready, Spec, StackError};

use crate::client::eventually;

fn shell(script: &str) -> Spec {
    Spec::new("shell", "sh").args(["-c", script])
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn state(pid: u32) -> Option<char> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit_once(") ")?.1.chars().next()
}

/// The child that a shell wrote the id of into its log.
async fn grandchild(process: &Process) -> u32 {
    eventually("the id of the grandchild", async || process.log_tail().trim().parse().ok()).await
}

#[tokio::test]
async fn the_end_of_the_log_explains_an_early_end() {
    let error =
        Process::spawn(shell("echo no such flag >&2; exit 3").ready(Ready::Listens(([127, 0, 0, 1], 1).into())));
    let text = error.await.expect_err("ends").to_string();
    assert!(text.contains("no such flag") && text.contains('3'), "{text}");
}

#[tokio::test]
async fn a_process_that_never_gets_ready_is_an_error_and_is_cleaned_up() {
    let probe: roadstead_testkit::stack::Probe = Arc::new(|| Box::pin(async { Err("still warming up".to_owned()) }));
    let mut spec = shell("echo started; exec sleep 1000").ready(Ready::Probe(probe));
    spec.ready_deadline = Duration::from_millis(100);
    let error = Process::spawn(spec).await.expect_err("not ready");
    assert!(matches!(&error, StackError::NotReady { why, .. } if why == "still warming up"), "{error}");
}

#[tokio::test]
async fn dropping_ends_what_the_process_started() {
    let process = Process::spawn(shell("sleep 1000 & echo $!; wait")).await.expect("starts");
    let child = grandchild(&process).await;
    assert!(is_alive(child));
    drop(process);
    eventually("the end of the grandchild", async || (!is_alive(child)).then_some(())).await;
}

#[tokio::test]
async fn a_paused_process_stands_still_until_it_is_resumed() {
    // Not a shell: one that is stopped while it starts a program shows another state.
    let process = Process::spawn(Spec::new("sleep", "sleep").args(["1000"])).await.expect("starts");
    let id = process.id().expect("runs");
    process.pause();
    eventually("a stopped process", async || (state(id) == Some('T')).then_some(())).await;
    process.resume();
    eventually("a running process", async || (state(id) != Some('T')).then_some(())).await;
}

#[tokio::test]
async fn terminate_asks_and_restart_starts_anew() {
    let script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done";
    let mut process = Process::spawn(shell(script)).await.expect("starts");
    let id = process.id().expect("runs");
    eventually("the trap", async || process.log_tail().contains("up").then_some(())).await;
    let status = process.terminate().await.expect("ended by itself");
    assert_eq!(status.code(), Some(5));
    assert!(!process.is_running());
    process.restart().await.expect("starts again");
    assert!(process.is_running() && process.id() != Some(id));
    process.kill().await;
    assert!(!process.is_running());
}

/// The test runs itself as the owner, because an owner must be killed.
#[tokio::test]
async fn processes_of_a_killed_owner_are_ended() {
    const MARKER: &str = "ROADSTEAD_TESTKIT_OWNER";
    if let Ok(file) = std::env::var(MARKER) {
        let process = Process::spawn(shell("exec sleep 1000")).await.expect("starts");
        std::fs::write(file, process.id().expect("runs").to_string()).expect("written");
        std::future::pending::<()>().await;
    }
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("id");
    let this = std::env::current_exe().expect("known");
    let mut owner = Command::new(this)
        .args(["--exact", "stack::processes_of_a_killed_owner_are_ended"])
        .env(MARKER, &file)
        .spawn()
        .expect("starts");
    let read = |file: &Path| std::fs::read_to_string(file).ok()?.parse::<u32>().ok();
    let child = eventually("the id of the process", async || read(&file)).await;
    assert!(is_alive(child));
    send(Signal::Kill, owner.id());
    owner.wait().expect("ended");
    eventually("the end of the process", async || (!is_alive(child)).then_some(())).await;
}
