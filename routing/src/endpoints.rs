//! From a Service port to addresses (rules P-1 to P-6).
//!
//! Service + port + its EndpointSlices → usable endpoints; later, at an edge, usable endpoints + where the edge
//! is → reachable endpoints. Health is not known here: the edge adds what it sees.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::declare::is_dns_name;
use crate::id::{PoolName, PortRef};
use crate::limit;
use crate::object::{AddressType, EndpointSlice, Protocol, Service, ServicePort, ServiceType, SliceEndpoint};
use crate::reach::{GatewayAddress, ReachMode};
use crate::rules::{self, Rule};
use crate::table::{Backend, BackendProtocol, Endpoint, ExternalName};

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
    /// 0: none.
    pub node_port: u16,
    /// Of a Service whose traffic stays on the node: those with a usable endpoint. Sorted.
    pub nodes: Vec<Arc<str>>,
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
    pub pool: Option<PoolName>,
    /// `None`: nowhere in particular.
    pub region: Option<Arc<str>>,
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
    let mut found: Vec<Found<'_>> = Vec::new();
    for slice in slices {
        let Some(number) = slice_port(slice, port) else { continue };
        found.extend(slice.endpoints.iter().map(|endpoint| Found {
            address: SocketAddr::new(endpoint.address, number),
            condition: condition(endpoint),
            for_zones: zones(&endpoint.for_zones),
            node: endpoint.node.as_ref(),
        }));
    }
    // Of several mentions of one address the most usable comes first and is kept (rule P-4); of equally usable
    // ones the smallest hint list and node, so that the order of slices cannot matter.
    found.sort_by(|a, b| {
        let usable = rules::ordered(Rule::DedupeReadyWins, a.condition.cmp(&b.condition));
        a.address.cmp(&b.address).then(usable).then_with(|| (&a.for_zones, a.node).cmp(&(&b.for_zones, b.node)))
    });
    found.dedup_by(|later, first| later.address == first.address);
    keep_usable(&mut found);
    let nodes = if service.is_local { nodes(&found) } else { Vec::new() };
    let mut endpoints: Vec<_> = found.into_iter().map(Found::into_endpoint).collect();
    endpoints.shrink_to_fit();
    let (app_protocol, node_port) = (port.app_protocol.clone(), port.node_port);
    Ok(Resolved { endpoints, external_name: None, app_protocol, node_port, nodes })
}

/// An endpoint of a slice.
struct Found<'a> {
    address: SocketAddr,
    condition: Condition,
    for_zones: Vec<Arc<str>>,
    node: Option<&'a Arc<str>>,
}

impl Found<'_> {
    fn into_endpoint(self) -> Endpoint {
        Endpoint { address: self.address, for_zones: self.for_zones }
    }
}

fn nodes(found: &[Found<'_>]) -> Vec<Arc<str>> {
    let mut nodes: Vec<_> = found.iter().filter_map(|found| found.node.cloned()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
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
    Ok(Resolved { external_name, app_protocol, ..Resolved::default() })
}

/// The endpoints that an edge at `at` should use (rule P-5). Zone hints count only if all endpoints it can reach
/// have hints and at least one is for its zone.
pub fn reachable<'a>(endpoints: &'a [Endpoint], at: &'a Locality) -> impl Iterator<Item = &'a Endpoint> {
    let in_family = move |endpoint: &Endpoint| at.can_reach(&endpoint.address);
    let candidates = || endpoints.iter().filter(|endpoint| in_family(endpoint));
    let zone = at.zone.as_ref().filter(|zone| {
        let all_hinted = candidates().all(|endpoint| !endpoint.for_zones.is_empty());
        let hinted = all_hinted || !rules::on(Rule::ZoneHintsAllOrNothing);
        hinted && candidates().any(|endpoint| endpoint.for_zones.contains(zone))
    });
    let in_zone = move |endpoint: &&Endpoint| zone.is_none_or(|zone| endpoint.for_zones.contains(zone));
    endpoints.iter().filter(move |endpoint| in_family(endpoint)).filter(in_zone)
}

/// Where an edge sends the requests of a backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination<'b> {
    pub mode: ReachMode,
    /// Sorted, without duplicates.
    pub addresses: Vec<SocketAddr>,
    /// Instead of addresses.
    pub name: Option<&'b ExternalName>,
    /// How many times the weight of a cluster counts that is weighed by endpoints (rule E-1): its pods.
    pub pods: u32,
    pub protocol: BackendProtocol,
}

impl Destination<'_> {
    /// How many endpoints that are; a name counts as one.
    pub fn len(&self) -> usize {
        if self.name.is_some() { 1 } else { self.addresses.len() }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the weight of a cluster counts for that is weighed by endpoints (rule E-1); 0 if nothing is reached.
    pub fn weighed(&self) -> u32 {
        if self.is_empty() { 0 } else { self.pods.max(1) }
    }
}

/// Where an edge at `at` sends requests (rules ).
pub fn destination<'b>(backend: &'b Backend, at: &Locality) -> Destination<'b> {
    let mode = backend.reach.as_ref().map_or(ReachMode::PodIp, |reach| reach.mode(at));
    let pods = backend.reach.as_ref().map_or(0, |reach| reach.pods);
    let here = Destination { mode, addresses: Vec::new(), name: None, pods, protocol: backend.protocol };
    match (mode, &backend.reach) {
        (ReachMode::NodePort, Some(reach)) => {
            let addresses = reach.nodes.iter().filter(|address| at.can_reach(address)).copied().collect();
            Destination { addresses, ..here }
        }
        (ReachMode::Gateway, Some(reach)) => {
            let Some(gateway) = &reach.gateway else { return here };
            let protocol = backend.protocol.with_tls(gateway.is_tls);
            match &gateway.at {
                GatewayAddress::Name(name) => Destination { name: Some(name), protocol, ..here },
                GatewayAddress::Addresses(all) => {
                    let addresses = all.iter().filter(|address| at.can_reach(address)).copied().collect();
                    Destination { addresses, protocol, ..here }
                }
            }
        }
        (ReachMode::PodIp | ReachMode::NodePort | ReachMode::Gateway, _) => {
            let addresses = reachable(&backend.endpoints, at).map(|endpoint| endpoint.address).collect();
            let to = Destination { addresses, name: backend.external_name.as_ref(), ..here };
            Destination { pods: u32::try_from(to.len()).unwrap_or(u32::MAX), ..to }
        }
    }
}

impl Locality {
    fn can_reach(&self, address: &SocketAddr) -> bool {
        match self.family {
            None => true,
            Some(Family::Ipv4) => address.is_ipv4(),
            Some(Family::Ipv6) => address.is_ipv6(),
        }
    }
}

fn service_port<'s>(service: &'s Service, port: &PortRef) -> Option<&'s ServicePort> {
    service.ports.iter().filter(|candidate| candidate.protocol == Protocol::Tcp).find(|candidate| match port {
        port if *port == PortRef::FIRST => true,
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

/// Rule P-3: what still serves while it shuts down counts only if nothing is ready.
fn keep_usable(found: &mut Vec<Found<'_>>) {
    let any_ready = found.iter().any(|found| found.condition == Condition::Ready);
    let wanted =
        if any_ready || !rules::on(Rule::TerminatingFallback) { Condition::Ready } else { Condition::Draining };
    found.retain(|found| found.condition == wanted);
}
