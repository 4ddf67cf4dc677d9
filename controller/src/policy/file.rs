//! One policy file: bytes in, a valid [`Policy`] or one line for a person out. Says which line is wrong and why.

use std::net::IpAddr;
use std::path::Path;

use roadstead_proto::digest::Digest;
use roadstead_proto::identity::Identity;
use roadstead_routing::grant::Grant;
use roadstead_routing::limit::REACH_RULES_MAX;
use roadstead_routing::policy::{ClusterPolicy, PRIORITY_MAX, Policy, WEIGHT_MAX};
use roadstead_routing::reach::ReachMode;

use super::content_digest;

/// Bytes of a policy file; a larger one is refused.
pub const POLICY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a DNS name.
const DNS_NAME_BYTES_MAX: usize = 253;
const DNS_LABEL_BYTES_MAX: usize = 63;

/// A good file.
#[derive(Clone, PartialEq, Debug)]
pub struct Read {
    pub policy: Policy,
    pub digest: Digest,
    pub body: String,
}

/// # Errors
/// One line that names the file, the line in it, and what is wrong.
pub fn read(path: &Path) -> Result<Read, String> {
    let shown = path.display();
    let body = std::fs::read_to_string(path).map_err(|error| format!("{shown}: cannot read it: {error}"))?;
    let policy = parse(&body).map_err(|problem| format!("{shown}: {problem}"))?;
    Ok(Read { policy, digest: content_digest(&body), body })
}

/// # Errors
/// One line: where and what.
pub fn parse(body: &str) -> Result<Policy, String> {
    if body.len() > POLICY_BYTES_MAX {
        return Err(format!("is {} bytes long; at most {POLICY_BYTES_MAX} are read", body.len()));
    }
    let policy: Policy = serde_saphyr::from_str(body).map_err(|error| explain(&error))?;
    validate(&policy)?;
    Ok(policy)
}

fn explain(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    let line = error.location().map_or_else(String::new, |location| format!("line {}: ", location.line()));
    match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            format!("{line}unknown key `{field}`, expected one of {}", expected.join(", "))
        }
        other => {
            let text = other.to_string();
            // The line is said already.
            let what = text.lines().next().and_then(|text| text.split(" at line ").next());
            format!("{line}{}", what.unwrap_or("not a policy"))
        }
    }
}

fn validate(policy: &Policy) -> Result<(), String> {
    for (cluster, it) in &policy.clusters {
        Identity::parse(&format!("cluster/{cluster}"))
            .map_err(|_| format!("clusters.{cluster}: not a cluster id: use a-z, 0-9, `-` and `.`"))?;
        if it.weight > WEIGHT_MAX {
            return Err(format!("clusters.{cluster}.weight: {} is above {WEIGHT_MAX}", it.weight));
        }
        if it.priority > PRIORITY_MAX {
            return Err(format!("clusters.{cluster}.priority: {} is above {PRIORITY_MAX}", it.priority));
        }
        validate_reach(it, policy).map_err(|problem| format!("clusters.{cluster}.{problem}"))?;
    }
    for (pool, it) in &policy.pools {
        Identity::parse(&format!("pool/{pool}/edge/x"))
            .map_err(|_| format!("pools.{pool}: not a pool name: use a-z, 0-9, `-` and `.`"))?;
        if let Some(bad) = it.addresses.iter().find(|address| !is_address(address)) {
            return Err(format!("pools.{pool}.addresses: `{bad}` is neither an IP address nor a DNS name"));
        }
    }
    let defaults: Vec<&str> = policy.pools.iter().filter(|(_, it)| it.default).map(|(name, _)| name.as_str()).collect();
    if defaults.len() > 1 {
        return Err(format!("pools: only one may be the default, not {}", defaults.join(" and ")));
    }
    for (class, it) in &policy.classes {
        if !is_dns_name(class) {
            return Err(format!("classes.{class}: not an IngressClass name"));
        }
        if !policy.pools.contains_key(&it.pool) {
            return Err(format!("classes.{class}.pool: there is no pool `{}`", it.pool));
        }
    }
    for (index, grant) in policy.grants.iter().enumerate() {
        validate_grant(grant).map_err(|problem| format!("grants[{index}].{problem}"))?;
    }
    Ok(())
}

fn validate_reach(cluster: &ClusterPolicy, policy: &Policy) -> Result<(), String> {
    if cluster.reach_from.len() > REACH_RULES_MAX {
        return Err(format!("reach_from: has {} entries, {REACH_RULES_MAX} are allowed", cluster.reach_from.len()));
    }
    for (index, from) in cluster.reach_from.iter().enumerate() {
        if let Some(pool) = from.pool.as_ref().filter(|pool| !policy.pools.contains_key(pool)) {
            return Err(format!("reach_from[{index}].pool: there is no pool `{pool}`"));
        }
    }
    if cluster.gateway.is_none() && cluster.reach_modes().any(|mode| mode == ReachMode::Gateway) {
        return Err("gateway: name the Service, NAMESPACE/NAME, that edges are to reach the cluster through".to_owned());
    }
    Ok(())
}

