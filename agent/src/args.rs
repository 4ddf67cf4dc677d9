//! The flags of `roadstead-agent`. Each can also be given as an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use roadstead_runtime::log::LogArgs;

/// Connects one Kubernetes cluster to Roadstead.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "roadstead-agent", version)]
pub struct Args {
    /// A controller's address, `https://HOST:PORT`. Give it several times for several replicas: they are tried in turn.
    #[arg(long, env = "ROADSTEAD_CONTROLLER", required = true, value_delimiter = ',', value_name = "URL")]
    pub controller: Vec<String>,

    /// The name to expect in the controller's certificate, where it is not the host of the address.
    #[arg(long, env = "ROADSTEAD_CONTROLLER_NAME", value_name = "NAME")]
    pub controller_name: Option<String>,

    /// The agent's certificate chain, PEM. Its identity `cluster/ID` says which cluster this is.
    #[arg(long, env = "ROADSTEAD_TLS_CERT", value_name = "FILE")]
    pub tls_cert: PathBuf,

    /// The private key of that certificate, PEM.
    #[arg(long, env = "ROADSTEAD_TLS_KEY", value_name = "FILE")]
    pub tls_key: PathBuf,

    /// The authority that signed the controller's certificate, PEM.
    #[arg(long, env = "ROADSTEAD_TLS_CA", value_name = "FILE")]
    pub tls_ca: PathBuf,

    /// The kubeconfig of the cluster. Without it: $KUBECONFIG or ~/.kube/config, else the pod's ServiceAccount.
    #[arg(long, env = "ROADSTEAD_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig to use, instead of its current one.
    #[arg(long, env = "ROADSTEAD_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,

    /// Where to serve /livez, /readyz and /metrics. Loopback by default: in a pod, use 0.0.0.0:9701 for the probes.
    #[arg(long, env = "ROADSTEAD_OBSERVE_LISTEN", default_value = "127.0.0.1:9701", value_name = "ADDR")]
    pub observe_listen: SocketAddr,

    #[command(flatten)]
    pub log: LogArgs,
}
