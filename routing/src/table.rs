//! The result: what each pool serves. Hosts hold routes, routes name backends, backends hold endpoints.
//! Endpoints are apart from hosts on purpose: a pod that comes or goes changes one Backend and no Host.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::declare::is_dns_name;
use crate::id::{BackendId, ClusterId, HostKey, ObjectName, PoolName};
use crate::object::Hidden;
use crate::policy::Strategy;
use crate::reach::Reach;
use crate::settings::{Access, CanaryRule, ClientSettings, UpstreamSettings};

/// One host's compiled routes in one pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    pub pool: PoolName,
    pub name: HostKey,
    /// In match order (rule S-10): Exact, then regex, then Prefix; see [`crate::lookup`].
    pub routes: Vec<Route>,
    /// The host's own default backends (rules S-12 step 1, M-6). Empty: the pool's catch-all applies.
    pub default: Vec<RouteBackend>,
    /// Of the default.
    pub default_client: Arc<ClientSettings>,
    pub default_strategy: Strategy,
    /// What a client that names this host by SNI is shown (rules L-1, L-2, M-9). `None`: that of a wildcard, or the
    /// pool's default, which is that of its catch-all.
    pub certificate: Option<SecretId>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub path: PathMatch,
    /// One per cluster that has the route, ordered by cluster id (rules M-1, M-2). Never empty.
    pub backends: Vec<RouteBackend>,
    /// Decided before anything else (rule M-1).
    pub canary: Option<Canary>,
    pub client: Arc<ClientSettings>,
    pub strategy: Strategy,
}

/// Takes a part of a route's requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canary {
    pub rule: CanaryRule,
    /// As of a route. Never empty.
    pub backends: Vec<RouteBackend>,
}

/// A Secret of one cluster. Text form: `CLUSTER/NAMESPACE/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretId {
    pub cluster: ClusterId,
    pub secret: ObjectName,
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.secret)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not CLUSTER/NAMESPACE/NAME of a Secret")]
pub struct NotASecret(String);

impl TryFrom<String> for SecretId {
    type Error = NotASecret;

    fn try_from(text: String) -> Result<Self, NotASecret> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [cluster, namespace, name] if parts.iter().all(|part| is_dns_name(part)) => {
                Ok(Self { cluster: cluster.into(), secret: ObjectName::new(namespace, name) })
            }
            _ => Err(NotASecret(text)),
        }
    }
}

impl From<SecretId> for String {
    fn from(id: SecretId) -> String {
        id.to_string()
    }
}

/// What hosts need of one cluster's Secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostSecret {
    pub id: SecretId,
    pub content: HostSecretContent,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostSecretContent {
    /// What clients are shown: PEM, the leaf first, and the key as PEM.
    Certificate { chain: Arc<[u8]>, key: Hidden },
    /// Who may enter: the Secret's keys and values.
    Users(BTreeMap<Arc<str>, Hidden>),
}

/// A canonical path (rule M-1) and how it matches.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PathMatch {
    /// Byte-equal (S-5).
    Exact(Arc<str>),
    /// `(?i)^(?:pattern)` (S-16).
    Regex(Arc<str>),
    /// Element by element (S-6), without trailing slash; the root is the empty string.
    Prefix(Arc<str>),
}

/// One cluster's part in a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteBackend {
    pub cluster: ClusterId,
    /// The cluster's weight at its step of a ramp (rules D-1, D-4); 0 receives nothing while another has weight.
    pub weight: u32,
    /// Lower ones come first with [`Strategy::Failover`].
    pub priority: u32,
    /// Where the cluster is, for [`Strategy::Nearest`]; empty: nowhere in particular.
    pub region: Arc<str>,
    /// Whether the weight counts once for each usable endpoint (rule E-1): the same for all of a route.
    pub weigh_by_endpoints: bool,
    pub target: Target,
    /// Asked while nobody of the route has an endpoint, and for what is to be said instead of errors.
    pub fallback: Option<BackendId>,
    /// The Ingress of `cluster` that declared it.
    pub ingress: ObjectName,
    pub upstream: Arc<UpstreamSettings>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Looked up by id; a backend without endpoints keeps its slot (rule S-11).
    Backend(BackendId),
    /// Counts as zero endpoints; 404 only if all of the route's are resources (M-1).
    Resource,
    /// Counts as zero endpoints: the Ingress names no usable service, or nothing may reach its cluster (rule D-3).
    Nothing,
}

/// One cluster's Service port with the addresses behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backend {
    pub id: BackendId,
    pub protocol: BackendProtocol,
    /// Usable endpoints (rule P-3), sorted by address, without duplicates. Empty if no edge goes to the pods.
    pub endpoints: Vec<Endpoint>,
    /// Instead of endpoints.
    pub external_name: Option<ExternalName>,
    /// Other ways than to the pods. `None`: every edge goes there.
    pub reach: Option<Box<Reach>>,
}

