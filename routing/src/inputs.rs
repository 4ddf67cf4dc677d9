//! The objects of all clusters and the policy, indexed so that one change finds what it can affect.
//!
//! One change in → [`Dirty`] out: everything whose computed result may differ. The work is in proportion to what is
//! affected, not to the size of the world. Decides nothing about routes: that is `compute`.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName, PortRef};
use crate::membership::Membership;
use crate::object::Object;
use crate::policy::{Policy, StatusPolicy};
use crate::reach::{self, ReachMode};
use crate::table::SecretId;

mod cluster;

pub(crate) use cluster::{Cluster, Placement};
use cluster::{Touched, insert_sorted, remove_sorted};

/// What may have changed and must be computed again. Also names what no longer exists: computing that yields `None`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dirty {
    pub hosts: BTreeSet<(PoolName, HostKey)>,
    pub backends: BTreeSet<BackendId>,
    pub ingresses: BTreeSet<(ClusterId, ObjectName)>,
}

impl Dirty {
    pub fn merge(&mut self, other: Dirty) {
        self.hosts.extend(other.hosts);
        self.backends.extend(other.backends);
        self.ingresses.extend(other.ingresses);
    }

    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.backends.is_empty() && self.ingresses.is_empty()
    }
}

/// What a managed Ingress means to those who report back to its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IngressView {
    pub pool: PoolName,
    pub status: StatusPolicy,
    /// Every host it declares, and the catch-all if it has a default backend. Sorted.
    pub hosts: Vec<HostKey>,
}

/// Everything that routing is computed from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    policy: Policy,
    /// A cluster without objects is not in here.
    clusters: BTreeMap<ClusterId, Cluster>,
    /// Which clusters declare a host, sorted.
    hosts: BTreeMap<(PoolName, HostKey), Vec<ClusterId>>,
    /// Of clusters with or without objects; the default is not in here.
    memberships: BTreeMap<ClusterId, Membership>,
    /// Backends that are served although no Ingress may refer to them any more: of hosts that keep an earlier form.
    kept: BTreeSet<BackendId>,
    /// Seconds since the Unix epoch: which certificates are in their time.
    now: i64,
}

impl Inputs {
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Replaces the policy. A different one marks everything dirty that was served before or is served after.
    pub fn set_policy(&mut self, policy: Policy) -> Dirty {
        if policy == self.policy {
            return Dirty::default();
        }
        let mut dirty = self.everything();
        self.policy = policy;
        let touched: Vec<_> =
            self.clusters.iter_mut().map(|(id, cluster)| (id.clone(), cluster.place_all(&self.policy))).collect();
        for (id, touched) in touched {
            dirty.merge(self.absorb(&id, touched));
        }
        dirty.merge(self.everything());
        dirty
    }

    /// Stores an object, or removes the one that `key` names if there is none. `key` must be the object's own.
    pub fn apply(&mut self, cluster: &ClusterId, key: &ObjectKey, object: Option<Object>) -> Dirty {
        if object.is_none() && !self.clusters.contains_key(cluster) {
            return Dirty::default();
        }
        let touched = self.clusters.entry(cluster.clone()).or_default().apply(key, object, &self.policy);
        let mut dirty = self.absorb(cluster, touched);
        if key.kind == Kind::Secret {
            dirty.hosts.extend(self.shown_by_pools(cluster, Some(&key.name)));
        }
        if self.clusters.get(cluster).is_some_and(Cluster::is_empty) {
            self.clusters.remove(cluster);
        }
        dirty
    }

    /// Forgets every object of a cluster.
    pub fn remove_cluster(&mut self, cluster: &ClusterId) -> Dirty {
        let Some(removed) = self.clusters.remove(cluster) else { return Dirty::default() };
        let mut dirty = self.absorb(cluster, removed.into_touched());
        dirty.hosts.extend(self.shown_by_pools(cluster, None));
        dirty
    }

    /// Where a cluster stands. Outlives the cluster's objects.
    pub fn membership(&self, cluster: &ClusterId) -> Membership {
        self.memberships.get(cluster).copied().unwrap_or_default()
    }

