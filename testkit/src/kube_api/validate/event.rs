//! Validation of events written through events.k8s.io/v1.
//!
//! In: an event in its stored form (core/v1 field names) and the one it replaces. Out: its refused fields.

use serde_json::Value;

use super::{Cause, is_qualified_name};

/// Letters in `action`, `reason` and `reportingInstance`.
const NAME_MAX: usize = 128;
/// Letters in `note`.
const NOTE_MAX: usize = 1024;

/// Fields that may not change once written: stored name, name in events.k8s.io/v1.
const IMMUTABLE: &[(&str, &str)] = &[
    ("eventTime", "eventTime"),
    ("reportingComponent", "reportingController"),
    ("reportingInstance", "reportingInstance"),
    ("action", "action"),
    ("reason", "reason"),
    ("involvedObject", "regarding"),
    ("related", "related"),
    ("message", "note"),
    ("type", "type"),
];

/// All refused fields.
pub(super) fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if new["eventTime"].is_null() {
        causes.push(Cause::required("eventTime", ""));
    }
    for (stored, field) in [("action", "action"), ("reason", "reason"), ("reportingInstance", "reportingInstance")] {
        match new[stored].as_str().unwrap_or_default() {
            "" => causes.push(Cause::required(field, "")),
            text if text.len() > NAME_MAX => {
                causes.push(Cause::invalid(field, &new[stored], "can have at most 128 characters"));
            }
            _ => {}
        }
    }
    match new["reportingComponent"].as_str().unwrap_or_default() {
        "" => causes.push(Cause::required("reportingController", "")),
        text if !is_qualified_name(text) => {
            causes.push(Cause::invalid("reportingController", &new["reportingComponent"], "must be a qualified name"));
        }
        _ => {}
    }
    if new["message"].as_str().is_some_and(|note| note.len() > NOTE_MAX) {
        causes.push(Cause::invalid("note", &Value::from("…"), "can have at most 1024 characters"));
    }
    if !matches!(new["type"].as_str(), Some("Normal" | "Warning")) {
        causes.push(Cause::not_supported("type", &new["type"], &["Normal", "Warning"]));
    }
    let regarding = new["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let namespace = new["metadata"]["namespace"].as_str().unwrap_or_default();
    if regarding.is_empty() && !matches!(namespace, "default" | "kube-system")
        || !regarding.is_empty() && regarding != namespace
    {
        let why = "does not match regarding.namespace";
        causes.push(Cause::invalid("metadata.namespace", &new["metadata"]["namespace"], why));
    }
    for (stored, field) in IMMUTABLE {
        if old.is_some_and(|old| old[*stored] != new[*stored]) {
            causes.push(Cause::invalid(*field, &new[*stored], "field is immutable"));
        }
    }
}
