//! Real processes for tests and the demo.
//!
//! In: what to start and how to see that it is ready. Out: running processes with collected logs, that can be paused, killed
//! and restarted. Dropping them ends their whole process groups. What the processes are is no concern of this module.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub mod binaries;
pub(crate) mod guard;
pub mod ports;
mod process;
mod ready;
pub mod roadstead;
pub mod signal;

pub use process::Process;
pub use ready::{Probe, Ready};

/// How long a process may take to become ready, unless its [`Spec`] says otherwise.
pub const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long a process may take to end after SIGTERM before it is killed.
pub const TERMINATE_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of a log that go into an error.
pub const LOG_TAIL_BYTES: u64 = 4000;

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name in errors and of the log file.
    pub name: String,
    /// Program to run.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables on top of ours.
    pub env: Vec<(String, String)>,
    /// How to see that it is ready.
    pub ready: Ready,
    /// How long it may take to become ready.
    pub ready_deadline: Duration,
    /// Folder for its log, one file per name; a temporary one if absent.
    pub log_folder: Option<PathBuf>,
}

/// Why a process is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The binary does not exist.
    #[error("no binary {name} in {}: build it first, or name its folder in {}", folder.display(), binaries::FOLDER_VARIABLE)]
    NoBinary {
        /// Name of the binary.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A file or process operation failed.
    #[error("{name}: {what}: {source}")]
    Io {
        /// Name of the process.
        name: String,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("{name} ended ({status}) before it was ready; end of its log:\n{log}")]
    Ended {
        /// Name of the process.
        name: String,
        /// Exit code or signal.
        status: String,
        /// End of its log.
        log: String,
    },
    /// It did not become ready in time.
    #[error("{name} is not ready after {after:?}: {why}; end of its log:\n{log}")]
    NotReady {
        /// Name of the process.
        name: String,
        /// How long it was waited for.
        after: Duration,
        /// What the last probe said.
        why: String,
        /// End of its log.
        log: String,
    },
}

impl Spec {
    /// A program without arguments that is ready at once.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            ready: Ready::AtOnce,
            ready_deadline: READY_DEADLINE,
            log_folder: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<String>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Says how to see that it is ready.
    #[must_use]
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready = ready;
        self
    }
}
