//! The sentences of an answer: each step with the rule that decides it.
//!
//! Says what [`super::explainer`] found; decides nothing.

use roadstead_routing::class::{self, ChosenBy};
use roadstead_routing::endpoints::{self, Locality};
use roadstead_routing::finding::{Code, Finding};
use roadstead_routing::id::{BackendId, HostKey, PoolName};
use roadstead_routing::reach::ReachMode;
use roadstead_routing::settings::AllDown;
use roadstead_routing::table::{self, PathMatch, Route, RouteBackend, SecretId, Target};

use super::answer::Step;
use super::leg::Part;
use super::place::{By, Place, Written, canonical, path_type};
use crate::offline::request::Request;
use crate::offline::world::World;

/// Ingresses that nobody serves, or other routes, that one answer names.
const NAMED_MAX: usize = 3;

/// What there is to say something about.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub world: &'a World,
    pub pool: &'a PoolName,
    /// As they are compared.
    pub host: &'a str,
    pub path: &'a str,
    pub place: Place<'a>,
    pub written: Option<&'a Written>,
}

#[derive(Default)]
pub struct Why {
    pub steps: Vec<Step>,
}

impl Why {
    fn say(&mut self, rule: &'static str, text: impl Into<String>) {
        self.steps.push(Step { rule, text: text.into() });
    }

    /// How host and path are compared, where that is not as they were sent.
    pub fn request(&mut self, request: &Request, seen: &Seen<'_>) {
        if seen.host.is_empty() {
            self.say("S-1", "The request names no host.");
        } else if request.host != seen.host {
            self.say("S-1", format!("Host {:?} is compared as {}.", request.host, seen.host));
        }
        if request.path == seen.path {
            return;
        }
        let without_query = request.path.split(['?', '#']).next().unwrap_or_default();
        if without_query == seen.path {
            self.say("S-4", format!("The path is compared without the query: {}.", seen.path));
        } else {
            self.say("S-15", format!("Target {:?} is normalised and compared as {}.", request.path, seen.path));
        }
    }

    /// Which host of the table the request's host belongs to.
    pub fn bucket(&mut self, seen: &Seen<'_>) {
        let (pool, host) = (seen.pool, seen.host);
        match seen.place.bucket.map(|it| &it.name) {
            Some(HostKey::Exact(_)) => {
                self.say("S-3", format!("Pool {pool} has host {host} by its exact name, which is final."));
            }
            Some(wildcard @ HostKey::Wildcard(_)) => {
                let text = format!("Pool {pool} has no host {host}, but {wildcard}, which stands for one label.");
                self.say("S-2", text);
            }
            Some(HostKey::Any) => {
                self.say("S-3", format!("Pool {pool} has no rule for host {host:?}: rules without a host apply."));
            }
            Some(HostKey::CatchAll) | None => {
                self.say("S-3", format!("No Ingress that pool {pool} serves has a rule for host {host:?}."));
            }
        }
        if !matches!(seen.place.bucket.map(|it| &it.name), Some(HostKey::Exact(_))) {
            self.elsewhere(seen);
        }
    }

    /// Ingresses that would have the host if this pool served them.
    fn elsewhere(&mut self, seen: &Seen<'_>) {
        for it in seen.world.unserved(seen.host).iter().take(NAMED_MAX) {
            let text = format!("Ingress {} has a rule for {} but is not served: {}.", it.ingress, seen.host, it.why);
            self.say(it.rule, text);
        }
        let key = HostKey::Exact(seen.host.into());
        let pools = seen.world.inputs.policy().pools.keys().filter(|pool| *pool != seen.pool);
        for pool in pools.filter(|pool| seen.world.table.hosts.contains_key(&((*pool).clone(), key.clone()))) {
            self.say("I-4", format!("Pool {pool} has host {}.", seen.host));
        }
    }

    /// Which entry of the host answers.
    pub fn route(&mut self, seen: &Seen<'_>) {
        match (seen.place.by, seen.written) {
            (By::Route(route), Some(written)) => {
                self.matched(&route.path, seen, written);
                self.beaten(&route.path, seen);
                self.class(seen, written);
            }
            (By::OwnDefault(_), Some(written)) => {
                let text =
                    format!("No path matches {}: the default backend of Ingress {}.", seen.path, written.ingress);
                self.say("S-12", text);
                self.class(seen, written);
            }
            (By::CatchAll(_), Some(written)) => {
                if seen.place.bucket.is_some() {
                    self.say("S-12", format!("No path matches {}, and the host has no default backend.", seen.path));
                }
                let text = format!("The default backend of Ingress {} takes what no rule matches.", written.ingress);
                self.say("S-12", text);
                self.class(seen, written);
            }
            _ => {
                if seen.place.bucket.is_some() {
                    let text = format!("No path matches {}; a wider host is not asked.", seen.path);
                    self.say("S-3", text);
                }
                self.say("S-12", "There is no default backend: 404.");
            }
        }
    }

