//! The control endpoint of a simulated API server: `/__faults` and `/__state`.
//!
//! In: GET or PUT of fault settings with one-time actions, GET or DELETE of the state. Out: JSON. It works during an outage,
//! because it is what ends one. No client of the Kubernetes API ever sees these paths.

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cluster::Cluster;
use super::failure::Failure;
use super::faults::{ALL, FaultSettings};
use super::store::Key;
use super::{kind, write};

/// Body of `PUT /__faults`. Absent `settings` leave the switches as they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Command {
    /// All switches; those left out are off.
    settings: Option<FaultSettings>,
    /// Resources whose watches break off now; `*` for all.
    drop_watches: Vec<String>,
    /// Whether to forget the history now, so that the next watch gets 410.
    compact: bool,
    /// Objects to store without looking at them.
    insert_raw: Vec<Value>,
}

/// Answers a request under `/__`.
pub(crate) fn answer(cluster: &Cluster, method: &Method, segments: &[&str], body: &[u8]) -> Result<Value, Failure> {
    match (method.as_str(), segments) {
        ("GET", ["__faults"]) => Ok(json!(cluster.faults(|faults| faults.clone()))),
        ("PUT", ["__faults"]) => {
            let command: Command = serde_json::from_slice(body)
                .map_err(|error| Failure::bad_request(format!("error decoding the command: {error}")))?;
            run(cluster, command)?;
            Ok(json!(cluster.faults(|faults| faults.clone())))
        }
        ("GET", ["__state"]) => Ok(dump(cluster)),
        ("DELETE", ["__state"]) => {
            cluster.reset();
            Ok(dump(cluster))
        }
        _ => Err(Failure::unknown_path()),
    }
}

fn run(cluster: &Cluster, command: Command) -> Result<(), Failure> {
    if let Some(settings) = command.settings {
        set_faults(cluster, settings);
    }
    for object in command.insert_raw {
        insert_raw(cluster, object)?;
    }
    if command.compact {
        cluster.write(super::store::Store::compact);
    }
    for resource in command.drop_watches {
        cluster.drop_watches(&resource);
    }
    Ok(())
}

/// Replaces all switches. An outage that begins also ends the watches.
pub(crate) fn set_faults(cluster: &Cluster, settings: FaultSettings) {
    let is_outage = settings.outage;
    cluster.faults(|faults| *faults = settings);
    if is_outage {
        cluster.drop_watches(ALL);
    }
}

/// Stores an object as it is: no decoding, defaults, validation or ownership. Metadata is kept, and completed where the
/// server must have it (uid, creationTimestamp).
pub(crate) fn insert_raw(cluster: &Cluster, mut object: Value) -> Result<Value, Failure> {
    let kind = kind::of_object(&object).ok_or_else(|| Failure::bad_request("unknown apiVersion or kind"))?;
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let key: Key = (text("namespace"), text("name"));
    if key.1.is_empty() || key.0.is_empty() == kind.is_namespaced() {
        return Err(Failure::bad_request("metadata.name, and metadata.namespace for namespaced kinds, must be set"));
    }
    cluster.write(|store| {
        let old = store.get(kind.resource, &key).cloned();
        let old = old.as_ref().map(|old| &old["metadata"]);
        for (field, fresh) in [("uid", uuid::Uuid::new_v4().to_string()), ("creationTimestamp", write::now())] {
            if object["metadata"][field].is_null() {
                object["metadata"][field] = old.map_or_else(|| json!(fresh), |old| old[field].clone());
            }
        }
        let stored = store.put(kind.resource, key, super::events::to_stored(kind, object));
        stored.map(|stored| Value::clone(&stored)).map_err(|_| Failure::new(507, "InternalError", "the store is full"))
    })
}

fn dump(cluster: &Cluster) -> Value {
    cluster.read(|store| {
        let tables: Map<String, Value> = store
            .tables()
            .map(|(resource, table)| (resource.to_owned(), table.values().map(|object| Value::clone(object)).collect()))
            .collect();
        json!({"name": cluster.name(), "revision": store.revision(), "objects": tables})
    })
}
