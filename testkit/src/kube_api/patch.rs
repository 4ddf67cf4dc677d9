//! JSON patch (RFC 6902), JSON merge patch (RFC 7396) and strategic merge patch on JSON values.
//!
//! In: a document and a patch. Out: the patched document, or why it cannot be. The strategic form knows the merge keys
//! of the lists that kubectl edits on the kinds served here; all other lists are replaced.

use serde_json::{Map, Value, json};

/// Operations in one JSON patch, as Kubernetes limits them.
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// Why a patch does not apply.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchError {
    /// The patch document itself is malformed.
    #[error("the patch is malformed: {0}")]
    Malformed(String),
    /// A path does not exist in the document.
    #[error("the path {0:?} does not exist")]
    Missing(String),
    /// A `test` operation found something else.
    #[error("testing path {0:?} failed")]
    TestFailed(String),
}

/// RFC 7396.
pub(crate) fn merge(document: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Value::Object(map) = document else { return };
    for (name, value) in fields {
        if value.is_null() {
            map.remove(name);
        } else {
            merge(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902.
pub(crate) fn json_patch(document: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = patch.as_array().ok_or_else(|| PatchError::Malformed("not a list of operations".to_owned()))?;
    if operations.len() > JSON_PATCH_OPERATIONS_MAX {
        return Err(PatchError::Malformed(format!("more than {JSON_PATCH_OPERATIONS_MAX} operations")));
    }
    operations.iter().try_for_each(|operation| run_operation(document, operation))
}

fn run_operation(document: &mut Value, operation: &Value) -> Result<(), PatchError> {
    let text = |name: &str| {
        operation[name].as_str().ok_or_else(|| PatchError::Malformed(format!("{name:?} must be a string")))
    };
    let value = || operation.get("value").cloned().ok_or_else(|| PatchError::Malformed("no value".to_owned()));
    let path = text("path")?;
    match text("op")? {
        "add" => add(document, path, value()?),
        "remove" => take(document, path).map(|_| ()),
        "replace" => {
            *document.pointer_mut(path).ok_or_else(|| PatchError::Missing(path.to_owned()))? = value()?;
            Ok(())
        }
        "move" => {
            let moved = take(document, text("from")?)?;
            add(document, path, moved)
        }
        "copy" => {
            let from = text("from")?;
            let copied = document.pointer(from).cloned().ok_or_else(|| PatchError::Missing(from.to_owned()))?;
            add(document, path, copied)
        }
        "test" if document.pointer(path).unwrap_or(&Value::Null) == &value()? => Ok(()),
        "test" => Err(PatchError::TestFailed(path.to_owned())),
        other => Err(PatchError::Malformed(format!("unknown operation {other:?}"))),
    }
}

fn split_pointer(path: &str) -> Result<(&str, String), PatchError> {
    let (parent, last) = path.rsplit_once('/').ok_or_else(|| PatchError::Malformed(format!("bad path {path:?}")))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let missing = || PatchError::Missing(path.to_owned());
    let (parent, last) = split_pointer(path)?;
    match document.pointer_mut(parent).ok_or_else(missing)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let index = last.parse().ok().filter(|index| *index <= items.len()).ok_or_else(missing)?;
            items.insert(index, value);
        }
        _ => return Err(missing()),
    }
    Ok(())
}

fn take(document: &mut Value, path: &str) -> Result<Value, PatchError> {
    let missing = || PatchError::Missing(path.to_owned());
    let (parent, last) = split_pointer(path)?;
    match document.pointer_mut(parent).ok_or_else(missing)? {
        Value::Object(map) => map.remove(&last).ok_or_else(missing),
        Value::Array(items) => {
            let index = last.parse().ok().filter(|index| *index < items.len()).ok_or_else(missing)?;
            Ok(items.remove(index))
        }
        _ => Err(missing()),
    }
}

/// The field that identifies items of a list in a strategic merge patch.
fn merge_key(path: &str, items: &[Value]) -> Option<&'static str> {
    match path {
        "spec.ports" => Some("port"),
        "spec.containers" | "spec.initContainers" | "spec.volumes" | "spec.containers.env" => Some("name"),
        "spec.containers.ports" => Some("containerPort"),
        "spec.containers.volumeMounts" => Some("mountPath"),
        "metadata.ownerReferences" => Some("uid"),
        "status.conditions" | "status.addresses" => Some("type"),
        _ => None,
    }
    .filter(|_| items.iter().all(Value::is_object))
}

/// Kubernetes' strategic merge patch, with the directives `$patch: delete|replace`, `$setElementOrder/…`,
/// `$deleteFromPrimitiveList/…` and `$retainKeys`.
pub(crate) fn strategic(document: &mut Value, patch: &Value) {
    strategic_at("", document, patch);
}

fn strategic_at(path: &str, document: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() || fields.get("$patch") == Some(&json!("replace")) {
        *document = Value::Object(Map::new());
    }
    let Value::Object(map) = document else { return };
    if let Some(Value::Array(kept)) = fields.get("$retainKeys") {
        map.retain(|name, _| kept.iter().any(|one| one == name.as_str()));
    }
    for (name, value) in fields {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (name.strip_prefix("$deleteFromPrimitiveList/"), value) {
            (Some(list), Value::Array(gone)) => {
                if let Some(Value::Array(items)) = map.get_mut(list) {
                    items.retain(|item| !gone.contains(item));
                }
            }
            _ if name.starts_with('$') => {}
            (_, Value::Null) => {
                map.remove(name);
            }
            (_, Value::Array(items)) => {
                strategic_list(&below, map.entry(name.clone()).or_insert(Value::Null), items);
            }
            (_, value) if value["$patch"] == "delete" => {
                map.remove(name);
            }
            (_, value) => strategic_at(&below, map.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

fn strategic_list(path: &str, document: &mut Value, patch: &[Value]) {
    if path == "metadata.finalizers" {
        let items = list_of(document);
        let new: Vec<Value> = patch.iter().filter(|item| !items.contains(item)).cloned().collect();
        items.extend(new);
        return;
    }
    let Some(key) = merge_key(path, patch) else {
        *document = Value::Array(patch.to_vec());
        return;
    };
    if patch.iter().any(|item| item["$patch"] == "replace") {
        *document = patch.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
        return;
    }
    let items = list_of(document);
    for wanted in patch {
        let position = items.iter().position(|item| item[key] == wanted[key]);
        match (position, wanted["$patch"] == "delete") {
            (Some(index), true) => {
                items.remove(index);
            }
            (Some(index), false) => strategic_at(path, &mut items[index], wanted),
            (None, true) => {}
            (None, false) => items.push(wanted.clone()),
        }
    }
}

fn list_of(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("must be an array: set just above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_patch_removes_nulls_and_replaces_lists() {
        let mut document = json!({"a": {"b": 1, "c": 2}, "list": [1, 2]});
        merge(&mut document, &json!({"a": {"b": null, "d": {"e": null}}, "list": [3]}));
        assert_eq!(document, json!({"a": {"c": 2, "d": {}}, "list": [3]}));
    }

    #[test]
    fn json_patch_operations() {
        let mut document = json!({"a": {"x/y": 1}, "list": [1, 3]});
        let patch = json!([
            {"op": "test", "path": "/a/x~1y", "value": 1},
            {"op": "add", "path": "/list/1", "value": 2},
            {"op": "add", "path": "/list/-", "value": 4},
            {"op": "move", "from": "/a/x~1y", "path": "/b"},
            {"op": "copy", "from": "/b", "path": "/c"},
            {"op": "replace", "path": "/b", "value": null},
            {"op": "remove", "path": "/list/0"},
        ]);
        json_patch(&mut document, &patch).expect("applies");
        assert_eq!(document, json!({"a": {}, "b": null, "c": 1, "list": [2, 3, 4]}));
        let failed = json_patch(&mut document, &json!([{"op": "test", "path": "/c", "value": 2}]));
        assert_eq!(failed, Err(PatchError::TestFailed("/c".to_owned())));
        let missing = json_patch(&mut document, &json!([{"op": "remove", "path": "/list/9"}]));
        assert_eq!(missing, Err(PatchError::Missing("/list/9".to_owned())));
    }

    #[test]
    fn strategic_merges_service_ports_by_port_and_replaces_ingress_rules() {
        let mut service = json!({"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 443}]}});
        let patch = json!({"spec": {"$setElementOrder/ports": [{"port": 80}],
            "ports": [{"port": 80, "targetPort": 8080}, {"port": 443, "$patch": "delete"}]}});
        strategic(&mut service, &patch);
        assert_eq!(service, json!({"spec": {"ports": [{"port": 80, "name": "http", "targetPort": 8080}]}}));
        let mut ingress = json!({"spec": {"rules": [{"host": "a"}, {"host": "b"}]}});
        strategic(&mut ingress, &json!({"spec": {"rules": [{"host": "c"}]}}));
        assert_eq!(ingress, json!({"spec": {"rules": [{"host": "c"}]}}));
    }
}
