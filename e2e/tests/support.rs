//! What the tests share: fresh binaries, one small system, requests that are never retried.

#[path = "support/site.rs"]
pub mod site;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;

/// The programs under test, each with the members of the workspace that it is made of.
const PROGRAMS: [(&str, &[&str]); 5] = [
    ("roadstead-agent", &["routing", "manifests", "proto", "runtime", "agent"]),
    ("roadstead-controller", &["routing", "proto", "runtime", "api", "controller"]),
    ("roadstead-edge", &["routing", "proto", "runtime", "edge"]),
    ("roadstead-demo", &["testkit", "demo"]),
    ("roadstead", &["api", "cli"]),
];

/// The folder of the binaries under test.
///
/// # Errors
/// If one is missing or older than a source file that it is made of.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let folder = roadstead_testkit::stack::roadstead::beside_current_exe()?;
    for (name, members) in PROGRAMS {
        let newest = newest_source(&workspace(), members)?;
        let program = folder.join(name);
        let built = std::fs::metadata(&program)
            .and_then(|metadata| metadata.modified())
            .with_context(|| format!("{}: run `cargo build --workspace --bins` first", program.display()))?;
        anyhow::ensure!(
            built >= newest,
            "{} is older than the sources: run `cargo build --workspace --bins` first",
            program.display()
        );
    }
    Ok(folder)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace").to_owned()
}

/// When the youngest source of what the binaries are made of was changed.
fn newest_source(root: &Path, members: &[&str]) -> anyhow::Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for member in members {
        let mut folders = vec![root.join(member).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if !entry.path().to_string_lossy().ends_with("tests.rs") {
                    newest = newest.max(entry.metadata()?.modified()?);
                }
            }
        }
    }
    Ok(newest)
}

/// Polls until `condition` holds.
///
/// # Errors
/// If it does not within `within`; `what` says what was waited for.
pub async fn until(within: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !condition().await {
        anyhow::ensure!(start.elapsed() < within, "after {} s still not: {what}", within.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
