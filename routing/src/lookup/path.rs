//! Paths as they are compared (rule S-15): request targets at the edge, rule paths when an Ingress is compiled.
//!
//! Only the comparison uses these forms; what is forwarded is the original target.

use std::borrow::Cow;

use crate::rules::{self, Rule};

/// The path of a request target in origin form, normalised in this order: cut `?` and `#`, decode unreserved
/// characters, upper-case the remaining hex digits, merge slashes, remove dot segments. Never empty.
pub fn request_path(target: &str) -> Cow<'_, str> {
    let end = target.find(['?', '#']).filter(|_| rules::on(Rule::QueryCut)).unwrap_or(target.len());
    let path = &target[..end];
    if path.is_empty() {
        return Cow::Borrowed("/");
    }
    let decoded = rule_path(path);
    if !decoded.contains("//") && !decoded.contains("/.") {
        return decoded;
    }
    if rules::on(Rule::NormaliseOrder) {
        Cow::Owned(without_dot_segments(&merged_slashes(&decoded)))
    } else {
        Cow::Owned(merged_slashes(&without_dot_segments(&decoded)))
    }
}

/// The steps that Exact and Prefix rule paths get as well: %XX of unreserved characters decoded, the hex digits of
/// all others in upper case. `%2F` stays, and so does anything that is no %XX. Decodes once: `%2541` stays.
pub(crate) fn rule_path(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut result = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(byte) = escaped(rest.as_bytes()) else {
            result.push('%');
            rest = &rest[1..];
            continue;
        };
        if is_unreserved(byte) {
            result.push(char::from(byte));
        } else {
            result.push_str(&rest[..3].to_ascii_uppercase());
        }
        rest = &rest[3..];
    }
    result.push_str(rest);
    Cow::Owned(result)
}

/// The byte of the %XX that `text` starts with.
fn escaped(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || (byte == b'/' && !rules::on(Rule::DecodeUnreservedOnly))
}

fn merged_slashes(path: &str) -> String {
    let mut result = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !result.ends_with('/') {
            result.push(character);
        }
    }
    result
}

/// RFC 3986 section 5.2.4. A path that does not start with a slash (`*`) has no segments.
fn without_dot_segments(path: &str) -> String {
    let Some(segments) = path.strip_prefix('/') else { return path.to_owned() };
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_dots = false;
    for segment in segments.split('/') {
        ends_in_dots = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    if ends_in_dots {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}
