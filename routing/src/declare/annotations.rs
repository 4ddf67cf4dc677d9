//! Annotations of one Ingress as typed values (rules S-16, N-1): each is read within bounds, or reported, never ignored
//! in silence.
//!
//! Annotations of both families → [`Reader`], which hands each out once → the groups below → [`Read`]; what nobody asked
//! for is reported from the [`catalogue`]. A value that decides who may enter and cannot be read closes the door
//! (rule N-6); every other one is left out alone.

use crate::settings::{CanaryRule, Settings};
use crate::table::BackendProtocol;

use super::{Declared, Ingress};

mod access;
mod balance;
mod canary;
mod catalogue;
mod cors;
mod hosts;
mod reader;
mod redirect;
mod response;
mod upstream;
mod value;

pub(super) use hosts::ExtraHosts;
use reader::Reader;
pub(crate) use value::all_down;

/// What an ImplementationSpecific path of an Ingress is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum PathSyntax {
    #[default]
    Prefix,
    Regex,
}

/// What all annotations of one Ingress say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Read {
    pub syntax: PathSyntax,
    pub settings: Settings,
    pub redirect_to_https: RedirectToHttps,
    pub canary: Option<CanaryRule>,
    pub extra_hosts: ExtraHosts,
    pub traffic: Traffic,
    /// A Service.
    pub fallback: Option<std::sync::Arc<str>>,
}

/// When a request over HTTP is sent to HTTPS (rule L-6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum RedirectToHttps {
    /// For hosts that the Ingress has a certificate for, or means to.
    #[default]
    WithTls,
    Always,
    Never,
}

/// How clusters share the requests of the Ingress's routes. `None`: as the policy says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    pub strategy: Option<crate::policy::Strategy>,
    /// Percent of the cluster's own weight.
    pub weight: Option<u32>,
    pub priority: Option<u32>,
    pub weigh_by_endpoints: Option<bool>,
}

/// Reads the annotations of both families. Whatever has no effect becomes a finding on `declared`.
pub(super) fn read(ingress: &Ingress, declared: &mut Declared) -> Read {
    let mut reader = Reader::new(&ingress.annotations, declared);
    let mut read = Read::default();
    if reader.flag("use-regex") == Some(true) {
        read.syntax = PathSyntax::Regex;
    }
    read.settings.upstream = upstream::read(&mut reader);
    read.fallback = upstream::fallback(&mut reader, &read.settings.upstream.errors);
    if read.settings.upstream.rewrite.is_some() {
        read.syntax = PathSyntax::Regex;
    }
    read.redirect_to_https = redirect::https(&mut reader);
    redirect::read(&mut reader, &mut read.settings.client);
    read.settings.client.access = access::read(ingress, &mut reader);
    read.settings.client.rate = access::rate(&mut reader);
    read.settings.client.cors = cors::read(&mut reader);
    balance::read(&mut reader, &mut read.settings.client);
    read.settings.client.response_headers = response::headers(&mut reader);
    read.traffic = balance::traffic(&mut reader);
    read.canary = canary::read(&mut reader);
    read.extra_hosts = hosts::read(&mut reader);
    catalogue::report(reader.rest(), declared);
    read
}

/// The protocol that `backend-protocol` and `appProtocol` name; `None` for one that is not spoken.
pub(crate) fn protocol(name: &str) -> Option<BackendProtocol> {
    match name.to_ascii_uppercase().as_str() {
        "HTTP" | "AUTO_HTTP" | "KUBERNETES.IO/WS" => Some(BackendProtocol::Http1),
        "HTTPS" | "KUBERNETES.IO/WSS" => Some(BackendProtocol::Https1),
        "GRPC" | "KUBERNETES.IO/H2C" => Some(BackendProtocol::H2c),
        "GRPCS" => Some(BackendProtocol::H2),
        _ => None,
    }
}
