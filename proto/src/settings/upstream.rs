//! How a cluster's endpoints are spoken to, to and from the wire. Durations travel in whole milliseconds.

use std::sync::Arc;
use std::time::Duration;

use roadstead_routing::settings::{Retry, Rewrite, UpstreamSettings};
use roadstead_routing::table::{BackendProtocol, ExternalName};

use super::{list, optional, status, text};
use crate::object::port_number;
use crate::resource::ResourceError;
use crate::wire;

pub(crate) fn protocol_to_wire(protocol: BackendProtocol) -> wire::BackendProtocol {
    match protocol {
        BackendProtocol::Http1 => wire::BackendProtocol::Http1,
        BackendProtocol::Https1 => wire::BackendProtocol::Https1,
        BackendProtocol::H2c => wire::BackendProtocol::H2c,
        BackendProtocol::H2 => wire::BackendProtocol::H2,
    }
}

pub(crate) fn protocol_from_wire(protocol: wire::BackendProtocol) -> BackendProtocol {
    match protocol {
        wire::BackendProtocol::Http1 => BackendProtocol::Http1,
        wire::BackendProtocol::Https1 => BackendProtocol::Https1,
        wire::BackendProtocol::H2c => BackendProtocol::H2c,
        wire::BackendProtocol::H2 => BackendProtocol::H2,
    }
}

pub(crate) fn external_name_to_wire(name: &ExternalName) -> wire::ExternalName {
    wire::ExternalName { host: name.host.to_string(), port: name.port.into() }
}

pub(crate) fn external_name_from_wire(name: wire::ExternalName) -> Result<ExternalName, ResourceError> {
    let host = text("external_name host", name.host)?;
    Ok(ExternalName { host, port: port_number("external_name port", name.port)? })
}

/// `None` if nobody set anything.
pub(crate) fn upstream_to_wire(upstream: &UpstreamSettings) -> Option<wire::UpstreamSettings> {
    if *upstream == UpstreamSettings::default() {
        return None;
    }
    Some(wire::UpstreamSettings {
        rewrite: upstream.rewrite.as_ref().map(|rewrite| rewrite.template.to_string()),
        host: upstream.host.as_ref().map(ToString::to_string),
        forwarded_prefix: upstream.forwarded_prefix.as_ref().map(ToString::to_string),
        protocol: upstream.protocol.map(|protocol| protocol_to_wire(protocol).into()),
        body_bytes_max: upstream.body_bytes_max,
        connect_timeout_ms: upstream.connect_timeout.map(milliseconds),
        read_timeout_ms: upstream.read_timeout.map(milliseconds),
        send_timeout_ms: upstream.send_timeout.map(milliseconds),
        retry: (upstream.retry != Retry::default()).then(|| retry_to_wire(&upstream.retry)),
        errors: upstream.errors.iter().map(|status| u32::from(*status)).collect(),
    })
}

pub(crate) fn upstream_from_wire(
    upstream: Option<wire::UpstreamSettings>,
) -> Result<Arc<UpstreamSettings>, ResourceError> {
    let Some(upstream) = upstream else { return Ok(Arc::default()) };
    let protocol = upstream.protocol.is_some().then(|| protocol_from_wire(upstream.protocol()));
    Ok(Arc::new(UpstreamSettings {
        rewrite: optional("upstream rewrite", upstream.rewrite)?.map(|template| Rewrite { template }),
        host: optional("upstream host", upstream.host)?,
        forwarded_prefix: optional("upstream forwarded_prefix", upstream.forwarded_prefix)?,
        protocol,
        body_bytes_max: upstream.body_bytes_max,
        connect_timeout: upstream.connect_timeout_ms.map(duration),
        read_timeout: upstream.read_timeout_ms.map(duration),
        send_timeout: upstream.send_timeout_ms.map(duration),
        retry: upstream.retry.map(retry_from_wire).transpose()?.unwrap_or_default(),
        errors: list("upstream errors", upstream.errors, |code| status("upstream errors", code, 300..=599))?,
    }))
}

fn retry_to_wire(retry: &Retry) -> wire::Retry {
    wire::Retry {
        on_error: retry.on_error,
        on_timeout: retry.on_timeout,
        on_status: retry.on_status.iter().map(|status| u32::from(*status)).collect(),
        tries: retry.tries,
        within_ms: retry.within.map(milliseconds),
    }
}

fn retry_from_wire(retry: wire::Retry) -> Result<Retry, ResourceError> {
    const ON_STATUS: &str = "upstream retry on_status";
    Ok(Retry {
        on_error: retry.on_error,
        on_timeout: retry.on_timeout,
        on_status: list(ON_STATUS, retry.on_status, |number| status(ON_STATUS, number, 100..=599))?,
        tries: retry.tries,
        within: retry.within_ms.map(duration),
    })
}

/// 49 days at most.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn duration(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into())
}
