//! One request as people and scripts describe it: a URL and flags, or a JSON object.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;

/// What the client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Http,
    Https,
}

/// A header field on the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// A line of a batch. Fields that it does not know are passed over.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Request {
    /// The Host header as sent; empty: none.
    pub host: String,
    /// The request target as sent, in origin form.
    pub path: String,
    pub method: Option<String>,
    pub headers: Option<BTreeMap<String, String>>,
    /// The name that the client asks a certificate for.
    pub sni: Option<String>,
    pub scheme: Option<Scheme>,
    pub pool: Option<String>,
    pub zone: Option<String>,
}

impl Request {
    /// # Errors
    /// What is wrong, for an answer in its place.
    pub fn from_json(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))
    }

    /// Https if a certificate was asked for, unless it is said.
    pub fn scheme(&self) -> Scheme {
        self.scheme.unwrap_or(if self.sni.is_some() { Scheme::Https } else { Scheme::Http })
    }

    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("GET")
    }

    /// The first of that name.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.header("cookie")?.split(';').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Names of fields are compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.headers.iter().flatten();
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A URL taken apart without judging its path: what cannot be sent by a browser can be sent all the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    pub scheme: Option<Scheme>,
    /// With its port.
    pub host: String,
    /// Begins with a slash.
    pub target: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = |what: &str| format!("`{text}` {what}; expected a URL such as http://shop.example.com/cart");
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.parse().map_err(|_| expected("is neither http nor https"))?), rest),
            None => (None, text),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, target) = rest.split_at(end);
        if host.is_empty() {
            return Err(expected("names no host"));
        }
        if host.contains('@') {
            return Err(expected("names a user"));
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { scheme, host: host.to_owned(), target })
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Ok(Scheme::Http),
            "https" => Ok(Scheme::Https),
            _ => Err("expected http or https".to_owned()),
        }
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok(Self { name: name.trim().to_owned(), value: value.trim().to_owned() })
            }
            _ => Err("expected `Name: value`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> (Option<Scheme>, String, String) {
        let Url { scheme, host, target } = text.parse().unwrap();
        (scheme, host, target)
    }

    #[test]
    fn a_url_keeps_its_target_as_written() {
        let both = |host: &str, target: &str| (host.to_owned(), target.to_owned());
        let cases = [
            ("http://a.example.com/x//y?q=/#f", Some(Scheme::Http), both("a.example.com", "/x//y?q=/#f")),
            ("HTTPS://A.example.com:8443", Some(Scheme::Https), both("A.example.com:8443", "/")),
            ("a.example.com?q", None, both("a.example.com", "/?q")),
            ("http://[::1]:80/", Some(Scheme::Http), both("[::1]:80", "/")),
        ];
        for (text, scheme, (host, target)) in cases {
            assert_eq!(url(text), (scheme, host, target), "{text}");
        }
        for bad in ["", "/path", "ftp://a/", "http://", "http://u@a/"] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_asked_for_means_https() {
        let parse = |line: &str| Request::from_json(line.as_bytes()).unwrap();
        assert_eq!(parse(r#"{"host":"a","path":"/"}"#).scheme(), Scheme::Http);
        assert_eq!(parse(r#"{"host":"a","path":"/","sni":"a"}"#).scheme(), Scheme::Https);
        assert_eq!(parse(r#"{"host":"a","path":"/","sni":"a","scheme":"http"}"#).scheme(), Scheme::Http);
        assert!(Request::from_json(b"{}").is_err());
        let request = parse(r#"{"host":"a","path":"/","headers":{"X-A":"1"},"method":null,"more":1}"#);
        assert_eq!((request.header("x-a"), request.method()), (Some("1"), "GET"));
    }
}
