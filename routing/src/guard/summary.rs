//! The guarded units of one pool's table, with how many hosts each cluster and namespace has a part in.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::{HostKey, PoolName};
use crate::table::Host;

use super::{Scope, Units};

/// What the guard knows of one pool. Equal for equal tables, in whatever order they were filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    pool: PoolName,
    hosts: BTreeMap<HostKey, Arc<Units>>,
    /// Hosts by cluster and by namespace; none of them 0.
    totals: BTreeMap<Scope, usize>,
}

impl Summary {
    pub fn new(pool: PoolName) -> Self {
        Self { pool, hosts: BTreeMap::new(), totals: BTreeMap::new() }
    }

    /// Of those of `hosts` that are in the pool.
    pub fn of<'a>(pool: &PoolName, hosts: impl IntoIterator<Item = &'a Host>) -> Self {
        let mut summary = Self::new(pool.clone());
        for host in hosts.into_iter().filter(|host| host.pool == *pool) {
            summary.insert(host);
        }
        summary
    }

    pub fn insert(&mut self, host: &Host) {
        self.set(&host.name, Some(Arc::new(Units::of(host))));
    }

    pub fn remove(&mut self, host: &HostKey) {
        self.set(host, None);
    }

    /// Puts a host in the place of what was there; `None`: takes it away.
    pub fn set(&mut self, host: &HostKey, units: Option<Arc<Units>>) {
        for scope in units.iter().flat_map(|units| units.scopes()) {
            *self.totals.entry(scope).or_default() += 1;
        }
        let before = match units {
            Some(units) => self.hosts.insert(host.clone(), units),
            None => self.hosts.remove(host),
        };
        for scope in before.iter().flat_map(|units| units.scopes()) {
            let total = self.totals.get_mut(&scope).expect("a host's scopes must be counted");
            *total -= 1;
            if *total == 0 {
                self.totals.remove(&scope);
            }
        }
    }

    pub fn pool(&self) -> &PoolName {
        &self.pool
    }

    pub fn get(&self, host: &HostKey) -> Option<&Units> {
        self.hosts.get(host).map(|units| &**units)
    }

    /// Sorted.
    pub fn hosts(&self) -> impl Iterator<Item = &HostKey> {
        self.hosts.keys()
    }

    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// How many hosts a scope has a part in.
    pub fn total(&self, scope: &Scope) -> usize {
        match scope {
            Scope::Pool => self.hosts.len(),
            Scope::Cluster(_) | Scope::Namespace(..) => self.totals.get(scope).copied().unwrap_or_default(),
        }
    }

    pub(super) fn shared(&self, host: &HostKey) -> Option<&Arc<Units>> {
        self.hosts.get(host)
    }
}

/// A summary as some changes would leave it, without copying it.
pub(super) struct Next<'a> {
    published: &'a Summary,
    changes: &'a BTreeMap<HostKey, Option<Units>>,
    /// By how much the changes raise and lower the totals.
    raised: BTreeMap<Scope, usize>,
    lowered: BTreeMap<Scope, usize>,
}

impl<'a> Next<'a> {
    pub(super) fn new(published: &'a Summary, changes: &'a BTreeMap<HostKey, Option<Units>>) -> Self {
        let (mut raised, mut lowered) = (BTreeMap::new(), BTreeMap::new());
        let count = |totals: &mut BTreeMap<Scope, usize>, units: &Units| {
            for scope in units.scopes().chain([Scope::Pool]) {
                *totals.entry(scope).or_default() += 1;
            }
        };
        for (host, after) in changes {
            after.iter().for_each(|units| count(&mut raised, units));
            published.get(host).into_iter().for_each(|units| count(&mut lowered, units));
        }
        Self { published, changes, raised, lowered }
    }

    pub(super) fn get(&self, host: &HostKey) -> Option<&Units> {
        match self.changes.get(host) {
            Some(change) => change.as_ref(),
            None => self.published.get(host),
        }
    }

    pub(super) fn total(&self, scope: &Scope) -> usize {
        let by = |totals: &BTreeMap<Scope, usize>| totals.get(scope).copied().unwrap_or_default();
        self.published.total(scope) + by(&self.raised) - by(&self.lowered)
    }
}
