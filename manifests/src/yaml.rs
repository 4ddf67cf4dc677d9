//! Manifest files: YAML or JSON of several documents → the objects routing reads, in file order.
//!
//! Other kinds (Deployments, ConfigMaps) are passed over in silence, `kind: List` is opened, a missing namespace is
//! `default` as for `kubectl`. One document that cannot be read does not hide the others.

use roadstead_routing::finding::{Code, Severity};
use roadstead_routing::id::Kind;
use serde_json::{Value, json};

use crate::decode::{Converted, decode};
use crate::problem::Problem;

/// Values of one document: a list of all objects of a large cluster.
const NODES_MAX: usize = 10_000_000;
/// Bytes of text in one document.
const TEXT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Versions of kinds that are read, which Kubernetes has removed, with the one to use.
const OUTDATED: [((&str, &str), &str); 5] = [
    (("extensions/v1beta1", "Ingress"), "networking.k8s.io/v1"),
    (("networking.k8s.io/v1beta1", "Ingress"), "networking.k8s.io/v1"),
    (("networking.k8s.io/v1beta1", "IngressClass"), "networking.k8s.io/v1"),
    (("discovery.k8s.io/v1alpha1", "EndpointSlice"), "discovery.k8s.io/v1"),
    (("discovery.k8s.io/v1beta1", "EndpointSlice"), "discovery.k8s.io/v1"),
];

/// Reads every document of `text`.
///
/// # Errors
/// Per object: [`Code::MalformedObject`] if a document is no YAML (then without an object), or not of its kind's
/// shape, or of a version of its kind that Kubernetes has removed (then without an object).
pub fn from_yaml(text: &str) -> Vec<Result<Converted, Problem>> {
    let mut results = Vec::new();
    for (line, document) in documents(text) {
        match value(&document) {
            Ok(value) => objects(value, &mut results),
            Err(why) => results.push(Err(unreadable(line, &why))),
        }
    }
    results
}

/// JSON is YAML, and read much faster as what it is.
fn value(document: &str) -> Result<Value, String> {
    if document.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(document)
    {
        return Ok(value);
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
            max_total_scalar_bytes: TEXT_BYTES_MAX,
        },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(document, options).map_err(|error| error.to_string())
}

/// The documents of a stream and the line each begins at. A line that begins with `---` can be nothing else than a
/// separator, so splitting by lines is exact, and an error in one document stays there.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        let separator = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        let content = match separator {
            Some(rest) => {
                documents.push((index + 1, String::new()));
                rest
            }
            None => line,
        };
        if let Some((_, document)) = documents.last_mut() {
            document.push_str(content);
            document.push('\n');
        }
    }
    let blank = |document: &str| document.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'));
    documents.retain(|(_, document)| !blank(document));
    documents
}

fn objects(mut value: Value, results: &mut Vec<Result<Converted, Problem>>) {
    if value["kind"] == "List" {
        if let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) {
            items.into_iter().for_each(|item| object(item, results));
        }
        return;
    }
    object(value, results);
}

fn object(mut value: Value, results: &mut Vec<Result<Converted, Problem>>) {
    let Some(kind) = kind_of(&value) else {
        results.extend(outdated(&value).map(Err));
        return;
    };
    if !kind.is_cluster_scoped()
        && let Some(Value::Object(metadata)) = value.get_mut("metadata")
    {
        metadata.entry("namespace").or_insert_with(|| json!("default"));
    }
    results.push(decode(kind, value));
}

fn kind_of(value: &Value) -> Option<Kind> {
    match (value.get("apiVersion")?.as_str()?, value.get("kind")?.as_str()?) {
        ("networking.k8s.io/v1", "IngressClass") => Some(Kind::IngressClass),
        ("networking.k8s.io/v1", "Ingress") => Some(Kind::Ingress),
        ("v1", "Service") => Some(Kind::Service),
        ("v1", "Node") => Some(Kind::Node),
        ("v1", "Secret") => Some(Kind::Secret),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(Kind::EndpointSlice),
        _ => None,
    }
}

/// What no API server takes any more, but repositories still have. Passing it over in silence would hide an Ingress.
fn outdated(value: &Value) -> Option<Problem> {
    let (version, kind) = (value.get("apiVersion")?.as_str()?, value.get("kind")?.as_str()?);
    let (_, current) = OUTDATED.iter().find(|(old, _)| *old == (version, kind))?;
    let metadata = value.get("metadata");
    let text = |key: &str| metadata.and_then(|metadata| metadata.get(key)).and_then(Value::as_str);
    let (namespace, name) = (text("namespace").unwrap_or("default"), text("name").unwrap_or("without a name"));
    Some(Problem {
        object: None,
        code: Code::MalformedObject,
        severity: Severity::Error,
        message: format!("{kind} {namespace}/{name} is of {version}, which is not read"),
        remedy: format!("Convert it to {current}."),
    })
}

fn unreadable(line: usize, why: &str) -> Problem {
    Problem {
        object: None,
        code: Code::MalformedObject,
        severity: Severity::Error,
        message: format!("the document that begins at line {line} cannot be read: {}", why.replace('\n', "; ")),
        remedy: "Correct the YAML.".to_owned(),
    }
}
