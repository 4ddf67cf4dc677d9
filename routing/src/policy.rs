//! What the platform team wishes: clusters, pools, classes, defaults. The policy file is YAML of this shape.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::grant::Grant;
use crate::id::{ClusterId, PoolName};
use crate::object::NodeAddressKind;
use crate::reach::{GatewayRef, ReachFrom, ReachMode};
use crate::settings::AllDown;
use crate::table::SecretId;

/// `spec.controller` of the IngressClasses that are ours.
pub const CONTROLLER_NAME: &str = "roadstead.dev/ingress";

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub clusters: BTreeMap<ClusterId, ClusterPolicy>,
    pub pools: BTreeMap<PoolName, PoolPolicy>,
    /// By IngressClass name. Ours are bound to a pool by it; a foreign class listed here is served too.
    pub classes: BTreeMap<String, ClassPolicy>,
    /// Who may declare which hosts (rule M-8). A host that none of them names is everybody's.
    pub grants: Vec<Grant>,
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
    /// Whether the cluster may serve as soon as it is synchronised.
    pub activate: Activate,
    /// What happens once its agent is gone; [`Defaults::stale`] if absent.
    pub stale: Option<StalePolicy>,
    /// How edges get to its Services (rule R-1).
    pub reach: ReachMode,
    /// How edges of some pools and regions do; the first entry that fits an edge decides. At most
    /// [`REACH_RULES_MAX`](crate::limit::REACH_RULES_MAX).
    pub reach_from: Vec<ReachFrom>,
    /// The Service of type LoadBalancer through which all others are reached with [`ReachMode::Gateway`].
    pub gateway: Option<GatewayRef>,
    /// Which addresses of its nodes edges use with [`ReachMode::NodePort`].
    pub node_address: NodeAddressKind,
}

/// What clients get while nobody can serve them, unless somebody says otherwise.
pub const ALL_DOWN: AllDown = AllDown::Status(503);
/// The largest cluster weight.
pub const WEIGHT_MAX: u32 = 1_000;
/// The last priority.
pub const PRIORITY_MAX: u32 = 1_000;

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl ClusterPolicy {
    const DEFAULT: Self = Self {
        region: String::new(),
        weight: 100,
        priority: 0,
        activate: Activate::Auto,
        stale: None,
        reach: ReachMode::PodIp,
        reach_from: Vec::new(),
        gateway: None,
        node_address: NodeAddressKind::Internal,
    };

    /// Every mode that some edges use. May repeat.
    pub fn reach_modes(&self) -> impl Iterator<Item = ReachMode> {
        self.reach_from.iter().map(|from| from.reach).chain([self.reach])
    }
}

/// Who ends a new cluster's joining.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activate {
    /// The first complete synchronisation.
    #[default]
    Auto,
    /// A person.
    Manual,
}

/// What a lost agent does to the routes of its cluster: `hold` or `{hold_for: 10m}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StalePolicy {
    /// Nothing, for however long.
    #[default]
    Hold,
    /// Nothing for this long; then the cluster becomes a last resort (rules D-4, D-5).
    HoldFor(Span),
}

/// A span of [`SPAN_SECONDS_MIN`] to [`SPAN_SECONDS_MAX`] seconds. Written as a whole number and `s`, `m`, `h`
/// or `d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u32);

/// A reconnecting agent needs a few seconds; a shorter hold would move traffic at every hiccup.
pub const SPAN_SECONDS_MIN: u32 = 10;
/// A longer one is `hold`.
pub const SPAN_SECONDS_MAX: u32 = 7 * 24 * 60 * 60;

/// What is wrong with a span of time.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpanError {
    #[error("`{0}` is not a time like 90s, 10m, 2h or 1d")]
    Unreadable(String),
    #[error("`{0}` is out of range: from {SPAN_SECONDS_MIN}s to 7d")]
    OutOfRange(String),
}

const SPAN_UNITS: [(char, u32); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

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
    /// What clients are shown that name no host with a certificate.
    #[serde(default)]
    pub certificate: Option<SecretId>,
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
    #[serde(default)]
    pub mode: ClassMode,
    /// What browsers are told over HTTPS by every Ingress of the class (rule L-6). `None`: nothing.
    #[serde(default)]
    pub hsts: Option<Hsts>,
}

/// Browsers are to use HTTPS alone from now on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    /// Seconds; 0 takes it back.
    pub max_age: u32,
    #[serde(default)]
    pub include_subdomains: bool,
    #[serde(default)]
    pub preload: bool,
}

/// Whose rules the paths of a class's Ingresses follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassMode {
    /// Rules S.
    #[default]
    Standard,
    /// As ingress-nginx: one Ingress with patterns makes every path of its hosts a pattern (rule S-16).
    NginxCompat,
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

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    pub strategy: Strategy,
    /// For clusters that name none of their own.
    pub stale: StalePolicy,
    /// From then on the addresses that a lost agent reported last may be those of other pods.
    pub stale_pod_ip_after: Span,
    /// Whether a cluster's weight counts once for each of its usable endpoints (rule E-1).
    pub weigh_by_endpoints: bool,
    /// What clients get while nobody can serve them (rule E-2).
    pub all_down: AllDown,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            stale: StalePolicy::default(),
            stale_pod_ip_after: Span(5 * 60),
            weigh_by_endpoints: false,
            all_down: ALL_DOWN,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Over all clusters that serve a route, by weight.
    #[default]
    Spread,
    /// To the clusters of the lowest priority; to those of the next as far as these have too few healthy endpoints.
    Failover,
    /// To the clusters of the edge's own region; to the others as far as these have too few healthy endpoints.
    Nearest,
}

impl Policy {
    /// A cluster that the policy does not name gets the defaults: its certificate already says it is a member.
    pub fn cluster(&self, id: &ClusterId) -> &ClusterPolicy {
        static UNNAMED: ClusterPolicy = ClusterPolicy::DEFAULT;
        self.clusters.get(id).unwrap_or(&UNNAMED)
    }

    /// What a lost agent does to the routes of a cluster.
    pub fn stale(&self, id: &ClusterId) -> StalePolicy {
        let own = self.clusters.get(id).and_then(|cluster| cluster.stale);
        own.unwrap_or(self.defaults.stale)
    }

    /// The pools whose default certificate is a Secret, with it.
    pub fn certificates(&self) -> impl Iterator<Item = (&PoolName, &SecretId)> {
        self.pools.iter().filter_map(|(name, pool)| Some((name, pool.certificate.as_ref()?)))
    }

    /// The pool marked `default`, else the only pool, else none.
    pub fn default_pool(&self) -> Option<&PoolName> {
        let marked = self.pools.iter().find(|(_, pool)| pool.default).map(|(name, _)| name);
        marked.or_else(|| if self.pools.len() == 1 { self.pools.keys().next() } else { None })
    }
}

impl Span {
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let unreadable = || SpanError::Unreadable(text.to_owned());
        let unit = SPAN_UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
        let (count, seconds) = unit.ok_or_else(unreadable)?;
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unreadable());
        }
        // What does not fit is a number all the same, only too large.
        let span = count.parse::<u32>().ok().and_then(|count| count.checked_mul(seconds));
        match span {
            Some(span @ SPAN_SECONDS_MIN..=SPAN_SECONDS_MAX) => Ok(Self(span)),
            _ => Err(SpanError::OutOfRange(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

/// In the largest unit that is exact.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SPAN_UNITS.iter().find(|(_, seconds)| self.0.is_multiple_of(*seconds));
        let (unit, seconds) = exact.expect("every span must be a whole number of seconds");
        write!(f, "{}{unit}", self.0 / seconds)
    }
}
