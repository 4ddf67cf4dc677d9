//! How edges get to one Service port (rules ).

use std::net::{IpAddr, SocketAddr};

use crate::declare::protocol;
use crate::endpoints::{self, Resolved};
use crate::finding::Code;
use crate::id::{BackendId, ObjectName};
use crate::inputs::{Cluster, Inputs};
use crate::limit;
use crate::object::{NodeAddressKind, Protocol, Service, ServicePort, ServiceType};
use crate::policy::ClusterPolicy;
use crate::reach::{ANNOTATION, Gateway, GatewayAddress, GatewayRef, Reach, ReachMode};
use crate::rules::{self, Rule};
use crate::table::{BackendProtocol, ExternalName};

/// What is wrong with it, and what to do.
pub(super) type Problem = (Code, String, &'static str);

/// `None`: every edge goes to the pods.
pub(super) fn reach(inputs: &Inputs, id: &BackendId, resolved: &Resolved) -> (Option<Box<Reach>>, Option<Problem>) {
    let Some(cluster) = inputs.cluster(&id.cluster) else { return (None, None) };
    let Some(service) = cluster.service(&id.service).filter(|_| resolved.external_name.is_none()) else {
        return (None, None);
    };
    let policy = inputs.policy().cluster(&id.cluster);
    let (mut reach, mut problem) = wished(policy, service);
    let is_doubtful = inputs.membership(&id.cluster).is_doubtful && rules::on(Rule::DoubtfulAddressesLeft);
    if !is_doubtful && reach.is_plain() {
        return (None, problem);
    }
    let way = Ways { cluster, policy, service, resolved };
    let (mut nodes, mut gateway) = (None, None);
    if reach.uses(ReachMode::Gateway) || is_doubtful {
        match way.gateway() {
            Ok(found) => gateway = found,
            Err(why) if reach.uses(ReachMode::Gateway) => problem = Some(why),
            Err(_) => {}
        }
    }
    if reach.uses(ReachMode::NodePort) || is_doubtful {
        match way.nodes() {
            Ok(found) => nodes = Some(found).filter(|found| !found.is_empty()),
            Err(why) if reach.uses(ReachMode::NodePort) => problem = Some(why),
            Err(_) => {}
        }
    }
    if is_doubtful && gateway.is_some() {
        reach.replace(ReachMode::PodIp, ReachMode::Gateway);
    } else if is_doubtful && nodes.is_some() {
        reach.replace(ReachMode::PodIp, ReachMode::NodePort);
    }
    // What nobody uses would only change in vain.
    reach.gateway = gateway.filter(|_| reach.uses(ReachMode::Gateway));
    reach.pods = about(resolved.endpoints.len());
    reach.nodes = nodes.filter(|_| reach.uses(ReachMode::NodePort)).unwrap_or_default();
    ((!reach.is_plain()).then(|| Box::new(reach)), problem)
}

/// Whether some edge uses pod addresses that may be those of others (rule R-6).
pub(super) fn is_at_risk(inputs: &Inputs, id: &BackendId) -> bool {
    let Some(cluster) = inputs.cluster(&id.cluster).filter(|_| inputs.membership(&id.cluster).is_doubtful) else {
        return false;
    };
    let resolved = endpoints::resolve(cluster.service(&id.service), &id.port, cluster.slices(&id.service));
    let Ok(resolved) = resolved else { return false };
    let (reach, _) = reach(inputs, id, &resolved);
    resolved.external_name.is_none() && reach.is_none_or(|reach| reach.uses(ReachMode::PodIp))
}

/// What policy and Service say (rule R-1), with what cannot be read of it.
fn wished(policy: &ClusterPolicy, service: &Service) -> (Reach, Option<Problem>) {
    let by_policy = || Reach { from: policy.reach_from.clone(), otherwise: policy.reach, ..Reach::default() };
    let Some(text) = service.annotations.get(ANNOTATION) else { return (by_policy(), None) };
    match ReachMode::parse(text).filter(|_| rules::on(Rule::ServiceDecidesReach)) {
        Some(mode) => (Reach { otherwise: mode, ..Reach::default() }, None),
        None => {
            let why = format!("annotation {ANNOTATION} says `{text}`, which is ignored");
            (by_policy(), Some((Code::InvalidAnnotation, why, "Say pod-ip, node-port or gateway on the Service.")))
        }
    }
}

/// All that an address can come from.
struct Ways<'a> {
    cluster: &'a Cluster,
    policy: &'a ClusterPolicy,
    service: &'a Service,
    resolved: &'a Resolved,
}

