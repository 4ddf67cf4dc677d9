//! The order in which a host's routes match (rule S-10).

use std::cmp::{Ordering, Reverse};

use crate::table::PathMatch;

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
