//! Logging: readable lines for people, JSON for collectors. Secrets are never logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

#[derive(clap::Args, Clone, Debug)]
pub struct LogArgs {
    /// Log lines as text for people or as JSON for collectors.
    #[arg(long, env = "ROADSTEAD_LOG_FORMAT", default_value = "text", value_name = "text|json")]
    pub log_format: LogFormat,
    /// What to log, as a tracing filter: `info`, `roadstead_agent=debug,info`.
    #[arg(long, env = "ROADSTEAD_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("--log {filter}: {reason}")]
    Filter { filter: String, reason: String },
    #[error("logging is already set up")]
    AlreadySet,
}

/// Sets up logging for the process, on stderr.
///
/// # Errors
/// If the filter cannot be parsed, or logging was set up before.
pub fn init(args: &LogArgs) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| LogError::Filter { filter: args.log.clone(), reason: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match args.log_format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    set.map_err(|_| LogError::AlreadySet)
}
