//! How much each level of clusters gets (strategies Failover and Nearest).
//!
//! Which endpoints are usable → the level of a request. The first level takes everything as long as it is well; each
//! further one takes what those before it are too unwell for.

use crate::health::Millis;
use crate::table::LiveRoute;

/// So much more than its healthy share a level can carry: with three quarters of its endpoints it still takes
/// everything.
const OVERPROVISIONED: f64 = 1.4;

/// The level that a request at this point of the range falls to, and where in that level's part it falls.
pub(super) fn first(route: &LiveRoute, point: u64, now: Millis) -> (u32, u64) {
    const RANGE: f64 = 18_446_744_073_709_551_616.0; // 2^64
    let loads = loads(route.levels.iter().map(|level| healthy(route, *level, now)));
    let mut at = point as f64 / RANGE;
    for (level, load) in route.levels.iter().zip(&loads) {
        if at < *load {
            return (*level, ((at / load) * RANGE) as u64);
        }
        at -= load;
    }
    // No level is well: in order, and rounding at the very end of the range.
    (route.levels[0], point)
}

/// What part of all requests each level gets, given what part of it is healthy. They add up to 1 unless nobody is.
fn loads(healthy: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut left = 1.0;
    let mut loads: Vec<f64> = healthy
        .map(|healthy| {
            let load = (healthy * OVERPROVISIONED).min(left);
            left -= load;
            load
        })
        .collect();
    let total: f64 = loads.iter().sum();
    if total > 0.0 {
        loads.iter_mut().for_each(|load| *load /= total);
    }
    loads
}

/// What part of the endpoints of a level's clusters is usable. Clusters without weight do not count.
fn healthy(route: &LiveRoute, level: u32, now: Millis) -> f64 {
    let (mut usable, mut all) = (0, 0);
    for cluster in route.clusters.iter().filter(|cluster| cluster.level == level && cluster.weight > 0) {
        let Some(backend) = &cluster.backend else { continue };
        let set = backend.endpoints();
        all += set.as_slice().len();
        usable += set.as_slice().iter().filter(|endpoint| endpoint.health.is_usable(now)).count();
    }
    if all == 0 { 0.0 } else { usable as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_passes_on_only_what_it_is_too_unwell_for() {
        let close = |healthy: &[f64], expected: &[f64]| {
            let loads = loads(healthy.iter().copied());
            let is_close = loads.iter().zip(expected).all(|(load, expected)| (load - expected).abs() < 1e-9);
            assert!(is_close, "{healthy:?}: {loads:?}");
        };
        close(&[1.0, 1.0], &[1.0, 0.0]);
        close(&[0.75, 1.0], &[1.0, 0.0]);
        close(&[0.5, 1.0], &[0.7, 0.3]);
        close(&[0.0, 1.0], &[0.0, 1.0]);
        close(&[0.5, 0.1, 1.0], &[0.7, 0.14, 0.16]);
        close(&[0.25, 0.25], &[0.5, 0.5]);
        close(&[0.0, 0.0], &[0.0, 0.0]);
    }
}