    fn matched(&mut self, path: &PathMatch, seen: &Seen<'_>, written: &Written) {
        let Written { ingress, kind, path: as_written } = written;
        let entry = format!("{kind} {as_written} of Ingress {ingress}");
        let asked = seen.path;
        match path {
            PathMatch::Exact(_) => self.say("S-5", format!("{entry} is exactly {asked}.")),
            PathMatch::Regex(_) => {
                self.say("S-16", format!("{entry} is a pattern, compared without case, that {asked} begins with."));
            }
            PathMatch::Prefix(_) if *kind == "ImplementationSpecific" => {
                self.say("S-7", format!("{entry} is compared as a prefix, element by element, and {asked} has it."));
            }
            PathMatch::Prefix(_) => self.say("S-6", format!("{entry} is a prefix, by whole elements, of {asked}.")),
        }
    }

    /// Other routes that match, and why they lose. Patterns are not tried again.
    fn beaten(&mut self, winner: &PathMatch, seen: &Seen<'_>) {
        let Some(host) = seen.place.bucket else { return };
        let matches = |path: &PathMatch| match path {
            PathMatch::Exact(exact) => **exact == *seen.path,
            PathMatch::Prefix(prefix) => {
                seen.path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            PathMatch::Regex(_) => false,
        };
        let others: Vec<String> = host
            .routes
            .iter()
            .map(|route| &route.path)
            .filter(|path| *path != winner && matches(path))
            .map(|path| format!("{} {}", path_type(path), canonical(path)))
            .collect();
        if others.is_empty() {
            return;
        }
        let named = others.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        let more = if others.len() > NAMED_MAX { " and others" } else { "" };
        let (rule, priority) = match winner {
            PathMatch::Exact(_) => ("S-8", "Exact has priority"),
            PathMatch::Regex(_) => ("S-10", "a pattern has priority"),
            PathMatch::Prefix(_) => ("S-8", "the longest path has priority"),
        };
        self.say(rule, format!("{named}{more} would match too; {priority}."));
    }

    fn class(&mut self, seen: &Seen<'_>, written: &Written) {
        let Some(ingress) = seen.world.ingress(&written.ingress) else { return };
        let Some(choice) = class::choice(&ingress) else { return };
        let by = match choice.by {
            ChosenBy::Annotation => "its annotation",
            ChosenBy::Field => "spec.ingressClassName",
        };
        self.say("I-4", format!("The Ingress names class {} by {by}, which pool {} serves.", choice.class, seen.pool));
    }

    /// Whether a canary takes the request.
    pub fn canary(&mut self, by: By<'_>, parts: &[Part<'_>]) {
        let By::Route(Route { canary: Some(canary), .. }) = by else { return };
        let Some(of) = canary.backends.first() else { return };
        let name = format!("canary of Ingress {}/{}", of.cluster, of.ingress);
        match parts {
            [part] if part.is_canary => self.say("C-1", format!("The {name} takes the request.")),
            [_] => self.say("C-1", format!("The {name} does not take the request.")),
            _ => {
                let (weight, total) = (canary.rule.weight, canary.rule.weight_total);
                self.say("C-3", format!("Only the weight decides: the {name} takes {weight} of {total} requests."));
            }
        }
    }

    /// Who takes part and who does not.
    pub fn shares(
        &mut self,
        candidates: &[RouteBackend],
        shares: &[(&RouteBackend, u32)],
        endpoints: impl Fn(&BackendId) -> usize,
    ) {
        let sum: u32 = shares.iter().map(|(_, weight)| weight).sum();
        for part in candidates {
            let share = shares.iter().find(|(it, _)| std::ptr::eq(*it, part)).map(|(_, weight)| *weight);
            let (cluster, count) = (&part.cluster, candidates.len());
            match (&part.target, share) {
                (Target::Backend(id), Some(weight)) => {
                    let usable = endpoints(id);
                    let rule = if count > 1 { "M-2" } else { "P-3" };
                    let text = format!("{id} takes part with weight {weight} of {sum}; usable endpoints: {usable}.");
                    self.say(rule, text);
                }
                (Target::Backend(id), None) if endpoints(id) == 0 => {
                    self.say("M-3", format!("{id} has no usable endpoint and takes no part."));
                }
                (Target::Backend(id), None) => {
                    self.say("M-3", format!("{id} is only asked if those before it cannot answer."));
                }
                (Target::Resource, _) => {
                    self.say("S-11", format!("Cluster {cluster} names a resource backend, which no pool can serve."));
                }
                (Target::Nothing, _) => {
                    self.say(
                        "S-11",
                        format!("Cluster {cluster} names no Service that can be asked and keeps its place."),
                    );
                }
            }
        }
    }

