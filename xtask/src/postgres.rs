//! A private Postgres server for one run: tests make their own databases in it.

use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

use crate::setup;

pub struct TestPostgres {
    child: Child,
    pub url: String,
}

impl TestPostgres {
    /// Starts the server; with `migrations`, its default database has them applied.
    pub fn start(migrations: Option<&Path>) -> anyhow::Result<Self> {
        let program = setup::binaries().join("roadstead-test-postgres");
        let mut command = Command::new(&program);
        if let Some(migrations) = migrations {
            command.arg("--migrations").arg(migrations);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let stdout = child.stdout.take().context("its stdout is piped")?;
        let mut url = String::new();
        std::io::BufReader::new(stdout).read_line(&mut url).context("read the URL of the Postgres")?;
        ensure!(url.starts_with("postgres"), "{} printed no URL", program.display());
        Ok(Self { child, url: url.trim().to_owned() })
    }
}

impl Drop for TestPostgres {
    /// It stops when its stdin closes.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Nothing is left to do if waiting fails: the process that held the server is gone.
        let _ = self.child.wait();
    }
}
