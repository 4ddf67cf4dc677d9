//! The report: every Ingress with its annotations, differences and findings, and the routing table they make.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use roadstead_routing::class;
use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{Kind, ObjectName};
use roadstead_routing::object::Ingress;
use roadstead_routing::settings::{ClientSettings, Redirect, RedirectTo};
use roadstead_routing::table::{Host, RouteBackend, Target};
use serde::Serialize;

use super::behaviour::{self, Hosts, NGINX_PREFIX, Note};
use super::catalogue::{self, Verdict};
use crate::offline::explain::{canonical, path_type};
use crate::offline::world::{IngressId, World};

/// What is different for everybody.
const FOR_ALL: [&str; 5] = [
    "A change is served within about a second; nothing is reloaded, and connections stay.",
    "A setting applies to the routes of its own Ingress, never to a whole host.",
    "ingress-nginx adds Strict-Transport-Security to every HTTPS response; here only if the policy says so for the class (hsts). Have it say so, or let the application send it, if browsers rely on it.",
    "ingress-nginx refuses bodies above 1 MiB unless proxy-body-size says otherwise; here only what that annotation says is a limit.",
    "Paths are normalised before they are compared, as docs/explain.md says; what is forwarded is what was sent.",
];

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Sorted by name.
    pub ingresses: Vec<IngressReport>,
    pub table: Vec<Row>,
    /// Differences for every Ingress.
    pub general: Vec<&'static str>,
    pub summary: Summary,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct IngressReport {
    pub namespace: String,
    pub name: String,
    pub class: Option<String>,
    pub pool: Option<String>,
    /// The worst of all.
    pub verdict: Overall,
    /// Why no pool serves it.
    pub unserved: Option<String>,
    pub annotations: Vec<Annotation>,
    pub differences: Vec<Note>,
    pub findings: Vec<Problem>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    AsIs,
    Differs,
    Ignored,
    Refused,
    Unserved,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Annotation {
    /// Without its prefix.
    pub name: String,
    pub value: String,
    pub verdict: &'static str,
    pub text: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    pub code: &'static str,
    pub message: String,
    pub remedy: String,
}

/// One path of one host, or a default backend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Row {
    pub pool: String,
    pub host: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub path: String,
    /// `namespace/name:port`; `None`: nobody is asked.
    pub service: Option<String>,
    /// What is particular about it: a canary, a redirect of every request.
    pub note: Option<String>,
    /// `namespace/name`.
    pub ingress: String,
}

/// How many Ingresses have which verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    pub ingresses: usize,
    pub as_is: usize,
    pub differs: usize,
    pub ignored: usize,
    pub refused: usize,
    pub unserved: usize,
}

impl Report {
    /// `whole`: kinds of which the world has everything that there is.
    pub fn new(world: &World, whole: BTreeSet<Kind>) -> Self {
        let (hosts, complete) = (Hosts::new(world), Complete::new(world, whole));
        let report = |id: IngressId| Some(one(world, (&hosts, &complete), &id, &world.ingress(&id)?));
        let ingresses: Vec<_> = world.ingresses().filter_map(report).collect();
        let count = |verdict| ingresses.iter().filter(|it| it.verdict == verdict).count();
        let summary = Summary {
            ingresses: ingresses.len(),
            as_is: count(Overall::AsIs),
            differs: count(Overall::Differs),
            ignored: count(Overall::Ignored),
            refused: count(Overall::Refused),
            unserved: count(Overall::Unserved),
        };
        Self { ingresses, table: table(world), general: FOR_ALL.to_vec(), summary }
    }
}

fn one(world: &World, (hosts, complete): (&Hosts, &Complete), id: &IngressId, ingress: &Arc<Ingress>) -> IngressReport {
    let annotations = annotations(ingress);
    let verdicts = annotations.iter().map(|(name, value)| catalogue::verdict(name, value));
    let worst = verdicts.max().map_or(Overall::AsIs, Overall::from);
    let differences = behaviour::notes(world, hosts, id, ingress);
    let findings: Vec<&Finding> =
        world.findings(id).iter().filter(|finding| complete.is_news(finding, &id.name)).collect();
    let by_findings = findings.iter().map(|finding| Overall::from(finding.severity)).max();
    let unserved = world.why_unserved(id);
    let by_differences = (!differences.is_empty()).then_some(Overall::Differs);
    let by_class = unserved.is_some().then_some(Overall::Unserved);
    let verdict = [by_findings, by_differences, by_class].into_iter().flatten().fold(worst, Overall::max);
    let view = world.inputs.view(&id.cluster, &id.name);
    IngressReport {
        namespace: id.name.namespace.to_string(),
        name: id.name.name.to_string(),
        class: class::choice(ingress).map(|choice| choice.class.to_string()),
        pool: view.map(|view| view.pool.to_string()),
        verdict,
        unserved,
        annotations: annotations.into_iter().map(Annotation::from).collect(),
        differences,
        findings: findings.into_iter().map(Problem::from).collect(),
    }
}