    pub fn unserved(&mut self, status: u16) {
        let text = match status {
            404 => "All backends are resources: 404. A shorter path is not tried.",
            _ => "Nobody can answer: 503. The entry keeps its place, and a shorter path is not tried.",
        };
        self.say("S-11", text);
    }

    pub fn fallback(&mut self) {
        self.say("d-27", "Nobody of the route has an endpoint: the Service that default-backend names answers.");
    }

    /// What the client gets instead.
    pub fn all_down(&mut self, all_down: &AllDown) -> u16 {
        let (status, text) = match all_down {
            AllDown::Status(status) => (*status, format!("While nobody can answer, clients get {status}.")),
            AllDown::Redirect(url) => (302, format!("While nobody can answer, clients are sent to {url}: 302.")),
        };
        self.say("E-2", text);
        status
    }

    /// How the edge gets there, where it does not go to all pods.
    pub fn ways<'a>(&mut self, at: &Locality, backends: impl Iterator<Item = &'a table::Backend>) {
        for backend in backends {
            let text = match endpoints::destination(backend, at).mode {
                ReachMode::PodIp => {
                    self.zone(at, backend);
                    continue;
                }
                ReachMode::NodePort => format!("{} is reached by its node port, at ready nodes.", backend.id),
                ReachMode::Gateway => format!(
                    "{} is reached through its cluster's gateway, which gets the client's host and path and routes by \
                     the Ingress itself.",
                    backend.id
                ),
            };
            self.say("R-1", text);
        }
    }

    /// Whether zone hints leave endpoints out.
    fn zone(&mut self, at: &Locality, backend: &table::Backend) {
        if let Some(zone) = &at.zone {
            let reachable = endpoints::reachable(&backend.endpoints, at).count();
            if reachable < backend.endpoints.len() {
                let all = backend.endpoints.len();
                self.say("P-5", format!("{}: {reachable} of {all} endpoints are hinted for zone {zone}.", backend.id));
            }
        }
    }

    pub fn certificate(&mut self, sni: &str, certificate: Option<&SecretId>) {
        let text = match certificate {
            Some(SecretId { cluster, secret }) => {
                format!("A client that asks for {sni:?} is shown the certificate of Secret {cluster}/{secret}.")
            }
            None => format!("No certificate covers {sni:?}: the pool's default certificate is shown."),
        };
        self.say("L-1", text);
    }

    /// What somebody should look at in the Ingress that won.
    pub fn findings(&mut self, seen: &Seen<'_>) {
        let Some(written) = seen.written else { return };
        for Finding { code, message, remedy, .. } in seen.world.findings(&written.ingress) {
            self.say(rule_of(*code), format!("Finding {code} about Ingress {}: {message}. {remedy}", written.ingress));
        }
    }
}

/// The rule that a finding is about; I-9, which says that nothing is skipped unseen, for all others.
fn rule_of(code: Code) -> &'static str {
    match code {
        Code::InvalidHost => "S-2",
        Code::InvalidPath | Code::EmptyIngress => "S-17",
        Code::InvalidRegex => "S-16",
        Code::InvalidBackend => "I-3",
        Code::InvalidAnnotation | Code::UnsupportedAnnotation => "N-1",
        Code::UnknownPool => "I-4",
        Code::PathConflict => "I-2",
        Code::PathShadowed => "S-9",
        Code::HostNotGranted => "M-8",
        Code::CanaryIgnored => "C-4",
        Code::SettingsDiffer => "M-7",
        Code::CertificateMissing | Code::CertificateUnusable => "L-3",
        Code::CertificateExpired => "L-4",
        Code::ServiceNotFound | Code::ServicePortNotFound | Code::ResourceBackend => "S-11",
        Code::NoEndpoints => "P-3",
        Code::UnsupportedService => "P-6",
        _ => "I-9",
    }
}
