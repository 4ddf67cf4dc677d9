//! How an endpoint is spoken to.

use roadstead_routing::table::BackendProtocol;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Protocol {
    #[default]
    Http1,
    /// Over TLS that proves nothing: pods have no certificate that names them.
    Https1,
    /// Over TLS whose certificate must name the host and lead to a public authority.
    VerifiedHttps1,
    H2c,
    /// As [`Protocol::Https1`].
    H2,
}

impl Protocol {
    /// Whether many requests share a connection.
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::H2c | Protocol::H2)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Https1 | Protocol::VerifiedHttps1 | Protocol::H2)
    }

    pub fn scheme(self) -> http::uri::Scheme {
        if self.is_tls() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP }
    }
}

impl From<BackendProtocol> for Protocol {
    fn from(protocol: BackendProtocol) -> Self {
        match protocol {
            BackendProtocol::Http1 => Protocol::Http1,
            BackendProtocol::Https1 => Protocol::Https1,
            BackendProtocol::H2c => Protocol::H2c,
            BackendProtocol::H2 => Protocol::H2,
        }
    }
}
