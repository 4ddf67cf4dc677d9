//! The process `roadstead-fake-kube`: one simulated API server with its flags.
//!
//! In: command line. Out: a running server until SIGINT or SIGTERM. Faults are switched through `/__faults`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;

use super::{ApiServer, ApiServerOptions, FaultSettings};
use crate::exit;

/// A simulated Kubernetes API server for demos and tests. State is kept in memory.
#[derive(Debug, Parser)]
#[command(name = "roadstead-fake-kube")]
pub struct Args {
    /// Name of the cluster.
    #[arg(long)]
    name: String,
    /// Loopback address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File to write a kubeconfig to, once the server listens.
    #[arg(long)]
    kubeconfig_out: Option<PathBuf>,
    /// Folder whose *.yaml, *.yml and *.json files are applied at start, in the order of their names.
    #[arg(long)]
    manifests: Option<PathBuf>,
}

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The address of `--listen` cannot be used.
    #[error("--listen {address}: {source}")]
    Listen {
        /// The address as given.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder cannot be read or written.
    #[error("{flag} {}: {source}", path.display())]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A manifest is not YAML, or the server refuses it.
    #[error("--manifests {}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Runs until it is told to stop.
///
/// # Errors
/// A flag cannot be honoured; the message names it.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let Args { name, listen, kubeconfig_out, manifests } = args;
    // Nobody is to see the server, or find it ready, before the manifests are in and the kubeconfig is written.
    let faults = FaultSettings { outage: true, ..FaultSettings::default() };
    let options = ApiServerOptions { listen: Some(listen), faults, ..ApiServerOptions::new(name.as_str()) };
    let server = ApiServer::start(options).await.map_err(|source| CommandError::Listen { address: listen, source })?;
    if let Some(folder) = manifests {
        let count = apply_folder(&server, &folder)?;
        tracing::info!(cluster.id = name, count, "applied the manifests");
    }
    if let Some(path) = kubeconfig_out {
        server.write_kubeconfig(&path).map_err(|source| CommandError::File {
            flag: "--kubeconfig-out",
            path,
            source,
        })?;
    }
    server.faults().clear();
    tracing::info!(cluster.id = name, url = server.url(), "the simulated Kubernetes API is ready");
    exit::requested().await;
    Ok(())
}

/// Applies all manifests of a folder; returns how many objects there were.
///
/// # Errors
/// A file cannot be read, is not YAML, or holds an object that the server refuses.
pub fn apply_folder(server: &ApiServer, folder: &Path) -> Result<usize, CommandError> {
    let unreadable = |path: &Path, source| CommandError::File { flag: "--manifests", path: path.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(|source| unreadable(folder, source))?;
    let is_manifest = |path: &PathBuf| {
        path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
    };
    let mut files: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(is_manifest).collect();
    files.sort();
    let mut count = 0;
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
        let refuse = |reason: String| CommandError::Manifest { path: path.clone(), reason };
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| refuse(error.to_string()))?;
        for object in documents.into_iter().filter(|document| !document.is_null()) {
            server.apply(object).map_err(|failure| refuse(failure.to_string()))?;
            count += 1;
        }
    }
    Ok(count)
}
