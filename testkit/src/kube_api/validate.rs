//! Validation of the fields that matter for ingress, as kube-apiserver does it (S-17, I-3, I-5, I-7).
//!
//! In: an object in its final, defaulted form and the one it replaces. Out: the refused fields.
//! One deliberate difference: EndpointSlice addresses may be loopback, because every pod of a test is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::failure::Cause;
use super::kind::Kind;
use super::names::{
    is_dns_1035_label, is_dns_1123_label, is_dns_1123_subdomain, is_label_value, is_port_name, is_qualified_name,
    is_wildcard_subdomain,
};

mod event;
mod ingress;

/// Bytes of all annotations together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Endpoints in one EndpointSlice.
const ENDPOINTS_MAX: usize = 1000;
/// Addresses of one endpoint, and ports of one EndpointSlice.
const ADDRESSES_MAX: usize = 100;
/// Letters in `spec.controller` of an IngressClass.
const CONTROLLER_MAX: usize = 250;

/// All refused fields of an object.
pub(crate) fn validate(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    metadata(kind, new, &mut causes);
    match kind.resource {
        "ingresses" => ingress::validate(new, &mut causes),
        "ingressclasses" => ingress_class(new, old, &mut causes),
        "services" => service(new, &mut causes),
        "endpointslices" => endpoint_slice(new, old, &mut causes),
        "secrets" => secret(new, old, &mut causes),
        "events" if kind.group == "events.k8s.io" => event::validate(new, old, &mut causes),
        _ => {}
    }
    causes
}

fn metadata(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let (fits, why): (fn(&str) -> bool, _) = match kind.resource {
        "namespaces" => (is_dns_1123_label, "a lowercase RFC 1123 label is wanted"),
        "services" => (is_dns_1035_label, "a DNS-1035 label is wanted"),
        _ => (is_dns_1123_subdomain, "a lowercase RFC 1123 subdomain is wanted"),
    };
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if !fits(name) {
        causes.push(Cause::invalid("metadata.name", &metadata["name"], why));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified_name(key) {
            causes.push(Cause::invalid("metadata.labels", &Value::from(key.as_str()), "not a qualified name"));
        }
        if !value.as_str().is_some_and(is_label_value) {
            causes.push(Cause::invalid("metadata.labels", value, "not a label value"));
        }
    }
    let mut bytes = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        if !is_qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &Value::from(key.as_str()), "not a qualified name"));
        }
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            field: "metadata.annotations".to_owned(),
            message: format!("Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes"),
        });
    }
}

fn ingress_class(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let controller = &new["spec"]["controller"];
    let text = controller.as_str().unwrap_or_default();
    if let Some(old) = old
        && old["spec"]["controller"] != *controller
    {
        causes.push(Cause::invalid("spec.controller", controller, "field is immutable"));
    }
    if text.is_empty() {
        causes.push(Cause::required("spec.controller", ""));
    } else if text.len() > CONTROLLER_MAX {
        causes.push(Cause::invalid("spec.controller", controller, "may not be more than 250 bytes"));
    } else if !text.split_once('/').is_some_and(|(domain, path)| is_dns_1123_subdomain(domain) && !path.is_empty()) {
        causes.push(Cause::invalid(
            "spec.controller",
            controller,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        ));
    }
}

fn service(object: &Value, causes: &mut Vec<Cause>) {
    const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    let spec = &object["spec"];
    let kind = spec["type"].as_str().unwrap_or_default();
    if !TYPES.contains(&kind) {
        causes.push(Cause::not_supported("spec.type", &spec["type"], TYPES));
    }
    if kind == "ExternalName" {
        let name = spec["externalName"].as_str().unwrap_or_default();
        if !is_dns_1123_subdomain(name.strip_suffix('.').unwrap_or(name)) {
            causes.push(Cause::invalid("spec.externalName", &spec["externalName"], "a DNS name is wanted"));
        }
    }
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    if ports.is_empty() && kind != "ExternalName" && spec["clusterIP"] != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        port_number(&format!("{at}.port"), &port["port"], causes);
        protocol(&format!("{at}.protocol"), &port["protocol"], causes);
        let name = port["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            if ports.len() > 1 {
                causes.push(Cause::required(format!("{at}.name"), ""));
            }
        } else if !is_dns_1123_label(name) {
            causes.push(Cause::invalid(format!("{at}.name"), &port["name"], "a lowercase RFC 1123 label is wanted"));
        } else if names.contains(&name) {
            causes.push(Cause {
                reason: "FieldValueDuplicate",
                field: format!("{at}.name"),
                message: format!("Duplicate value: {name:?}"),
            });
        }
        names.push(name);
    }
}

