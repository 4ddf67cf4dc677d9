//! Scopes as text, as they are stored and sent.

use std::fmt;

use super::Scope;

/// `pool`, `cluster/ID` or `namespace/CLUSTER/NAMESPACE`.
pub struct ScopeText<'a>(pub &'a Scope);

impl fmt::Display for ScopeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Scope::Pool => f.write_str("pool"),
            Scope::Cluster(cluster) => write!(f, "cluster/{cluster}"),
            Scope::Namespace(cluster, namespace) => write!(f, "namespace/{cluster}/{namespace}"),
        }
    }
}

impl Scope {
    /// Reads what [`ScopeText`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split('/').collect::<Vec<_>>()[..] {
            ["pool"] => Some(Scope::Pool),
            ["cluster", cluster] if !cluster.is_empty() => Some(Scope::Cluster(cluster.into())),
            ["namespace", cluster, namespace] if !cluster.is_empty() && !namespace.is_empty() => {
                Some(Scope::Namespace(cluster.into(), namespace.into()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for scope in [Scope::Pool, Scope::Cluster("eu".into()), Scope::Namespace("eu".into(), "shop".into())] {
            assert_eq!(Scope::parse(&ScopeText(&scope).to_string()), Some(scope));
        }
        for bad in ["", "cluster/", "namespace/eu", "namespace/eu/", "cluster/a/b", "pool/x"] {
            assert_eq!(Scope::parse(bad), None, "{bad}");
        }
    }
}
