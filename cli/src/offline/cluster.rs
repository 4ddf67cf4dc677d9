//! The objects of a running cluster, read once with the credentials of a kubeconfig.
//!
//! What may not be read is named and left out, as a file would be that cannot be read; without its Ingresses there is
//! nothing to say.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use roadstead_manifests::resource::{Resource, resource};
use roadstead_routing::id::Kind;
use serde::Deserialize;
use serde_json::Value;

use super::OfflineError;
use super::manifests::Manifests;

/// What a report is made of.
const KINDS: [Kind; 5] = [Kind::IngressClass, Kind::Ingress, Kind::Service, Kind::EndpointSlice, Kind::Secret];
/// Objects of one answer.
const PAGE: u32 = 500;
/// For one answer.
const WITHIN: Duration = Duration::from_secs(30);

/// # Errors
/// If the kubeconfig cannot be used, the cluster cannot be reached, or its Ingresses may not be read.
pub async fn read(kubeconfig: &Path, context: Option<&str>) -> Result<Manifests, OfflineError> {
    let client = client(kubeconfig, context).await?;
    let mut manifests = Manifests::default();
    for kind in KINDS {
        match list(&client, kind, &mut manifests).await {
            Ok(()) => {
                manifests.whole.insert(kind);
            }
            Err(Failed::Denied(why)) if kind != Kind::Ingress => {
                manifests.skipped.push(format!("{}: {why}; they are left out", resource(kind).plural));
            }
            Err(Failed::Denied(why) | Failed::Answer(why)) => {
                return Err(OfflineError::Input(format!("{}: {why}", resource(kind).plural)));
            }
            Err(Failed::Unreachable(why)) => return Err(OfflineError::Unreachable(why)),
        }
    }
    Ok(manifests)
}

async fn client(kubeconfig: &Path, context: Option<&str>) -> Result<Client, OfflineError> {
    let unusable = |why: String| OfflineError::Input(format!("--kubeconfig {}: {why}", kubeconfig.display()));
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(chain(&error)))?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await.map_err(|error| unusable(chain(&error)))?;
    Client::try_from(config).map_err(|error| unusable(chain(&error)))
}

enum Failed {
    Denied(String),
    Answer(String),
    Unreachable(String),
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
struct ListMeta {
    #[serde(default)]
    r#continue: String,
}

async fn list(client: &Client, kind: Kind, manifests: &mut Manifests) -> Result<(), Failed> {
    let Resource { path, fields, plural, .. } = resource(kind);
    let mut token = String::new();
    loop {
        let mut target = format!("{path}?limit={PAGE}");
        for (name, value) in [("fieldSelector", fields), ("continue", &token)] {
            if !value.is_empty() {
                target.push_str(&format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
            }
        }
        let request =
            http::Request::get(&target).body(Vec::new()).map_err(|error| Failed::Answer(error.to_string()))?;
        let answer = tokio::time::timeout(WITHIN, client.request_text(request)).await;
        let answer = answer.map_err(|_| Failed::Unreachable(format!("{plural}: no answer within {WITHIN:?}")))?;
        let list: List = serde_json::from_str(&answer.map_err(failed)?)
            .map_err(|error| Failed::Answer(format!("the answer cannot be parsed: {error}")))?;
        for item in list.items.unwrap_or_default() {
            manifests.object(kind, item, plural);
        }
        token = list.metadata.r#continue;
        if token.is_empty() {
            return Ok(());
        }
    }
}

fn failed(error: kube::Error) -> Failed {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            Failed::Denied(format!("the API server denies them: {}", status.message))
        }
        kube::Error::Api(status) => {
            Failed::Answer(format!("the API server answered {}: {}", status.code, status.message))
        }
        other => Failed::Unreachable(format!("the API server cannot be reached: {}", chain(&other))),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}
