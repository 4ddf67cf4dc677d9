//! What the API server adds to an object on its way in: defaults, allocated addresses, the default class, generation.
//!
//! In: a decoded object and the store for look-ups. Out: the object as it will be stored, or an admission refusal.
//! Field values are judged in `validate`, ownership is settled in `managers`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::base64;
use super::failure::Failure;
use super::kind::{Generation, Kind};
use super::store::Store;

/// Annotation that marks the default IngressClass (I-5).
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
/// Annotation of the old way to name a class (I-4).
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// First node port.
const NODE_PORT_MIN: u64 = 30_000;
/// Last node port.
const NODE_PORT_MAX: u64 = 32_767;

/// Fills in the defaults of a kind; used for creations and updates.
pub(crate) fn set_defaults(kind: &Kind, store: &Store, object: &mut Value) {
    match kind.resource {
        "services" => service(store, object),
        "endpointslices" => {
            for port in items(&mut object["ports"]) {
                set(port, "protocol", "TCP");
                set(port, "name", "");
            }
        }
        "secrets" => secret(object),
        "namespaces" => namespace(object),
        "pods" => set(&mut object["status"], "phase", "Pending"),
        "ingresses" => set(&mut object["status"], "loadBalancer", json!({})),
        "events" => set(object, "type", ""),
        _ => {}
    }
}

/// Admission at creation: the namespace must exist, the default class is filled in, contradictory classes are refused.
pub(crate) fn admit_creation(kind: &'static Kind, store: &Store, object: &mut Value) -> Result<(), Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if kind.is_namespaced() {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let Some(found) = store.get("namespaces", &(String::new(), namespace.to_owned())) else {
            let message = format!("namespaces \"{namespace}\" not found");
            return Err(Failure::new(404, "NotFound", message));
        };
        if !found["metadata"]["deletionTimestamp"].is_null() {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            return Err(Failure::forbidden(kind, &name, &why));
        }
    }
    if kind.resource == "ingresses" { ingress_class(kind, store, object, &name) } else { Ok(()) }
}

fn ingress_class(kind: &'static Kind, store: &Store, object: &mut Value, name: &str) -> Result<(), Failure> {
    let annotation = object["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    let field = object["spec"]["ingressClassName"].as_str();
    match (annotation, field) {
        (Some(annotation), Some(field)) if annotation != field => {
            let why = "annotations.kubernetes.io/ingress.class: can not be set when the class field is also set";
            return Err(Failure::new(
                422,
                "Invalid",
                format!("Ingress.networking.k8s.io \"{name}\" is invalid: {why}"),
            ));
        }
        (None, None) => {}
        _ => return Ok(()),
    }
    let classes = store.table("ingressclasses").into_iter().flat_map(|table| table.values());
    let is_default = |class: &&std::sync::Arc<Value>| class["metadata"]["annotations"][DEFAULT_CLASS] == "true";
    let defaults: Vec<&str> =
        classes.filter(is_default).filter_map(|class| class["metadata"]["name"].as_str()).collect();
    match defaults.as_slice() {
        [] => Ok(()),
        [only] => {
            let class = json!(only);
            set(&mut object["spec"], "ingressClassName", class);
            Ok(())
        }
        several => {
            let why = format!("Internal error occurred: {} default IngressClasses were found", several.len());
            Err(Failure::forbidden(kind, name, &why))
        }
    }
}

/// The generation of an object after a write.
pub(crate) fn generation(kind: &Kind, old: Option<&Value>, new: &Value) -> Option<u64> {
    let Some(old) = old else {
        return (kind.generation != Generation::None).then_some(1);
    };
    let current = old["metadata"]["generation"].as_u64().unwrap_or(1);
    let is_changed = match kind.generation {
        Generation::None => return None,
        Generation::Spec => old["spec"] != new["spec"],
        Generation::Content => ["endpoints", "ports", "addressType"].iter().any(|field| old[*field] != new[*field]),
    };
    Some(if is_changed { current + 1 } else { current })
}

fn service(store: &Store, object: &mut Value) {
    let spec = &mut object["spec"];
    if !matches!(spec, Value::Null | Value::Object(_)) {
        return;
    }
    set(spec, "type", "ClusterIP");
    set(spec, "sessionAffinity", "None");
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    let takes_node_ports = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    for port in items(&mut spec["ports"]) {
        set(port, "protocol", "TCP");
        let number = port["port"].clone();
        set(port, "targetPort", number);
    }
    if kind != "ExternalName" {
        set(spec, "internalTrafficPolicy", "Cluster");
        set(spec, "clusterIP", cluster_ip(store.revision()));
        let address = spec["clusterIP"].clone();
        set(spec, "clusterIPs", json!([address]));
    }
    if takes_node_ports {
        set(spec, "externalTrafficPolicy", "Cluster");
        let mut taken = node_ports(store);
        for port in items(&mut spec["ports"]) {
            if let Some(free) = (NODE_PORT_MIN..=NODE_PORT_MAX).find(|port| !taken.contains(port)) {
                taken.insert(free);
                set(port, "nodePort", free);
            }
        }
    }
    set(&mut object["status"], "loadBalancer", json!({}));
}

/// A fresh service address: the revision is never used twice.
fn cluster_ip(revision: u64) -> String {
    format!("10.{}.{}.{}", 96 + (revision >> 16) % 128, (revision >> 8) % 256, revision % 256)
}

fn node_ports(store: &Store) -> BTreeSet<u64> {
    let services = store.table("services").into_iter().flat_map(|table| table.values());
    let ports = services.filter_map(|service| service["spec"]["ports"].as_array()).flatten();
    ports.filter_map(|port| port["nodePort"].as_u64()).collect()
}

fn secret(object: &mut Value) {
    set(object, "type", "Opaque");
    let Value::Object(map) = object else { return };
    if let Some(Value::Object(texts)) = map.remove("stringData") {
        let data = map.entry("data").or_insert_with(|| json!({}));
        for (name, text) in texts {
            let encoded = base64::encode(text.as_str().unwrap_or_default().as_bytes());
            if let Value::Object(data) = data {
                data.insert(name, json!(encoded));
            }
        }
    }
}

fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    set(&mut object["metadata"]["labels"], "kubernetes.io/metadata.name", name);
    set(&mut object["spec"], "finalizers", json!(["kubernetes"]));
    set(&mut object["status"], "phase", "Active");
}

/// Sets a field that is absent; leaves anything that is no map alone (stored malformed objects).
fn set(map: &mut Value, field: &str, value: impl Into<Value>) {
    if map.is_null() {
        *map = json!({});
    }
    if let Value::Object(map) = map {
        map.entry(field).or_insert(value.into());
    }
}

fn items(list: &mut Value) -> &mut [Value] {
    list.as_array_mut().map_or(&mut [], Vec::as_mut_slice)
}
