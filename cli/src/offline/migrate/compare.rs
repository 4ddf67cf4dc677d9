//! The same requests at two addresses: what is asked, and where the answers differ.

use std::collections::BTreeSet;
use std::path::Path;

use roadstead_routing::declare::declare;
use roadstead_routing::id::HostKey;
use roadstead_routing::table::PathMatch;
use serde::Serialize;

use super::replay::{self, Reply};
use crate::offline::OfflineError;
use crate::offline::manifests::{STDIN, bytes_of, bytes_of_stdin};
use crate::offline::request::{Request, Scheme, Url};
use crate::offline::world::World;

/// Requests of one comparison.
const REQUESTS_MAX: usize = 100_000;
/// What a wildcard is asked as.
const ANY_LABEL: &str = "any";

/// What to ask.
#[derive(Debug, Default)]
pub struct Plan {
    pub requests: Vec<Request>,
    /// Paths of Ingresses that no request could be made of.
    pub patterns: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Comparison {
    pub requests: usize,
    pub same: usize,
    /// Paths of Ingresses that no request could be made of.
    pub patterns: usize,
    pub differences: Vec<Difference>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    pub method: String,
    pub host: String,
    pub path: String,
    /// Of `status`, `location`, `body` and `error`.
    pub differs: Vec<&'static str>,
    pub a: Reply,
    pub b: Reply,
}

/// Reads requests, a line of JSON each, as for `explain --batch`.
///
/// # Errors
/// If the file cannot be read, or a line of it is no request.
pub fn read(path: &Path) -> Result<Plan, OfflineError> {
    let wrong = |why: String| OfflineError::Input(format!("{}: {why}", path.display()));
    let bytes = if path.as_os_str() == STDIN { bytes_of_stdin() } else { bytes_of(path) };
    let bytes = bytes.map_err(|error| wrong(format!("cannot read it: {error}")))?;
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let mut plan = Plan::default();
    for (index, line) in lines {
        let request = Request::from_json(line).map_err(|why| wrong(format!("line {}: {why}", index + 1)))?;
        plan.requests.push(request);
        if plan.requests.len() > REQUESTS_MAX {
            return Err(wrong(format!("more than {REQUESTS_MAX} requests; split it")));
        }
    }
    Ok(plan)
}

/// Every host and path of the served Ingresses, once.
pub fn derive(world: &World) -> Plan {
    let mut asked = BTreeSet::new();
    let mut plan = Plan::default();
    for id in world.ingresses().filter(|id| world.why_unserved(id).is_none()) {
        let Some(ingress) = world.ingress(&id) else { continue };
        let declared = declare(&ingress);
        for entry in declared.hosts.iter().flat_map(|host| declared.entries(host)) {
            let host = match &entry.host {
                HostKey::Exact(name) => name.to_string(),
                HostKey::Wildcard(suffix) => format!("{ANY_LABEL}.{suffix}"),
                HostKey::Any | HostKey::CatchAll => continue,
            };
            match &entry.path {
                PathMatch::Regex(_) => plan.patterns += 1,
                PathMatch::Exact(_) | PathMatch::Prefix(_) => {
                    asked.insert((host, entry.written.to_string()));
                }
            }
        }
    }
    plan.requests = asked.into_iter().take(REQUESTS_MAX).map(|(host, path)| get(host, path)).collect();
    plan
}

fn get(host: String, path: String) -> Request {
    Request { host, path, method: None, headers: None, sni: None, scheme: None, pool: None, zone: None }
}

/// Asks one request after the other, each at both addresses at once.
///
/// # Errors
/// If an address is none, or gives no answer to any request.
pub async fn run(addresses: &[String; 2], plan: Plan) -> Result<Comparison, OfflineError> {
    let [a, b] = [authority(&addresses[0])?, authority(&addresses[1])?];
    let mut comparison =
        Comparison { requests: plan.requests.len(), same: 0, patterns: plan.patterns, differences: Vec::new() };
    let mut failed = [0, 0];
    for request in &plan.requests {
        let (at_a, at_b) = tokio::join!(replay::ask(&a, request), replay::ask(&b, request));
        for (count, reply) in failed.iter_mut().zip([&at_a, &at_b]) {
            *count += usize::from(reply.error.is_some());
        }
        // A request that cannot be sent fails alike at both, and was not answered alike.
        if at_a == at_b && at_a.error.is_none() {
            comparison.same += 1;
        } else {
            comparison.differences.push(difference(request, at_a, at_b));
        }
    }
    for (index, (count, address)) in failed.iter().zip(addresses).enumerate() {
        if comparison.requests > 0 && *count == comparison.requests {
            let last = comparison.differences.last();
            let reply = last.map(|it| if index == 0 { &it.a } else { &it.b });
            let why = reply.and_then(|reply| reply.error.clone()).unwrap_or_default();
            return Err(OfflineError::Unreachable(format!("{address}: no request was answered: {why}")));
        }
    }
    Ok(comparison)
}

fn difference(request: &Request, a: Reply, b: Reply) -> Difference {
    let fields = [
        ("status", a.status != b.status),
        ("location", a.location != b.location),
        ("body", a.body != b.body),
        ("error", a.error.is_some() || b.error.is_some()),
    ];
    Difference {
        method: request.method().to_owned(),
        host: request.host.clone(),
        path: request.path.clone(),
        differs: fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect(),
        a,
        b,
    }
}

/// `HOST:PORT` of an address.
fn authority(address: &str) -> Result<String, OfflineError> {
    let usage = |why: &str| OfflineError::Usage(format!("--compare {address}: {why}; expected http://HOST:PORT"));
    let url: Url = address.parse().map_err(|why: String| usage(&why))?;
    if url.scheme != Some(Scheme::Http) {
        return Err(usage("only plain HTTP is compared"));
    }
    if url.target != "/" {
        return Err(usage("the requests bring their paths"));
    }
    let has_port = url.host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { url.host } else { format!("{}:80", url.host) })
}
