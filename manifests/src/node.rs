//! Node → routing's. What a kubelet rewrites every few minutes and routing does not read is left out, so that a node
//! that changes nothing is no change.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;
use roadstead_routing::limit::ADDRESSES_PER_OBJECT_MAX;
use roadstead_routing::object::{Meta, Node, NodeAddress, NodeAddressKind, Object};

use crate::meta::{meta, text};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Whoever sets it wants no load balancer to use the node.
const EXCLUDED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The cluster autoscaler is about to remove the node.
const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

pub(crate) fn convert(node: &api::Node) -> Object {
    let Meta { uid, created_at, .. } = meta(&node.metadata);
    let label = |name: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(name));
    let provider_id = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref());
    Object::Node(Arc::new(Node {
        name: text(node.metadata.name.as_deref()),
        meta: Meta { uid, created_at, ..Meta::default() },
        is_ready: is_ready(node) && label(EXCLUDED_LABEL).is_none(),
        addresses: addresses(node),
        zone: label(ZONE_LABEL).map(|zone| zone.as_str().into()),
        provider_id: text(provider_id),
    }))
}

fn is_ready(node: &api::Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let is_leaving =
        node.metadata.deletion_timestamp.is_some() || taints.iter().any(|taint| taint.key == LEAVING_TAINT);
    !is_leaving && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Sorted, without duplicates. Names are left out: edges could not resolve those of another network.
fn addresses(node: &api::Node) -> Vec<NodeAddress> {
    let all = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let address = |it: &api::NodeAddress| {
        let kind = match it.type_.as_str() {
            "InternalIP" => NodeAddressKind::Internal,
            "ExternalIP" => NodeAddressKind::External,
            _ => return None,
        };
        Some(NodeAddress { kind, address: it.address.parse().ok()? })
    };
    let mut addresses: Vec<_> = all.iter().filter_map(address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_PER_OBJECT_MAX);
    addresses
}
