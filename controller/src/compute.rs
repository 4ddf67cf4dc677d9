//! From dirty names to resources: calls the pure `routing` functions for what may have changed and nothing else,
//! encodes the results and gives them their digests.
//!
//! World + dirty names → [`Computed`], findings. Decides nothing itself, so that every replica gets the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use roadstead_proto::digest::Digest;
use roadstead_proto::resource::{backend_to_wire, host_to_wire};
use roadstead_routing::check::check_host;
use roadstead_routing::compute::{compute_backend, compute_host, compute_ingress};
use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName};
use roadstead_routing::table::{Backend, Host, RouteBackend, Target};

use crate::core::turn::Turn;
use crate::status::findings::Source;

/// Bytes of one encoded Host. A larger one could not be sent in one message, so the published version stays.
pub const HOST_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Something to publish. The digest is of the wire form.
#[derive(Clone, PartialEq, Debug)]
pub struct Resource<T> {
    pub value: Arc<T>,
    pub digest: Digest,
}

/// What came of the dirty names. `None`: it no longer exists.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Computed {
    pub hosts: BTreeMap<(PoolName, HostKey), Option<Resource<Host>>>,
    pub backends: BTreeMap<BackendId, Option<Resource<Backend>>>,
    pub ingresses: BTreeSet<(ClusterId, ObjectName)>,
}

/// Computes everything that is dirty, once however often it was touched.
pub fn compute(turn: &mut Turn) -> Computed {
    let dirty = std::mem::take(&mut turn.dirty);
    turn.metrics.compute.computed(dirty.hosts.len(), dirty.backends.len());
    let mut computed = Computed::default();
    for (pool, host) in dirty.hosts {
        if let Some(outcome) = one_host(turn, &pool, &host) {
            computed.hosts.insert((pool, host), outcome);
        }
    }
    for id in dirty.backends {
        let outcome = compute_backend(turn.world.inputs(), &id);
        turn.findings.set(&Source::Backend(id.clone()), outcome.findings);
        let resource = outcome.backend.map(|backend| {
            let digest = Digest::of(&backend_to_wire(&backend));
            Resource { value: Arc::new(backend), digest }
        });
        computed.backends.insert(id, resource);
    }
    for (cluster, ingress) in dirty.ingresses {
        let findings = compute_ingress(turn.world.inputs(), &cluster, &ingress);
        turn.findings.set(&Source::Ingress(cluster.clone(), ingress.clone()), findings);
        computed.ingresses.insert((cluster, ingress));
    }
    computed
}

/// Every backend of a host, once.
pub fn backends_of(host: &Host) -> BTreeSet<&BackendId> {
    parts_of(host).flat_map(RouteBackend::backends).collect()
}

/// Every Ingress that has a part in a host, once.
pub fn ingresses_of(host: &Host) -> BTreeSet<(&ClusterId, &ObjectName)> {
    parts_of(host).map(|part| (&part.cluster, &part.ingress)).collect()
}

/// Every cluster that has a part in a host, once.
pub fn clusters_of(host: &Host) -> BTreeSet<ClusterId> {
    parts_of(host).map(|part| part.cluster.clone()).collect()
}

/// Every cluster with a backend in a host, once.
pub fn serving_clusters(host: &Host) -> BTreeSet<ClusterId> {
    let serving = parts_of(host).filter(|part| matches!(part.target, Target::Backend(_)));
    serving.map(|part| part.cluster.clone()).collect()
}

fn parts_of(host: &Host) -> impl Iterator<Item = &RouteBackend> {
    host.parts()
}

/// `None`: what is published stays.
fn one_host(turn: &mut Turn, pool: &PoolName, host: &HostKey) -> Option<Option<Resource<Host>>> {
    let outcome = compute_host(turn.world.inputs(), pool, host);
    let source = Source::Host(pool.clone(), host.clone());
    let Some(compiled) = outcome.host else {
        turn.findings.set(&source, outcome.findings);
        return Some(None);
    };
    let violations = check_host(&compiled);
    if !violations.is_empty() {
        turn.metrics.compute.violations.inc_by(violations.len() as u64);
        tracing::error!(route.host = %host, %pool, ?violations, "A compiled host breaks an invariant");
    }
    let encoded = host_to_wire(&compiled).encode_to_vec();
    if encoded.len() > HOST_BYTES_MAX {
        turn.findings.set(&source, too_large(&compiled, encoded.len()));
        return None;
    }
    // What nobody has asked for yet is not missing.
    let is_missing = |it: &Finding| it.code == Code::CertificateMissing && turn.world.awaited().contains(&it.cluster);
    let findings = outcome.findings.into_iter().filter(|it| !is_missing(it)).collect();
    turn.findings.set(&source, findings);
    Some(Some(Resource { value: Arc::new(compiled), digest: Digest::of_bytes(&encoded) }))
}

fn too_large(host: &Host, bytes: usize) -> Vec<Finding> {
    let finding = |(cluster, ingress): (&ClusterId, &ObjectName)| Finding {
        cluster: cluster.clone(),
        object: Some(ObjectKey { kind: Kind::Ingress, name: ingress.clone() }),
        code: Code::ObjectTooLarge,
        severity: Severity::Error,
        message: format!(
            "Host {} takes {bytes} bytes when compiled, more than {HOST_BYTES_MAX}; its last version stays in use",
            host.name
        ),
        remedy: "Declare fewer paths for this host.".to_owned(),
    };
    ingresses_of(host).into_iter().map(finding).collect()
}