    /// Says where a cluster stands. Dirty are the hosts that it declares, and all else it has if it enters or leaves
    /// the table (rule D-2).
    pub fn set_membership(&mut self, cluster: &ClusterId, membership: Membership) -> Dirty {
        let before = self.membership(cluster);
        if membership == before {
            return Dirty::default();
        }
        if membership == Membership::default() {
            self.memberships.remove(cluster);
        } else {
            self.memberships.insert(cluster.clone(), membership);
        }
        let is_other_presence = before.lifecycle.presence() != membership.lifecycle.presence();
        let mut dirty = Dirty::default();
        if is_other_presence {
            dirty.hosts.extend(self.shown_by_pools(cluster, None));
        }
        let Some(held) = self.clusters.get(cluster) else { return dirty };
        dirty.hosts.extend(held.declared().cloned());
        if is_other_presence || before.is_doubtful != membership.is_doubtful {
            dirty.backends = held.backends(cluster).chain(self.kept_of(cluster, None).cloned()).collect();
        }
        if is_other_presence {
            dirty.ingresses = held.ingress_names().map(|name| (cluster.clone(), name.clone())).collect();
        }
        dirty
    }

    /// Says which backends are served also without an Ingress.
    pub fn set_kept(&mut self, kept: BTreeSet<BackendId>) -> Dirty {
        let backends = self.kept.symmetric_difference(&kept).cloned().collect();
        self.kept = kept;
        Dirty { backends, ..Dirty::default() }
    }

    pub fn kept(&self) -> &BTreeSet<BackendId> {
        &self.kept
    }

    /// Those of one cluster, or of one of its Services.
    pub fn kept_of(&self, cluster: &ClusterId, service: Option<&ObjectName>) -> impl Iterator<Item = &BackendId> {
        let first = service.cloned().unwrap_or_else(|| ObjectName::new("", ""));
        let first = BackendId { cluster: cluster.clone(), service: first, port: PortRef::Number(0) };
        let is_of =
            move |id: &&BackendId| id.cluster == *cluster && service.is_none_or(|service| id.service == *service);
        self.kept.range(first..).take_while(is_of)
    }

    /// Says what time it is. Dirty are the hosts of certificates that begin or end meanwhile.
    pub fn set_now(&mut self, now: i64) -> Dirty {
        let before = std::mem::replace(&mut self.now, now);
        let (from, to) = (before.min(now), before.max(now));
        let hosts = self.clusters.values().flat_map(|cluster| cluster.hosts_between(from, to));
        // There are few pools: whether theirs turn is not asked.
        let of_pools = self.policy.certificates().map(|(pool, _)| (pool.clone(), HostKey::CatchAll));
        Dirty { hosts: hosts.chain(of_pools).collect(), ..Dirty::default() }
    }

    pub fn now(&self) -> i64 {
        self.now
    }

    pub fn clusters(&self) -> impl Iterator<Item = &ClusterId> {
        self.clusters.keys()
    }

    pub fn object(&self, cluster: &ClusterId, key: &ObjectKey) -> Option<Object> {
        self.clusters.get(cluster)?.object(key)
    }

    /// By kind, then by name.
    pub fn objects(&self, cluster: &ClusterId) -> impl Iterator<Item = Object> {
        self.clusters.get(cluster).into_iter().flat_map(Cluster::objects)
    }

    /// Every declared host of every pool, and the catch-all of pools with a certificate of their own, once.
    pub fn hosts(&self) -> impl Iterator<Item = (&PoolName, &HostKey)> {
        let catch_all = |pool: &PoolName| (pool.clone(), HostKey::CatchAll);
        let of_pools = self.policy.certificates().map(|(pool, _)| pool);
        let undeclared = of_pools.filter(move |pool| !self.hosts.contains_key(&catch_all(pool)));
        let declared = self.hosts.keys().map(|(pool, host)| (pool, host));
        declared.chain(undeclared.map(|pool| (pool, &HostKey::CatchAll)))
    }

    /// How many (pool, host) pairs a cluster declares, catch-alls included.
    pub fn cluster_hosts(&self, cluster: &ClusterId) -> usize {
        self.clusters.get(cluster).map_or(0, Cluster::host_count)
    }

    /// `None` if the Ingress is not managed or no pool serves it.
    pub fn view(&self, cluster: &ClusterId, ingress: &ObjectName) -> Option<IngressView> {
        let served = self.clusters.get(cluster)?.served(ingress)?;
        let status = self.policy.classes.get(&*served.class).map(|class| class.status).unwrap_or_default();
        Some(IngressView { pool: served.pool.clone(), status, hosts: served.hosts().collect() })
    }

    /// Every Ingress of every cluster, whether managed or not.
    pub fn ingresses(&self) -> impl Iterator<Item = (&ClusterId, &ObjectName)> {
        self.clusters.iter().flat_map(|(id, cluster)| cluster.ingress_names().map(move |name| (id, name)))
    }

