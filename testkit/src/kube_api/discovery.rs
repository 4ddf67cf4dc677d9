//! Discovery: which groups, versions and kinds the server offers.
//!
//! In: the path and Accept header of a discovery request. Out: its JSON, plain or aggregated. It reads only the table of kinds.

use serde_json::{Value, json};

use super::kind::{self, KINDS, Kind};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];
/// Content type of the aggregated form.
pub(crate) const AGGREGATED_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The answer to a discovery path, with its content type; `None` if the path is not one.
pub(crate) fn answer(segments: &[&str], accept: &str, address: &str) -> Option<(Value, &'static str)> {
    let is_aggregated = accept.split(',').any(wants_aggregated);
    let plain = |value: Value| Some((value, "application/json"));
    match segments {
        ["api"] if is_aggregated => Some((aggregated(&[""]), AGGREGATED_TYPE)),
        ["apis"] if is_aggregated => Some((aggregated(&kind::groups()), AGGREGATED_TYPE)),
        ["api"] => plain(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })),
        ["apis"] => {
            let groups: Vec<Value> = kind::groups().into_iter().map(group).collect();
            plain(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["api", "v1"] => plain(resources("", "v1")),
        ["apis", name] if kind::groups().contains(name) => {
            let mut group = group(name);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            plain(group)
        }
        ["apis", name, "v1"] if kind::groups().contains(name) => plain(resources(name, &format!("{name}/v1"))),
        ["version"] => plain(version()),
        _ => None,
    }
}

fn wants_aggregated(choice: &str) -> bool {
    let has = |wanted: &str| choice.split(';').any(|part| part.trim() == wanted);
    has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
}

/// What `/version` says. It has streaming lists, and every kubectl from 1.32 on accepts it without a warning.
fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0-roadstead-fake", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64",
    })
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn of_group<'a>(group: &'a str) -> impl Iterator<Item = &'static Kind> + 'a {
    KINDS.iter().filter(move |kind| kind.group == group)
}

fn resources(group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    for kind in of_group(group) {
        resources.push(json!({
            "name": kind.resource, "singularName": kind.singular, "namespaced": kind.is_namespaced(), "kind": kind.kind,
            "verbs": VERBS, "shortNames": kind.short_names,
        }));
        if kind.has_status() {
            resources.push(json!({
                "name": format!("{}/status", kind.resource), "singularName": "", "namespaced": kind.is_namespaced(),
                "kind": kind.kind, "verbs": STATUS_VERBS,
            }));
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources})
}

fn aggregated(groups: &[&str]) -> Value {
    let items = groups.iter().map(|group| {
        let resources: Vec<Value> = of_group(group).map(aggregated_resource).collect();
        let metadata = if group.is_empty() {
            json!({"creationTimestamp": null})
        } else {
            json!({"name": group, "creationTimestamp": null})
        };
        json!({"metadata": metadata, "versions": [{"version": "v1", "resources": resources, "freshness": "Current"}]})
    });
    let items: Vec<Value> = items.collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(kind: &'static Kind) -> Value {
    let response_kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let mut resource = json!({
        "resource": kind.resource, "responseKind": response_kind, "singularResource": kind.singular,
        "scope": if kind.is_namespaced() { "Namespaced" } else { "Cluster" },
        "verbs": VERBS, "shortNames": kind.short_names,
    });
    if kind.has_status() {
        resource["subresources"] =
            json!([{"subresource": "status", "responseKind": response_kind, "verbs": STATUS_VERBS}]);
    }
    resource
}
