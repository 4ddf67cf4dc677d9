//! Another server that says who may pass (rule N-6).
//!
//! The head of a request → the question → the server's answer → the request goes on with what the server says about
//! its sender, or the client is told why not. No answer, a late one, or one that means nothing denies.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use roadstead_routing::settings::ExternalAuth;

use super::asked::Asked;
use super::reply::{Instead, Problem};
use super::{Proxy, headers, redirect};
use crate::table::Authenticator;
use crate::upstream::{Lease, RequestBody};

/// How long a server may take to answer.
pub const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer's body that are read so that its connection can be used again.
const BODY_BYTES_MAX: usize = 16 * 1024;

const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");

/// Makes the question of the head of a request; its body is not part of it.
pub(super) fn question(request: &Request<Incoming>, server: &Authenticator, asked: &Asked<'_>) -> Head {
    let mut fields = request.headers().clone();
    headers::strip_hop_by_hop(&mut fields);
    for name in [header::CONTENT_LENGTH, header::EXPECT, headers::X_FORWARDED_FOR] {
        fields.remove(name);
    }
    fields.insert(header::HOST, server.host.clone());
    let (address, url) = (asked.address.to_string(), asked.url());
    for (name, value) in [
        (ORIGINAL_URL, url.as_str()),
        (ORIGINAL_METHOD, request.method().as_str()),
        (REDIRECT, asked.target()),
        (headers::X_REAL_IP, &address),
        (headers::X_FORWARDED_FOR, &address),
        (headers::X_FORWARDED_PROTO, asked.scheme),
        (headers::X_FORWARDED_HOST, asked.authority),
    ] {
        headers::set(&mut fields, name, value);
    }
    Head(fields)
}

/// The header fields of a question.
pub(super) struct Head(HeaderMap);

/// What the server says.
pub(super) async fn ask(
    proxy: &Proxy,
    auth: &ExternalAuth,
    server: &Authenticator,
    head: Head,
) -> Result<Response<()>, Problem> {
    let asking = async {
        let kept = proxy.pool.reuse(&server.endpoint, server.endpoint.protocol);
        if let Some(lease) = kept
            && let Some(answer) = exchange(proxy, server, lease, &head).await
        {
            return Some(answer);
        }
        let within = proxy.config.connect_timeout;
        let connected = proxy.pool.connect(&server.endpoint, server.endpoint.protocol, within).await;
        let connected = connected.inspect_err(|error| tracing::debug!(url = %auth.url, %error, "Cannot authenticate"));
        exchange(proxy, server, connected.ok()?, &head).await
    };
    let answered = tokio::time::timeout(proxy.config.authentication_timeout, asking).await;
    answered.ok().flatten().ok_or(Problem::Unauthenticated)
}

/// `None`: the connection failed. Asking twice does no harm.
async fn exchange(proxy: &Proxy, server: &Authenticator, mut lease: Lease, head: &Head) -> Option<Response<()>> {
    let mut request = Request::new(RequestBody::Empty);
    *request.method_mut() = server.method.clone();
    *request.uri_mut() = server.target.clone();
    *request.headers_mut() = head.0.clone();
    let (parts, body) = lease.send(request).await.ok()?.into_parts();
    let idle_for = headers::keep_alive_timeout(&parts.headers);
    if Limited::new(body, BODY_BYTES_MAX).collect().await.is_ok() {
        proxy.pool.give_back(lease, idle_for);
    }
    Some(Response::from_parts(parts, ()))
}

/// What the server says about who sent the request, or what the client is told instead of an answer.
pub(super) fn judge(
    auth: &ExternalAuth,
    said: &Response<()>,
    asked: &Asked<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Instead> {
    match said.status() {
        status if status.is_success() => {
            let values =
                |name: HeaderName| said.headers().get_all(&name).iter().map(move |it| (name.clone(), it.clone()));
            Ok(names(auth).flat_map(values).collect())
        }
        StatusCode::UNAUTHORIZED => match &auth.signin {
            Some(signin) => {
                let mut found = Instead::empty(StatusCode::FOUND);
                found.set(header::LOCATION, redirect::to_signin(signin, asked));
                Err(found)
            }
            None => Err(denied(Problem::Unauthorized, said.headers())),
        },
        StatusCode::FORBIDDEN => Err(denied(Problem::Forbidden, said.headers())),
        status => {
            tracing::debug!(url = %auth.url, %status, "An authentication server's answer means nothing");
            Err(Problem::Unauthenticated.into())
        }
    }
}

/// What the client sent under the names of all servers is gone even if they say nothing: it must not speak for them.
pub(super) fn hand_over(external: &[ExternalAuth], learned: Vec<(HeaderName, HeaderValue)>, request: &mut HeaderMap) {
    let names: Vec<HeaderName> = external.iter().flat_map(names).collect();
    headers::remove_lookalikes(request, &names);
    for name in &names {
        request.remove(name);
    }
    for (name, value) in learned {
        request.append(name, value);
    }
}

/// The fields by which a server may say who sent a request.
fn names(auth: &ExternalAuth) -> impl Iterator<Item = HeaderName> {
    let names = auth.response_headers.iter().filter_map(|name| name.parse::<HeaderName>().ok());
    names.filter(|name| !headers::frames_a_message(name))
}

fn denied(problem: Problem, said: &HeaderMap) -> Instead {
    let mut denied = Instead::from(problem);
    if let Some(challenge) = said.get(header::WWW_AUTHENTICATE) {
        denied.set(header::WWW_AUTHENTICATE, challenge.clone());
    }
    denied
}
