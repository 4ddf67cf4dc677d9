//! The command lines of what needs no controller.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use roadstead_routing::id::ClusterId;

use crate::offline::request::{Header, Scheme};

/// What `--help` says at its end, because scripts read it.
const EXPLAIN_CODES: &str = "Exit codes: 0 answered, whatever the answer; 1 a file, folder or the policy cannot be read, \
     or with --strict a document in them; 2 the command line is wrong.";
const MIGRATE_CODES: &str = "Exit codes: 0 reported; 1 a file or folder cannot be read, or with --strict something is \
     refused, unreadable or different; 2 the command line is wrong; 3 a cluster or an address to compare cannot be reached.";

/// Say which route and which backends a request would get from manifests, and why. Asks no controller.
#[derive(Args, Debug)]
#[command(after_help = EXPLAIN_CODES)]
pub struct Explain {
    /// A cluster's manifests: a folder (all .yaml, .yml and .json in it), a file, or - for stdin. As often as needed.
    #[arg(long, required = true, value_name = "CLUSTER=DIR")]
    pub manifests: Vec<Cluster>,
    /// The controller's policy file. Absent: one pool, `default`, which serves class `roadstead`.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The pool that the request reaches. Absent: the policy's default pool, or its only one.
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
    /// The zone of the edge, for zone hints of endpoints.
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
    /// The region of the edge, for the strategy `nearest`.
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// What the client speaks. Absent: as the URL says, https with --sni, else http.
    #[arg(long, value_name = "SCHEME")]
    pub scheme: Option<Scheme>,
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// A header field of the request; `Host` replaces the URL's.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub headers: Vec<Header>,
    /// The name that the client asks a certificate for. Absent: with https the URL's host.
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// Read requests from stdin as JSON, one in a line, and answer each with a line of JSON.
    #[arg(long, conflicts_with_all = ["url", "scheme", "headers", "sni"])]
    pub batch: bool,
    /// Take each Service without EndpointSlices to have an endpoint, 192.0.2.1: manifests from Git have none.
    #[arg(long)]
    pub assume_ready: bool,
    /// Answer nothing if any document cannot be read.
    #[arg(long)]
    pub strict: bool,
    /// What is asked for, such as http://shop.example.com/cart?x=1.
    #[arg(required_unless_present = "batch")]
    pub url: Option<String>,
}

/// Say what becomes of Ingresses written for ingress-nginx. Asks no controller, and a cluster only with --kubeconfig.
#[derive(Args, Debug)]
#[command(after_help = MIGRATE_CODES)]
pub struct Migrate {
    /// Folders (all .yaml, .yml and .json in them), files, or - for stdin, such as of `kubectl get ingress -A -o yaml`.
    #[arg(value_name = "PATH", required_unless_present_any = ["requests", "kubeconfig"])]
    pub paths: Vec<PathBuf>,
    /// Read a running cluster instead, with these credentials. Nothing is written there.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    pub kubeconfig: Option<PathBuf>,
    /// Another context of the kubeconfig than its current one.
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub context: Option<String>,
    /// The controller's policy file. Absent: one pool, `default`, which serves classes `nginx` and `roadstead`.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Exit with 1 if anything is refused, cannot be read, or differs between the addresses compared.
    #[arg(long)]
    pub strict: bool,
    /// Send requests to both addresses, http://HOST:PORT, and report where the answers differ.
    #[arg(long, num_args = 2, value_names = ["URL_A", "URL_B"])]
    pub compare: Vec<String>,
    /// Requests to compare with, as for `explain --batch`; - for stdin. Absent: each host and path of the Ingresses.
    #[arg(long, value_name = "FILE", requires = "compare")]
    pub requests: Option<PathBuf>,
}

/// A cluster and where its manifests are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    pub id: ClusterId,
    pub path: PathBuf,
}

impl FromStr for Cluster {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((id, path)) = text.split_once('=') else {
            return Err("expected CLUSTER=DIR, such as eu-west=manifests/eu-west".to_owned());
        };
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        if id.is_empty() || !id.bytes().all(is_letter) {
            return Err(format!("`{id}` is not a cluster id: use a-z, 0-9, `-` and `.`"));
        }
        if path.is_empty() {
            return Err(format!("cluster {id} has no folder or file"));
        }
        Ok(Self { id: id.into(), path: path.into() })
    }
}
