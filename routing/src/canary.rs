//! Whether a request goes to the canary (rules C-1 to C-3).
//!
//! The same function for edges, `explain` and tests. A header that decides comes before a cookie that decides, and that
//! before the weight.

use std::sync::Arc;

use crate::lookup;
use crate::rules::{self, Rule};
use crate::settings::{CanaryRule, HeaderRule, HeaderValue};

/// `header` and `cookie` give a request's value of that name; `finds` says whether a pattern is in a value, as [`finds`]
/// does; `draw` gives a uniform number from 1 to its argument and is asked only if nothing else decides.
pub fn takes<'a>(
    rule: &CanaryRule,
    header: impl Fn(&str) -> Option<&'a str>,
    cookie: impl Fn(&str) -> Option<&'a str>,
    finds: impl Fn(&Arc<str>, &str) -> bool,
    draw: impl FnOnce(u32) -> u32,
) -> bool {
    let by_header = || rule.header.as_ref().and_then(|rule| by_header(rule, header(&rule.name)?, &finds));
    let by_cookie = || rule.cookie.as_ref().and_then(|name| by_switch(cookie(name)?));
    let decided = if rules::on(Rule::CanaryHeaderFirst) {
        by_header().or_else(by_cookie)
    } else {
        by_cookie().or_else(by_header)
    };
    decided.unwrap_or_else(|| rule.weight > 0 && draw(rule.weight_total) <= rule.weight)
}

/// Whether a pattern is in a value. Compiles it each time: who asks often keeps what [`lookup::value_pattern`] makes.
pub fn finds(pattern: &Arc<str>, value: &str) -> bool {
    lookup::value_pattern(pattern).is_ok_and(|pattern| pattern.is_match(value.as_bytes()))
}

fn by_header(rule: &HeaderRule, value: &str, finds: impl Fn(&Arc<str>, &str) -> bool) -> Option<bool> {
    match &rule.value {
        HeaderValue::Switch => by_switch(value),
        HeaderValue::Exact(wanted) => {
            (*value == **wanted || (value == "always" && !rules::on(Rule::CanaryValueExact))).then_some(true)
        }
        HeaderValue::Pattern(pattern) => finds(pattern, value).then_some(true),
    }
}

fn by_switch(value: &str) -> Option<bool> {
    match value {
        "always" => Some(true),
        "never" => Some(false),
        _ => None,
    }
}
