//! The command line. Every flag can also be set as an environment variable `ROADSTEAD_<FLAG>`.

use std::net::SocketAddr;
use std::path::PathBuf;

use roadstead_runtime::log::LogArgs;

use crate::ca::CaCommand;

/// The control plane of Roadstead: agents report to it, edges are programmed by it.
#[derive(clap::Parser, Debug)]
#[command(name = "roadstead-controller", version)]
pub enum Command {
    /// Serve agents and edges.
    Serve(Box<ServeArgs>),
    /// Make an authority and certificates for development and small installations.
    #[command(subcommand)]
    Ca(CaCommand),
}

#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Where the world is stored: `postgres://USER@HOST/DATABASE`.
    #[arg(long, env = "ROADSTEAD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: String,
    /// How long a start waits for the database. Both are often started at once, and a database takes seconds.
    #[arg(long, env = "ROADSTEAD_DATABASE_WAIT_SECONDS", default_value_t = 30, value_name = "SECONDS")]
    pub database_wait_seconds: u64,
    /// The policy: clusters, pools, classes, defaults.
    #[arg(long, env = "ROADSTEAD_POLICY", value_name = "FILE")]
    pub policy: PathBuf,
    /// How often the policy file is compared. A few seconds, because a ConfigMap takes a minute to arrive anyway.
    #[arg(long, env = "ROADSTEAD_POLICY_POLL_SECONDS", default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub policy_poll_seconds: u64,
    /// Where agents and edges connect. All addresses, because they come from other machines; mutual TLS guards it.
    #[arg(long, env = "ROADSTEAD_GRPC_LISTEN", default_value = "0.0.0.0:7443", value_name = "ADDR")]
    pub grpc_listen: SocketAddr,
    /// Probes, metrics and /status. Loopback, because it has no authentication.
    #[arg(long, env = "ROADSTEAD_OBSERVE_LISTEN", default_value = "127.0.0.1:9700", value_name = "ADDR")]
    pub observe_listen: SocketAddr,
    /// The admin API. Loopback only, because its token would cross a network in the clear.
    #[arg(long, env = "ROADSTEAD_API_LISTEN", default_value = "127.0.0.1:9780", value_name = "ADDR")]
    pub api_listen: SocketAddr,
    /// The admin API's bearer token, in a file of mode 0600; made with a random token if it is not there. Without this
    /// flag there is no admin API.
    #[arg(long, env = "ROADSTEAD_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// This controller's certificate chain, with identity `controller/ID`.
    #[arg(long, env = "ROADSTEAD_TLS_CERT", value_name = "FILE")]
    pub tls_cert: PathBuf,
    /// The private key of --tls-cert.
    #[arg(long, env = "ROADSTEAD_TLS_KEY", value_name = "FILE")]
    pub tls_key: PathBuf,
    /// The authority whose certificates agents and edges present.
    #[arg(long, env = "ROADSTEAD_TLS_CA", value_name = "FILE")]
    pub tls_ca: PathBuf,
    #[command(flatten)]
    pub log: LogArgs,
}
