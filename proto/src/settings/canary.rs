//! Canary rules to and from the wire.

use roadstead_routing::settings::{CanaryRule, HeaderRule, HeaderValue};

use super::{optional, text};
use crate::resource::ResourceError;
use crate::wire;

pub(crate) fn rule_to_wire(rule: &CanaryRule) -> wire::CanaryRule {
    wire::CanaryRule {
        header: rule.header.as_ref().map(header_to_wire),
        cookie: rule.cookie.as_ref().map(ToString::to_string),
        weight: rule.weight,
        weight_total: rule.weight_total,
    }
}

pub(crate) fn rule_from_wire(rule: wire::CanaryRule) -> Result<CanaryRule, ResourceError> {
    Ok(CanaryRule {
        header: rule.header.map(header_from_wire).transpose()?,
        cookie: optional("canary cookie", rule.cookie)?,
        weight: rule.weight,
        weight_total: rule.weight_total,
    })
}

fn header_to_wire(header: &HeaderRule) -> wire::HeaderRule {
    use wire::header_rule::Value;
    let value = match &header.value {
        HeaderValue::Switch => Value::Switch(wire::Switch {}),
        HeaderValue::Exact(value) => Value::Exact(value.to_string()),
        HeaderValue::Pattern(pattern) => Value::Pattern(pattern.to_string()),
    };
    wire::HeaderRule { name: header.name.to_string(), value: Some(value) }
}

fn header_from_wire(header: wire::HeaderRule) -> Result<HeaderRule, ResourceError> {
    use wire::header_rule::Value;
    const VALUE: &str = "canary header value";
    let value = match header.value.ok_or(ResourceError::Missing(VALUE))? {
        Value::Switch(_) => HeaderValue::Switch,
        Value::Exact(value) => HeaderValue::Exact(text(VALUE, value)?),
        Value::Pattern(pattern) => HeaderValue::Pattern(text(VALUE, pattern)?),
    };
    Ok(HeaderRule { name: text("canary header name", header.name)?, value })
}
