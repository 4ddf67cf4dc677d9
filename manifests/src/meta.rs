//! `metadata` → [`Meta`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use roadstead_routing::id::ObjectName;
use roadstead_routing::object::Meta;

pub(crate) fn meta(metadata: &ObjectMeta) -> Meta {
    Meta {
        uid: text(metadata.uid.as_deref()),
        resource_version: text(metadata.resource_version.as_deref()),
        generation: metadata.generation.unwrap_or(0),
        created_at: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
        last_manager: last_manager(metadata.managed_fields.as_deref().unwrap_or_default()).into(),
    }
}

pub(crate) fn name(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(metadata.namespace.as_deref().unwrap_or(""), metadata.name.as_deref().unwrap_or(""))
}

pub(crate) fn text(value: Option<&str>) -> std::sync::Arc<str> {
    value.unwrap_or("").into()
}

/// Who wrote the object itself last. Subresources are left out: history asks who changed the wish, and every
/// controller that writes a status would hide the answer.
fn last_manager(entries: &[ManagedFieldsEntry]) -> &str {
    let own = entries.iter().filter(|entry| entry.subresource.as_deref().unwrap_or("").is_empty());
    let last = own.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    last.and_then(|entry| entry.manager.as_deref()).unwrap_or("")
}