/// Those of ingress-nginx, without prefix, by name.
fn annotations(ingress: &Ingress) -> Vec<(&str, &str)> {
    let all = ingress.annotations.iter();
    all.filter_map(|(key, value)| Some((key.strip_prefix(NGINX_PREFIX)?, &**value))).collect()
}

/// What is known so well that it means something if it is missing.
struct Complete {
    /// Kinds of which everything was read.
    whole: BTreeSet<Kind>,
    /// Namespaces that have some in the manifests.
    services: BTreeSet<Arc<str>>,
    secrets: BTreeSet<Arc<str>>,
}

impl Complete {
    fn new(world: &World, whole: BTreeSet<Kind>) -> Self {
        let of = |kind| {
            let objects = world.inputs.clusters().flat_map(|cluster| world.inputs.objects(cluster));
            objects.map(|object| object.key()).filter(|key| key.kind == kind).map(|key| key.name.namespace).collect()
        };
        Self { services: of(Kind::Service), secrets: of(Kind::Secret), whole }
    }

    /// Pods are not in manifests, and what no one reads of ingress-nginx is in the catalogue.
    fn is_news(&self, finding: &Finding, ingress: &ObjectName) -> bool {
        match finding.code {
            Code::NoEndpoints => self.whole.contains(&Kind::EndpointSlice),
            Code::ServiceNotFound | Code::ServicePortNotFound => {
                self.whole.contains(&Kind::Service) || self.services.contains(&ingress.namespace)
            }
            Code::CertificateMissing | Code::AccessSecretMissing => {
                self.whole.contains(&Kind::Secret) || self.secrets.contains(&ingress.namespace)
            }
            Code::UnsupportedAnnotation => !finding.message.contains(NGINX_PREFIX),
            _ => true,
        }
    }
}

fn table(world: &World) -> Vec<Row> {
    world.table.hosts.values().flat_map(rows).collect()
}

fn rows(host: &Host) -> Vec<Row> {
    let row = |(kind, path): (&'static str, &str), part: &RouteBackend, note: Option<String>| Row {
        pool: host.pool.to_string(),
        host: host.name.to_string(),
        kind,
        path: path.to_owned(),
        service: match &part.target {
            Target::Backend(id) => Some(format!("{}:{}", id.service, id.port)),
            Target::Resource | Target::Nothing => None,
        },
        note,
        ingress: part.ingress.to_string(),
    };
    let mut rows = Vec::new();
    for route in &host.routes {
        let place = (path_type(&route.path), &*canonical(&route.path));
        let note = redirect(&route.client);
        rows.extend(route.backends.iter().map(|part| row(place, part, note.clone())));
        let Some(canary) = &route.canary else { continue };
        let note = format!("canary, weight {} of {}", canary.rule.weight, canary.rule.weight_total);
        rows.extend(canary.backends.iter().map(|part| row(place, part, Some(note.clone()))));
    }
    let note = redirect(&host.default_client);
    rows.extend(host.default.iter().map(|part| row(("Default", ""), part, note.clone())));
    rows
}

/// Where every request is sent, whoever the Service is.
fn redirect(client: &ClientSettings) -> Option<String> {
    let Redirect { to, status } = client.redirect.as_ref()?;
    let to = match to {
        RedirectTo::Url(url) => url,
        RedirectTo::Host(host) => host,
    };
    Some(format!("{status} to {to}"))
}

impl From<Severity> for Overall {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Overall::AsIs,
            Severity::Warning => Overall::Ignored,
            Severity::Error => Overall::Refused,
        }
    }
}

impl From<Verdict> for Overall {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::AsIs => Overall::AsIs,
            Verdict::Differs(_) => Overall::Differs,
            Verdict::Ignored(_) => Overall::Ignored,
            Verdict::Refused(_) => Overall::Refused,
        }
    }
}

impl From<(&str, &str)> for Annotation {
    fn from((name, value): (&str, &str)) -> Self {
        let verdict = catalogue::verdict(name, value);
        Self { name: name.to_owned(), value: value.to_owned(), verdict: verdict.as_str(), text: verdict.text() }
    }
}

impl From<&Finding> for Problem {
    fn from(finding: &Finding) -> Self {
        let (message, remedy) = (finding.message.clone(), finding.remedy.clone());
        Self { code: finding.code.as_str(), message, remedy }
    }
}

impl fmt::Display for Overall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Overall::AsIs => "as is",
            Overall::Differs => "differs",
            Overall::Ignored => "partly ignored",
            Overall::Refused => "refused in part",
            Overall::Unserved => "not served",
        })
    }
}
