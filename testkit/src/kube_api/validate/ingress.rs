//! Validation of Ingress: S-17, I-3 and I-7.
//!
//! In: an Ingress. Out: its refused fields. Whether a Service exists is no concern of the API server.

use serde_json::Value;

use super::{Cause, is_dns_1035_label, is_dns_1123_subdomain, is_ip, is_port_name, is_wildcard_subdomain, port_number};

const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const INVALID_SEQUENCES: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const INVALID_ENDINGS: &[&str] = &["/..", "/."];

/// All refused fields of `spec` and `status`.
pub(super) fn validate(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let rules = spec["rules"].as_array().map_or(&[][..], Vec::as_slice);
    if rules.is_empty() && spec["defaultBackend"].is_null() {
        causes.push(Cause::invalid("spec", &Value::from("{}"), "either `defaultBackend` or `rules` must be specified"));
    }
    if !spec["defaultBackend"].is_null() {
        backend("spec.defaultBackend", &spec["defaultBackend"], causes);
    }
    for (index, rule) in rules.iter().enumerate() {
        rule_fields(&format!("spec.rules[{index}]"), rule, causes);
    }
    for (index, tls) in spec["tls"].as_array().into_iter().flatten().enumerate() {
        tls_fields(&format!("spec.tls[{index}]"), tls, causes);
    }
    let class = &spec["ingressClassName"];
    if class.as_str().is_some_and(|name| !is_dns_1123_subdomain(name)) {
        causes.push(Cause::invalid("spec.ingressClassName", class, "a lowercase RFC 1123 subdomain is wanted"));
    }
    for (index, address) in object["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten().enumerate() {
        status_address(&format!("status.loadBalancer.ingress[{index}]"), address, causes);
    }
}

fn rule_fields(at: &str, rule: &Value, causes: &mut Vec<Cause>) {
    if let Some(host) = rule["host"].as_str().filter(|host| !host.is_empty()) {
        host_name(&format!("{at}.host"), host, causes);
    }
    if rule["http"].is_null() {
        return;
    }
    let paths = rule["http"]["paths"].as_array().map_or(&[][..], Vec::as_slice);
    if paths.is_empty() {
        causes.push(Cause::required(format!("{at}.http.paths"), ""));
    }
    for (index, path) in paths.iter().enumerate() {
        let at = format!("{at}.http.paths[{index}]");
        path_fields(&at, path, causes);
        backend(&format!("{at}.backend"), &path["backend"], causes);
    }
}

fn host_name(at: &str, host: &str, causes: &mut Vec<Cause>) {
    let value = Value::from(host);
    if is_ip(host) {
        causes.push(Cause::invalid(at, &value, "must be a DNS name, not an IP address"));
    } else if host.contains('*') {
        if !is_wildcard_subdomain(host) {
            causes.push(Cause::invalid(at, &value, "a wildcard DNS-1123 subdomain must start with '*.'"));
        }
    } else if !is_dns_1123_subdomain(host) {
        causes.push(Cause::invalid(at, &value, "a lowercase RFC 1123 subdomain is wanted"));
    }
}

fn path_fields(at: &str, entry: &Value, causes: &mut Vec<Cause>) {
    let path = entry["path"].as_str().unwrap_or_default();
    let field = format!("{at}.path");
    let refuse = |why: &str| Cause::invalid(field.as_str(), &Value::from(path), why);
    match entry["pathType"].as_str() {
        None => causes.push(Cause::required(format!("{at}.pathType"), "pathType must be specified")),
        Some("ImplementationSpecific") => {
            if !path.is_empty() && !path.starts_with('/') {
                causes.push(refuse("must be an absolute path"));
            }
        }
        Some("Exact" | "Prefix") => {
            if !path.starts_with('/') {
                causes.push(refuse("must be an absolute path"));
            }
            for sequence in INVALID_SEQUENCES.iter().filter(|sequence| path.contains(**sequence)) {
                causes.push(refuse(&format!("must not contain '{sequence}'")));
            }
            for ending in INVALID_ENDINGS.iter().filter(|ending| path.ends_with(**ending)) {
                causes.push(refuse(&format!("cannot end with '{ending}'")));
            }
        }
        Some(_) => causes.push(Cause::not_supported(format!("{at}.pathType"), &entry["pathType"], PATH_TYPES)),
    }
}

fn backend(at: &str, backend: &Value, causes: &mut Vec<Cause>) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_null(), resource.is_null()) {
        (false, false) => {
            causes.push(Cause::invalid(at, &Value::from(""), "cannot set both resource and service backends"));
        }
        (true, true) => {
            causes.push(Cause::invalid(at, &Value::from(""), "resource or service backend is required"));
        }
        (true, false) => {
            for field in ["kind", "name"] {
                if resource[field].as_str().is_none_or(str::is_empty) {
                    causes.push(Cause::required(format!("{at}.resource.{field}"), ""));
                }
            }
        }
        (false, true) => service_backend(&format!("{at}.service"), service, causes),
    }
}

