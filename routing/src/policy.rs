//! What the platform team wishes: clusters, pools, classes, defaults. The policy file is YAML of this shape.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, PoolName};

/// `spec.controller` of the IngressClasses that are ours.
pub const CONTROLLER_NAME: &str = "roadstead.dev/ingress";

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub clusters: BTreeMap<ClusterId, ClusterPolicy>,
    pub pools: BTreeMap<PoolName, PoolPolicy>,
    /// By IngressClass name. Ours are bound to a pool by it; a foreign class listed here is served too.
    pub classes: BTreeMap<String, ClassPolicy>,
    pub defaults: Defaults,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterPolicy {
    pub region: String,
    /// Share of a host's traffic relative to the other clusters that serve it. 0 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Lower is preferred; also the order in which clusters win disagreements (rule M-7).
    pub priority: u32,
}

/// The largest cluster weight.
pub const WEIGHT_MAX: u32 = 1_000;

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self { region: String::new(), weight: 100, priority: 0 }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolPolicy {
    pub kind: PoolKind,
    /// What `status.loadBalancer.ingress` of this pool's Ingresses shows: IPs and host names.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The pool of classes that name none. At most one pool is the default.
    #[serde(default)]
    pub default: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    Edge,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassPolicy {
    pub pool: PoolName,
    #[serde(default)]
    pub status: StatusPolicy,
}

/// Whether `status.loadBalancer` of a class's Ingresses is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusPolicy {
    #[default]
    Write,
    /// Another controller owns the status, for example during a migration.
    Never,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    pub strategy: Strategy,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Over all clusters that serve a route, by weight.
    #[default]
    Spread,
}

impl Policy {
    /// A cluster that the policy does not name gets the defaults: its certificate already says it is a member.
    pub fn cluster(&self, id: &ClusterId) -> ClusterPolicy {
        self.clusters.get(id).cloned().unwrap_or_default()
    }

    /// The pool marked `default`, else the only pool, else none.
    pub fn default_pool(&self) -> Option<&PoolName> {
        let marked = self.pools.iter().find(|(_, pool)| pool.default).map(|(name, _)| name);
        marked.or_else(|| if self.pools.len() == 1 { self.pools.keys().next() } else { None })
    }
}
