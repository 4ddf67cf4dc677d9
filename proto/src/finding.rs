//! Findings to and from the wire.

use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{Kind, ObjectKey};

use crate::wire;

pub fn to_wire(finding: &Finding) -> wire::Finding {
    wire::Finding {
        cluster: finding.cluster.to_string(),
        object: finding.object.as_ref().map(key_to_wire),
        code: finding.code.as_str().to_owned(),
        severity: match finding.severity {
            Severity::Info => wire::Severity::Info,
            Severity::Warning => wire::Severity::Warning,
            Severity::Error => wire::Severity::Error,
        }
        .into(),
        message: finding.message.clone(),
        remedy: finding.remedy.clone(),
    }
}

/// `None` if the code or the object's kind is not known to this build: a newer peer may have more of them.
pub fn from_wire(finding: wire::Finding) -> Option<Finding> {
    let severity = match finding.severity() {
        wire::Severity::Error => Severity::Error,
        wire::Severity::Warning => Severity::Warning,
        wire::Severity::Info | wire::Severity::Unspecified => Severity::Info,
    };
    let object = match finding.object {
        Some(object) => Some(key_from_wire(&object)?),
        None => None,
    };
    Some(Finding {
        cluster: finding.cluster.as_str().into(),
        object,
        code: Code::parse(&finding.code)?,
        severity,
        message: finding.message,
        remedy: finding.remedy,
    })
}

pub fn key_to_wire(key: &ObjectKey) -> wire::ObjectRef {
    wire::ObjectRef {
        kind: kind_to_wire(key.kind).into(),
        namespace: key.name.namespace.to_string(),
        name: key.name.name.to_string(),
    }
}

/// `None` if the kind is not known to this build.
pub fn key_from_wire(key: &wire::ObjectRef) -> Option<ObjectKey> {
    Some(ObjectKey::new(Kind::from_number(key.kind)?, &key.namespace, &key.name))
}

pub fn kind_to_wire(kind: Kind) -> wire::Kind {
    match kind {
        Kind::IngressClass => wire::Kind::IngressClass,
        Kind::Ingress => wire::Kind::Ingress,
        Kind::Service => wire::Kind::Service,
        Kind::EndpointSlice => wire::Kind::EndpointSlice,
        Kind::Secret => wire::Kind::Secret,
        Kind::Node => wire::Kind::Node,
    }
}
