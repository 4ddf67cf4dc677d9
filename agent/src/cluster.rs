//! The Kubernetes cluster: how to reach it and who it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::complain;

const CONNECT_MAX: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Its uid identifies a Kubernetes cluster for as long as that lives.
const IDENTITY_NAMESPACE: &str = "kube-system";

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("--kubeconfig {path}: cannot use it: {reason}")]
    Kubeconfig { path: String, reason: String },
    #[error("--context {context}: no such context in {source_name}; it has: {known}")]
    Context { context: String, source_name: String, known: String },
    #[error(
        "no Kubernetes cluster: neither $KUBECONFIG, ~/.kube/config nor a pod's ServiceAccount can be used ({reason}); give --kubeconfig FILE"
    )]
    Nothing { reason: String },
    #[error("set up the Kubernetes client: {0}")]
    Client(String),
}

/// What the controller wants to know of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterFacts {
    /// `metadata.uid` of namespace kube-system.
    pub uid: String,
    /// Empty if the API server does not say.
    pub version: String,
}

/// A client for the cluster that the flags choose. Nothing is contacted yet.
///
/// # Errors
/// Names the flag that does not fit.
pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, ClusterError> {
    let mut config = match (kubeconfig, context) {
        (None, None) => {
            Config::infer().await.map_err(|error| ClusterError::Nothing { reason: complain::chain(&error) })?
        }
        (path, context) => from_file(path, context).await?,
    };
    config.connect_timeout = Some(CONNECT_MAX);
    // Each task has its own backoff, and wants to see its failures.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| ClusterError::Client(complain::chain(&error)))
}

async fn from_file(path: Option<&Path>, context: Option<&str>) -> Result<Config, ClusterError> {
    let shown = path.map_or_else(|| "$KUBECONFIG or ~/.kube/config".to_owned(), |path| path.display().to_string());
    let unusable = |reason: String| ClusterError::Kubeconfig { path: shown.clone(), reason };
    let file = read(path.map(PathBuf::from)).map_err(|error| unusable(complain::chain(&error)))?;
    if let Some(context) = context
        && !file.contexts.iter().any(|known| known.name == context)
    {
        let known: Vec<&str> = file.contexts.iter().map(|context| context.name.as_str()).collect();
        return Err(ClusterError::Context {
            context: context.to_owned(),
            source_name: shown,
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
        });
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(file, &options).await.map_err(|error| unusable(complain::chain(&error)))
}

fn read(path: Option<PathBuf>) -> Result<Kubeconfig, kube::config::KubeconfigError> {
    match path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    }
}

/// Asks the cluster who it is.
///
/// # Errors
/// One line with the remedy, to be shown and tried again.
pub async fn identify(client: &Client) -> Result<ClusterFacts, String> {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = match tokio::time::timeout(ANSWER_MAX, api.get(IDENTITY_NAMESPACE)).await {
        Err(_elapsed) => return Err(format!("the Kubernetes API does not answer within {ANSWER_MAX:?}")),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
            return Err(format!(
                "the Kubernetes API denies reading namespace {IDENTITY_NAMESPACE}: {}; grant what agent/deploy/rbac.yaml lists to the agent's user",
                status.message
            ));
        }
        Ok(Err(kube::Error::Api(status))) => {
            return Err(format!("the Kubernetes API answered {}: {}", status.code, status.message));
        }
        Ok(Err(error)) => return Err(format!("the Kubernetes API cannot be reached: {}", complain::chain(&error))),
        Ok(Ok(namespace)) => namespace,
    };
    let uid = namespace.metadata.uid.filter(|uid| !uid.is_empty());
    let uid = uid.ok_or_else(|| format!("namespace {IDENTITY_NAMESPACE} has no uid"))?;
    let version = tokio::time::timeout(ANSWER_MAX, client.apiserver_version()).await;
    let version = version.ok().and_then(Result::ok).map_or_else(String::new, |info| info.git_version);
    Ok(ClusterFacts { uid, version })
}
