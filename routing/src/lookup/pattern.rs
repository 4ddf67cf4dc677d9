//! Regular expressions of ImplementationSpecific paths (rules S-16, N-4).
//!
//! One place compiles them, so that what `declare` accepts is exactly what an edge can run. Matching is linear in the
//! path and the compiled size is capped.

use regex::bytes::{Regex, RegexBuilder};

use crate::limit;
use crate::rules::{self, Rule};

/// Why a pattern cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PatternError {
    #[error("not a regular expression: {0}")]
    Syntax(String),
    #[error("compiles to more than {max} bytes", max = limit::REGEX_BYTES_MAX)]
    TooLarge,
}

/// `(?i)^(?:pattern)` with RE2's meaning of `\w`, `\d` and `\s`, which is ASCII.
pub(crate) fn compile(pattern: &str) -> Result<Regex, PatternError> {
    // The pattern must be complete by itself: `a)|(?:b` is no expression, but would be one inside the group and
    // escape the anchor.
    build(pattern)?;
    if rules::on(Rule::RegexAnchored) { build(&format!("^(?:{pattern})")) } else { build(pattern) }
}

fn build(expression: &str) -> Result<Regex, PatternError> {
    build_as(expression, rules::on(Rule::RegexCaseInsensitive))
}

fn build_as(expression: &str, is_case_insensitive: bool) -> Result<Regex, PatternError> {
    RegexBuilder::new(expression)
        .case_insensitive(is_case_insensitive)
        .unicode(false)
        .size_limit(limit::REGEX_BYTES_MAX)
        .dfa_size_limit(limit::REGEX_CACHE_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            other => PatternError::Syntax(last_line(&other.to_string())),
        })
}

/// The parser draws the pattern over several lines; its last line says what is wrong.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// A pattern that is searched for in a header's value (rule C-2). Case matters.
///
/// # Errors
/// If it is no expression or compiles too large.
pub fn value_pattern(pattern: &str) -> Result<Regex, PatternError> {
    build_as(pattern, false)
}

pub(crate) fn check_value_pattern(pattern: &str) -> Result<(), PatternError> {
    value_pattern(pattern).map(drop)
}
