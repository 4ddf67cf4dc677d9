//! Which hosts a cluster alone keeps up: what a drain of it would take down.

use std::collections::BTreeMap;

use crate::id::{BackendId, ClusterId, HostKey, PoolName};
use crate::inputs::Inputs;
use crate::membership::{Lifecycle, Liveness};
use crate::table::{RouteBackend, Target};

use super::{compute_backend, compute_host};

/// The hosts of which a route or the default would be left to nobody without `cluster`. Sorted. Nobody is left where
/// every other cluster of the route is itself on its way out, expired, or without endpoints. Empty for a cluster that
/// serves nothing.
pub fn hosts_only_served_by(inputs: &Inputs, cluster: &ClusterId) -> Vec<(PoolName, HostKey)> {
    let mut others = Others { inputs, cluster, can_take_over: BTreeMap::new() };
    let hosts = inputs.declared_by(cluster);
    hosts.filter(|(pool, host)| others.cannot_keep_up(pool, host)).cloned().collect()
}

struct Others<'a> {
    inputs: &'a Inputs,
    /// The one that would go.
    cluster: &'a ClusterId,
    can_take_over: BTreeMap<BackendId, bool>,
}

impl Others<'_> {
    fn cannot_keep_up(&mut self, pool: &PoolName, host: &HostKey) -> bool {
        let Some(host) = compute_host(self.inputs, pool, host).host else { return false };
        let sets = host.routes.iter().map(|route| &route.backends).chain([&host.default]);
        sets.into_iter().any(|backends| self.cannot_serve(backends))
    }

    fn cannot_serve(&mut self, backends: &[RouteBackend]) -> bool {
        let (own, others): (Vec<_>, Vec<_>) = backends.iter().partition(|part| part.cluster == *self.cluster);
        let serves_now = own.iter().any(|part| matches!(part.target, Target::Backend(_)));
        serves_now && !others.into_iter().any(|part| self.takes_over(part))
    }

    fn takes_over(&mut self, part: &RouteBackend) -> bool {
        let Target::Backend(id) = &part.target else { return false };
        if let Some(known) = self.can_take_over.get(id) {
            return *known;
        }
        let membership = self.inputs.membership(&id.cluster);
        let stays = membership.lifecycle == Lifecycle::Active && membership.liveness != Liveness::Expired;
        let backend = compute_backend(self.inputs, id).backend;
        let known = stays && backend.is_some_and(|backend| backend.leads_somewhere());
        self.can_take_over.insert(id.clone(), known);
        known
    }
}
