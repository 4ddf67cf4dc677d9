//! The process `roadstead-test-postgres`: one private server for a whole test run.
//!
//! In: command line. Out: the URL on standard output, or a line in an environment file. The server ends with this process, or,
//! when another process is named, with that one.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Parser;
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection};

use super::{Durability, Listen, Owner, Postgres, PostgresError, PostgresOptions, SHARED_URL};
use crate::exit;

/// Starts a private Postgres and prints its URL. Runs until standard input closes or a signal comes.
#[derive(Debug, Parser)]
#[command(name = "roadstead-test-postgres")]
pub struct Args {
    /// Return as soon as the server runs, and let it end with this process instead.
    #[arg(long, value_name = "PID", conflicts_with = "until_parent_exits")]
    until_exit_of: Option<u32>,
    /// Return as soon as the server runs, and let it end with the process that started this one.
    #[arg(long)]
    until_parent_exits: bool,
    /// File to append `ROADSTEAD_TEST_POSTGRES=URL` to; nextest names one to its setup scripts.
    #[arg(long, env = "NEXTEST_ENV")]
    env_file: Option<PathBuf>,
    /// Sync commits to disk, as benchmarks want it.
    #[arg(long)]
    fsync: bool,
    /// Listen on a loopback port instead of only a unix socket.
    #[arg(long)]
    tcp: bool,
    /// Apply the migrations of this folder to the database that the URL names.
    #[arg(long, value_name = "DIR")]
    migrations: Option<PathBuf>,
}

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The server does not start.
    #[error(transparent)]
    Postgres(PostgresError),
    /// The URL cannot be handed over.
    #[error("write the URL: {0}")]
    Output(io::Error),
    /// The migrations cannot be read or fail.
    #[error("--migrations {}: {reason}", folder.display())]
    Migrations {
        /// Where they are.
        folder: PathBuf,
        /// What the database said.
        reason: String,
    },
}

/// Starts the server, hands its URL over, and waits for the end if it is to end with this process.
///
/// # Errors
/// The server does not start, or nobody can be told where it is.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let Args { until_exit_of, until_parent_exits, env_file, fsync, tcp, migrations } = args;
    let other = until_exit_of.or_else(|| until_parent_exits.then(std::os::unix::process::parent_id));
    let options = PostgresOptions {
        durability: if fsync { Durability::Safe } else { Durability::Fast },
        listen: if tcp { Listen::Loopback } else { Listen::UnixSocket },
        owner: other.map_or(Owner::ThisProcess, Owner::Process),
        ..PostgresOptions::default()
    };
    let server = Postgres::start(options).await.map_err(CommandError::Postgres)?;
    let url = server.url("postgres");
    if let Some(folder) = migrations {
        migrate(&url, &folder).await.map_err(|error| CommandError::Migrations { folder, reason: error.to_string() })?;
    }
    if let Some(path) = env_file {
        let mut file = File::options().create(true).append(true).open(path).map_err(CommandError::Output)?;
        writeln!(file, "{SHARED_URL}={url}").map_err(CommandError::Output)?;
    }
    writeln!(io::stdout(), "{url}").map_err(CommandError::Output)?;
    if other.is_some() {
        server.leave_to_owner();
        return Ok(());
    }
    tokio::select! {
        () = exit::requested() => {}
        () = closed_input() => {}
    }
    Ok(())
}

async fn migrate(url: &str, folder: &Path) -> Result<(), sqlx::migrate::MigrateError> {
    let mut connection = PgConnection::connect(url).await?;
    Migrator::new(folder).await?.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Returns when standard input ends.
async fn closed_input() {
    // What is read does not matter, nor why it ends.
    let _ = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await;
}
