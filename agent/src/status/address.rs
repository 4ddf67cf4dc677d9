//! One entry of `status.loadBalancer.ingress`.

use std::fmt;
use std::net::IpAddr;

use serde_json::{Value, json};

/// An IP or a host name; a host name is lower-case and never an IP (rule I-7).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Address {
    Ip(IpAddr),
    Hostname(String),
}

impl Address {
    /// `None` for an empty text.
    pub fn parse(text: &str) -> Option<Address> {
        let text = text.trim();
        if let Ok(ip) = text.parse() {
            return Some(Address::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        (!name.is_empty()).then_some(Address::Hostname(name))
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Address::Ip(ip) => json!({ "ip": ip.to_string() }),
            Address::Hostname(name) => json!({ "hostname": name }),
        }
    }

    /// `None` for an entry of a form we never write, which therefore differs from every one of ours.
    pub(super) fn from_json(entry: &Value) -> Option<Address> {
        let field = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        match (field("ip"), field("hostname")) {
            (Some(ip), None) => ip.parse().ok().map(Address::Ip),
            (None, Some(name)) => Some(Address::Hostname(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(ip) => ip.fmt(f),
            Address::Hostname(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_is_never_a_hostname_and_hostnames_are_lower_case() {
        let json = |text: &str| Address::parse(text).unwrap().to_json();
        assert_eq!(json("203.0.113.10"), json!({"ip": "203.0.113.10"}));
        assert_eq!(json("2001:DB8::1"), json!({"ip": "2001:db8::1"}));
        assert_eq!(json("LB-1.ELB.Amazonaws.com."), json!({"hostname": "lb-1.elb.amazonaws.com"}));
        assert_eq!(Address::parse(" "), None);
        assert_eq!(Address::parse("."), None);
    }

    #[test]
    fn entries_of_other_forms_are_not_ours() {
        assert_eq!(Address::from_json(&json!({"ip": "10.0.0.1", "hostname": "a"})), None);
        assert_eq!(Address::from_json(&json!({})), None);
        assert_eq!(Address::from_json(&json!({"ip": "10.0.0.1"})), Address::parse("10.0.0.1"));
    }
}
