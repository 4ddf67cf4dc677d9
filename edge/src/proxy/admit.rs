//! Whether a request may be forwarded at all, and for which host.
//!
//! Refuses what two HTTP implementations could read in two ways (request smuggling): hyper's parser is strict about
//! lengths and encodings; what it accepts and a server behind us might not read the same way is refused here.

use http::{Method, Request, Version, header};
use hyper::body::Incoming;
use roadstead_routing::lookup;

use super::reply::Problem;
use crate::listen::{Client, Framing};

/// What is known about a request that may be forwarded.
pub(super) struct Admitted<'a> {
    pub(super) client: &'a Client,
    /// As rule S-1 compares it; empty: no host.
    pub(super) host: String,
    /// The authority that the client asked for, as it wrote it.
    pub(super) authority: String,
    pub(super) closing: Closing,
}

/// What becomes of the client's connection after the response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    KeepAlive,
    Close,
}

pub(super) fn admit<'a>(request: &Request<Incoming>, client: &'a Client) -> Result<Admitted<'a>, Problem> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Problem::Method);
    }
    let closing = check_framing(request, client)?;
    let authority = authority(request)?;
    let host = lookup::request_host(&authority).into_owned();
    Ok(Admitted { client, host, authority, closing })
}

/// The one host of the request. An absolute target overrides the Host field (RFC 9112 section 3.2.2).
fn authority(request: &Request<Incoming>) -> Result<String, Problem> {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Problem::Bad("more than one Host header"));
    }
    if field.is_none() && request.version() == Version::HTTP_11 {
        return Err(Problem::Bad("no Host header"));
    }
    if let Some(authority) = request.uri().authority() {
        // Credentials in a target are not part of the host and must not reach the endpoint as one.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        return Ok(host.to_owned());
    }
    let text = field.map_or(Ok(""), |field| field.to_str());
    let text = text.map_err(|_| Problem::Bad("the Host header is not text"))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte);
    if !text.bytes().all(allowed) {
        return Err(Problem::Bad("the Host header is not a host"));
    }
    Ok(text.to_owned())
}

/// hyper follows Transfer-Encoding and drops Content-Length when a request has both, so what we forward has one
/// meaning. Whoever sent both may still count otherwise: such a request is refused, and after one of which we cannot
/// tell, the connection ends (RFC 9112 section 6.1).
fn check_framing(request: &Request<Incoming>, client: &Client) -> Result<Closing, Problem> {
    let Some(encoding) = request.headers().get(header::TRANSFER_ENCODING) else {
        return Ok(Closing::KeepAlive);
    };
    if !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Problem::Bad("a Transfer-Encoding other than chunked"));
    }
    match client.framing() {
        Framing::Unambiguous => Ok(Closing::KeepAlive),
        Framing::Ambiguous => Err(Problem::Bad("both Content-Length and Transfer-Encoding")),
        Framing::Unknown => Ok(Closing::Close),
    }
}
