//! Whether one reported object may enter: size, digest, form. One bad object hurts only itself.

use prost::Message;
use roadstead_proto::digest::Digest;
use roadstead_proto::{object, wire};
use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{ClusterId, Kind, ObjectKey};
use roadstead_routing::limit::{HOSTS_PER_CLUSTER_MAX, OBJECT_BYTES_MAX, OBJECTS_PER_CLUSTER_MAX};
use roadstead_routing::object::Object;

use crate::world::Limit;

/// An object that may enter.
#[derive(Clone, PartialEq)]
pub struct Admitted {
    pub object: Object,
    pub digest: Digest,
    /// What the store keeps.
    pub packed: Vec<u8>,
}

/// # Errors
/// A finding on the object, or on the cluster if not even its name can be read.
pub fn admit(cluster: &ClusterId, upsert: wire::Upsert) -> Result<Admitted, Finding> {
    let Some(wire) = upsert.object else {
        return Err(malformed(cluster, None, "an upsert without an object"));
    };
    let key = key_of(&wire);
    let packed = wire.encode_to_vec();
    if packed.len() > OBJECT_BYTES_MAX {
        return Err(Finding {
            cluster: cluster.clone(),
            object: key,
            code: Code::ObjectTooLarge,
            severity: Severity::Error,
            message: format!("The object is {} bytes long; at most {OBJECT_BYTES_MAX} are accepted", packed.len()),
            remedy: "Split it into several objects.".to_owned(),
        });
    }
    let Some(digest) = Digest::from_slice(&upsert.digest) else {
        return Err(malformed(cluster, key, "its digest is not 16 bytes long"));
    };
    match object::from_wire(wire) {
        Ok(object) => Ok(Admitted { object, digest, packed }),
        Err(error) => Err(malformed(cluster, key, &error.to_string())),
    }
}

/// The finding on an object that would exceed a limit of its cluster.
pub fn over_limit(cluster: &ClusterId, key: ObjectKey, limit: Limit) -> Finding {
    let (code, message) = match limit {
        Limit::Objects => {
            (Code::TooManyObjects, format!("The cluster reports more than {OBJECTS_PER_CLUSTER_MAX} objects"))
        }
        Limit::Hosts => (Code::TooManyHosts, format!("The cluster declares more than {HOSTS_PER_CLUSTER_MAX} hosts")),
    };
    Finding {
        cluster: cluster.clone(),
        object: Some(key),
        code,
        severity: Severity::Error,
        message: format!("{message}; this one is not taken"),
        remedy: "Remove objects that are not needed, or divide the cluster.".to_owned(),
    }
}

fn malformed(cluster: &ClusterId, object: Option<ObjectKey>, why: &str) -> Finding {
    Finding {
        cluster: cluster.clone(),
        object,
        code: Code::MalformedObject,
        severity: Severity::Error,
        message: format!("The object is not understood: {why}"),
        remedy: "Correct the object; if it is valid, update the agent and the controller to the same version."
            .to_owned(),
    }
}

/// `None` if the object says too little about itself.
fn key_of(object: &wire::Object) -> Option<ObjectKey> {
    let kind = match object.spec.as_ref()? {
        wire::object::Spec::IngressClass(_) => Kind::IngressClass,
        wire::object::Spec::Ingress(_) => Kind::Ingress,
        wire::object::Spec::Service(_) => Kind::Service,
        wire::object::Spec::Node(_) => Kind::Node,
        wire::object::Spec::EndpointSlice(_) => Kind::EndpointSlice,
        wire::object::Spec::Secret(_) => Kind::Secret,
    };
    (!object.name.is_empty()).then(|| ObjectKey::new(kind, &object.namespace, &object.name))
}
