//! Merging the clusters' routes of one host, and the order in which routes match (rules S-10, M-1 to M-5).

use std::cmp::{Ordering, Reverse};

use crate::rules::{self, Rule};
use crate::table::{PathMatch, Route};

/// The order of a host's routes (rule S-10): Exact, then the longest pattern, then the prefix with most elements.
/// Total: bytes decide last, so that all clusters and replicas agree.
pub fn match_order(a: &PathMatch, b: &PathMatch) -> Ordering {
    rank(a).cmp(&rank(b))
}

fn rank(path: &PathMatch) -> (u8, Reverse<usize>, Reverse<usize>, &str) {
    match path {
        PathMatch::Exact(path) => (0, Reverse(0), Reverse(0), path),
        PathMatch::Regex(pattern) => (1, Reverse(0), Reverse(pattern.len()), pattern),
        PathMatch::Prefix(path) => (2, Reverse(elements(path)), Reverse(path.len()), path),
    }
}

/// Elements of a canonical prefix; the root has none.
fn elements(prefix: &str) -> usize {
    prefix.bytes().filter(|byte| *byte == b'/').count()
}

/// Puts routes with the same path together and all in match order. `routes` come cluster by cluster in the order of
/// cluster ids, and so do the backends of each result.
pub(super) fn merge(mut routes: Vec<Route>) -> Vec<Route> {
    if !rules::on(Rule::TypesDoNotPool) {
        for route in &mut routes {
            if let PathMatch::Exact(path) = &route.path {
                route.path = PathMatch::Prefix(path.clone());
            }
        }
    }
    routes.sort_by(|a, b| match_order(&a.path, &b.path));
    routes.dedup_by(|later, first| {
        let same = later.path == first.path;
        if same {
            first.backends.append(&mut later.backends);
        }
        same
    });
    routes.shrink_to_fit();
    routes
}