/// How to talk to the backend (rule P-7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum BackendProtocol {
    /// Also for WebSocket.
    #[default]
    Http1,
    /// HTTP/1.1 over TLS. The endpoint's certificate is not verified, as pods have none that names them.
    Https1,
    /// HTTP/2 without TLS; also gRPC.
    H2c,
    /// HTTP/2 over TLS, not verified; also gRPC.
    H2,
}

impl BackendProtocol {
    /// The same version of HTTP with or without TLS.
    pub fn with_tls(self, is_tls: bool) -> Self {
        match (self, is_tls) {
            (BackendProtocol::Http1 | BackendProtocol::Https1, false) => BackendProtocol::Http1,
            (BackendProtocol::Http1 | BackendProtocol::Https1, true) => BackendProtocol::Https1,
            (BackendProtocol::H2c | BackendProtocol::H2, false) => BackendProtocol::H2c,
            (BackendProtocol::H2c | BackendProtocol::H2, true) => BackendProtocol::H2,
        }
    }
}

/// A Service of type ExternalName: whoever uses it resolves the name (rule P-6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExternalName {
    pub host: Arc<str>,
    pub port: u16,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// Zones this endpoint should serve (rule P-5); empty: no hint.
    pub for_zones: Vec<Arc<str>>,
}

/// Everything of all pools.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    pub hosts: BTreeMap<(PoolName, HostKey), Host>,
    pub backends: BTreeMap<BackendId, Backend>,
}

impl Host {
    /// One that serves nothing yet.
    pub fn new(pool: PoolName, name: HostKey) -> Self {
        Self {
            pool,
            name,
            routes: Vec::new(),
            default: Vec::new(),
            default_client: Arc::default(),
            default_strategy: Strategy::default(),
            certificate: None,
        }
    }
}

impl Host {
    /// The Secrets that say who may use its routes. May repeat.
    pub fn users(&self) -> impl Iterator<Item = SecretId> {
        self.access().flat_map(|access| {
            let basic = access.basic.iter().map(|it| (&it.cluster, &it.secret));
            let certificates = access.certificates.iter().map(|it| (&it.cluster, &it.secret));
            let id = |(cluster, secret): (&ClusterId, &ObjectName)| SecretId {
                cluster: cluster.clone(),
                secret: secret.clone(),
            };
            basic.chain(certificates).map(id)
        })
    }

    /// Whether some of its routes want to see certificates of clients.
    pub fn asks_for_certificates(&self) -> bool {
        self.access().any(|access| !access.certificates.is_empty())
    }

    fn access(&self) -> impl Iterator<Item = &Access> {
        let clients = self.routes.iter().map(|route| &route.client).chain([&self.default_client]);
        clients.map(|client| &client.access)
    }

    /// All who may get a request of the host.
    pub fn parts(&self) -> impl Iterator<Item = &RouteBackend> {
        self.routes.iter().flat_map(Route::all_backends).chain(&self.default)
    }
}

impl Route {
    /// One without settings.
    pub fn new(path: PathMatch, backends: Vec<RouteBackend>) -> Self {
        Self { path, backends, canary: None, client: Arc::default(), strategy: Strategy::default() }
    }

    /// All who may get a request of the route.
    pub fn all_backends(&self) -> impl Iterator<Item = &RouteBackend> {
        self.backends.iter().chain(self.canary.iter().flat_map(|canary| &canary.backends))
    }
}

impl RouteBackend {
    /// One without settings, of a cluster without priority or region.
    pub fn new(cluster: ClusterId, weight: u32, target: Target, ingress: ObjectName) -> Self {
        Self {
            cluster,
            weight,
            priority: 0,
            region: "".into(),
            weigh_by_endpoints: false,
            target,
            fallback: None,
            ingress,
            upstream: Arc::default(),
        }
    }
}

impl RouteBackend {
    /// Every backend that it may send requests to.
    pub fn backends(&self) -> impl Iterator<Item = &BackendId> {
        let target = match &self.target {
            Target::Backend(id) => Some(id),
            Target::Resource | Target::Nothing => None,
        };
        target.into_iter().chain(&self.fallback)
    }
}

impl Backend {
    /// Whether a request may find somebody there.
    pub fn leads_somewhere(&self) -> bool {
        let is_reached = self.reach.as_ref().is_some_and(|reach| reach.leads_somewhere());
        !self.endpoints.is_empty() || self.external_name.is_some() || is_reached
    }

    /// One that leads nowhere.
    pub fn empty(id: BackendId) -> Self {
        Self { id, protocol: BackendProtocol::default(), endpoints: Vec::new(), external_name: None, reach: None }
    }
}
