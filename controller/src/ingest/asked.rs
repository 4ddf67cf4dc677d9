//! What agents are asked to report: the policy's classes, and what no Ingress of theirs needs but somebody else does.

use std::collections::BTreeSet;

use roadstead_proto::wire;
use roadstead_routing::id::ClusterId;

use crate::core::turn::Turn;

/// The same for every agent of the cluster.
pub(super) fn of(cluster: &ClusterId, turn: &Turn) -> wire::AgentPolicy {
    let mut services: Vec<String> =
        turn.world.inputs().kept_of(cluster, None).map(|kept| kept.service.to_string()).collect();
    services.dedup();
    let policy = &turn.policy.policy;
    let own = policy.certificates().filter(|(_, id)| id.cluster == *cluster);
    let secrets: BTreeSet<String> = own.map(|(_, id)| id.secret.to_string()).collect();
    wire::AgentPolicy {
        classes: policy.classes.keys().cloned().collect(),
        services,
        secrets: secrets.into_iter().collect(),
    }
}
