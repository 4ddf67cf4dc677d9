//! Cases that are tedious to make over a socket.

use super::*;

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn the_client_is_the_last_address_that_no_trusted_proxy_speaks_for() {
    let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    for (peer, forwarded_for, client) in [
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1, fd00::1, 10.9.9.9", "1.1.1.1"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "6.6.6.6, unknown", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        ("1.2.3.4", "6.6.6.6", "1.2.3.4"),
    ] {
        let found = trusted.client(peer.parse().unwrap(), forwarded_for);
        assert_eq!(found.to_string(), client, "{peer} for {forwarded_for}");
    }
    assert!(trusted.contains("::ffff:10.0.0.1".parse().unwrap()), "an IPv4 peer of an IPv6 listener");
}

#[test]
fn what_connection_names_is_dropped_except_what_gives_a_request_its_meaning() {
    let mut headers = map(&[
        ("connection", "X-One, content-length"),
        ("connection", "x-two,,host"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-three", "3"),
        ("host", "a"),
        ("content-length", "4"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "x"),
    ]);
    strip_hop_by_hop(&mut headers);
    let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["content-length", "host", "x-three"]);
}

#[test]
fn an_endpoint_says_how_long_it_keeps_connections() {
    for (value, seconds) in
        [("timeout=5", Some(4)), ("max=100, timeout=75", Some(74)), ("timeout=0", Some(0)), ("x", None)]
    {
        let headers = map(&[("keep-alive", value)]);
        assert_eq!(keep_alive_timeout(&headers), seconds.map(Duration::from_secs), "{value}");
    }
}