impl Ways<'_> {
    /// Rule R-3. Sorted; empty if there is no usable endpoint.
    fn nodes(&self) -> Result<Vec<SocketAddr>, Problem> {
        let remedy = "Make the Service of type NodePort or LoadBalancer, or give it another way with annotation \
                      roadstead.dev/reach.";
        let port = self.resolved.node_port;
        if port == 0 {
            return Err(no_address("it is reached by node port and has none", remedy));
        }
        if self.resolved.endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let answers = |name: &str| {
            let has_pods = || self.resolved.nodes.iter().any(|node| &**node == name);
            !self.service.is_local || !rules::on(Rule::LocalTrafficStays) || has_pods()
        };
        let ready = self.cluster.nodes().filter(|node| node.is_ready || !rules::on(Rule::OnlyReadyNodes));
        let kind = self.policy.node_address;
        let mut found: Vec<(u64, IpAddr)> = ready
            .filter(|node| answers(&node.name))
            .flat_map(|node| {
                let rank = rank(&self.service.name, &node.name);
                node.addresses.iter().filter(|it| it.kind == kind).map(move |it| (rank, it.address))
            })
            .collect();
        if found.is_empty() {
            let which = if kind == NodeAddressKind::Internal { "InternalIP" } else { "ExternalIP" };
            let why = format!("it is reached by node port, and no ready node that answers has an {which}");
            return Err(no_address(&why, "Check the nodes, or `node_address` of the cluster in the policy."));
        }
        found.sort_unstable();
        found.truncate(limit::NODES_PER_BACKEND_MAX);
        let mut addresses: Vec<_> = found.into_iter().map(|(_, address)| SocketAddr::new(address, port)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// Rule R-4. `None` if there is no usable endpoint.
    fn gateway(&self) -> Result<Option<Gateway>, Problem> {
        let remedy =
            "Give the cluster a `gateway` in the policy that is a Service of type LoadBalancer with an address.";
        let problem =
            |why: String| no_address(&format!("it is reached through the cluster's gateway, and {why}"), remedy);
        let named = self.policy.gateway.as_ref().ok_or_else(|| problem("the policy names none".to_owned()))?;
        let service = self.cluster.service(&named.service).filter(|it| it.service_type == ServiceType::LoadBalancer);
        let service =
            service.ok_or_else(|| problem(format!("{} is no Service of type LoadBalancer there", named.service)))?;
        let port = gateway_port(service, named).ok_or_else(|| problem(format!("{named} has no such TCP port")))?;
        let at = gateway_address(service, port.port)
            .ok_or_else(|| problem(format!("Service {} has no address yet", named.service)))?;
        let spoken = port.app_protocol.as_deref().and_then(protocol);
        let is_tls = match spoken {
            Some(spoken) => matches!(spoken, BackendProtocol::Https1 | BackendProtocol::H2),
            None => port.port == HTTPS || &*port.name == "https",
        };
        Ok((!self.resolved.endpoints.is_empty() || !rules::on(Rule::EmptyIsNotReached))
            .then_some(Gateway { at, is_tls }))
    }
}

fn no_address(why: &str, remedy: &'static str) -> Problem {
    (Code::NoAddress, format!("{why}; edges that go this way cannot serve its requests"), remedy)
}

const HTTP: u16 = 80;
const HTTPS: u16 = 443;

fn gateway_port<'s>(service: &'s Service, named: &GatewayRef) -> Option<&'s ServicePort> {
    let tcp = || service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    match named.port {
        Some(number) => tcp().find(|port| port.port == number),
        None => tcp().find(|port| port.port == HTTP).or_else(|| tcp().next()),
    }
}

/// The addresses, else the first name.
fn gateway_address(service: &Service, port: u16) -> Option<GatewayAddress> {
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    for text in &service.load_balancer {
        match text.parse::<IpAddr>() {
            Ok(address) => addresses.push(SocketAddr::new(address, port)),
            Err(_) => names.push(text),
        }
    }
    if addresses.is_empty() {
        let host = names.into_iter().min()?.clone();
        return Some(GatewayAddress::Name(ExternalName { host, port }));
    }
    addresses.sort_unstable();
    addresses.dedup();
    Some(GatewayAddress::Addresses(addresses))
}

/// To three significant bits, so that of many pods one more changes nothing.
fn about(pods: usize) -> u32 {
    let pods = u32::try_from(pods).unwrap_or(u32::MAX);
    let shift = pods.checked_ilog2().unwrap_or(0).saturating_sub(2);
    let half = (1 << shift) >> 1;
    pods.saturating_add(half) >> shift << shift
}

/// Which nodes a Service takes of too many: always the same, and others than the next Service (FNV-1a).
fn rank(service: &ObjectName, node: &str) -> u64 {
    let texts = [&*service.namespace, "/", &*service.name, "/", node];
    texts
        .iter()
        .flat_map(|text| text.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
