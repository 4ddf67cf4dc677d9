//! Guarded decoding: JSON of any shape → one typed object, or a Problem that names it as far as it can be read.

use k8s_openapi::api::{core, discovery, networking};
use roadstead_routing::finding::{Code, Severity};
use roadstead_routing::id::{Kind, ObjectKey};
use roadstead_routing::object::Object;
use serde_json::Value;

use crate::problem::{Problem, Problems};
use crate::{endpoint_slice, ingress, ingress_class, node, secret, service};

/// An object and what could not be kept of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Converted {
    pub object: Object,
    /// At most `limit::FINDINGS_PER_OBJECT_MAX`.
    pub problems: Vec<Problem>,
}

/// Decodes `value`, an object of `kind` as the Kubernetes API encodes it; `apiVersion` and `kind` may be missing, as
/// they are in lists.
///
/// # Errors
/// [`Code::MalformedObject`] if it has no name or does not have the shape of its kind.
pub fn decode(kind: Kind, value: Value) -> Result<Converted, Problem> {
    let key = key_of(kind, &value).ok_or_else(|| malformed(None, kind, "metadata.name is missing"))?;
    let mut problems = Problems::of(key.clone());
    let object = match kind {
        Kind::IngressClass => ingress_class::convert(&typed::<networking::v1::IngressClass>(&key, value)?),
        Kind::Ingress => ingress::convert(&typed::<networking::v1::Ingress>(&key, value)?, &mut problems),
        Kind::Service => service::convert(&typed::<core::v1::Service>(&key, value)?, &mut problems),
        Kind::Node => node::convert(&typed::<core::v1::Node>(&key, value)?),
        Kind::EndpointSlice => {
            endpoint_slice::convert(&typed::<discovery::v1::EndpointSlice>(&key, value)?, &mut problems)
        }
        Kind::Secret => secret::convert(&typed::<core::v1::Secret>(&key, value)?),
    };
    Ok(Converted { object, problems: problems.into_vec() })
}

/// The key of an object whose metadata can be read, whatever the rest looks like.
pub fn key_of(kind: Kind, value: &Value) -> Option<ObjectKey> {
    let metadata = value.get("metadata")?;
    let name = metadata.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or("");
    let scoped = kind.is_cluster_scoped() == namespace.is_empty();
    scoped.then(|| ObjectKey::new(kind, namespace, name))
}

fn typed<T: k8s_openapi::serde::de::DeserializeOwned>(key: &ObjectKey, value: Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(|error| {
        // The error quotes what it could not read.
        let why =
            if key.kind == Kind::Secret { "it has not the shape of a Secret".to_owned() } else { error.to_string() };
        malformed(Some(key.clone()), key.kind, &why)
    })
}

fn malformed(object: Option<ObjectKey>, kind: Kind, why: &str) -> Problem {
    let subject = object.as_ref().map_or_else(|| format!("an object of kind {kind}"), ToString::to_string);
    Problem {
        object,
        code: Code::MalformedObject,
        severity: Severity::Error,
        message: format!("{subject} cannot be read: {why}"),
        remedy: "Correct the object, or delete and create it again; until then it is left as it was last known."
            .to_owned(),
    }
}
