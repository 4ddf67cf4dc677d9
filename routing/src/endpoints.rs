//! From a Service port to addresses (rules P-1 to P-6).
//!
//! Service + port + its EndpointSlices → usable endpoints; later, at an edge, usable endpoints + where the edge
//! is → reachable endpoints. Health is not known here: the edge adds what it sees.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::declare::is_dns_name;
use crate::id::PortRef;
use crate::limit;
use crate::object::{AddressType, EndpointSlice, Protocol, Service, ServicePort, ServiceType, SliceEndpoint};
use crate::rules::{self, Rule};
use crate::table::{Endpoint, ExternalName};

/// Why a reference to a Service port leads nowhere. Its slot is kept and answers 503 (rule S-11).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    #[error("the Service does not exist")]
    ServiceNotFound,
    #[error("the Service has no such TCP port")]
    PortNotFound,
    #[error("its externalName is no DNS name of another host")]
    ExternalName,
}

/// Where a Service port leads.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolved {
    /// Usable, sorted by address, without duplicates. Empty if there are none.
    pub endpoints: Vec<Endpoint>,
    /// Instead of endpoints (rule P-6).
    pub external_name: Option<ExternalName>,
    /// What the Service says is spoken there (rule P-7).
    pub app_protocol: Option<Arc<str>>,
}

impl Resolved {
    pub fn leads_somewhere(&self) -> bool {
        !self.endpoints.is_empty() || self.external_name.is_some()
    }
}

/// Where an edge is and what it can reach.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Locality {
    /// `None`: zone hints are ignored.
    pub zone: Option<Arc<str>>,
    /// `None`: both.
    pub family: Option<Family>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// How much an endpoint can be relied on; the order is the order of preference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Condition {
    Ready,
    /// Still serving while it shuts down: used only if nothing is ready (rule P-3).
    Draining,
    Unusable,
}

/// Where one Service port leads.
pub fn resolve<'a>(
    service: Option<&Service>,
    port: &PortRef,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Result<Resolved, Problem> {
    let service = service.ok_or(Problem::ServiceNotFound)?;
    if service.service_type == ServiceType::ExternalName {
        return external(service, port);
    }
    let port = service_port(service, port).ok_or(Problem::PortNotFound)?;
    let mut found: Vec<(SocketAddr, Condition, Vec<Arc<str>>)> = Vec::new();
    for slice in slices {
        let Some(number) = slice_port(slice, port) else { continue };
        found.extend(slice.endpoints.iter().map(|endpoint| {
            (SocketAddr::new(endpoint.address, number), condition(endpoint), zones(&endpoint.for_zones))
        }));
    }
    // Of several mentions of one address the most usable comes first and is kept (rule P-4); of equally usable
    // ones the smallest hint list, so that the order of slices cannot matter.
    found.sort_by(|a, b| {
        a.0.cmp(&b.0).then(rules::ordered(Rule::DedupeReadyWins, a.1.cmp(&b.1))).then_with(|| a.2.cmp(&b.2))
    });
    found.dedup_by(|later, first| later.0 == first.0);
    let endpoints = usable(found);
    Ok(Resolved { endpoints, external_name: None, app_protocol: port.app_protocol.clone() })
}

/// A Service port by name or number; without ports, any number (rule P-6).
fn external(service: &Service, port: &PortRef) -> Result<Resolved, Problem> {
    let host = service.external_name.trim_end_matches('.').to_ascii_lowercase();
    let is_local = host == "localhost" || host.ends_with(".localhost") || host.parse::<std::net::IpAddr>().is_ok();
    if is_local || !is_dns_name(&host) || !rules::on(Rule::ExternalNameServes) {
        return Err(Problem::ExternalName);
    }
    let (number, app_protocol) = match (service_port(service, port), port) {
        (Some(found), _) => (found.port, found.app_protocol.clone()),
        (None, PortRef::Number(number)) if service.ports.is_empty() => (*number, None),
        (None, _) => return Err(Problem::PortNotFound),
    };
    let external_name = Some(ExternalName { host: host.into(), port: number });
    Ok(Resolved { endpoints: Vec::new(), external_name, app_protocol })
}

