//! What staleness does to the weights of a host (rules D-4, D-5, R-6).

use crate::inputs::Inputs;
use crate::membership::Liveness;
use crate::rules::{self, Rule};
use crate::table::{Host, Route, RouteBackend, Target};

use super::reach;

/// Halves the weight of backends whose pods may be others by now; takes that of expired clusters, route by route, where
/// another backend is left to serve with.
pub(super) fn settle(inputs: &Inputs, host: &mut Host) {
    for backends in host.routes.iter_mut().flat_map(parts).chain([&mut host.default]) {
        halve(inputs, backends);
        yield_to_others(backends, |part| inputs.membership(&part.cluster).liveness == Liveness::Expired);
    }
}

fn halve(inputs: &Inputs, backends: &mut [RouteBackend]) {
    for part in backends {
        if let Target::Backend(id) = &part.target
            && rules::on(Rule::DoubtHalves)
            && reach::is_at_risk(inputs, id)
        {
            part.weight = part.weight.div_ceil(2);
        }
    }
}

fn parts(route: &mut Route) -> impl Iterator<Item = &mut Vec<RouteBackend>> {
    std::iter::once(&mut route.backends).chain(route.canary.as_mut().map(|canary| &mut canary.backends))
}

fn yield_to_others(backends: &mut [RouteBackend], expired: impl Fn(&RouteBackend) -> bool) {
    let carries = |part: &RouteBackend| matches!(part.target, Target::Backend(_)) && part.weight > 0 && !expired(part);
    let others = backends.iter().any(carries) || !rules::on(Rule::LastBackendStays);
    if !others || !rules::on(Rule::ExpiredYields) {
        return;
    }
    for part in backends.iter_mut().filter(|part| expired(part)) {
        part.weight = 0;
    }
}
