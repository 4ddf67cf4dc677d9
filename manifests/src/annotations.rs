//! The annotations that routing reads. All others stay in the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use roadstead_routing::finding::Code;
use roadstead_routing::limit::ANNOTATION_BYTES_MAX;

use crate::problem::Problems;

/// Those of an object that `is_read` takes. One that cannot be kept becomes a Problem.
pub(crate) fn annotations(
    metadata: &ObjectMeta,
    is_read: impl Fn(&str) -> bool,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, Arc<str>> {
    let mut kept = BTreeMap::new();
    for (key, value) in metadata.annotations.iter().flatten().filter(|(key, _)| is_read(key)) {
        let why = if value.contains('\0') || key.contains('\0') {
            "contains a NUL character".to_owned()
        } else if value.len() > ANNOTATION_BYTES_MAX {
            format!("is {} bytes long, {ANNOTATION_BYTES_MAX} are allowed", value.len())
        } else {
            kept.insert(key.as_str().into(), value.as_str().into());
            continue;
        };
        let shown = key.escape_debug();
        let message = format!("annotation {shown} {why}; it is ignored");
        problems.warn(Code::InvalidAnnotation, message, format!("Correct or remove the annotation {shown}."));
    }
    kept
}
