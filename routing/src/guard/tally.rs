//! Which scopes one host's loss counts for (rules B-1, B-5).

use std::collections::BTreeMap;

use crate::id::{ClusterId, HostKey};
use crate::rules::{self, Rule};

use super::units::Owner;
use super::{Context, Scope, Unit, Units};

/// By scope, the hosts that lose something and what.
pub(super) type Tally = BTreeMap<Scope, BTreeMap<HostKey, Vec<Unit>>>;

/// What one host loses, by the scopes that it counts for. A loss counts for the owners who were not expected to lose
/// it, and for the pool if there is one or if nobody owned it.
pub(super) fn lost_by_scope(before: &Units, after: Option<&Units>, context: &Context) -> BTreeMap<Scope, Vec<Unit>> {
    let mut lost = Lost { context, scopes: BTreeMap::new() };
    match after {
        None => lost.add(&Unit::Host, before.owners().iter()),
        Some(after) => {
            for slot in before.slots().filter(|slot| !after.has(slot) && rules::on(Rule::GuardRoutes)) {
                lost.add(&Unit::Route(slot.clone()), before.owners_of(slot));
            }
            if rules::on(Rule::GuardLastBackend) {
                lost.add_last_backends(before, after);
            }
        }
    }
    lost.scopes
}

struct Lost<'a> {
    context: &'a Context,
    scopes: BTreeMap<Scope, Vec<Unit>>,
}

impl Lost<'_> {
    fn add<'a>(&mut self, unit: &Unit, owners: impl Iterator<Item = &'a Owner>) {
        let mut nobody = true;
        for owner in owners {
            nobody = false;
            if self.is_unexpected(owner) {
                self.count(Scope::Pool, unit);
                self.count(Scope::Cluster(owner.cluster.clone()), unit);
                self.count(owner.scope(), unit);
            }
        }
        if nobody && !self.is_expected(&Scope::Pool) {
            self.count(Scope::Pool, unit);
        }
    }

    fn add_last_backends(&mut self, before: &Units, after: &Units) {
        let left = before.owners().iter().filter(|owner| after.loses_owner(owner) && self.is_unexpected(owner));
        for owner in left.collect::<Vec<_>>() {
            self.count(owner.scope(), &Unit::LastBackend(owner.scope()));
            if after.cluster_serves(&owner.cluster) < before.cluster_serves(&owner.cluster) {
                let cluster = Scope::Cluster(owner.cluster.clone());
                let unit = Unit::LastBackend(cluster.clone());
                self.count(Scope::Pool, &unit);
                self.count(cluster, &unit);
            }
        }
    }

    fn count(&mut self, scope: Scope, unit: &Unit) {
        let units = self.scopes.entry(scope).or_default();
        if !units.contains(unit) {
            units.push(unit.clone());
        }
    }

    fn is_unexpected(&self, owner: &Owner) -> bool {
        let cluster = |cluster: &ClusterId| self.is_expected(&Scope::Cluster(cluster.clone()));
        !self.is_expected(&Scope::Pool) && !cluster(&owner.cluster) && !self.is_expected(&owner.scope())
    }

    fn is_expected(&self, scope: &Scope) -> bool {
        self.context.expected.contains(scope) && rules::on(Rule::ExpectedUncounted)
    }
}
