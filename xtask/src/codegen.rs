//! Generated files: protobuf code and the offline data against which SQL queries are checked at compile time.

use std::path::Path;

use anyhow::{Context, ensure};

use crate::postgres::TestPostgres;
use crate::setup;
use crate::step::{cargo, root, run, say};

const OFFLINE: &str = "controller/.sqlx";

/// Rewrites both.
pub fn rewrite() -> anyhow::Result<()> {
    setup::for_running()?;
    run("protobuf", cargo(&["nextest", "run", "-p", "roadstead-proto", "generated"]).env("UPDATE", "1"))?;
    // Alone, because the controller does not build offline while a query is new.
    run("build the test Postgres", &mut cargo(&["build", "--package", "roadstead-testkit", "--bins"]))?;
    let folder = root().join(OFFLINE);
    prepare_queries(&folder)?;
    say(&format!("── wrote {}", folder.display()));
    Ok(())
}

/// Fails if the committed offline data is not what the queries and migrations say. Offline builds alone never notice
/// that the schema changed.
pub fn check() -> anyhow::Result<()> {
    run("build the test Postgres", &mut cargo(&["build", "--workspace", "--bins"]))?;
    let fresh = root().join("target/sqlx-check");
    prepare_queries(&fresh)?;
    let (known, now) = (listing(&root().join(OFFLINE))?, listing(&fresh)?);
    ensure!(known == now, "{OFFLINE} is stale: run `cargo xtask codegen`");
    Ok(())
}

/// Compiles the controller against a real, freshly migrated database; the query macros write what they learnt.
fn prepare_queries(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("clear {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let postgres = TestPostgres::start(Some(&root().join("migrations")))?;
    // The macros run only when the crate is compiled anew, and cargo does not see the schema.
    let lib = root().join("controller/src/lib.rs");
    let touched = std::fs::File::options().append(true).open(&lib).context("open controller/src/lib.rs")?;
    touched.set_modified(std::time::SystemTime::now()).context("touch controller/src/lib.rs")?;
    let mut check = cargo(&["check", "--workspace", "--bins"]);
    check.env("DATABASE_URL", &postgres.url).env("SQLX_OFFLINE", "false").env("SQLX_OFFLINE_DIR", folder);
    run("check the SQL queries against Postgres", &mut check)?;
    touched.set_modified(std::time::SystemTime::now()).context("touch controller/src/lib.rs")
}

/// File names and contents, sorted.
fn listing(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(entry.path())?));
    }
    files.sort();
    Ok(files)
}
