//! The columns of `kubectl get`.
//!
//! In: a kind and a stored object. Out: column definitions and cells. Any cell of an object that is not well formed is
//! simply `<none>`; nothing here can fail.

use serde_json::{Value, json};

use super::kind::Kind;

const NONE: &str = "<none>";

/// Column name, and 0 for always or 1 for `-o wide` only.
type Column = (&'static str, u8);

/// `columnDefinitions` of a table.
pub(crate) fn definitions(kind: &Kind) -> Value {
    let definition = |(name, priority): &Column| {
        let format = if *name == "Name" { "name" } else { "" };
        json!({"name": name, "type": "string", "format": format, "description": name, "priority": priority})
    };
    columns(kind).iter().map(definition).collect()
}

/// Cells of one row, in the order of the definitions.
pub(crate) fn cells(kind: &Kind, object: &Value) -> Vec<String> {
    columns(kind).iter().map(|(name, _)| cell(kind, name, object)).collect()
}

fn columns(kind: &Kind) -> &'static [Column] {
    match kind.resource {
        "namespaces" => &[("Name", 0), ("Status", 0), ("Age", 0)],
        "services" => &[
            ("Name", 0),
            ("Type", 0),
            ("Cluster-IP", 0),
            ("External-IP", 0),
            ("Port(s)", 0),
            ("Age", 0),
            ("Selector", 1),
        ],
        "secrets" => &[("Name", 0), ("Type", 0), ("Data", 0), ("Age", 0)],
        "configmaps" => &[("Name", 0), ("Data", 0), ("Age", 0)],
        "nodes" => &[("Name", 0), ("Status", 0), ("Roles", 0), ("Age", 0), ("Version", 0), ("Internal-IP", 1)],
        "pods" => &[("Name", 0), ("Ready", 0), ("Status", 0), ("Restarts", 0), ("Age", 0), ("IP", 1), ("Node", 1)],
        "events" => &[("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Message", 0), ("Name", 1)],
        "ingresses" => &[("Name", 0), ("Class", 0), ("Hosts", 0), ("Address", 0), ("Ports", 0), ("Age", 0)],
        "ingressclasses" => &[("Name", 0), ("Controller", 0), ("Parameters", 0), ("Age", 0)],
        "endpointslices" => &[("Name", 0), ("AddressType", 0), ("Ports", 0), ("Endpoints", 0), ("Age", 0)],
        _ => &[("Name", 0), ("Age", 0)],
    }
}

fn cell(kind: &Kind, column: &str, object: &Value) -> String {
    let spec = &object["spec"];
    match (kind.resource, column) {
        (_, "Name") => text(&object["metadata"]["name"]),
        (_, "Age") => age(&object["metadata"]["creationTimestamp"]),
        ("namespaces" | "pods", "Status") => text(&object["status"]["phase"]),
        ("services" | "secrets" | "events", "Type") => {
            text(if kind.resource == "services" { &spec["type"] } else { &object["type"] })
        }
        ("services", "Cluster-IP") => text(&spec["clusterIP"]),
        ("services", "External-IP") => external(object),
        ("services", "Port(s)") => join(&spec["ports"], ",", service_port),
        ("services", "Selector") => pairs(&spec["selector"]),
        ("secrets" | "configmaps", "Data") => object["data"].as_object().map_or(0, serde_json::Map::len).to_string(),
        ("ingresses", "Class") => class(object),
        ("ingresses", "Hosts") => hosts(&spec["rules"]),
        ("ingresses", "Address") => addresses(object),
        ("ingresses", "Ports") => {
            if spec["tls"].as_array().is_some_and(|tls| !tls.is_empty()) { "80, 443" } else { "80" }.to_owned()
        }
        ("ingressclasses", "Controller") => text(&spec["controller"]),
        ("ingressclasses", "Parameters") => spec["parameters"]["kind"]
            .as_str()
            .map_or(NONE.to_owned(), |kind| format!("{kind}/{}", text(&spec["parameters"]["name"]))),
        ("endpointslices", "AddressType") => text(&object["addressType"]),
        ("endpointslices", "Ports") => join(&object["ports"], ",", |port| text(&port["port"])),
        ("endpointslices", "Endpoints") => join(&object["endpoints"], ",", |endpoint| text(&endpoint["addresses"][0])),
        ("nodes", "Status") => if condition(object, "Ready") { "Ready" } else { "NotReady" }.to_owned(),
        ("nodes", "Version") => text(&object["status"]["nodeInfo"]["kubeletVersion"]),
        ("nodes", "Internal-IP") => text(&object["status"]["addresses"][0]["address"]),
        ("pods", "Ready") => if condition(object, "Ready") { "1/1" } else { "0/1" }.to_owned(),
        ("pods", "Restarts") => "0".to_owned(),
        ("pods", "IP") => text(&object["status"]["podIP"]),
        ("pods", "Node") => text(&spec["nodeName"]),
        ("events", "Last Seen") => age(last_seen(object)),
        ("events", "Reason") => text(&object["reason"]),
        ("events", "Object") => {
            let about = &object["involvedObject"];
            format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]))
        }
        ("events", "Message") => text(&object["message"]).trim().to_owned(),
        _ => NONE.to_owned(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => NONE.to_owned(),
    }
}