fn endpoint_slice(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    const TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
    let address_type = new["addressType"].as_str().unwrap_or_default();
    if address_type.is_empty() {
        causes.push(Cause::required("addressType", ""));
    } else if !TYPES.contains(&address_type) {
        causes.push(Cause::not_supported("addressType", &new["addressType"], TYPES));
    }
    if let Some(old) = old
        && old["addressType"] != new["addressType"]
    {
        causes.push(Cause::invalid("addressType", &new["addressType"], "field is immutable"));
    }
    let endpoints = new["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    if endpoints.len() > ENDPOINTS_MAX {
        causes.push(too_many("endpoints", endpoints.len(), ENDPOINTS_MAX));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let at = format!("endpoints[{index}].addresses");
        let addresses = endpoint["addresses"].as_array().map_or(&[][..], Vec::as_slice);
        if addresses.is_empty() {
            causes.push(Cause::required(at.as_str(), "must contain at least 1 address"));
        } else if addresses.len() > ADDRESSES_MAX {
            causes.push(too_many(&at, addresses.len(), ADDRESSES_MAX));
        }
        for (position, address) in addresses.iter().enumerate() {
            if !is_address(address_type, address.as_str().unwrap_or_default()) {
                causes.push(Cause::invalid(format!("{at}[{position}]"), address, "must be of the addressType"));
            }
        }
    }
    let ports = new["ports"].as_array().map_or(&[][..], Vec::as_slice);
    if ports.len() > ADDRESSES_MAX {
        causes.push(too_many("ports", ports.len(), ADDRESSES_MAX));
    }
    for (index, port) in ports.iter().enumerate() {
        protocol(&format!("ports[{index}].protocol"), &port["protocol"], causes);
        if !port["port"].is_null() {
            port_number(&format!("ports[{index}].port"), &port["port"], causes);
        }
    }
}

fn is_address(address_type: &str, text: &str) -> bool {
    match address_type {
        "IPv4" => text.parse::<Ipv4Addr>().is_ok(),
        "IPv6" => text.parse::<Ipv6Addr>().is_ok(),
        "FQDN" => is_dns_1123_subdomain(text),
        _ => true,
    }
}

fn secret(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(old) = old
        && old["type"] != new["type"]
    {
        causes.push(Cause::invalid("type", &new["type"], "field is immutable"));
    }
    if new["type"] == "kubernetes.io/tls" {
        for key in ["tls.crt", "tls.key"] {
            if new["data"][key].is_null() {
                causes.push(Cause::required(format!("data[{key}]"), ""));
            }
        }
    }
    for key in new["data"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if !key.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')) {
            causes.push(Cause::invalid(format!("data[{key}]"), &Value::from(key.as_str()), "not a valid key"));
        }
    }
}

fn port_number(field: &str, value: &Value, causes: &mut Vec<Cause>) {
    if !value.as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
        causes.push(Cause::invalid(field, value, "must be between 1 and 65535, inclusive"));
    }
}

fn protocol(field: &str, value: &Value, causes: &mut Vec<Cause>) {
    const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
    if !value.as_str().is_some_and(|text| PROTOCOLS.contains(&text)) {
        causes.push(Cause::not_supported(field, value, PROTOCOLS));
    }
}

fn too_many(field: &str, count: usize, max: usize) -> Cause {
    let message = format!("Too many: {count}: must have at most {max} items");
    Cause { reason: "FieldValueTooMany", field: field.to_owned(), message }
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}
