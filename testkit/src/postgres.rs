//! A private Postgres: found on the machine, started as an unprivileged user, deleted afterwards.
//!
//! In: options. Out: a running server and its URL, and one database per test made from a migrated template. It never touches
//! an installed cluster, listens on a unix socket or loopback only, and cleans up after processes that died.

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

pub mod command;
mod database;
mod instance;
mod server;
mod system;

pub use database::TestDatabase;
pub use server::Postgres;

/// Environment variable with the URL of a server to share, for example one that a test runner started.
pub const SHARED_URL: &str = "ROADSTEAD_TEST_POSTGRES";
/// How long a server may take to start or stop.
pub const START_DEADLINE: Duration = Duration::from_secs(60);
/// Connections that a server accepts.
pub const CONNECTIONS_MAX: u32 = 300;
/// Database user, without password.
pub const USER: &str = "app";

/// Whether a commit survives a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// No fsync: for tests.
    Fast,
    /// As in production: for benchmarks and outage tests.
    Safe,
}

/// Where the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Only on a unix socket in its folder.
    UnixSocket,
    /// On a free port of 127.0.0.1 as well; the URL names it.
    Loopback,
}

/// Whose end is also the end of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The process that starts it.
    ThisProcess,
    /// Another process, by its id.
    Process(u32),
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Whether commits are synced.
    pub durability: Durability,
    /// Where it listens.
    pub listen: Listen,
    /// Whose end ends it.
    pub owner: Owner,
    /// Folder for all instances. Must be reachable for an unprivileged user, so not below /root.
    pub folder: PathBuf,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fast,
            listen: Listen::UnixSocket,
            owner: Owner::ThisProcess,
            // Short, because the path of a unix socket may have only 107 bytes.
            folder: PathBuf::from("/tmp/roadstead-postgres"),
        }
    }
}

/// Why there is no Postgres.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No server binaries on this machine.
    #[error("initdb and postgres are neither in /usr/lib/postgresql/*/bin nor in PATH: apt-get install postgresql")]
    NotInstalled,
    /// Running as root without an unprivileged user to hand over to.
    #[error("running as root, and neither the user postgres nor nobody exists to run the server")]
    NoUnprivilegedUser,
    /// A file or process operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// initdb or the server gave up.
    #[error("{program} did not work: {log}")]
    Failed {
        /// Which program.
        program: &'static str,
        /// The end of its output.
        log: String,
    },
    /// A statement failed.
    #[error("{what}: {source}")]
    Sql {
        /// What was tried.
        what: String,
        /// What the server said.
        source: sqlx::Error,
    },
    /// A database name with other letters than a-z, 0-9 and `_`.
    #[error("not a database name: {0:?}")]
    Name(String),
    /// The caller's migrations failed.
    #[error("migrations: {0}")]
    Migration(String),
}

/// URL of the database `postgres` on the server of this test run: the one that [`SHARED_URL`] names, else a private one that
/// lives as long as this process.
///
/// # Errors
/// There is no shared one and a private one cannot be started.
pub async fn shared() -> Result<String, PostgresError> {
    static PRIVATE: OnceLock<Postgres> = OnceLock::new();
    static STARTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    if let Some(url) = std::env::var(SHARED_URL).ok().filter(|url| !url.is_empty()) {
        return Ok(url);
    }
    let _guard = STARTING.lock().await;
    if let Some(server) = PRIVATE.get() {
        return Ok(server.url("postgres"));
    }
    let server = Postgres::start(PostgresOptions::default()).await?;
    Ok(PRIVATE.get_or_init(|| server).url("postgres"))
}
