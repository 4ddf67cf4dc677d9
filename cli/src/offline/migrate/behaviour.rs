//! What ingress-nginx does without being asked, and Roadstead does not.
//!
//! One Ingress among those that share its hosts → sentences, each with the rule that says how it is here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roadstead_routing::class;
use roadstead_routing::declare::declare;
use roadstead_routing::object::{Ingress, IngressPath, PathType};
use roadstead_routing::policy::ClassMode;
use serde::Serialize;

use crate::offline::world::{IngressId, World};

pub const NGINX_PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// Annotations that nginx applies to a whole host, whichever Ingress has them; the oldest wins.
const HOST_WIDE: [&str; 5] =
    ["auth-tls-secret", "auth-tls-verify-client", "server-snippet", "ssl-ciphers", "ssl-prefer-server-ciphers"];

/// One difference.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Note {
    pub rule: &'static str,
    pub text: String,
}

/// The served Ingresses by the hosts of their rules.
pub struct Hosts(BTreeMap<Arc<str>, Vec<Arc<Known>>>);

/// An Ingress and how its paths are read.
struct Known {
    id: IngressId,
    ingress: Arc<Ingress>,
    has_patterns: bool,
    /// Its class is in mode nginx-compat.
    is_compat: bool,
}

impl Hosts {
    pub fn new(world: &World) -> Self {
        let mut hosts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for id in world.ingresses().filter(|id| world.why_unserved(id).is_none()) {
            let Some(known) = world.ingress(&id).map(|ingress| Arc::new(Known::new(world, id, ingress))) else {
                continue;
            };
            let names: BTreeSet<_> = known.ingress.rules.iter().map(|rule| rule.host.clone()).collect();
            for name in names {
                hosts.entry(name).or_default().push(known.clone());
            }
        }
        Self(hosts)
    }

    /// Others that declare one of the hosts, and which.
    fn others<'a>(&'a self, known: &'a Known) -> impl Iterator<Item = (&'a str, &'a Known)> {
        let names: BTreeSet<&'a Arc<str>> = known.ingress.rules.iter().map(|rule| &rule.host).collect();
        names.into_iter().flat_map(move |host| {
            let all = self.0.get(host).into_iter().flatten();
            all.filter(move |other| other.id != known.id).map(move |other| (&**host, &**other))
        })
    }
}

impl Known {
    fn new(world: &World, id: IngressId, ingress: Arc<Ingress>) -> Self {
        let class = class::choice(&ingress).and_then(|choice| world.inputs.policy().classes.get(&**choice.class));
        let is_compat = class.is_some_and(|class| class.mode == ClassMode::NginxCompat);
        Self { id, has_patterns: declare(&ingress).has_patterns, ingress, is_compat }
    }
}

/// What is different for an Ingress. Sorted, nothing twice.
pub fn notes(world: &World, hosts: &Hosts, id: &IngressId, ingress: &Arc<Ingress>) -> Vec<Note> {
    let mut notes = BTreeSet::new();
    let mut note = |rule, text| {
        notes.insert(Note { rule, text });
    };
    let known = Known::new(world, id.clone(), ingress.clone());
    own_paths(&known, &mut note);
    for (host, other) in hosts.others(&known) {
        shared_host(&known, host, other, &mut note);
    }
    notes.into_iter().collect()
}

fn own_paths(known: &Known, note: &mut impl FnMut(&'static str, String)) {
    let Known { ingress, has_patterns, is_compat, .. } = known;
    for (host, path) in paths(ingress) {
        let (written, host) = (&*path.path, shown(host));
        match path.path_type {
            PathType::ImplementationSpecific if *has_patterns => {}
            // As in ingress-nginx.
            PathType::Exact | PathType::Prefix if *has_patterns && *is_compat => {}
            PathType::ImplementationSpecific => {
                if !matches!(written, "" | "/") {
                    let text = format!(
                        "{host}{written}: ingress-nginx compares it as characters, so that it also took {written}x; here \
                         whole elements are compared."
                    );
                    note("S-7", text);
                }
            }
            PathType::Exact | PathType::Prefix if *has_patterns => {
                let text = format!(
                    "{host}{written}: in ingress-nginx it was a pattern without case, here it is what it says."
                );
                note("S-16", text);
            }
            PathType::Exact if written.len() > 1 && written.ends_with('/') => {
                let short = written.trim_end_matches('/');
                let text = format!(
                    "{host}{written}: ingress-nginx answers {short} with 301 to {written}; here it does not match."
                );
                note("S-5", text);
            }
            PathType::Exact | PathType::Prefix => {}
        }
        if path.path_type != PathType::ImplementationSpecific && !is_strict(written) {
            let text =
                format!("{host}{written}: ingress-nginx refuses such characters, here they are compared as they are.");
            note("S-14", text);
        }
    }
    slash_forms(ingress, ingress, note);
}

fn shared_host(known: &Known, host: &str, other: &Known, note: &mut impl FnMut(&'static str, String)) {
    let (host, name) = (shown(host), &other.id.name);
    let is_alike = known.is_compat && other.is_compat;
    if other.has_patterns && !known.has_patterns && !is_alike {
        let text = format!(
            "{host}: in ingress-nginx Ingress {name} made patterns without case of all paths of the host; here only of its \
             own."
        );
        note("S-16", text);
    }
    for annotation in HOST_WIDE.iter().filter(|annotation| has(&other.ingress, annotation)) {
        note(
            "I-1",
            format!(
                "{host}: {annotation} of Ingress {name} applied to the whole host in ingress-nginx; here it does not."
            ),
        );
    }
    slash_forms(&known.ingress, &other.ingress, note);
}

/// `/foo` and `/foo/` as prefixes of one host, one of them of `ingress`.
fn slash_forms(ingress: &Ingress, other: &Ingress, note: &mut impl FnMut(&'static str, String)) {
    let is_prefix = |path: &IngressPath| path.path_type == PathType::Prefix;
    for (host, path) in paths(ingress).filter(|(_, path)| is_prefix(path) && path.path.len() > 1) {
        let twin = match path.path.strip_suffix('/') {
            Some(short) => short.to_owned(),
            None => format!("{}/", path.path),
        };
        let is_twin = |(at, it): (&str, &IngressPath)| at == host && is_prefix(it) && *it.path == *twin;
        if paths(other).any(is_twin) {
            let short = path.path.trim_end_matches('/');
            let text = format!(
                "{}{short}: ingress-nginx cannot load {short} and {short}/ together; here {short}/ has priority.",
                shown(host)
            );
            note("S-9", text);
        }
    }
}

fn paths(ingress: &Ingress) -> impl Iterator<Item = (&str, &IngressPath)> {
    ingress.rules.iter().flat_map(|rule| rule.paths.iter().flatten().map(|path| (&*rule.host, path)))
}

fn has(ingress: &Ingress, annotation: &str) -> bool {
    ingress.annotations.contains_key(&*format!("{NGINX_PREFIX}{annotation}"))
}

/// What ingress-nginx's strict check of paths lets pass.
fn is_strict(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte))
}

fn shown(host: &str) -> &str {
    if host.is_empty() { "any host " } else { host }
}
