//! Patterns of canary rules, compiled once and kept by each thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use regex::bytes::Regex;
use roadstead_routing::lookup;

/// Compiled patterns that one thread keeps.
const PATTERNS_MAX: usize = 256;

/// Whether a pattern is in a value, as `routing::canary::finds` says. What is no pattern is in none (rule C-2).
pub(super) fn finds(pattern: &Arc<str>, value: &str) -> bool {
    thread_local! {
        static PATTERNS: RefCell<HashMap<Arc<str>, Option<Regex>>> = RefCell::default();
    }
    PATTERNS.with_borrow_mut(|patterns| {
        if patterns.len() >= PATTERNS_MAX && !patterns.contains_key(pattern) {
            patterns.clear();
        }
        let compiled = patterns.entry(pattern.clone()).or_insert_with(|| lookup::value_pattern(pattern).ok());
        compiled.as_ref().is_some_and(|compiled| compiled.is_match(value.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_patterns_than_are_kept_are_found_all_the_same() {
        for _ in 0..2 {
            for number in 0..PATTERNS_MAX + 9 {
                assert!(finds(&format!("^v{number}$").into(), &format!("v{number}")));
            }
        }
        assert!(!finds(&"(".into(), "("));
    }
}
