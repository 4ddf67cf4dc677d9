//! Who may send a request: the addresses it may come from, certificates, passwords, and what other servers say (rule N-6).
//!
//! A route's settings and a request → it goes on, or what the client is told instead. Everything that is required is
//! required at once. Whatever cannot be found out denies.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Request, header};
use hyper::body::Incoming;
use ipnet::IpNet;
use roadstead_routing::settings::{Access, BasicAuth};

use super::admit::Admitted;
use super::asked::Asked;
use super::reply::{Instead, Problem};
use super::{Proxy, certificate, external};
use crate::table::RouteSettings;
use crate::users::Verdict;

impl Proxy {
    /// Lets the request pass, with what authentication servers say about it among its header fields.
    pub(super) async fn authorize(
        &self,
        settings: &RouteSettings,
        request: &mut Request<Incoming>,
        asked: &Asked<'_>,
        admitted: &Admitted<'_>,
    ) -> Result<(), Instead> {
        let access = &settings.client.access;
        if !is_allowed(access, asked.address) {
            return Err(Problem::Forbidden.into());
        }
        certificate::check(&access.certificates, admitted, &self.config.users, request.headers_mut())?;
        for basic in &access.basic {
            self.check_password(basic, request.headers()).await?;
        }
        if !access.external.is_empty() {
            self.ask_others(settings, request, asked).await?;
        }
        Ok(())
    }

    async fn ask_others(
        &self,
        settings: &RouteSettings,
        request: &mut Request<Incoming>,
        asked: &Asked<'_>,
    ) -> Result<(), Instead> {
        let external = &settings.client.access.external;
        let mut learned = Vec::new();
        for (auth, server) in external.iter().zip(&settings.authenticators) {
            let server = server.as_ref().ok_or(Problem::Unauthenticated)?;
            let said = external::ask(self, auth, server, external::question(request, server, asked)).await?;
            learned.extend(external::judge(auth, &said, asked)?);
        }
        external::hand_over(external, learned, request.headers_mut());
        Ok(())
    }

    async fn check_password(&self, auth: &BasicAuth, headers: &HeaderMap) -> Result<(), Instead> {
        let verdict = match credentials(headers) {
            Some((name, password)) => {
                let verifying = self.config.users.verify(auth, &name, &password);
                let verified = tokio::time::timeout(self.config.authentication_timeout, verifying).await;
                verified.unwrap_or(Verdict::NoUsers)
            }
            // Who says nothing is told the same whether or not there are users.
            None => Verdict::Unknown,
        };
        match verdict {
            Verdict::Known => Ok(()),
            Verdict::NoUsers => Err(Problem::Unauthenticated.into()),
            Verdict::Unknown => {
                let mut refused = Instead::from(Problem::Unauthorized);
                refused.set(header::WWW_AUTHENTICATE, challenge(&auth.realm));
                Err(refused)
            }
        }
    }
}

fn is_allowed(access: &Access, address: IpAddr) -> bool {
    let is_in = |networks: &Vec<IpNet>| networks.iter().any(|network| network.contains(&address));
    !access.is_irreconcilable && !is_in(&access.deny) && access.allow.iter().all(is_in)
}

/// Name and password of `Authorization: Basic`.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())??;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8(decoded[..colon].to_vec()).ok()?, decoded[colon + 1..].to_vec()))
}

fn challenge(realm: &str) -> HeaderValue {
    let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
    let challenge = HeaderValue::from_str(&format!("Basic realm=\"{quoted}\""));
    challenge.unwrap_or(HeaderValue::from_static("Basic realm=\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_client_must_be_in_every_list_that_allows_and_in_none_that_denies() {
        let allow = vec![networks(&["10.0.0.0/8", "2001:db8::/32"]), networks(&["10.1.0.0/16"])];
        let access = Access { allow, deny: networks(&["10.1.2.0/24"]), ..Access::default() };
        for (address, allowed) in [("10.1.1.1", true), ("10.2.1.1", false), ("10.1.2.3", false), ("2001:db8::1", false)]
        {
            assert_eq!(is_allowed(&access, address.parse().unwrap()), allowed, "{address}");
        }
        let nobody = Access { is_irreconcilable: true, ..Access::default() };
        assert!(!is_allowed(&nobody, "10.1.1.1".parse().unwrap()));
        let empty = Access { allow: vec![Vec::new()], ..Access::default() };
        assert!(!is_allowed(&empty, "10.1.1.1".parse().unwrap()), "an empty list allows nobody");
    }

    #[test]
    fn credentials_are_a_name_and_everything_after_the_first_colon() {
        let credentials = |value: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())]);
            credentials(&headers)
        };
        assert_eq!(credentials("Basic YTpiOmM="), Some(("a".into(), b"b:c".to_vec())));
        assert_eq!(credentials("basic YTo="), Some(("a".into(), Vec::new())));
        for other in ["Bearer YTpi", "Basic", "Basic !", "Basic YQ=="] {
            assert_eq!(credentials(other), None, "{other}");
        }
    }

    #[test]
    fn a_realm_cannot_end_its_quotes() {
        assert_eq!(challenge("a \"b\" \\"), "Basic realm=\"a \\\"b\\\" \\\\\"");
        assert_eq!(challenge("a\r\nb"), "Basic realm=\"\"");
    }
}
