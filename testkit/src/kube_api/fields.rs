//! Field sets: which fields an object has, who owns them, and how lists are keyed.
//!
//! In: an object of a known kind. Out: its set of field paths, in the encoding of `metadata.managedFields` (FieldsV1).
//! The rules are those of Kubernetes' structured merge: maps are granular, lists are atomic unless [`topology`] says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// One path; each step is encoded as in FieldsV1: `f:name`, `k:{"port":80}` or `v:"value"`.
pub(crate) type Path = Vec<String>;

/// A set of owned paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet(pub(crate) BTreeSet<Path>);

/// What stands at a path: a value that is owned as a whole, or only membership (a list item, an empty map).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Leaf<'a> {
    /// A scalar, or an atomic list or map.
    Whole(&'a Value),
    /// A keyed item or an empty granular map: it exists.
    Member,
}

/// How the value at a path is merged and owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// A map whose entries are merged one by one.
    Granular,
    /// Owned and replaced as a whole.
    Atomic,
    /// A list of maps, identified by these fields.
    Keyed(&'static [&'static str]),
    /// A list of scalars without order.
    Set,
}

/// Resource (empty: any), path with `[]` for "inside a list", topology.
const TOPOLOGIES: &[(&str, &str, Topology)] = &[
    ("", "metadata.ownerReferences", Topology::Keyed(&["uid"])),
    ("", "metadata.finalizers", Topology::Set),
    ("", "status.conditions", Topology::Keyed(&["type"])),
    ("services", "spec.ports", Topology::Keyed(&["port", "protocol"])),
    ("services", "spec.selector", Topology::Atomic),
    ("ingresses", "spec.defaultBackend.resource", Topology::Atomic),
    ("nodes", "status.addresses", Topology::Keyed(&["type"])),
    ("pods", "spec.containers", Topology::Keyed(&["name"])),
    ("pods", "spec.containers[].ports", Topology::Keyed(&["containerPort", "protocol"])),
    ("pods", "spec.containers[].env", Topology::Keyed(&["name"])),
    ("pods", "spec.containers[].volumeMounts", Topology::Keyed(&["mountPath"])),
    ("pods", "spec.volumes", Topology::Keyed(&["name"])),
    ("pods", "status.podIPs", Topology::Keyed(&["ip"])),
    ("events", "involvedObject", Topology::Atomic),
    ("events", "related", Topology::Atomic),
];

/// Fields that nobody owns: the server writes them.
const UNOWNED: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.creationTimestamp",
    "metadata.deletionTimestamp",
    "metadata.deletionGracePeriodSeconds",
    "metadata.selfLink",
    "metadata.managedFields",
];

/// The topology of a value at a dotted path.
pub(crate) fn topology(resource: &str, path: &str, value: &Value) -> Topology {
    let fits = |topology: Topology| match topology {
        Topology::Keyed(_) | Topology::Set => value.is_array(),
        Topology::Granular | Topology::Atomic => true,
    };
    let known = TOPOLOGIES
        .iter()
        .find(|(of, at, topology)| *at == path && (of.is_empty() || *of == resource) && fits(*topology));
    match known {
        Some((_, _, topology)) => *topology,
        None if value.is_object() => Topology::Granular,
        None => Topology::Atomic,
    }
}

/// `parent.field`, or `field` at the root.
pub(crate) fn below(parent: &str, field: &str) -> String {
    if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") }
}

/// The step of a list item: its key fields, with the defaults of those that may be left out.
pub(crate) fn key_step(keys: &[&str], item: &Value) -> String {
    let mut key = Map::new();
    for name in keys {
        let value = match &item[*name] {
            Value::Null if *name == "protocol" => Value::from("TCP"),
            value => value.clone(),
        };
        key.insert((*name).to_owned(), value);
    }
    format!("k:{}", Value::Object(key))
}

/// All owned paths of an object with what stands there.
pub(crate) fn leaves<'a>(resource: &str, object: &'a Value) -> BTreeMap<Path, Leaf<'a>> {
    let mut found = BTreeMap::new();
    Walk { resource, found: &mut found }.fields(object, "", &mut Vec::new());
    found
}

struct Walk<'a, 'b> {
    resource: &'b str,
    found: &'b mut BTreeMap<Path, Leaf<'a>>,
}

