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
    /// What this replica is called among its peers; each needs a name of its own. By default the ID of its certificate
    /// and the name of the machine.
    #[arg(long, env = "ROADSTEAD_REPLICA_ID", value_name = "NAME")]
    pub replica_id: Option<String>,
    /// Where other replicas reach this one. By default --grpc-listen, or the name of the machine with its port if that
    /// is all addresses.
    #[arg(long, env = "ROADSTEAD_PEER_ADDRESS", value_name = "HOST:PORT")]
    pub peer_address: Option<String>,
    /// The name to expect in the certificates of other replicas, where it is not the host of their addresses.
    #[arg(long, env = "ROADSTEAD_PEER_NAME", value_name = "NAME")]
    pub peer_name: Option<String>,
    /// The key with which Secrets are sealed in the database: 32 bytes, or their base64 or hexadecimal text, in a file of
    /// mode 0600, the same for all replicas. Without it Secrets are not stored: after a restart of the controllers an edge
    /// without certificates gets none before the agents have reported again.
    #[arg(long, env = "ROADSTEAD_SECRETS_KEY_FILE", value_name = "FILE")]
    pub secrets_key_file: Option<PathBuf>,
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
