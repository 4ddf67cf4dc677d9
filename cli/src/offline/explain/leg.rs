//! What is decided about a request besides its route: the reply that settings give by themselves, whether a canary takes
//! it, and who shares it.
//!
//! Reads what `compute` put into the table, and decides nothing that an edge would decide otherwise. What needs
//! somebody else's word, such as a password or the client's address, is said but not decided. Every endpoint counts as
//! healthy.

use roadstead_routing::canary;
use roadstead_routing::id::{BackendId, ClusterId, Kind, ObjectKey, ObjectName};
use roadstead_routing::inputs::Inputs;
use roadstead_routing::lookup;
use roadstead_routing::object::{Object, SecretContent};
use roadstead_routing::policy::Strategy;
use roadstead_routing::settings::{Access, ClientCertificate, ClientSettings, RedirectTo};
use roadstead_routing::table::RouteBackend;

use super::answer::Step;
use super::place::By;
use crate::offline::request::{Request, Scheme};

/// A reply that no backend is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub status: u16,
    pub step: Step,
}

/// What the settings of a route answer by themselves, in the order in which an edge applies them.
pub fn reply(client: &ClientSettings, request: &Request, inputs: &Inputs) -> Option<Reply> {
    let is_preflight = request.method().eq_ignore_ascii_case("OPTIONS") && request.header("origin").is_some();
    redirect(client, request).or_else(|| refusal(&client.access, request, inputs)).or_else(|| {
        let text = "The edge answers the preflight of a cross-origin request.";
        (client.cors.is_some() && is_preflight).then(|| Reply::new(204, "d-8", text))
    })
}

fn redirect(client: &ClientSettings, request: &Request) -> Option<Reply> {
    if client.https_redirect && request.scheme() == Scheme::Http {
        return Some(Reply::new(308, "L-6", "The client is sent to the same URL over HTTPS."));
    }
    if let Some(redirect) = &client.redirect {
        let (rule, to) = match &redirect.to {
            RedirectTo::Url(url) => ("d-16", url.to_string()),
            RedirectTo::Host(host) => ("d-17", format!("the same URL at {host}")),
        };
        return Some(Reply::new(redirect.status, rule, format!("Every request is redirected to {to}.")));
    }
    let root = client.app_root.as_ref().filter(|_| request.path.split(['?', '#']).next() == Some("/"))?;
    Some(Reply::new(302, "d-15", format!("Requests for / are redirected to {root}.")))
}

fn refusal(access: &Access, request: &Request, inputs: &Inputs) -> Option<Reply> {
    if access.is_irreconcilable {
        return Some(Reply::new(403, "N-6", "What is required of clients cannot be read or met: nobody is let in."));
    }
    if request.scheme() == Scheme::Http && !access.certificates.is_empty() {
        return Some(Reply::new(400, "d-25", "The route needs a certificate of the client, which only HTTPS has."));
    }
    let has_authorities = |it: &&ClientCertificate| !has_values(inputs, &it.cluster, &it.secret);
    if let Some(it) = access.certificates.iter().find(has_authorities) {
        let text =
            format!("Secret {}/{} with the authorities cannot be read: nobody is let in.", it.cluster, it.secret);
        return Some(Reply::new(503, "N-6", text));
    }
    if let Some(basic) = access.basic.iter().find(|it| !has_values(inputs, &it.cluster, &it.secret)) {
        let text =
            format!("Secret {}/{} with the users cannot be read: nobody is let in.", basic.cluster, basic.secret);
        return Some(Reply::new(503, "N-6", text));
    }
    let is_asked = !access.basic.is_empty() && request.header("authorization").is_none();
    is_asked.then(|| Reply::new(401, "d-14", "The route needs a user and a password, and the request has none."))
}

fn has_values(inputs: &Inputs, cluster: &ClusterId, secret: &ObjectName) -> bool {
    let key = ObjectKey { kind: Kind::Secret, name: secret.clone() };
    let secret = inputs.object(cluster, &key);
    matches!(secret, Some(Object::Secret(secret)) if matches!(secret.content, SecretContent::Values(_)))
}

/// What an edge would ask that cannot be known here.
pub fn conditions(client: &ClientSettings) -> Vec<Step> {
    let access = &client.access;
    let mut steps = Vec::new();
    let mut step = |rule, text: &str| steps.push(Step { rule, text: text.to_owned() });
    if !access.allow.is_empty() || !access.deny.is_empty() {
        step("d-7", "Only if the client's address is allowed; from others the edge answers 403.");
    }
    if !access.certificates.is_empty() {
        step("d-25", "Only with a certificate of a known authority; else the edge answers 400.");
    }
    if !access.basic.is_empty() {
        step("d-14", "Only if user and password are right; else the edge answers 401.");
    }
    if !access.external.is_empty() {
        step("d-13", "Only if the external authentication server lets the request pass.");
    }
    if client.rate.is_some() {
        step("d-19", "Only as long as the client keeps to its limits; beyond them the edge answers 429.");
    }
    steps
}

/// Backends that get a part of a route's requests.
#[derive(Clone, Copy, Debug)]
pub struct Part<'w> {
    pub backends: &'w [RouteBackend],
    /// Of the sum over all parts; never 0.
    pub weight: u32,
    pub is_canary: bool,
}

/// Who gets the requests: the canary is decided before anything else (rules M-1, C-1 to C-3). One part if header or
/// cookie decide, or if the weight is all or nothing. Empty if nobody answers.
pub fn parts<'w>(by: By<'w>, request: &Request) -> Vec<Part<'w>> {
    let main = |weight| Part { backends: by.backends(), weight, is_canary: false };
    let canary = match by {
        By::Route(route) => route.canary.as_ref(),
        By::Nothing => return Vec::new(),
        By::OwnDefault(_) | By::CatchAll(_) => None,
    };
    let Some(canary) = canary else { return vec![main(1)] };
    let takes = |drawn: fn(u32) -> u32| {
        canary::takes(&canary.rule, |name| request.header(name), |name| request.cookie(name), canary::finds, drawn)
    };
    let (weight, total) = (canary.rule.weight, canary.rule.weight_total);
    let taken = |weight| Part { backends: &canary.backends, weight, is_canary: true };
    // The luckiest and the unluckiest draw: if both say the same, no draw matters.
    match (takes(|_| 1), takes(|total| total)) {
        (true, true) => vec![taken(1)],
        (false, _) => vec![main(1)],
        (true, false) => vec![main(total.saturating_sub(weight).max(1)), taken(weight)],
    }
}

/// Who shares the requests of one part, with weights (rule M-3): of the clusters that can answer those that the
/// strategy prefers.
pub fn shares<'w>(
    backends: &'w [RouteBackend],
    (strategy, region): (Strategy, Option<&str>),
    pods: impl Fn(&BackendId) -> u32,
) -> Vec<(&'w RouteBackend, u32)> {
    let level = |part: &RouteBackend| match strategy {
        Strategy::Spread => 0,
        Strategy::Failover => part.priority,
        Strategy::Nearest => u32::from(region.is_none_or(|region| *part.region != *region)),
    };
    let mut shares = lookup::shares(backends, pods);
    let first = shares.iter().map(|(part, _)| level(part)).min();
    shares.retain(|(part, _)| Some(level(part)) == first);
    shares
}

impl Reply {
    fn new(status: u16, rule: &'static str, text: impl Into<String>) -> Self {
        Self { status, step: Step { rule, text: text.into() } }
    }
}
