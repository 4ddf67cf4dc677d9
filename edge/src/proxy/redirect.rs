//! Requests that are answered with another place (rules L-6, N-5).
//!
//! A route's settings and a request's URL → where the client is to go. Whatever settings and requests contain, a
//! Location has no byte that could end its header field.

use http::{HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use roadstead_routing::settings::{ClientSettings, RedirectTo};

use super::asked::Asked;

/// What cannot stand in a URL as it is. `%` can: it begins what is encoded already.
const NOT_IN_A_URL: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`');
/// What a value within a query is encoded of.
const NOT_IN_A_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `None`: the request goes on.
pub(super) fn answer(client: &ClientSettings, asked: &Asked<'_>) -> Option<(StatusCode, HeaderValue)> {
    if client.https_redirect && asked.scheme == "http" {
        let host = without_port(asked.authority);
        return Some((StatusCode::PERMANENT_REDIRECT, location(&format!("https://{host}{}", asked.target()))));
    }
    if let Some(redirect) = &client.redirect {
        let status = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND);
        let to = match &redirect.to {
            RedirectTo::Url(url) => location(url),
            RedirectTo::Host(host) => location(&format!("{}://{host}{}", asked.scheme, asked.target())),
        };
        return Some((status, to));
    }
    let app_root = client.app_root.as_ref().filter(|_| asked.uri.path() == "/")?;
    let url = match asked.authority {
        "" => app_root.to_string(),
        authority => format!("{}://{authority}{app_root}", asked.scheme),
    };
    Some((StatusCode::FOUND, location(&url)))
}

/// Where a client that is not signed in goes, to come back to what it asked for.
pub(super) fn to_signin(signin: &str, asked: &Asked<'_>) -> HeaderValue {
    let query = signin.split_once('?').map(|(_, query)| query);
    if query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("rd="))) {
        return location(signin);
    }
    let joined_by = if query.is_some() { '&' } else { '?' };
    let back = asked.url();
    location(&format!("{signin}{joined_by}rd={}", utf8_percent_encode(&back, NOT_IN_A_VALUE)))
}

pub(super) fn location(url: &str) -> HeaderValue {
    let encoded = percent_encode(url.as_bytes(), NOT_IN_A_URL).to_string();
    HeaderValue::from_str(&encoded).expect("an encoded URL has only visible characters")
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use roadstead_routing::settings::Redirect;

    use super::*;

    fn answered(client: &ClientSettings, scheme: &'static str, authority: &str, target: &str) -> Option<(u16, String)> {
        let uri = target.parse().unwrap();
        let address = "192.0.2.1".parse().unwrap();
        let asked = Asked { scheme, authority, uri, address };
        let (status, location) = answer(client, &asked)?;
        Some((status.as_u16(), location.to_str().unwrap().to_owned()))
    }

    fn to(to: RedirectTo, status: u16) -> ClientSettings {
        ClientSettings { redirect: Some(Redirect { to, status }), ..ClientSettings::default() }
    }

    #[test]
    fn only_plain_http_is_redirected_to_https() {
        let client = ClientSettings { https_redirect: true, ..ClientSettings::default() };
        for (authority, expected) in [
            ("a.example.com:8080", "https://a.example.com/x?y=1"),
            ("a.example.com", "https://a.example.com/x?y=1"),
            ("[2001:db8::1]:80", "https://[2001:db8::1]/x?y=1"),
            ("[2001:db8::1]", "https://[2001:db8::1]/x?y=1"),
        ] {
            assert_eq!(answered(&client, "http", authority, "/x?y=1"), Some((308, expected.to_owned())));
        }
        assert_eq!(answered(&client, "https", "a.example.com", "/x"), None);
    }

    #[test]
    fn redirects_go_where_they_are_told() {
        let url = to(RedirectTo::Url("https://other.example.com/y".into()), 301);
        assert_eq!(answered(&url, "http", "a", "/x?z"), Some((301, "https://other.example.com/y".into())));
        let host = to(RedirectTo::Host("www.example.com".into()), 308);
        assert_eq!(answered(&host, "https", "example.com", "/x?z"), Some((308, "https://www.example.com/x?z".into())));
    }

    #[test]
    fn the_root_is_redirected_and_nothing_else() {
        let client = ClientSettings { app_root: Some("/app".into()), ..ClientSettings::default() };
        assert_eq!(answered(&client, "http", "a:8080", "/"), Some((302, "http://a:8080/app".into())));
        assert_eq!(answered(&client, "http", "", "/?x"), Some((302, "/app".into())));
        assert_eq!(answered(&client, "http", "a", "/x"), None);
    }

    #[test]
    fn no_location_can_end_its_field() {
        let client = to(RedirectTo::Url("https://a/\r\nSet-Cookie: x\t\0\u{7f}\u{e9}".into()), 302);
        let expected = "https://a/%0D%0ASet-Cookie:%20x%09%00%7F%C3%A9";
        assert_eq!(answered(&client, "http", "a", "/"), Some((302, expected.into())));
    }

    #[test]
    fn who_signs_in_comes_back() {
        let uri = "/x?y=1&z".parse().unwrap();
        let asked = Asked { scheme: "https", authority: "a", uri, address: "192.0.2.1".parse().unwrap() };
        let back = "rd=https%3A%2F%2Fa%2Fx%3Fy%3D1%26z";
        assert_eq!(to_signin("https://login/", &asked), format!("https://login/?{back}"));
        assert_eq!(to_signin("https://login/?a=b", &asked), format!("https://login/?a=b&{back}"));
        assert_eq!(to_signin("https://login/?rd=/home", &asked), "https://login/?rd=/home");
    }
}