fn service_backend(at: &str, service: &Value, causes: &mut Vec<Cause>) {
    let name = service["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required(format!("{at}.name"), ""));
    } else if !is_dns_1035_label(name) {
        causes.push(Cause::invalid(format!("{at}.name"), &service["name"], "a DNS-1035 label is wanted"));
    }
    let port = &service["port"];
    let port_name = port["name"].as_str().filter(|name| !name.is_empty());
    let has_number = port["number"].as_i64().is_some_and(|number| number != 0);
    match (port_name, has_number) {
        (Some(_), true) => {
            causes.push(Cause::invalid(at, &Value::from(""), "cannot set both port name & port number"));
        }
        (None, false) => causes.push(Cause::required(at, "port name or number is required")),
        (Some(name), false) if !is_port_name(name) => {
            causes.push(Cause::invalid(format!("{at}.port.name"), &port["name"], "not a valid port name"));
        }
        (Some(_), false) => {}
        (None, true) => port_number(&format!("{at}.port.number"), &port["number"], causes),
    }
}

fn tls_fields(at: &str, tls: &Value, causes: &mut Vec<Cause>) {
    for (index, host) in tls["hosts"].as_array().into_iter().flatten().enumerate() {
        host_name(&format!("{at}.hosts[{index}]"), host.as_str().unwrap_or_default(), causes);
    }
    if tls["secretName"].as_str().is_some_and(|name| !name.is_empty() && !is_dns_1123_subdomain(name)) {
        let why = "a lowercase RFC 1123 subdomain is wanted";
        causes.push(Cause::invalid(format!("{at}.secretName"), &tls["secretName"], why));
    }
}

fn status_address(at: &str, address: &Value, causes: &mut Vec<Cause>) {
    if address["ip"].as_str().is_some_and(|ip| !ip.is_empty() && !is_ip(ip)) {
        causes.push(Cause::invalid(format!("{at}.ip"), &address["ip"], "must be a valid IP address"));
    }
    if let Some(hostname) = address["hostname"].as_str().filter(|name| !name.is_empty()) {
        let field = format!("{at}.hostname");
        if is_ip(hostname) {
            causes.push(Cause::invalid(field, &address["hostname"], "must be a DNS name, not an IP address"));
        } else if !is_dns_1123_subdomain(hostname) {
            causes.push(Cause::invalid(field, &address["hostname"], "a lowercase RFC 1123 subdomain is wanted"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(spec: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        validate(&json!({"spec": spec}), &mut causes);
        causes.into_iter().map(|cause| cause.field).collect()
    }

    fn with_path(path_type: &str, path: &str) -> Vec<String> {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let entry = json!({"pathType": path_type, "path": path, "backend": backend});
        refused(&json!({"rules": [{"http": {"paths": [entry]}}]}))
    }

    fn with_backend(backend: &Value) -> Vec<String> {
        refused(&json!({"defaultBackend": backend}))
    }

    #[test]
    fn paths_as_in_s17() {
        for path in ["", "foo", "/a//b", "/a/./b", "/a/../b", "/a%2fb", "/a%2Fb", "/a/..", "/a/."] {
            assert_eq!(with_path("Prefix", path), ["spec.rules[0].http.paths[0].path"], "{path}");
        }
        assert!(with_path("ImplementationSpecific", "").is_empty());
        assert!(with_path("ImplementationSpecific", "/a//b").is_empty());
        assert_eq!(with_path("ImplementationSpecific", "a"), ["spec.rules[0].http.paths[0].path"]);
        assert_eq!(with_path("Regex", "/a"), ["spec.rules[0].http.paths[0].pathType"]);
    }

    #[test]
    fn hosts_as_in_s17() {
        for host in ["10.0.0.1", "::1", "Upper.example", "*", "*.*.example", "a.*.example", "a:80", "a_b.example"] {
            assert_eq!(refused(&json!({"rules": [{"host": host}]})), ["spec.rules[0].host"], "{host}");
        }
        assert!(refused(&json!({"rules": [{"host": "*.foo.example"}]})).is_empty());
    }

    #[test]
    fn backends_as_in_i3() {
        let service = json!({"name": "web", "port": {"name": "http"}});
        let resource = json!({"kind": "Bucket", "name": "x"});
        assert!(with_backend(&json!({"service": service})).is_empty());
        assert!(with_backend(&json!({"resource": resource})).is_empty());
        assert_eq!(with_backend(&json!({"service": service, "resource": resource})), ["spec.defaultBackend"]);
        assert_eq!(with_backend(&json!({})), ["spec.defaultBackend"]);
        let both = json!({"service": {"name": "web", "port": {"name": "http", "number": 80}}});
        assert_eq!(with_backend(&both), ["spec.defaultBackend.service"]);
        assert_eq!(with_backend(&json!({"service": {"name": "web"}})), ["spec.defaultBackend.service"]);
    }

    #[test]
    fn neither_rules_nor_default_is_refused() {
        assert_eq!(refused(&json!({})), ["spec"]);
        assert_eq!(refused(&json!({"rules": []})), ["spec"]);
    }
}
