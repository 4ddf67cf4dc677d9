//! What the tests share: fresh binaries, one small system, requests that are never retried.

#[path = "support/site.rs"]
pub mod site;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

/// The programs under test.
const PROGRAMS: [&str; 5] =
    ["roadstead-agent", "roadstead-controller", "roadstead-edge", "roadstead-demo", "roadstead"];

/// The folder of the binaries under test.
///
/// # Errors
/// If one is missing or older than a source file that it is made of.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let folder = roadstead_testkit::stack::roadstead::beside_current_exe()?;
    for name in PROGRAMS {
        let program = folder.join(name);
        let is_fresh = is_fresh(&program)
            .with_context(|| format!("{}: run `cargo build --workspace --bins` first", program.display()))?;
        anyhow::ensure!(
            is_fresh,
            "{} is older than its sources: run `cargo build --workspace --bins` first",
            program.display()
        );
    }
    Ok(folder)
}

/// Whether a program is younger than every source that cargo noted beside it (`PROGRAM.d`: `PROGRAM: SOURCE SOURCE …`).
fn is_fresh(program: &Path) -> anyhow::Result<bool> {
    let changed = |path: &Path| {
        let metadata = std::fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
        anyhow::Ok(metadata.modified()?)
    };
    let built = changed(program)?;
    let noted = std::fs::read_to_string(program.with_extension("d"))?;
    let sources = noted.split_once(": ").context("cargo's list of sources has another form")?.1;
    // A space within a path is escaped; a source that is gone was renamed or removed since.
    let sources = sources.trim_end().replace("\\ ", "\0");
    Ok(sources
        .split(' ')
        .map(|source| source.replace('\0', " "))
        .all(|source| changed(Path::new(&source)).is_ok_and(|changed| changed <= built)))
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