    /// Every Service port that a managed Ingress refers to, or that is kept. May repeat.
    pub fn backends(&self) -> impl Iterator<Item = BackendId> {
        self.clusters.iter().flat_map(|(id, cluster)| cluster.backends(id)).chain(self.kept.iter().cloned())
    }

    /// The hosts that one cluster declares, sorted.
    pub(crate) fn declared_by(&self, cluster: &ClusterId) -> impl Iterator<Item = &(PoolName, HostKey)> {
        self.clusters.get(cluster).into_iter().flat_map(Cluster::declared)
    }

    pub(crate) fn cluster(&self, id: &ClusterId) -> Option<&Cluster> {
        self.clusters.get(id)
    }

    /// The clusters that declare a host, in order.
    pub(crate) fn declaring(&self, pool: &PoolName, host: &HostKey) -> impl Iterator<Item = (&ClusterId, &Cluster)> {
        let ids = self.hosts.get(&(pool.clone(), host.clone())).into_iter().flatten();
        ids.filter_map(|id| self.clusters.get(id).map(|cluster| (id, cluster)))
    }

    /// The catch-alls of pools whose own certificate is of the cluster, or is this Secret of it.
    fn shown_by_pools(&self, id: &ClusterId, secret: Option<&ObjectName>) -> impl Iterator<Item = (PoolName, HostKey)> {
        let is_of = move |it: &SecretId| it.cluster == *id && secret.is_none_or(|secret| it.secret == *secret);
        let shown = self.policy.certificates().filter(move |(_, it)| is_of(it));
        shown.map(|(pool, _)| (pool.clone(), HostKey::CatchAll))
    }

    /// Whether Services may be reached otherwise than before: their gateway changed, or the nodes.
    fn changes_ways(&self, id: &ClusterId, touched: &Touched) -> bool {
        let gateway = self.policy.clusters.get(id).and_then(|policy| policy.gateway.as_ref());
        touched.nodes || gateway.is_some_and(|gateway| touched.services.contains(&gateway.service))
    }

    /// The backends of a cluster that are reached otherwise than by the addresses of their pods.
    fn not_only_pods(&self, id: &ClusterId, cluster: &Cluster) -> impl Iterator<Item = BackendId> {
        let policy = self.policy.clusters.get(id);
        let by_policy = policy.is_some_and(|it| it.reach_modes().any(|mode| mode != ReachMode::PodIp));
        let all = by_policy || self.membership(id).is_doubtful;
        let by_service = |backend: &BackendId| {
            cluster.service(&backend.service).is_some_and(|it| it.annotations.contains_key(reach::ANNOTATION))
        };
        cluster.backends(id).filter(move |backend| all || by_service(backend))
    }

    fn everything(&self) -> Dirty {
        Dirty {
            hosts: self.hosts().map(|(pool, host)| (pool.clone(), host.clone())).collect(),
            backends: self.backends().collect(),
            ingresses: self.ingresses().map(|(id, name)| (id.clone(), name.clone())).collect(),
        }
    }

    /// Brings the index of hosts up to date and says what is dirty.
    fn absorb(&mut self, id: &ClusterId, touched: Touched) -> Dirty {
        let mut dirty = Dirty::default();
        let cluster = self.clusters.get(id);
        for service in &touched.services {
            dirty.backends.extend(cluster.into_iter().flat_map(|cluster| cluster.backends_of(id, service)));
            dirty.backends.extend(self.kept_of(id, Some(service)).cloned());
        }
        if self.changes_ways(id, &touched) {
            dirty.backends.extend(cluster.into_iter().flat_map(|cluster| self.not_only_pods(id, cluster)));
            dirty.backends.extend(self.kept_of(id, None).cloned());
        }
        if self.membership(id).is_doubtful && (touched.nodes || !touched.services.is_empty()) {
            // Which ways there are decides about weights then (rule R-6).
            dirty.hosts.extend(cluster.into_iter().flat_map(Cluster::declared).cloned());
        }
        dirty.hosts.extend(touched.hosts);
        for moved in touched.moves {
            for served in moved.before.iter().chain(&moved.after) {
                dirty.hosts.extend(served.hosts().map(|host| (served.pool.clone(), host)));
                dirty.backends.extend(served.backends(id, &moved.ingress));
            }
            dirty.ingresses.insert((id.clone(), moved.ingress));
        }
        for key in &dirty.hosts {
            if cluster.is_some_and(|cluster| cluster.declares(key)) {
                insert_sorted(self.hosts.entry(key.clone()).or_default(), id.clone());
            } else {
                remove_sorted(&mut self.hosts, key, id);
            }
        }
        dirty
    }
}
