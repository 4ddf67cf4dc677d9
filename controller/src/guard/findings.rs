//! What a Hold says to the teams concerned: on each cluster, and on every Ingress that is still there to say it on.

use std::collections::BTreeSet;

use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, ObjectName};

use super::Changes;
use super::hold::Hold;
use crate::compute::ingresses_of;
use crate::world::World;

/// Ingresses that are told about one Hold; the finding on the cluster counts all hosts.
pub const INGRESSES_TOLD_MAX: usize = 200;

/// Nothing, once the Hold is closed. `held` is what waits in its pool.
pub(super) fn about(hold: &Hold, held: Option<&Changes>, world: &World) -> Vec<Finding> {
    if !hold.is_open() {
        return Vec::new();
    }
    let on_clusters = hold.cause.clusters.iter().map(|cluster| finding(hold, cluster, None));
    let mut ingresses: BTreeSet<(&ClusterId, &ObjectName)> = BTreeSet::new();
    let of_hold = held.into_iter().flatten().filter(|(host, _)| hold.hosts.contains_key(&host.to_string()));
    for wanted in of_hold.filter_map(|(_, wanted)| wanted.as_ref()) {
        ingresses.extend(ingresses_of(&wanted.value));
    }
    let exists = |key: &ObjectKey, cluster: &ClusterId| world.digest(cluster, key).is_some();
    let on_ingresses = ingresses.into_iter().filter_map(|(cluster, name)| {
        let key = ObjectKey { kind: Kind::Ingress, name: name.clone() };
        exists(&key, cluster).then(|| finding(hold, cluster, Some(key)))
    });
    on_clusters.chain(on_ingresses.take(INGRESSES_TOLD_MAX)).collect()
}

fn finding(hold: &Hold, cluster: &ClusterId, object: Option<ObjectKey>) -> Finding {
    Finding {
        cluster: cluster.clone(),
        object,
        code: Code::ChangeHeld,
        severity: Severity::Error,
        message: format!("Hold {}: {} hosts keep their routes because {}", hold.id, hold.hosts.len(), hold.message),
        remedy: format!(
            "If this is meant: `roadstead holds approve {0}`. If not, restore the objects; the Hold then ends by itself. \
             `roadstead holds discard {0}` keeps the routes until the objects change again.",
            hold.id
        ),
    }
}
