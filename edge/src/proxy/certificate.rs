//! What the client's certificate is worth (rule N-6, row 25).
//!
//! What was shown in the handshake + what the route asks for → the request goes on, with what endpoints are to know, or a
//! problem. Fields of the same names that the client sent never reach an endpoint of such a route.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use roadstead_routing::lookup;
use roadstead_routing::settings::{CertificateNeed, ClientCertificate};
use roadstead_routing::table::SecretId;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::admit::Admitted;
use super::reply::Problem;
use crate::listen::Shown;
use crate::users::{Authorities, Users};

const VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");
const SUBJECT: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
const ISSUER: HeaderName = HeaderName::from_static("ssl-client-issuer-dn");
const CERTIFICATE: HeaderName = HeaderName::from_static("ssl-client-cert");
/// Characters in one line of PEM.
const PEM_LINE: usize = 64;

/// What endpoints are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Success,
    Failed,
    None,
}

/// Lets the request pass if every demand is met. Without a demand nothing is changed.
pub(super) fn check(
    demands: &[ClientCertificate],
    admitted: &Admitted<'_>,
    users: &Users,
    headers: &mut HeaderMap,
) -> Result<(), Problem> {
    if demands.is_empty() {
        return Ok(());
    }
    [VERIFY, SUBJECT, ISSUER, CERTIFICATE].iter().for_each(|name| drop(headers.remove(name)));
    let shown = admitted.client.shown.as_ref().ok_or(Problem::NoCertificate)?;
    // Rule L-8: what was shown at another name was not meant for here. Who was not asked may be on a later connection.
    let is_elsewhere = shown.name.as_deref().is_some_and(|name| lookup::request_host(name) != admitted.host.as_str());
    if is_elsewhere || !shown.was_asked {
        return Err(Problem::Misdirected);
    }
    let mut verdict = Verdict::None;
    for demand in demands {
        let id = SecretId { cluster: demand.cluster.clone(), secret: demand.secret.clone() };
        let authorities = users.authorities(&id).ok_or(Problem::Unauthenticated)?;
        verdict = judge(shown, &authorities, demand.depth);
        let passes = match demand.need {
            CertificateNeed::Required => verdict == Verdict::Success,
            CertificateNeed::Optional => verdict != Verdict::Failed,
            CertificateNeed::Unverified => true,
        };
        if !passes {
            return Err(Problem::NoCertificate);
        }
    }
    tell(shown, verdict, demands.iter().any(|demand| demand.pass), headers);
    Ok(())
}

fn judge(shown: &Shown, authorities: &Authorities, depth: u8) -> Verdict {
    let Some((leaf, above)) = shown.chain.split_first() else { return Verdict::None };
    // An authority that the client sends along is not one between.
    let between: Vec<_> = above.iter().filter(|it| !authorities.has(it)).cloned().collect();
    let is_short = between.len() < usize::from(depth);
    let verified = authorities.verifier.verify_client_cert(leaf, &between, UnixTime::now());
    if is_short && verified.is_ok() { Verdict::Success } else { Verdict::Failed }
}

fn tell(shown: &Shown, verdict: Verdict, pass: bool, headers: &mut HeaderMap) {
    headers.insert(
        VERIFY,
        HeaderValue::from_static(match verdict {
            Verdict::Success => "SUCCESS",
            Verdict::Failed => "FAILED",
            Verdict::None => "NONE",
        }),
    );
    let Some(leaf) = shown.chain.first() else { return };
    if let Ok((_, parsed)) = X509Certificate::from_der(leaf) {
        for (name, text) in [(SUBJECT, parsed.subject().to_string()), (ISSUER, parsed.issuer().to_string())] {
            headers.extend(HeaderValue::from_str(&text).ok().map(|value| (name, value)));
        }
    }
    if pass && let Ok(value) = HeaderValue::from_str(&encoded(leaf)) {
        headers.insert(CERTIFICATE, value);
    }
}

/// PEM, percent-encoded, as ingress-nginx sends it.
fn encoded(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(PEM_LINE) {
        // Writing to a String cannot fail, and base64 is ASCII.
        let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    utf8_percent_encode(&pem, NON_ALPHANUMERIC).to_string()
}
