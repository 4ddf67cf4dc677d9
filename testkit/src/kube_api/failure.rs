//! What the simulated API server answers when it refuses a request: a `Status` object, as Kubernetes writes it.
//!
//! In: what went wrong. Out: HTTP code, machine-readable reason, message, causes. Nothing here decides whether to refuse.

use serde_json::{Value, json};

use super::kind::Kind;

/// One field that a validation refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldManagerConflict` …
    pub reason: &'static str,
    /// Path of the field, for example `spec.rules[0].host`.
    pub field: String,
    /// Full text of the refusal, without the field.
    pub message: String,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// HTTP status code, also `code` of the Status object.
    pub code: u16,
    /// `reason` of the Status object, for example `NotFound`.
    pub reason: &'static str,
    /// Text for a person.
    pub message: String,
    /// Fields that were refused, if the refusal is about fields.
    pub causes: Vec<Cause>,
    /// Seconds for the `Retry-After` header, if the client should come back.
    pub retry_after_s: Option<u32>,
    /// Boxed, because every result of this module carries a failure.
    target: Option<Box<Target>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Target {
    group: &'static str,
    kind: &'static str,
    name: String,
}

impl Failure {
    /// A refusal without details.
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), causes: Vec::new(), retry_after_s: None, target: None }
    }

    /// 400: the request itself makes no sense.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 404 for a path that no kind serves.
    pub(crate) fn unknown_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 404 for an object.
    pub(crate) fn not_found(kind: &'static Kind, name: &str) -> Self {
        Self::about(kind, name, (404, "NotFound"), format!("{} \"{name}\" not found", kind.qualified()))
    }

    /// 409: the object exists already.
    pub(crate) fn already_exists(kind: &'static Kind, name: &str) -> Self {
        Self::about(kind, name, (409, "AlreadyExists"), format!("{} \"{name}\" already exists", kind.qualified()))
    }

    /// 409: a precondition (resourceVersion, uid) does not hold.
    pub(crate) fn conflict(kind: &'static Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::about(kind, name, (409, "Conflict"), message)
    }

    /// 403: admission or a fault switch forbids it.
    pub(crate) fn forbidden(kind: &'static Kind, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", kind.qualified())
        } else {
            format!("{} \"{name}\" is forbidden: {why}", kind.qualified())
        };
        Self::about(kind, name, (403, "Forbidden"), message)
    }

    /// 422: the object's fields are not valid.
    pub(crate) fn invalid(kind: &'static Kind, name: &str, causes: Vec<Cause>) -> Self {
        let qualified =
            if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) };
        let texts: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let list = if let [only] = texts.as_slice() { only.clone() } else { format!("[{}]", texts.join(", ")) };
        let mut failure =
            Self::about(kind, name, (422, "Invalid"), format!("{qualified} \"{name}\" is invalid: {list}"));
        failure.causes = causes;
        failure
    }

    /// 409: server-side apply met fields of other managers.
    pub(crate) fn apply_conflict(kind: &'static Kind, name: &str, causes: Vec<Cause>) -> Self {
        let texts: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.message, cause.field)).collect();
        let noun = if causes.len() == 1 { "conflict" } else { "conflicts" };
        let message = format!("Apply failed with {} {noun}: {}", causes.len(), texts.join(", "));
        let mut failure = Self::about(kind, name, (409, "Conflict"), message);
        failure.causes = causes;
        failure
    }

    /// 410: the wanted resourceVersion is no longer in the history.
    pub(crate) fn expired(message: &str) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 504: the wanted resourceVersion lies in the future, as after a restored backup.
    pub(crate) fn from_the_future(wanted: u64, current: u64) -> Self {
        let mut failure =
            Self::new(504, "Timeout", format!("Too large resource version: {wanted}, current: {current}"));
        let message = "Too large resource version".to_owned();
        failure.causes = vec![Cause { reason: "ResourceVersionTooLarge", field: String::new(), message }];
        failure.retry_after_s = Some(1);
        failure
    }

    /// 429 with a Retry-After header.
    pub(crate) fn throttled(retry_after_s: u32) -> Self {
        let mut failure = Self::new(429, "TooManyRequests", "too many requests, please try again later");
        failure.retry_after_s = Some(retry_after_s);
        failure
    }

    /// The `Status` object of this refusal.
    pub fn to_status(&self) -> Value {
        let mut details = json!({});
        if let Some(target) = &self.target {
            details["name"] = json!(target.name);
            details["group"] = json!(target.group);
            details["kind"] = json!(target.kind);
        }
        if let Some(seconds) = self.retry_after_s {
            details["retryAfterSeconds"] = json!(seconds);
        }
        if !self.causes.is_empty() {
            let causes = self
                .causes
                .iter()
                .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}));
            details["causes"] = causes.collect();
        }
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": details, "code": self.code,
        })
    }

    fn about(kind: &'static Kind, name: &str, (code, reason): (u16, &'static str), message: String) -> Self {
        let target = Target { group: kind.group, kind: kind.resource, name: name.to_owned() };
        Self { target: Some(Box::new(target)), ..Self::new(code, reason, message) }
    }
}

impl Cause {
    /// The field has a value that is not allowed.
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {why}") }
    }

    /// The field must be set.
    pub(crate) fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// The field has a value that is not one of the allowed ones.
    pub(crate) fn not_supported(field: impl Into<String>, value: &Value, allowed: &[&str]) -> Self {
        let quoted: Vec<String> = allowed.iter().map(|name| format!("{name:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", quoted.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }
}
