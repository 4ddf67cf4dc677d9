//! How the small binaries of this crate start and end: logs on standard error, one line on failure, a clean end on
//! SIGINT and SIGTERM.

use std::fmt::Display;
use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Sends logs to standard error; `RUST_LOG` chooses the level.
pub fn init_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// Runs the process to its end; a failure is one line on standard error.
pub fn block_on<E: Display>(run: impl Future<Output = Result<(), E>>) -> ExitCode {
    let result = match Runtime::new() {
        Ok(runtime) => {
            let result = runtime.block_on(run).map_err(|error| error.to_string());
            // A blocking read of standard input would hold the process back.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(format!("start the runtime: {error}")),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    // Nothing is left to do if standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::FAILURE
}

/// Returns when the process is asked to end. Without signal handlers it never does, and the signal ends the process.
pub async fn requested() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
