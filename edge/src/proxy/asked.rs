//! What a request is about, as rules need it before it is rewritten for an endpoint.

use std::net::IpAddr;

use http::{Request, Uri};

use super::admit::Admitted;
use super::{TrustedProxies, headers};

pub(super) struct Asked<'a> {
    /// `http` or `https`: how the client reached the first proxy that is believed.
    pub(super) scheme: &'static str,
    /// As the client wrote it.
    pub(super) authority: &'a str,
    pub(super) uri: Uri,
    /// Of the client, not of a trusted proxy that speaks for it.
    pub(super) address: IpAddr,
}

impl<'a> Asked<'a> {
    pub(super) fn new<B>(request: &Request<B>, admitted: &'a Admitted<'_>, trusted: &TrustedProxies) -> Self {
        let (headers, client) = (request.headers(), admitted.client);
        Self {
            scheme: headers::scheme(headers, client),
            authority: &admitted.authority,
            uri: request.uri().clone(),
            address: headers::client_address(headers, client, trusted),
        }
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.target())
    }
}
