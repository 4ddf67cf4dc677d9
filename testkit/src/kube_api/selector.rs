//! Label and field selectors.
//!
//! In: the text of `labelSelector` or `fieldSelector`. Out: a [`Selector`] that says whether an object matches.
//! Only the field labels that Kubernetes offers for a kind are accepted; others are a 400, as there.

use serde_json::Value;

use super::failure::Failure;
use super::kind::Kind;

/// Both selectors of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LabelTerm {
    key: String,
    test: LabelTest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelTest {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    pointer: &'static str,
    value: String,
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Equal,
    Different,
}

impl Selector {
    /// Parses both texts; absent means "everything".
    pub(crate) fn parse(kind: &Kind, labels: Option<&str>, fields: Option<&str>) -> Result<Self, Failure> {
        let labels = split_terms(labels.unwrap_or("")).into_iter().map(parse_label).collect::<Result<_, _>>()?;
        let fields = fields.unwrap_or("").split(',').filter(|term| !term.is_empty());
        let fields = fields.map(|term| parse_field(kind, term)).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether every object matches.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether this object matches.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|term| term.matches(labels)) && self.fields.iter().all(|term| term.matches(object))
    }
}

impl LabelTerm {
    fn matches(&self, labels: &Value) -> bool {
        let value = labels[self.key.as_str()].as_str();
        match &self.test {
            LabelTest::In(allowed) => value.is_some_and(|value| allowed.iter().any(|one| one == value)),
            LabelTest::NotIn(refused) => value.is_none_or(|value| refused.iter().all(|one| one != value)),
            LabelTest::Exists => value.is_some(),
            LabelTest::Absent => value.is_none(),
        }
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let found = match object.pointer(self.pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        (found == self.value) == (self.wanted == Wanted::Equal)
    }
}

/// Splits at commas outside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (index, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.into_iter().map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn parse_label(term: &str) -> Result<LabelTerm, Failure> {
    let label = |key: &str, test| Ok(LabelTerm { key: label_key(term, key)?, test });
    if let Some((head, values)) = term.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => label(key, LabelTest::In(values)),
            Some((key, "notin")) => label(key, LabelTest::NotIn(values)),
            _ => Err(unparsable(term)),
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return label(key, LabelTest::NotIn(vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return label(key, LabelTest::In(vec![value.trim().to_owned()]));
    }
    match term.strip_prefix('!') {
        Some(key) => label(key, LabelTest::Absent),
        None => label(term, LabelTest::Exists),
    }
}

fn label_key(term: &str, key: &str) -> Result<String, Failure> {
    let key = key.trim();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/');
    if key.is_empty() || !key.chars().all(fits) { Err(unparsable(term)) } else { Ok(key.to_owned()) }
}

fn unparsable(term: &str) -> Failure {
    Failure::bad_request(format!("unable to parse requirement: {term:?}"))
}

fn parse_field(kind: &Kind, term: &str) -> Result<FieldTerm, Failure> {
    let parts = if let Some((label, value)) = term.split_once("!=") {
        Some((label, value, Wanted::Different))
    } else {
        term.split_once("==").or_else(|| term.split_once('=')).map(|(label, value)| (label, value, Wanted::Equal))
    };
    let Some((label, value, wanted)) = parts else {
        return Err(Failure::bad_request(format!("invalid field selector: {term:?}")));
    };
    let known = FIELD_LABELS
        .iter()
        .find(|(resource, name, _)| *name == label.trim() && (resource.is_empty() || *resource == kind.resource));
    let Some((_, _, pointer)) = known else {
        return Err(Failure::bad_request(format!("field label not supported: {label}")));
    };
    Ok(FieldTerm { pointer, value: value.trim().to_owned(), wanted })
}

/// Resource (empty: any), field label, JSON pointer into the stored form.
const FIELD_LABELS: &[(&str, &str, &str)] = &[
    ("", "metadata.name", "/metadata/name"),
    ("", "metadata.namespace", "/metadata/namespace"),
    ("secrets", "type", "/type"),
    ("namespaces", "status.phase", "/status/phase"),
    ("nodes", "spec.unschedulable", "/spec/unschedulable"),
    ("services", "spec.clusterIP", "/spec/clusterIP"),
    ("services", "spec.type", "/spec/type"),
    ("pods", "spec.nodeName", "/spec/nodeName"),
    ("pods", "status.phase", "/status/phase"),
    ("pods", "status.podIP", "/status/podIP"),
    ("events", "type", "/type"),
    ("events", "reason", "/reason"),
    ("events", "source", "/source/component"),
    ("events", "reportingComponent", "/reportingComponent"),
    ("events", "reportingController", "/reportingComponent"),
    ("events", "involvedObject.kind", "/involvedObject/kind"),
    ("events", "involvedObject.namespace", "/involvedObject/namespace"),
    ("events", "involvedObject.name", "/involvedObject/name"),
    ("events", "involvedObject.uid", "/involvedObject/uid"),
    ("events", "involvedObject.apiVersion", "/involvedObject/apiVersion"),
    ("events", "involvedObject.resourceVersion", "/involvedObject/resourceVersion"),
    ("events", "involvedObject.fieldPath", "/involvedObject/fieldPath"),
    ("events", "regarding.kind", "/involvedObject/kind"),
    ("events", "regarding.namespace", "/involvedObject/namespace"),
    ("events", "regarding.name", "/involvedObject/name"),
    ("events", "regarding.uid", "/involvedObject/uid"),
];

#[cfg(test)]
mod tests {
    use super::super::kind::of_resource;
    use super::*;
    use serde_json::json;

    fn matches(selector: &str, labels: &Value) -> bool {
        let kind = of_resource("services").expect("known");
        Selector::parse(kind, Some(selector), None).expect("parses").matches(&json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn equality_sets_and_existence() {
        let cases = [
            ("a=b", json!({"a": "b"}), true),
            ("a==b", json!({"a": "c"}), false),
            ("a!=b", json!({}), true),
            ("a in (b, c),d", json!({"a": "c", "d": ""}), true),
            ("a in (b,c),d", json!({"a": "c"}), false),
            ("a notin (b)", json!({"a": "b"}), false),
            ("a notin (b)", json!({}), true),
            ("!a", json!({"a": ""}), false),
            ("x.io/name=web", json!({"x.io/name": "web"}), true),
        ];
        for (selector, labels, expected) in cases {
            assert_eq!(matches(selector, &labels), expected, "{selector} on {labels}");
        }
    }

    #[test]
    fn field_labels_are_those_of_the_kind() {
        let secrets = of_resource("secrets").expect("known");
        let tls = Selector::parse(secrets, None, Some("type=kubernetes.io/tls,metadata.name!=x")).expect("parses");
        assert!(tls.matches(&json!({"type": "kubernetes.io/tls", "metadata": {"name": "y"}})));
        assert!(!tls.matches(&json!({"type": "kubernetes.io/tls", "metadata": {"name": "x"}})));
        let services = of_resource("services").expect("known");
        assert_eq!(Selector::parse(services, None, Some("type=x")).expect_err("refused").code, 400);
        assert_eq!(Selector::parse(services, Some("a in b)"), None).expect_err("refused").code, 400);
    }
}