impl<'a> Walk<'a, '_> {
    fn fields(&mut self, map: &'a Value, at: &str, path: &mut Path) {
        for (name, value) in map.as_object().into_iter().flatten() {
            let dotted = below(at, name);
            if value.is_null() || UNOWNED.contains(&dotted.as_str()) {
                continue;
            }
            path.push(format!("f:{name}"));
            self.value(value, &dotted, path);
            path.pop();
        }
    }

    fn value(&mut self, value: &'a Value, at: &str, path: &mut Path) {
        match topology(self.resource, at, value) {
            Topology::Granular if value.as_object().is_some_and(Map::is_empty) => {
                self.found.insert(path.clone(), Leaf::Member);
            }
            Topology::Granular => self.fields(value, at, path),
            Topology::Atomic => {
                self.found.insert(path.clone(), Leaf::Whole(value));
            }
            Topology::Keyed(keys) => {
                for item in value.as_array().into_iter().flatten() {
                    path.push(key_step(keys, item));
                    self.found.insert(path.clone(), Leaf::Member);
                    self.fields(item, &format!("{at}[]"), path);
                    path.pop();
                }
            }
            Topology::Set => {
                for item in value.as_array().into_iter().flatten() {
                    path.push(format!("v:{item}"));
                    self.found.insert(path.clone(), Leaf::Member);
                    path.pop();
                }
            }
        }
    }
}

impl FieldSet {
    /// All owned paths of an object.
    pub(crate) fn of(resource: &str, object: &Value) -> Self {
        Self(leaves(resource, object).into_keys().collect())
    }

    /// Whether the set has this path or anything below it.
    pub(crate) fn reaches(&self, path: &Path) -> bool {
        self.0.range(path.clone()..).next().is_some_and(|next| next.starts_with(path))
    }

    /// FieldsV1 as in `managedFields[].fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut tree = Value::Object(Map::new());
        for path in &self.0 {
            let node = path.iter().fold(&mut tree, |node, step| &mut node[step.as_str()]);
            node["."] = Value::Object(Map::new());
        }
        drop_lone_dots(&mut tree);
        tree
    }

    /// Reads FieldsV1; what is not a map is ignored.
    pub(crate) fn from_json(tree: &Value) -> Self {
        let mut set = BTreeSet::new();
        read_tree(tree, &mut Vec::new(), &mut set);
        Self(set)
    }
}

/// Human form of a path, as in conflict messages: `.spec.ports[port=80,protocol="TCP"].name`.
pub(crate) fn display(path: &Path) -> String {
    let steps = path.iter().map(|step| match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", key)) => match serde_json::from_str::<Map<String, Value>>(key) {
            Ok(key) => {
                let pairs: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", pairs.join(","))
            }
            Err(_) => format!("[{key}]"),
        },
        Some((_, value)) => format!("[={value}]"),
        None => step.clone(),
    });
    steps.collect()
}

/// A node whose only child is `.` is written as `{}`.
fn drop_lone_dots(node: &mut Value) {
    let Value::Object(map) = node else { return };
    if map.len() == 1 {
        map.remove(".");
    }
    for (name, child) in map.iter_mut() {
        if name != "." {
            drop_lone_dots(child);
        }
    }
}

fn read_tree(node: &Value, path: &mut Path, set: &mut BTreeSet<Path>) {
    let Value::Object(map) = node else { return };
    if !path.is_empty() && (map.is_empty() || map.contains_key(".")) {
        set.insert(path.clone());
    }
    for (step, child) in map.iter().filter(|(step, _)| *step != ".") {
        path.push(step.clone());
        read_tree(child, path, set);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn service_ports_are_keyed_and_ingress_rules_are_atomic() {
        let service = json!({"metadata": {"name": "x", "labels": {"a": "b"}},
            "spec": {"ports": [{"port": 80, "name": "http"}], "selector": {"app": "x"}}});
        let fields = FieldSet::of("services", &service).to_json();
        assert_eq!(
            fields,
            json!({
                "f:metadata": {"f:labels": {"f:a": {}}},
                "f:spec": {
                    "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}}},
                    "f:selector": {},
                },
            })
        );
        let ingress = json!({"spec": {"rules": [{"host": "a.example"}], "ingressClassName": "x"}});
        assert_eq!(
            FieldSet::of("ingresses", &ingress).to_json(),
            json!({"f:spec": {"f:rules": {}, "f:ingressClassName": {}}})
        );
    }

    #[test]
    fn json_form_round_trips() {
        let tree = json!({"f:metadata": {"f:annotations": {".": {}, "f:x": {}}, "f:finalizers": {"v:\"a\"": {}}}});
        assert_eq!(FieldSet::from_json(&tree).to_json(), tree);
    }

    #[test]
    fn paths_read_like_kubernetes_messages() {
        let path = vec!["f:spec".to_owned(), "f:ports".to_owned(), "k:{\"port\":80}".to_owned(), "f:name".to_owned()];
        assert_eq!(display(&path), ".spec.ports[port=80].name");
    }
}
