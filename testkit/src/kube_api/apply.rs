//! Server-side apply.
//!
//! In: the live object (or none), the applied configuration, the author. Out: the merged object and its owners, or the
//! conflicts. A field that the author stops sending is dropped unless somebody else owns it. Validation is not done here.

use serde_json::{Map, Value};

use super::failure::Cause;
use super::fields::{self, FieldSet, Path, Topology, below, key_step, topology};
use super::managers::{self, Author, Operation, Owner};

/// What to do when another manager owns a field that the configuration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnConflict {
    /// Refuse with the list of conflicts.
    Refuse,
    /// Take the fields over.
    Force,
}

/// One apply request.
pub(crate) struct Apply<'a> {
    /// Plural name of the kind.
    pub(crate) resource: &'a str,
    /// What the author wants, already without the parts it cannot write.
    pub(crate) config: &'a Value,
    /// Who applies.
    pub(crate) author: &'a Author,
    /// RFC 3339 time for the owner entry.
    pub(crate) time: &'a str,
    /// What to do on conflicts.
    pub(crate) on_conflict: OnConflict,
}

impl Apply<'_> {
    /// Merges the configuration into the live object and settles ownership.
    pub(crate) fn run(&self, live: &Value, mut owners: Vec<Owner>) -> Result<(Value, Vec<Owner>), Vec<Cause>> {
        let wanted = FieldSet::of(self.resource, self.config);
        let mine = owners.iter().position(|owner| owner.is(self.author, Operation::Apply));
        let index = mine.unwrap_or_else(|| {
            owners.push(Owner::new(self.author, Operation::Apply, self.time));
            owners.len() - 1
        });
        let last = std::mem::replace(&mut owners[index].fields, wanted);
        if last != owners[index].fields {
            self.time.clone_into(&mut owners[index].time);
        }

        let mut merged = live.clone();
        merge(self.resource, "", &mut merged, self.config);
        for path in dropped(&last, &owners) {
            remove(&mut merged, &path);
        }
        self.settle(live, &merged, &mut owners, index)?;
        Ok((merged, owners))
    }

    fn settle(&self, live: &Value, merged: &Value, owners: &mut [Owner], mine: usize) -> Result<(), Vec<Cause>> {
        let difference = managers::difference(self.resource, live, merged);
        let mut conflicts = Vec::new();
        for (_, owner) in owners.iter_mut().enumerate().filter(|(index, _)| *index != mine) {
            for path in &difference.changed {
                if owner.fields.0.contains(path) {
                    conflicts.push(conflict(owner, path));
                }
            }
            for path in difference.changed.iter().chain(&difference.removed) {
                owner.fields.0.remove(path);
            }
        }
        if conflicts.is_empty() || self.on_conflict == OnConflict::Force { Ok(()) } else { Err(conflicts) }
    }
}

fn conflict(owner: &Owner, path: &Path) -> Cause {
    let through =
        if owner.subresource.is_empty() { String::new() } else { format!(" with subresource {:?}", owner.subresource) };
    let message = format!("conflict with {:?}{through} using {}", owner.manager, owner.api_version);
    Cause { reason: "FieldManagerConflict", field: fields::display(path), message }
}

/// Paths of the author's last configuration that nobody owns any more, in the new one neither. Maps that only held such
/// fields go with them, except the top-level ones.
fn dropped(last: &FieldSet, owners: &[Owner]) -> Vec<Path> {
    let is_owned = |path: &Path| owners.iter().any(|owner| owner.fields.reaches(path));
    let mut paths = Vec::new();
    for path in &last.0 {
        let prefixes = (1..=path.len()).map(|length| path[..length].to_vec());
        paths.extend(prefixes.filter(|prefix| !is_part(prefix)).find(|prefix| !is_owned(prefix)));
    }
    paths.dedup();
    paths
}

/// The parts every object keeps, even when nobody owns anything in them.
fn is_part(path: &[String]) -> bool {
    matches!(path, [only] if matches!(only.as_str(), "f:metadata" | "f:spec" | "f:status"))
}

