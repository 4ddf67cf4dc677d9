//! Header fields that a proxy must not pass on, and those it must set.
//!
//! Pure functions over a header map. `Host` and everything end-to-end stays as the client or endpoint wrote it.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Version};
use ipnet::IpNet;

use super::admit::Admitted;
use crate::listen::Client;

#[cfg(test)]
mod tests;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(super) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that concern one connection only (RFC 9110 section 7.6.1), and those of the proxy before us.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    KEEP_ALIVE,
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HTTP2_SETTINGS,
];

/// Fields that a peer cannot have removed by naming them in `Connection`: a request would change its meaning.
const NEVER_HOP_BY_HOP: [HeaderName; 2] = [header::HOST, header::CONTENT_LENGTH];

/// Fields by which endpoints are told who sent a request.
const SAID_ABOUT_CLIENTS: [HeaderName; 5] =
    [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT, X_REAL_IP];

/// Proxies in front of the edge whose X-Forwarded-* fields are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client that the chain of proxies speaks for: the last address that is not one of them.
    fn client(&self, peer: IpAddr, forwarded_for: &str) -> IpAddr {
        let mut client = peer;
        for hop in forwarded_for.rsplit(',') {
            if !self.contains(client) {
                break;
            }
            let Ok(address) = hop.trim().parse() else { break };
            client = address;
        }
        client
    }
}

/// Who sent the request: the peer, or whom trusted proxies speak for.
pub(super) fn client_address(headers: &HeaderMap, client: &Client, trusted_proxies: &TrustedProxies) -> IpAddr {
    let peer = client.peer.ip().to_canonical();
    let forwarded_for = client.trusted.then(|| joined(headers, &X_FORWARDED_FOR)).filter(|text| !text.is_empty());
    let address = forwarded_for.map_or(peer, |text| trusted_proxies.client(peer, &text));
    address.to_canonical()
}

/// `http` or `https`: how the client reached the first proxy that is believed.
pub(super) fn scheme(headers: &HeaderMap, client: &Client) -> &'static str {
    let said = client.trusted.then(|| tokens(headers, &X_FORWARDED_PROTO).next()).flatten();
    match said {
        Some(said) if said.eq_ignore_ascii_case("https") => "https",
        Some(_) => "http",
        None => client.scheme.as_str(),
    }
}

/// Whether a field says where a message ends or to whom it goes: settings must not touch it.
pub(super) fn frames_a_message(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || NEVER_HOP_BY_HOP.contains(name)
}

pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION).filter_map(|name| name.parse().ok()).collect();
    for name in named.iter().filter(|name| !NEVER_HOP_BY_HOP.contains(name)).chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The protocol that the client asks to switch to. Never h2c: through it a client could send requests that no proxy
/// sees.
pub(super) fn upgrade<B>(request: &Request<B>) -> Option<HeaderValue> {
    let headers = request.headers();
    let asked = tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let protocol = headers.get(header::UPGRADE)?;
    let is_h2c = tokens(headers, &header::UPGRADE).any(|token| token.eq_ignore_ascii_case("h2c"));
    (asked && !is_h2c && request.version() == Version::HTTP_11).then(|| protocol.clone())
}

pub(super) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Sets what the endpoint is told about the client. What the client claims about itself is replaced, unless it is a
/// trusted proxy: then its X-Forwarded-For is continued and its other X-Forwarded-* fields are kept.
pub(super) fn set_forwarded(headers: &mut HeaderMap, admitted: &Admitted<'_>, trusted_proxies: &TrustedProxies) {
    let client = admitted.client;
    remove_lookalikes(headers, &SAID_ABOUT_CLIENTS);
    let peer = client.peer.ip().to_canonical();
    let before = client.trusted.then(|| joined(headers, &X_FORWARDED_FOR)).filter(|before| !before.is_empty());
    let real_ip = before.as_deref().map_or(peer, |before| trusted_proxies.client(peer, before));
    let forwarded_for = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
    let facts = [
        (X_FORWARDED_PROTO, client.scheme.as_str().to_owned()),
        (X_FORWARDED_HOST, admitted.authority.clone()),
        (X_FORWARDED_PORT, client.local_port.to_string()),
    ];
    for (name, value) in facts {
        if !client.trusted || !headers.contains_key(&name) {
            set(headers, name, &value);
        }
    }
    set(headers, X_FORWARDED_FOR, &forwarded_for);
    set(headers, X_REAL_IP, &real_ip.to_string());
    set(headers, header::HOST, &admitted.authority);
    // A request that waited for 100 (Continue) got it from us when its body was first needed.
    headers.remove(header::EXPECT);
    if !headers.contains_key(X_REQUEST_ID) {
        set(headers, X_REQUEST_ID, &format!("{:032x}", rand::random::<u128>()));
    }
}

/// How long the endpoint says it keeps an idle connection, less a margin in which its closing could cross our next
/// request.
pub(super) fn keep_alive_timeout(headers: &HeaderMap) -> Option<Duration> {
    const MARGIN: Duration = Duration::from_secs(1);
    let mut parameters = tokens(headers, &KEEP_ALIVE);
    let seconds = parameters.find_map(|parameter| parameter.strip_prefix("timeout=")?.trim().parse().ok())?;
    Some(Duration::from_secs(seconds).saturating_sub(MARGIN))
}

/// Removes `x_real_ip` and the like: some servers take `_` for `-` and would believe them.
pub(super) fn remove_lookalikes(headers: &mut HeaderMap, ours: &[HeaderName]) {
    let dashed = |name: &HeaderName| name.as_str().replace('_', "-");
    let is_lookalike = |name: &&HeaderName| {
        name.as_str().contains('_') && ours.iter().any(|our| our != *name && dashed(our) == dashed(name))
    };
    let lookalikes: Vec<HeaderName> = headers.keys().filter(is_lookalike).cloned().collect();
    for name in lookalikes {
        headers.remove(name);
    }
}

pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Every value set here was made of checked parts; one that is not a header value is better left out than sent.
    put(headers, name, HeaderValue::from_str(value).ok());
}

/// Replaces the field; without a value there is none.
pub(super) fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(", ")
}

/// The comma-separated elements of all fields of this name.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}
