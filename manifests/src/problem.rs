//! What is wrong with one object: a Finding that does not know its cluster yet.

use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{ClusterId, ObjectKey};
use roadstead_routing::limit::FINDINGS_PER_OBJECT_MAX;

/// A problem of one object. `object` is `None` where not even the name could be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub object: Option<ObjectKey>,
    pub code: Code,
    pub severity: Severity,
    /// What is wrong and where, readable alone.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    pub fn into_finding(self, cluster: &ClusterId) -> Finding {
        let Problem { object, code, severity, message, remedy } = self;
        Finding { cluster: cluster.clone(), object, code, severity, message, remedy }
    }
}

/// Collects the problems of one object, at most [`FINDINGS_PER_OBJECT_MAX`] of them.
pub(crate) struct Problems {
    object: ObjectKey,
    found: Vec<Problem>,
}

impl Problems {
    pub(crate) fn of(object: ObjectKey) -> Self {
        Self { object, found: Vec::new() }
    }

    /// Notes that a part of the object does not take effect.
    pub(crate) fn warn(&mut self, code: Code, message: impl Into<String>, remedy: impl Into<String>) {
        if self.found.len() >= FINDINGS_PER_OBJECT_MAX {
            return;
        }
        self.found.push(Problem {
            object: Some(self.object.clone()),
            code,
            severity: Severity::Warning,
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}