/// Merges `config` into `live` by the topology of each field.
fn merge(resource: &str, at: &str, live: &mut Value, config: &Value) {
    match topology(resource, at, config) {
        Topology::Granular => {
            if !live.is_object() {
                *live = Value::Object(Map::new());
            }
            for (name, value) in config.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
                merge(resource, &below(at, name), &mut live[name.as_str()], value);
            }
        }
        Topology::Keyed(keys) => {
            let items = as_list(live);
            for wanted in config.as_array().into_iter().flatten() {
                let key = key_step(keys, wanted);
                match items.iter_mut().find(|item| key_step(keys, item) == key) {
                    Some(item) => merge(resource, &format!("{at}[]"), item, wanted),
                    None => items.push(wanted.clone()),
                }
            }
        }
        Topology::Set => {
            let items = as_list(live);
            for wanted in config.as_array().into_iter().flatten() {
                if !items.contains(wanted) {
                    items.push(wanted.clone());
                }
            }
        }
        Topology::Atomic => *live = config.clone(),
    }
}

fn as_list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("must be an array: set just above")
}

/// Removes what stands at a path; a path that does not exist is left alone.
fn remove(value: &mut Value, path: &[String]) {
    let [step, rest @ ..] = path else { return };
    match (step.split_once(':'), value) {
        (Some(("f", name)), Value::Object(map)) => {
            if rest.is_empty() {
                map.remove(name);
            } else if let Some(child) = map.get_mut(name) {
                remove(child, rest);
            }
        }
        (Some(("k", key)), Value::Array(items)) => {
            let Ok(Value::Object(wanted)) = serde_json::from_str(key) else { return };
            let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
            let Some(index) = items.iter().position(|item| key_step(&names, item) == *step) else { return };
            if rest.is_empty() {
                items.remove(index);
            } else {
                remove(&mut items[index], rest);
            }
        }
        (Some(("v", text)), Value::Array(items)) => {
            let gone: Option<Value> = serde_json::from_str(text).ok();
            items.retain(|item| Some(item) != gone.as_ref());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(manager: &str, on_conflict: OnConflict, live: &Value, config: &Value) -> Result<Value, Vec<Cause>> {
        let author = Author { manager: manager.to_owned(), api_version: "v1".to_owned(), subresource: "" };
        let request =
            Apply { resource: "services", config, author: &author, time: "2026-01-01T00:00:00Z", on_conflict };
        let (mut object, owners) = request.run(live, managers::read(live))?;
        managers::write(&mut object, &owners);
        Ok(object)
    }

    fn ports(object: &Value) -> Vec<i64> {
        object["spec"]["ports"].as_array().into_iter().flatten().filter_map(|port| port["port"].as_i64()).collect()
    }

    #[test]
    fn a_field_no_longer_sent_is_dropped_with_its_defaults() {
        let both =
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"ports": [{"port": 80}, {"port": 443}]}});
        let mut live = apply("x", OnConflict::Refuse, &json!({}), &both).expect("applies");
        live["spec"]["ports"][1]["targetPort"] = json!(443);
        let one = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"ports": [{"port": 80}]}});
        let after = apply("x", OnConflict::Refuse, &live, &one).expect("applies");
        assert_eq!(after["metadata"]["labels"], json!({"a": "1"}));
        assert_eq!(ports(&after), [80]);
    }

    #[test]
    fn a_co_owned_field_survives_until_the_last_owner_drops_it() {
        let config = json!({"metadata": {"labels": {"a": "1"}}});
        let live = apply("x", OnConflict::Refuse, &json!({}), &config).expect("applies");
        let live = apply("y", OnConflict::Refuse, &live, &config).expect("same value, no conflict");
        let live = apply("x", OnConflict::Refuse, &live, &json!({})).expect("applies");
        assert_eq!(live["metadata"]["labels"]["a"], "1");
        let live = apply("y", OnConflict::Refuse, &live, &json!({})).expect("applies");
        assert_eq!(live["metadata"]["labels"], Value::Null);
    }

    #[test]
    fn another_value_conflicts_unless_forced() {
        let live =
            apply("x", OnConflict::Refuse, &json!({}), &json!({"spec": {"type": "ClusterIP"}})).expect("applies");
        let other = json!({"spec": {"type": "NodePort"}});
        let conflicts = apply("y", OnConflict::Refuse, &live, &other).expect_err("owned by x");
        assert_eq!((conflicts[0].reason, conflicts[0].field.as_str()), ("FieldManagerConflict", ".spec.type"));
        let live = apply("y", OnConflict::Force, &live, &other).expect("forced");
        assert_eq!(live["spec"]["type"], "NodePort");
        let live = apply("x", OnConflict::Refuse, &live, &json!({})).expect("x owns nothing any more");
        assert_eq!(live["spec"]["type"], "NodePort");
    }
}
