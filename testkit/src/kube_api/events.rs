//! One stored event, two API forms: core/v1 and events.k8s.io/v1.
//!
//! In: an event in the form of one group. Out: the same event in the other. Events are stored in the core/v1 form, so that
//! what an agent writes through events.k8s.io shows up in `kubectl get events` and `kubectl describe`, as in Kubernetes.

use serde_json::{Value, json};

use super::kind::Kind;

/// Field in core/v1, field in events.k8s.io/v1.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Turns an object as sent by a client into the stored form.
pub(crate) fn to_stored(kind: &Kind, object: Value) -> Value {
    if kind.group == "events.k8s.io" { rename(object, "v1", |(core, new)| (new, core)) } else { object }
}

/// Turns a stored object into the form that a kind's clients read.
pub(crate) fn from_stored(kind: &Kind, object: Value) -> Value {
    if kind.group == "events.k8s.io" { rename(object, "events.k8s.io/v1", |pair| pair) } else { object }
}

fn rename(
    mut object: Value,
    api_version: &str,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    if let Value::Object(map) = &mut object {
        for pair in RENAMED {
            let (from, to) = direction(*pair);
            if let Some(value) = map.remove(from) {
                map.insert(to.to_owned(), value);
            }
        }
        map.insert("apiVersion".to_owned(), json!(api_version));
    }
    object
}