fn join(list: &Value, separator: &str, show: impl Fn(&Value) -> String) -> String {
    /// Items shown before `+ N more…`.
    const SHOWN_MAX: usize = 3;
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        return NONE.to_owned();
    }
    let shown = items.iter().take(SHOWN_MAX).map(show).collect::<Vec<_>>().join(separator);
    if items.len() > SHOWN_MAX { format!("{shown} + {} more...", items.len() - SHOWN_MAX) } else { shown }
}

fn pairs(map: &Value) -> String {
    let pairs: Vec<String> =
        map.as_object().into_iter().flatten().map(|(name, value)| format!("{name}={}", text(value))).collect();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

fn service_port(port: &Value) -> String {
    let number = text(&port["port"]);
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    match port["nodePort"].as_u64() {
        Some(node_port) if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
        _ => format!("{number}/{protocol}"),
    }
}

fn external(service: &Value) -> String {
    match service["spec"]["type"].as_str() {
        Some("ExternalName") => text(&service["spec"]["externalName"]),
        Some("LoadBalancer") if addresses(service).is_empty() => "<pending>".to_owned(),
        Some("LoadBalancer") => addresses(service),
        _ => NONE.to_owned(),
    }
}

fn class(ingress: &Value) -> String {
    match text(&ingress["spec"]["ingressClassName"]) {
        none if none == NONE => text(&ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"]),
        class => class,
    }
}

fn hosts(rules: &Value) -> String {
    let has_host = |rule: &&Value| rule["host"].as_str().is_some_and(|host| !host.is_empty());
    let named: Value =
        rules.as_array().into_iter().flatten().filter(has_host).map(|rule| rule["host"].clone()).collect();
    match named.as_array() {
        Some(names) if !names.is_empty() => join(&named, ",", text),
        _ => "*".to_owned(),
    }
}

/// Addresses of a load balancer status; empty if there are none, as in kubectl.
fn addresses(object: &Value) -> String {
    let entries = object["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let shown = entries.filter_map(|entry| entry["ip"].as_str().or_else(|| entry["hostname"].as_str()));
    shown.collect::<Vec<_>>().join(",")
}

fn condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == name && condition["status"] == "True")
}

fn last_seen(event: &Value) -> &Value {
    let candidates = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    candidates.into_iter().find(|time| time.is_string()).unwrap_or(&event["metadata"]["creationTimestamp"])
}

/// Age as kubectl shows it: one unit, from seconds to days.
fn age(since: &Value) -> String {
    let Some(since) = since.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    match jiff::Timestamp::now().as_second().saturating_sub(since.as_second()) {
        seconds @ ..120 => format!("{}s", seconds.max(0)),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
