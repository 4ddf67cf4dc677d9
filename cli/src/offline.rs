//! What needs no controller: manifests → the routing that edges run → an answer or a report.
//!
//! [`manifests`] reads files and [`policy`] the policy, [`world`] builds the table from them. [`explain`] says which
//! route requests get, [`migrate`] what becomes of Ingresses that were written for ingress-nginx.
//!
//! Exit codes: 0 answered; 1 an input cannot be read or, with `--strict`, is not as it should be; 2 the command line
//! is wrong; 3 an address cannot be reached.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

pub mod args;
mod assumed;
mod cluster;
pub mod explain;
mod manifests;
pub mod migrate;
mod policy;
mod request;
mod world;

/// Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Input(String),
    #[error("{0}")]
    Unreachable(String),
    /// Such as `head` that has enough.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// What came of a command that could do its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    /// Something is not as `--strict` wants it. It was said already.
    NotStrict,
}

/// The exit code, after saying on stderr what failed.
pub fn exit(result: Result<Outcome, OfflineError>) -> ExitCode {
    let error = match result {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::NotStrict) | Err(OfflineError::Output(_)) => return ExitCode::FAILURE,
        Err(error) => error,
    };
    // If stderr is closed nobody is told.
    let _ = writeln!(io::stderr(), "error: {}", printable(&error.to_string().replace('\n', "; ")));
    match error {
        OfflineError::Usage(_) => ExitCode::from(2),
        OfflineError::Unreachable(_) => ExitCode::from(3),
        OfflineError::Input(_) | OfflineError::Output(_) => ExitCode::FAILURE,
    }
}

/// Seconds since the Unix epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Says what was skipped.
fn warn(skipped: &[String]) {
    for line in skipped {
        // If stderr is closed nobody is told.
        let _ = writeln!(io::stderr(), "warning: {}", printable(&line.replace('\n', "; ")));
    }
}

/// For a terminal: files of others may hold characters that would steer it.
fn printable(text: &str) -> String {
    let shown = |it: char| if it.is_control() && it != '\n' { char::REPLACEMENT_CHARACTER } else { it };
    text.chars().map(shown).collect()
}
