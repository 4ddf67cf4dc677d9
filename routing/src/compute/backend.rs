//! One Service port: where its requests go and how they are spoken (rules P).

use crate::declare::protocol;
use crate::endpoints::{self, Problem, Resolved};
use crate::finding::{Code, Finding, Severity};
use crate::id::{BackendId, Kind, ObjectKey, ObjectName};
use crate::inputs::Inputs;
use crate::membership::Presence;
use crate::reach::{Reach, ReachMode};
use crate::rules::{self, Rule};
use crate::table::{Backend, BackendProtocol};

use super::{BackendOutcome, reach};

/// Finds the endpoints of one Service port that an Ingress refers to or that is kept. The findings go to every served
/// Ingress that refers to it.
pub fn compute_backend(inputs: &Inputs, id: &BackendId) -> BackendOutcome {
    let Some(cluster) = inputs.cluster(&id.cluster) else { return BackendOutcome::default() };
    let referring = cluster.referring(&id.service, &id.port);
    let presence = inputs.membership(&id.cluster).lifecycle.presence();
    let is_wanted = !referring.is_empty() || inputs.kept().contains(id);
    if !is_wanted || presence == Presence::Nothing {
        return BackendOutcome::default();
    }
    let resolved = endpoints::resolve(cluster.service(&id.service), &id.port, cluster.slices(&id.service));
    if referring.is_empty() && is_unknown(&resolved, cluster.slices(&id.service).next().is_some()) {
        // Of what is only kept the last endpoints are better than none.
        return BackendOutcome::default();
    }
    let (way, no_way) = resolved.as_ref().map_or((None, None), |resolved| reach::reach(inputs, id, resolved));
    let problem = problem(&resolved).or(no_way);
    let finding = |ingress: &ObjectName| {
        let (code, why, remedy) = problem.as_ref()?;
        Some(Finding {
            cluster: id.cluster.clone(),
            object: Some(ObjectKey { kind: Kind::Ingress, name: ingress.clone() }),
            code: *code,
            severity: Severity::Warning,
            message: format!("Service {} port {}: {why}", id.service, id.port),
            remedy: (*remedy).to_owned(),
        })
    };
    let findings = referring.iter().filter_map(finding).collect();
    let backend = (presence == Presence::Table).then(|| backend(id, resolved.unwrap_or_default(), way));
    BackendOutcome { backend, findings }
}

/// Whether it is not known where a Service port leads. A Service that is scaled to zero keeps a slice: one without
/// any has lost them, and they may be back before or after it.
fn is_unknown(resolved: &Result<Resolved, Problem>, has_slices: bool) -> bool {
    resolved.as_ref().map_or(true, |resolved| !resolved.leads_somewhere() && !has_slices)
}

fn backend(id: &BackendId, resolved: Resolved, reach: Option<Box<Reach>>) -> Backend {
    let Resolved { mut endpoints, external_name, app_protocol, .. } = resolved;
    if reach.as_ref().is_some_and(|reach| !reach.uses(ReachMode::PodIp)) {
        endpoints = Vec::new();
    }
    let spoken = app_protocol.as_deref().and_then(protocol).filter(|_| rules::on(Rule::AppProtocol));
    let protocol = spoken.unwrap_or(BackendProtocol::Http1);
    Backend { id: id.clone(), protocol, endpoints, external_name, reach }
}

fn problem(resolved: &Result<Resolved, Problem>) -> Option<(Code, String, &'static str)> {
    let (code, remedy) = match resolved {
        Ok(resolved) if resolved.leads_somewhere() => return None,
        Ok(_) => (Code::NoEndpoints, "Check the Service's selector and the readiness of its pods."),
        Err(Problem::ServiceNotFound) => (Code::ServiceNotFound, "Create the Service or correct its name."),
        Err(Problem::PortNotFound) => {
            (Code::ServicePortNotFound, "Name one of the Service's TCP ports; a targetPort does not count.")
        }
        Err(Problem::ExternalName) => {
            (Code::UnsupportedService, "Name a DNS name that is neither localhost nor an address in externalName.")
        }
    };
    let why = resolved.as_ref().map_or_else(ToString::to_string, |_| "no endpoint is ready".to_owned());
    Some((code, format!("{why}; this cluster cannot serve its requests"), remedy))
}
