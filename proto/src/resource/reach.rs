//! How edges get to a Backend, to and from the wire.

use std::net::SocketAddr;

use roadstead_routing::reach::{Gateway, GatewayAddress, Reach, ReachFrom, ReachMode};

use super::ResourceError;
use crate::object::{address_from_wire, address_to_wire, port_number};
use crate::settings::upstream::{external_name_from_wire, external_name_to_wire};
use crate::wire;

pub(super) fn to_wire(reach: &Reach) -> wire::Reach {
    let from = |from: &ReachFrom| wire::ReachFrom {
        pool: from.pool.as_ref().map(ToString::to_string),
        region: from.region.clone(),
        mode: mode_to_wire(from.reach).into(),
    };
    wire::Reach {
        from: reach.from.iter().map(from).collect(),
        otherwise: mode_to_wire(reach.otherwise).into(),
        nodes: reach.nodes.iter().map(socket_to_wire).collect(),
        gateway: reach.gateway.as_ref().map(gateway_to_wire),
        pods: reach.pods,
    }
}

pub(super) fn from_wire(reach: wire::Reach) -> Result<Reach, ResourceError> {
    let otherwise = mode_from_wire(reach.otherwise());
    let from = |from: wire::ReachFrom| ReachFrom {
        reach: mode_from_wire(from.mode()),
        pool: from.pool.map(|pool| pool.as_str().into()),
        region: from.region,
    };
    Ok(Reach {
        from: reach.from.into_iter().map(from).collect(),
        otherwise,
        nodes: sockets(reach.nodes)?,
        gateway: reach.gateway.map(gateway_from_wire).transpose()?,
        pods: reach.pods,
    })
}

fn mode_to_wire(mode: ReachMode) -> wire::ReachMode {
    match mode {
        ReachMode::PodIp => wire::ReachMode::PodIp,
        ReachMode::NodePort => wire::ReachMode::NodePort,
        ReachMode::Gateway => wire::ReachMode::Gateway,
    }
}

fn mode_from_wire(mode: wire::ReachMode) -> ReachMode {
    match mode {
        wire::ReachMode::PodIp => ReachMode::PodIp,
        wire::ReachMode::NodePort => ReachMode::NodePort,
        wire::ReachMode::Gateway => ReachMode::Gateway,
    }
}

fn gateway_to_wire(gateway: &Gateway) -> wire::Gateway {
    let tls = gateway.is_tls;
    match &gateway.at {
        GatewayAddress::Addresses(all) => {
            wire::Gateway { addresses: all.iter().map(socket_to_wire).collect(), name: None, tls }
        }
        GatewayAddress::Name(name) => {
            wire::Gateway { addresses: Vec::new(), name: Some(external_name_to_wire(name)), tls }
        }
    }
}

fn gateway_from_wire(gateway: wire::Gateway) -> Result<Gateway, ResourceError> {
    let at = match gateway.name {
        Some(name) => GatewayAddress::Name(external_name_from_wire(name)?),
        None if gateway.addresses.is_empty() => return Err(ResourceError::Missing("gateway address")),
        None => GatewayAddress::Addresses(sockets(gateway.addresses)?),
    };
    Ok(Gateway { at, is_tls: gateway.tls })
}

fn socket_to_wire(socket: &SocketAddr) -> wire::SocketAddress {
    wire::SocketAddress { address: address_to_wire(socket.ip()), port: u32::from(socket.port()) }
}

fn sockets(all: Vec<wire::SocketAddress>) -> Result<Vec<SocketAddr>, ResourceError> {
    let socket = |it: wire::SocketAddress| -> Result<SocketAddr, ResourceError> {
        Ok(SocketAddr::new(address_from_wire(&it.address)?, port_number("reach port", it.port)?))
    };
    all.into_iter().map(socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_routing::table::ExternalName;

    #[test]
    fn every_way_survives_the_wire() {
        let sockets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let from = |pool: Option<&str>, region: Option<&str>, reach| ReachFrom {
            pool: pool.map(Into::into),
            region: region.map(ToOwned::to_owned),
            reach,
        };
        let gateways = [
            GatewayAddress::Addresses(sockets(&["192.0.2.1:80", "[2001:db8::1]:80"])),
            GatewayAddress::Name(ExternalName { host: "lb.example.org".into(), port: 443 }),
        ];
        for at in gateways {
            let reach = Reach {
                from: vec![
                    from(Some("public"), None, ReachMode::PodIp),
                    from(None, Some("us"), ReachMode::NodePort),
                    from(None, None, ReachMode::Gateway),
                ],
                otherwise: ReachMode::NodePort,
                nodes: sockets(&["10.1.0.1:30080"]),
                gateway: Some(Gateway { at, is_tls: true }),
                pods: 12,
            };
            assert_eq!(from_wire(to_wire(&reach)), Ok(reach));
        }
    }

    #[test]
    fn a_gateway_without_an_address_is_refused() {
        let reach = wire::Reach { gateway: Some(wire::Gateway::default()), ..wire::Reach::default() };
        assert_eq!(from_wire(reach), Err(ResourceError::Missing("gateway address")));
    }
}
