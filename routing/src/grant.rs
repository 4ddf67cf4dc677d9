//! Who may declare which hosts (rule M-8).
//!
//! Grants of the policy + a host and who claims it → allowed or not. The most specific pattern that covers a host decides:
//! the host itself, then the longest suffix. Of several grants with that pattern one that allows is enough.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, HostKey};
use crate::rules::{self, Rule};

/// Binds hosts to clusters and namespaces. An empty list of either means all of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    pub hosts: Vec<HostPattern>,
    #[serde(default)]
    pub clusters: Vec<ClusterId>,
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// `shop.example.com`, `*.example.com` for every host below at any depth, or `*` for all of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    Host(String),
    /// Without `*.`.
    Below(String),
    Everything,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is neither a host such as shop.example.com nor a suffix such as *.example.com")]
pub struct PatternError(String);

/// Whether `namespace` of `cluster` may declare `host`.
pub fn allows(grants: &[Grant], host: &HostKey, cluster: &ClusterId, namespace: &str) -> bool {
    if !rules::on(Rule::GrantsBind) {
        return true;
    }
    let covering = || grants.iter().flat_map(|grant| grant.hosts.iter().map(move |pattern| (pattern, grant)));
    let ranked = covering().filter_map(|(pattern, grant)| Some((pattern.covers(host)?, grant)));
    let Some(best) = ranked.clone().map(|(rank, _)| rank).max() else { return true };
    ranked.filter(|(rank, _)| *rank == best).any(|(_, grant)| grant.names(cluster, namespace))
}

impl Grant {
    fn names(&self, cluster: &ClusterId, namespace: &str) -> bool {
        let has_cluster = self.clusters.is_empty() || self.clusters.contains(cluster);
        has_cluster && (self.namespaces.is_empty() || self.namespaces.iter().any(|name| name == namespace))
    }
}

impl HostPattern {
    /// How specific it is for `host`; `None`: it does not cover it. A wildcard host is covered by what covers
    /// everything it stands for.
    fn covers(&self, host: &HostKey) -> Option<usize> {
        let name = match host {
            HostKey::Exact(name) | HostKey::Wildcard(name) => &**name,
            HostKey::Any | HostKey::CatchAll => "",
        };
        match self {
            HostPattern::Everything => Some(0),
            HostPattern::Host(own) => (matches!(host, HostKey::Exact(_)) && own == name).then_some(usize::MAX),
            HostPattern::Below(suffix) => {
                let is_suffix = matches!(host, HostKey::Wildcard(_)) && name == suffix;
                let is_below = name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'));
                (is_suffix || is_below).then_some(1 + suffix.len())
            }
        }
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(HostPattern::Everything);
        }
        match crate::declare::rule_host(text) {
            Some(HostKey::Exact(host)) => Ok(HostPattern::Host(host.to_string())),
            Some(HostKey::Wildcard(suffix)) => Ok(HostPattern::Below(suffix.to_string())),
            _ => Err(PatternError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> String {
        match pattern {
            HostPattern::Host(host) => host,
            HostPattern::Below(suffix) => format!("*.{suffix}"),
            HostPattern::Everything => "*".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(hosts: &[&str], clusters: &[&str], namespaces: &[&str]) -> Grant {
        Grant {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            clusters: clusters.iter().map(|id| ClusterId::from(*id)).collect(),
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
        }
    }

    fn may(grants: &[Grant], host: &str, cluster: &str, namespace: &str) -> bool {
        allows(grants, &HostKey::parse(host).unwrap(), &cluster.into(), namespace)
    }

    #[test]
    fn a_host_that_no_grant_names_is_everybodys() {
        assert!(
            may(&[], "shop.ex.com", "eu", "shop")
                && may(&[grant(&["pay.ex.com"], &["eu"], &[])], "a.ex.com", "us", "x")
        );
    }

    #[test]
    fn a_grant_binds_a_host_to_its_clusters_and_namespaces() {
        let grants = [grant(&["*.pay.ex.com", "pay.ex.com"], &["eu"], &["payments"])];
        for host in ["pay.ex.com", "a.pay.ex.com", "b.a.pay.ex.com", "*.pay.ex.com"] {
            assert!(may(&grants, host, "eu", "payments"), "{host}");
            assert!(!may(&grants, host, "us", "payments") && !may(&grants, host, "eu", "shop"), "{host}");
        }
        assert!(may(&grants, "xpay.ex.com", "us", "shop"), "a suffix ends at a dot");
    }

    #[test]
    fn the_most_specific_pattern_decides() {
        let grants =
            [grant(&["*"], &["eu"], &[]), grant(&["*.ex.com"], &[], &["web"]), grant(&["a.ex.com"], &["us"], &[])];
        assert!(may(&grants, "a.ex.com", "us", "any") && !may(&grants, "a.ex.com", "eu", "web"));
        assert!(may(&grants, "b.ex.com", "us", "web") && !may(&grants, "b.ex.com", "eu", "shop"));
        assert!(may(&grants, "other.org", "eu", "any") && !may(&grants, "other.org", "us", "any"));
    }

    #[test]
    fn of_several_grants_of_one_pattern_one_is_enough() {
        let grants = [grant(&["a.ex.com"], &["eu"], &[]), grant(&["a.ex.com"], &["us"], &[])];
        assert!(may(&grants, "a.ex.com", "us", "x") && !may(&grants, "a.ex.com", "ap", "x"));
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        for text in ["", "*.", "a.*.com", "10.0.0.1", "A.ex.com", "a.ex.com:80"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
