//! The result: what each pool serves. Hosts hold routes, routes name backends, backends hold endpoints.
//! Endpoints are apart from hosts on purpose: a pod that comes or goes changes one Backend and no Host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::id::{BackendId, ClusterId, HostKey, ObjectName, PoolName};

/// One host's compiled routes in one pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    pub pool: PoolName,
    pub name: HostKey,
    /// In match order (rule S-10): Exact, then regex, then Prefix; see [`crate::lookup`].
    pub routes: Vec<Route>,
    /// The host's own default backends (rules S-12 step 1, M-6). Empty: the pool's catch-all applies.
    pub default: Vec<RouteBackend>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub path: PathMatch,
    /// One per cluster that has the route, ordered by cluster id (rules M-1, M-2). Never empty.
    pub backends: Vec<RouteBackend>,
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
    pub target: Target,
    /// The Ingress of `cluster` that declared it.
    pub ingress: ObjectName,
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
    /// Usable endpoints (rule P-3), sorted by address, without duplicates.
    pub endpoints: Vec<Endpoint>,
}

/// How to talk to the backend (rule P-7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BackendProtocol {
    #[default]
    Http1,
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
