//! Typed decoding of what clients send, as a real API server does before anything else.
//!
//! In: an object or an apply configuration as JSON. Out: the same object in canonical form (unknown fields and nulls
//! gone), or a 400 that names the wrong field. Values are not judged here; that is validation.

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::Failure;
use super::kind::Kind;

/// Decodes an object in its stored form; `kind` must own the stored table.
pub(crate) fn canonical(kind: &Kind, object: Value) -> Result<Value, Failure> {
    match kind.resource {
        "namespaces" => through::<Namespace>(kind, object),
        "services" => through::<Service>(kind, object),
        "secrets" => through::<Secret>(kind, object),
        "configmaps" => through::<ConfigMap>(kind, object),
        "nodes" => through::<Node>(kind, object),
        "pods" => through::<Pod>(kind, object),
        "events" => through::<Event>(kind, object),
        "ingresses" => through::<Ingress>(kind, object),
        "ingressclasses" => through::<IngressClass>(kind, object),
        "endpointslices" => through::<EndpointSlice>(kind, object),
        _ => Ok(object),
    }
}

fn through<T: DeserializeOwned + Serialize>(kind: &Kind, object: Value) -> Result<Value, Failure> {
    let refuse = |error: serde_json::Error| {
        let name = kind.kind;
        Failure::bad_request(format!("{name} in version \"{}\" cannot be handled as a {name}: {error}", kind.version))
    };
    let typed: T = serde_json::from_value(object).map_err(refuse)?;
    let mut canonical = serde_json::to_value(typed).map_err(refuse)?;
    if let Some(metadata) = canonical["metadata"].as_object_mut() {
        metadata.retain(|_, value| !is_empty(value));
    }
    Ok(canonical)
}

/// Metadata never keeps an empty map or list.
fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}