/// A name that nobody can have would take the hosts from everybody.
fn validate_grant(grant: &Grant) -> Result<(), String> {
    if grant.hosts.is_empty() {
        return Err("hosts: name at least one host or suffix".to_owned());
    }
    for cluster in &grant.clusters {
        Identity::parse(&format!("cluster/{cluster}"))
            .map_err(|_| format!("clusters: `{cluster}` is no cluster id"))?;
    }
    let bad = grant.namespaces.iter().find(|name| !is_dns_name(name) || name.contains('.'));
    bad.map_or(Ok(()), |bad| Err(format!("namespaces: `{bad}` is no name of a namespace")))
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_dns_name(text)
}

fn is_dns_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= DNS_LABEL_BYTES_MAX
            && bytes.iter().all(|byte| letter(*byte) || *byte == b'-')
            && letter(bytes[0])
            && letter(bytes[bytes.len() - 1])
    };
    text.len() <= DNS_NAME_BYTES_MAX && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_routing::policy::{Activate, StalePolicy};

    const GOOD: &str = "
clusters:
  eu-west: {region: eu, weight: 100, priority: 0, activate: auto, reach: pod-ip}
  us-east:
    region: us
    weight: 50
    reach: gateway
    gateway: ingress/roadstead-gateway
    reach_from: [{pool: internal, reach: pod-ip}, {region: us, reach: node-port}]
    node_address: external
pools:
  public:   {kind: edge, addresses: [203.0.113.10, '2001:db8::1'], default: true}
  internal: {kind: edge, addresses: [lb.internal.example.com]}
classes:
  roadstead: {pool: public}
  nginx:     {pool: public, status: never, mode: nginx-compat, hsts: {max_age: 31536000, include_subdomains: true}}
grants:
  - {hosts: ['*.pay.example.com'], clusters: [eu-west], namespaces: [payments]}
defaults: {strategy: spread, stale: hold, weigh_by_endpoints: true, all_down: 'https://status.example.com/'}
";

    #[test]
    fn the_documented_shape_is_read() {
        let policy = parse(GOOD).unwrap();
        assert_eq!(policy.cluster(&"us-east".into()).weight, 50);
        assert_eq!(policy.default_pool().unwrap().as_str(), "public");
        assert_eq!(policy.classes.len(), 2);
    }

    #[test]
    fn the_policy_of_the_documentation_is_read() {
        let page = include_str!("../../../docs/policy.md");
        let (_, example) = page.split_once("```yaml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let policy = parse(example).unwrap();
        assert_eq!(policy.cluster(&"us-east".into()).gateway.as_ref().unwrap().to_string(), "ingress/gateway");
    }

    #[test]
    fn clusters_may_wait_for_activation_and_lapse_when_stale() {
        let policy = parse("clusters: {a: {activate: manual, stale: {hold_for: 10m}}}").unwrap();
        assert_eq!(policy.cluster(&"a".into()).activate, Activate::Manual);
        assert!(matches!(policy.stale(&"a".into()), StalePolicy::HoldFor(span) if span.seconds() == 600));
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let cases = [
            ("clusters:\n  a: {weight: 1001}", "clusters.a.weight: 1001 is above 1000"),
            ("clusters:\n  A: {}", "clusters.A: not a cluster id: use a-z, 0-9, `-` and `.`"),
            (
                "pools:\n  p: {kind: edge, addresses: [a_b]}",
                "pools.p.addresses: `a_b` is neither an IP address nor a DNS name",
            ),
            (
                "pools:\n  p: {kind: edge, default: true}\n  q: {kind: edge, default: true}",
                "pools: only one may be the default, not p and q",
            ),
            ("classes:\n  c: {pool: nowhere}", "classes.c.pool: there is no pool `nowhere`"),
            (
                "clusters:\n  a: {wait: 1}",
                "line 2: unknown key `wait`, expected one of region, weight, priority, activate, stale, reach, reach_from, \
                 gateway, node_address",
            ),
            ("defaults:\n  all_down: 200", "line 2: it must be a status from 400 to 599 or an http or https URL"),
            (
                "clusters:\n  a: {reach: gateway}",
                "clusters.a.gateway: name the Service, NAMESPACE/NAME, that edges are to reach the cluster through",
            ),
            ("clusters:\n  a: {gateway: x}", "line 2: `x` is not NAMESPACE/NAME or NAMESPACE/NAME:PORT of a Service"),
            (
                "clusters:\n  a: {reach_from: [{pool: nowhere, reach: node-port}]}",
                "clusters.a.reach_from[0].pool: there is no pool `nowhere`",
            ),
            ("clusters:\n  a: {priority: 1001}", "clusters.a.priority: 1001 is above 1000"),
            ("grants:\n- {hosts: []}", "grants[0].hosts: name at least one host or suffix"),
            ("grants:\n- {hosts: [a.ex.com], clusters: [A]}", "grants[0].clusters: `A` is no cluster id"),
            (
                "grants:\n- {hosts: [a.ex.com], namespaces: [a.b]}",
                "grants[0].namespaces: `a.b` is no name of a namespace",
            ),
            (
                "grants:\n- {hosts: [a.*.com]}",
                "line 2: `a.*.com` is neither a host such as shop.example.com nor a suffix such as *.example.com",
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(parse(body).unwrap_err(), expected, "{body}");
        }
        let not_yaml = parse("clusters: {a: [}").unwrap_err();
        assert!(not_yaml.starts_with("line 1: "), "{not_yaml}");
        assert!(parse(&"#".repeat(POLICY_BYTES_MAX + 1)).unwrap_err().contains("at most"));
    }
}