/// The endpoints that an edge at `at` should use (rule P-5). Zone hints count only if all endpoints it can reach
/// have hints and at least one is for its zone.
pub fn reachable<'a>(endpoints: &'a [Endpoint], at: &'a Locality) -> impl Iterator<Item = &'a Endpoint> {
    let in_family = move |endpoint: &Endpoint| match at.family {
        None => true,
        Some(Family::Ipv4) => endpoint.address.is_ipv4(),
        Some(Family::Ipv6) => endpoint.address.is_ipv6(),
    };
    let candidates = || endpoints.iter().filter(|endpoint| in_family(endpoint));
    let zone = at.zone.as_ref().filter(|zone| {
        let all_hinted = candidates().all(|endpoint| !endpoint.for_zones.is_empty());
        let hinted = all_hinted || !rules::on(Rule::ZoneHintsAllOrNothing);
        hinted && candidates().any(|endpoint| endpoint.for_zones.contains(zone))
    });
    let in_zone = move |endpoint: &&Endpoint| zone.is_none_or(|zone| endpoint.for_zones.contains(zone));
    endpoints.iter().filter(move |endpoint| in_family(endpoint)).filter(in_zone)
}

fn service_port<'s>(service: &'s Service, port: &PortRef) -> Option<&'s ServicePort> {
    service.ports.iter().filter(|candidate| candidate.protocol == Protocol::Tcp).find(|candidate| match port {
        PortRef::Number(number) => candidate.port == *number || !rules::on(Rule::PortByServiceNumber),
        PortRef::Name(name) => candidate.name == *name,
    })
}

/// The number to dial in this slice. A named targetPort may be a different number in each slice, so it comes
/// from the slice and never from the Service (rule P-2).
fn slice_port(slice: &EndpointSlice, port: &ServicePort) -> Option<u16> {
    if slice.address_type == AddressType::Fqdn && rules::on(Rule::FqdnIgnored) {
        return None;
    }
    let same = |candidate: &&crate::object::SlicePort| {
        candidate.name == port.name && candidate.protocol == Protocol::Tcp && candidate.port.is_some()
    };
    let number = slice.ports.iter().find(same)?.port;
    if rules::on(Rule::TargetPortFromSlice) { number } else { Some(port.port) }
}

/// Rule P-3: absent `ready` and `serving` mean true, absent `terminating` means false.
fn condition(endpoint: &SliceEndpoint) -> Condition {
    if endpoint.ready.unwrap_or(rules::on(Rule::ReadyNullIsTrue)) {
        Condition::Ready
    } else if endpoint.serving.unwrap_or(true) && endpoint.terminating.unwrap_or(false) {
        Condition::Draining
    } else {
        Condition::Unusable
    }
}

fn zones(for_zones: &[Arc<str>]) -> Vec<Arc<str>> {
    let mut zones: Vec<_> = for_zones.iter().take(limit::ZONES_PER_ENDPOINT_MAX).cloned().collect();
    zones.sort();
    zones.dedup();
    zones
}

fn usable(found: Vec<(SocketAddr, Condition, Vec<Arc<str>>)>) -> Vec<Endpoint> {
    let any_ready = found.iter().any(|(_, condition, _)| *condition == Condition::Ready);
    let wanted =
        if any_ready || !rules::on(Rule::TerminatingFallback) { Condition::Ready } else { Condition::Draining };
    let kept = found.into_iter().filter(|(_, condition, _)| *condition == wanted);
    let mut endpoints: Vec<_> = kept.map(|(address, _, for_zones)| Endpoint { address, for_zones }).collect();
    endpoints.shrink_to_fit();
    endpoints
}
