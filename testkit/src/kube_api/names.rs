//! The name syntaxes of Kubernetes.
//!
//! In: a text. Out: whether it is a DNS-1123 label, a DNS-1123 subdomain, a DNS-1035 label, a port name or a label value.

/// Longest DNS label.
const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
const SUBDOMAIN_MAX: usize = 253;
/// Longest port name (IANA service name).
const PORT_NAME_MAX: usize = 15;

/// Lower-case letters, digits and `-`, beginning and ending with a letter or digit.
pub(crate) fn is_dns_1123_label(text: &str) -> bool {
    text.len() <= LABEL_MAX && is_label(text)
}

/// DNS-1123 labels separated by dots.
pub(crate) fn is_dns_1123_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_MAX && text.split('.').all(is_label)
}

/// A DNS-1123 label that begins with a letter (names of Services).
pub(crate) fn is_dns_1035_label(text: &str) -> bool {
    is_dns_1123_label(text) && text.starts_with(|letter: char| letter.is_ascii_lowercase())
}

/// `*.` and a DNS-1123 subdomain.
pub(crate) fn is_wildcard_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_MAX && text.strip_prefix("*.").is_some_and(is_dns_1123_subdomain)
}

/// An IANA service name: at most 15 letters, digits and single `-`, with at least one letter.
pub(crate) fn is_port_name(text: &str) -> bool {
    text.len() <= PORT_NAME_MAX
        && is_label(text)
        && !text.contains("--")
        && text.contains(|letter: char| letter.is_ascii_lowercase())
}

/// At most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit, or nothing.
pub(crate) fn is_label_value(text: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let outer = |letter: char| letter.is_ascii_alphanumeric();
    text.len() <= LABEL_MAX
        && text.chars().all(inner)
        && (text.is_empty() || (text.starts_with(outer) && text.ends_with(outer)))
}

/// `name` or `dns.subdomain/name`, as keys of labels and annotations.
pub(crate) fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_dns_1123_subdomain) && !name.is_empty() && is_label_value(name)
}

fn is_label(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    !text.is_empty() && text.chars().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_syntaxes() {
        assert!(is_dns_1123_subdomain("a.b-c.9"));
        for bad in ["", "A", "a..b", "-a", "a-", "a_b", "a.", &"a".repeat(254)] {
            assert!(!is_dns_1123_subdomain(bad), "{bad}");
        }
        assert!(is_wildcard_subdomain("*.a.b") && !is_wildcard_subdomain("*") && !is_wildcard_subdomain("a.*.b"));
        assert!(is_dns_1035_label("a1") && !is_dns_1035_label("1a"));
        assert!(is_port_name("http-2") && !is_port_name("80") && !is_port_name("a--b"));
        assert!(is_qualified_name("x.io/App_1") && !is_qualified_name("/a") && !is_qualified_name("a/b/c"));
    }
}
