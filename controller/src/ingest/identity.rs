//! What is said about a cluster that presents another kube-system uid than the one that is pinned to its identity.

use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::ClusterId;

pub(super) fn refused(cluster: &ClusterId, pinned: &str, presented: &str) -> Finding {
    Finding {
        cluster: cluster.clone(),
        object: None,
        code: Code::ClusterIdentity,
        severity: Severity::Error,
        message: format!(
            "A cluster with kube-system uid {presented} uses this identity, which belongs to {pinned}; it is not applied"
        ),
        remedy: format!(
            "Give each cluster a certificate of its own. If this cluster was rebuilt: \
             `roadstead cluster readopt {cluster} --uid {presented}`."
        ),
    }
}
