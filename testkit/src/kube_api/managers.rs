//! `metadata.managedFields`: who owns which fields of an object.
//!
//! In: the object before and after a write, and who wrote. Out: the new list of owners.
//! Ownership by plain writes is tracked here; server-side apply, which also decides values, is in `apply`.

use serde_json::{Value, json};

use super::fields::{FieldSet, Leaf, Path, leaves};

/// Who writes, and to which part of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Author {
    /// `fieldManager` of the request.
    pub(crate) manager: String,
    /// `apiVersion` of the request.
    pub(crate) api_version: String,
    /// `status`, or empty for the main resource.
    pub(crate) subresource: &'static str,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
    pub(crate) time: String,
    pub(crate) fields: FieldSet,
}

/// How an owner came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Server-side apply.
    Apply,
    /// Any other write.
    Update,
}

/// Paths that differ between two states of an object.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Added, or present in both with another value.
    pub(crate) changed: Vec<Path>,
    /// Gone.
    pub(crate) removed: Vec<Path>,
}

impl Owner {
    /// Whether this entry belongs to that author and operation.
    pub(crate) fn is(&self, author: &Author, operation: Operation) -> bool {
        self.manager == author.manager && self.operation == operation && self.subresource == author.subresource
    }

    /// A new entry without fields.
    pub(crate) fn new(author: &Author, operation: Operation, time: &str) -> Self {
        Self {
            manager: author.manager.clone(),
            operation,
            api_version: author.api_version.clone(),
            subresource: author.subresource.to_owned(),
            time: time.to_owned(),
            fields: FieldSet::default(),
        }
    }
}

/// Reads `metadata.managedFields`; entries that make no sense are dropped.
pub(crate) fn read(object: &Value) -> Vec<Owner> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let owners = entries.filter_map(|entry| {
        let operation = match entry["operation"].as_str()? {
            "Apply" => Operation::Apply,
            _ => Operation::Update,
        };
        Some(Owner {
            manager: text(&entry["manager"]),
            operation,
            api_version: text(&entry["apiVersion"]),
            subresource: text(&entry["subresource"]),
            time: text(&entry["time"]),
            fields: FieldSet::from_json(&entry["fieldsV1"]),
        })
    });
    owners.collect()
}

/// Writes `metadata.managedFields`; owners without fields disappear.
pub(crate) fn write(object: &mut Value, owners: &[Owner]) {
    let entries = owners.iter().filter(|owner| !owner.fields.0.is_empty()).map(|owner| {
        let mut entry = json!({
            "manager": owner.manager,
            "operation": if owner.operation == Operation::Apply { "Apply" } else { "Update" },
            "apiVersion": owner.api_version,
            "time": owner.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": owner.fields.to_json(),
        });
        if !owner.subresource.is_empty() {
            entry["subresource"] = json!(owner.subresource);
        }
        entry
    });
    object["metadata"]["managedFields"] = entries.collect();
}

/// What differs between two states.
pub(crate) fn difference(resource: &str, old: &Value, new: &Value) -> Difference {
    let (before, after) = (leaves(resource, old), leaves(resource, new));
    let is_same = |path: &Path, leaf: &Leaf<'_>| before.get(path).is_some_and(|was| was == leaf);
    let changed = after.iter().filter(|(path, leaf)| !is_same(path, leaf)).map(|(path, _)| path.clone());
    let removed = before.keys().filter(|path| !after.contains_key(*path)).cloned();
    Difference { changed: changed.collect(), removed: removed.collect() }
}

/// Ownership after a plain write: the author takes what changed, everybody loses what is gone.
pub(crate) fn after_update(
    resource: &str,
    (old, new): (&Value, &Value),
    mut owners: Vec<Owner>,
    (author, time): (&Author, &str),
) -> Vec<Owner> {
    let difference = difference(resource, old, new);
    for owner in &mut owners {
        for path in difference.changed.iter().chain(&difference.removed) {
            owner.fields.0.remove(path);
        }
    }
    if !difference.changed.is_empty() {
        let position = owners.iter().position(|owner| owner.is(author, Operation::Update));
        let index = position.unwrap_or_else(|| {
            owners.push(Owner::new(author, Operation::Update, time));
            owners.len() - 1
        });
        owners[index].fields.0.extend(difference.changed);
        time.clone_into(&mut owners[index].time);
    }
    owners
}
