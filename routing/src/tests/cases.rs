//! Runs the case files under `routing/cases`: each case is one test, named after it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::canary::{finds, takes};
use crate::check::check;
use crate::class;
use crate::compute::build;
use crate::declare::declare;
use crate::endpoints::{Family, Locality, reachable, resolve};
use crate::finding::Finding;
use crate::id::{ObjectName, PoolName, PortRef};
use crate::inputs::Inputs;
use crate::lookup::{Found, shares, unserved_status};
use crate::object::{AddressType, EndpointSlice, Ingress, IngressClass, Meta, Object, SliceEndpoint, SlicePort};
use crate::policy::{CONTROLLER_NAME, Policy};
use crate::settings::{Redirect, RedirectTo};
use crate::table::{Backend, BackendProtocol, Route, Table, Target};

use super::world::{self, POOL, words};
use super::{guard, membership, reach};

// One test for each case, made by build.rs.
include!(concat!(env!("OUT_DIR"), "/cases.rs"));

/// One case of one file.
fn run(file: &str, case: &str) {
    let own = format!("{case} (");
    let failures: Vec<_> = failures_of(file).into_iter().filter(|failure| failure.starts_with(&own)).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn failures_of(file: &str) -> Vec<String> {
    let check = match file {
        "certificates" => check_certificates,
        "canary" => check_canaries,
        "endpoints" => check_endpoints,
        "classes" => check_classes,
        _ => check_routing,
    };
    check(&format!("{file}.yaml"))
}

const FILES: [&str; 14] = [
    "annotated",
    "backends",
    "canary",
    "certificates",
    "classes",
    "clusters",
    "conflicts",
    "defaults",
    "endpoints",
    "hosts",
    "invalid",
    "normalise",
    "paths",
    "patterns",
];

#[test]
fn every_case_file_is_run() {
    let named = FILES.into_iter().chain(["guard", "membership", "reach"]).map(|name| format!("{name}.yaml"));
    let found = std::fs::read_dir(folder()).expect("case files").map(|it| it.expect("an entry").file_name());
    let found: BTreeSet<_> = found.map(|name| name.into_string().expect("UTF-8")).collect();
    assert_eq!(found, named.collect());
}

#[test]
fn every_case_has_a_name_of_its_own_and_a_rule() {
    #[derive(Deserialize)]
    struct Named {
        case: String,
        rule: String,
    }
    let files = std::fs::read_dir(folder()).expect("case files").map(|it| it.expect("an entry").file_name());
    let cases: Vec<Named> = files.flat_map(|file| read(file.to_str().expect("UTF-8"))).collect();
    let is_rule = |rule: &str| {
        rule.split_once('-').is_some_and(|(letter, number)| letter.len() == 1 && number.parse::<u8>().is_ok())
    };
    let odd: Vec<_> = cases.iter().filter(|it| !is_rule(&it.rule)).map(|it| &it.case).collect();
    assert!(odd.is_empty(), "{odd:?} name no rule");
    let names: BTreeSet<_> = cases.iter().map(|it| &it.case).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
}

/// All failures of all files, as the switches test wants them.
pub(super) fn all_failures() -> Vec<String> {
    let mut failures: Vec<_> = FILES.iter().flat_map(|file| failures_of(file)).collect();
    failures.extend(guard::failures());
    failures.extend(membership::failures());
    failures.extend(reach::failures());
    failures
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoutingCase {
    case: String,
    rule: String,
    #[serde(default)]
    says: String,
    /// Grants, clusters and pools.
    #[serde(default)]
    policy: Policy,
    given: String,
    #[serde(default)]
    expect: String,
    findings: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CanaryCase {
    case: String,
    rule: String,
    canary: String,
    requests: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointCase {
    case: String,
    rule: String,
    port: String,
    zone: Option<String>,
    family: Option<String>,
    slices: String,
    want: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassCase {
    case: String,
    rule: String,
    chooses: String,
    managed: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

pub(super) fn read<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let text = std::fs::read_to_string(folder().join(file)).expect("the case file must be readable");
    let cases: Vec<T> = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(!cases.is_empty(), "{file} has no cases");
    cases
}

fn check_routing(file: &str) -> Vec<String> {
    read(file).iter().flat_map(check_routing_case).collect()
}

fn check_routing_case(case: &RoutingCase) -> Vec<String> {
    let name = format!("{} ({}: {})", case.case, case.rule, case.says);
    let inputs = case.inputs();
    let outcome = build(&inputs);
    let mut failures: Vec<String> =
        check(&inputs, &outcome.table).iter().map(|violation| format!("{name}: {violation}")).collect();
    for (index, line) in case.expect.lines().enumerate() {
        let words = words(line);
        let [host, target] = [&words[0], &words[1]];
        let (want, got) = (words[2..].join(" "), answer(&outcome.table, host, target));
        if want != got {
            failures.push(format!("{name} request {}: {host:?} {target:?} wants {want}, got {got}", index + 1));
        }
    }
    failures.extend(case.wrong_findings(&name, &outcome.findings));
    failures
}

fn check_certificates(file: &str) -> Vec<String> {
    read(file).iter().flat_map(check_certificate_case).collect()
}

fn check_certificate_case(case: &RoutingCase) -> Vec<String> {
    let name = format!("{} ({})", case.case, case.rule);
    let outcome = build(&case.inputs());
    let mut failures: Vec<String> = case.wrong_findings(&name, &outcome.findings).into_iter().collect();
    for line in case.expect.lines() {
        let words = words(line);
        let shown = outcome.table.certificate(&PoolName::from(POOL), &words[0]);
        let got = shown.map_or("DEFAULT".to_owned(), |id| match id.cluster.as_str() {
            "one" => id.secret.name.to_string(),
            cluster => format!("{cluster}:{}", id.secret.name),
        });
        if got != words[1] {
            failures.push(format!("{name}: {:?} wants {}, got {got}", words[0], words[1]));
        }
    }
    failures
}

fn check_canaries(file: &str) -> Vec<String> {
    read(file).iter().flat_map(check_canary_case).collect()
}

fn check_canary_case(case: &CanaryCase) -> Vec<String> {
    let mut ingress = Ingress::default();
    for (key, value) in words(&case.canary).iter().filter_map(|word| word.split_once('=')).chain([("", "true")]) {
        let name = if key.is_empty() { "canary".to_owned() } else { format!("canary-{key}") };
        ingress.annotations.insert(format!("nginx.ingress.kubernetes.io/{name}").into(), value.into());
    }
    let rule = declare(&ingress).canary.expect("a canary");
    let mut failures = Vec::new();
    for line in case.requests.lines() {
        let words = words(line);
        let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        let header = |name: &str| value("h=").filter(|_| name == "x");
        let cookie = |name: &str| value("c=").filter(|_| name == "ck");
        let draw = |total: u32| value("rnd=").map_or(total, |drawn| drawn.parse().expect("a number"));
        let got = if takes(&rule, header, cookie, finds, draw) { "canary" } else { "main" };
        if words.last().map(String::as_str) != Some(got) {
            failures.push(format!("{} ({}): {line} got {got}", case.case, case.rule));
        }
    }
    failures
}

impl RoutingCase {
    fn inputs(&self) -> Inputs {
        let Policy { grants, clusters, pools, .. } = self.policy.clone();
        let mut policy = Policy { grants, clusters, ..world::policy() };
        policy.pools.extend(pools);
        world::inputs(policy, &world::parse(&self.given))
    }

    fn wrong_findings(&self, name: &str, found: &[Finding]) -> Option<String> {
        let findings = self.findings.as_ref()?;
        let want: BTreeSet<_> = findings.lines().map(|line| words(line).join(" ")).collect();
        let got: BTreeSet<_> = found.iter().map(describe).collect();
        (want != got).then(|| format!("{name}: wants findings {want:#?}, got {got:#?}"))
    }
}

fn describe(finding: &Finding) -> String {
    let object = finding.object.as_ref().map_or_else(String::new, |object| object.name.to_string());
    format!("{} {object} {}", finding.cluster, finding.code)
}

/// Who serves a request: `service` in cluster `one`, `cluster:service` elsewhere, or a status.
fn answer(table: &Table, host: &str, target: &str) -> String {
    let found = table.lookup(&PoolName::from(POOL), host, target);
    if found == Found::NotFound {
        return "404".to_owned();
    }
    if let Found::Route(route) = found {
        if let Some(Redirect { to: RedirectTo::Host(to), status }) = &route.client.redirect {
            return format!("{status} {to}");
        }
        if route.client.access.is_irreconcilable {
            return "403".to_owned();
        }
    }
    let pods = |id: &_| u32::from(table.backends.get(id).is_some_and(Backend::leads_somewhere));
    let mut text = String::new();
    for (backend, _) in shares(found.backends(), pods) {
        let Target::Backend(id) = &backend.target else { continue };
        let space = if text.is_empty() { "" } else { " " };
        match id.cluster.as_str() {
            "one" => write!(text, "{space}{}", id.service.name),
            cluster => write!(text, "{space}{cluster}:{}", id.service.name),
        }
        .expect("writing to a String");
        let protocol = table.backends.get(id).map(|backend| backend.protocol).unwrap_or_default();
        if protocol != BackendProtocol::Http1 {
            write!(text, "({protocol:?})").expect("writing to a String");
        }
    }
    if let Found::Route(Route { canary: Some(canary), .. }) = found {
        for part in &canary.backends {
            let Target::Backend(id) = &part.target else { continue };
            let cluster = if id.cluster.as_str() == "one" { String::new() } else { format!("{}:", id.cluster) };
            write!(text, " +{cluster}{}", id.service.name).expect("writing to a String");
        }
    }
    if text.is_empty() { unserved_status(found.backends()).to_string() } else { text }
}

fn check_endpoints(file: &str) -> Vec<String> {
    read(file).iter().filter_map(check_endpoint_case).collect()
}

fn check_endpoint_case(case: &EndpointCase) -> Option<String> {
    let Object::Service(service) = world::service("shop", "web", true) else { panic!("a Service") };
    let port = case.port.parse().map_or_else(|_| PortRef::Name(case.port.as_str().into()), PortRef::Number);
    let at = Locality {
        zone: case.zone.as_deref().map(Into::into),
        family: case.family.as_deref().map(|family| if family == "IPv6" { Family::Ipv6 } else { Family::Ipv4 }),
        ..Locality::default()
    };
    let slices = parse_slices(&case.slices);
    // The order of slices must not matter.
    for slices in [slices.clone(), slices.into_iter().rev().collect()] {
        let got = match resolve(Some(&service), &port, &slices) {
            Err(_) => "error".to_owned(),
            Ok(resolved) => {
                let reached: Vec<_> =
                    reachable(&resolved.endpoints, &at).map(|endpoint| endpoint.address.to_string()).collect();
                if reached.is_empty() { "none".to_owned() } else { reached.join(" ") }
            }
        };
        if got != case.want {
            return Some(format!("{} ({}): wants {}, got {got}", case.case, case.rule, case.want));
        }
    }
    None
}

pub(super) fn parse_slices(text: &str) -> Vec<EndpointSlice> {
    let mut slices: Vec<EndpointSlice> = Vec::new();
    for line in text.lines() {
        let words = words(line);
        if line.starts_with(' ') {
            slices.last_mut().expect("endpoints must follow a slice").endpoints.push(parse_endpoint(&words));
            continue;
        }
        let port = |word: &String| {
            let (name, port) = word.split_once('=').expect("name=port");
            SlicePort { name: name.into(), port: port.parse().ok(), ..SlicePort::default() }
        };
        slices.push(EndpointSlice {
            name: ObjectName::new("shop", format!("web-{}", slices.len())),
            meta: Meta::default(),
            service: "web".into(),
            address_type: match words[0].as_str() {
                "IPv4" => AddressType::Ipv4,
                "IPv6" => AddressType::Ipv6,
                _ => AddressType::Fqdn,
            },
            ports: words[1..].iter().map(port).collect(),
            endpoints: Vec::new(),
        });
    }
    slices
}

fn parse_endpoint(words: &[String]) -> SliceEndpoint {
    let has = |word: &str| words.iter().any(|it| it == word);
    let condition = |yes: &str, no: &str| if has(yes) { Some(true) } else { has(no).then_some(false) };
    let option = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    let zones = option("for=");
    SliceEndpoint {
        address: words[0].parse().expect("an address"),
        ready: condition("ready", "unready"),
        serving: condition("serving", "unserving"),
        terminating: condition("terminating", "staying"),
        zone: None,
        node: option("node=").map(Into::into),
        for_zones: zones.into_iter().flat_map(|zones| zones.split(',')).map(Into::into).collect(),
    }
}

fn check_classes(file: &str) -> Vec<String> {
    read(file).iter().filter_map(check_class_case).collect()
}

fn check_class_case(case: &ClassCase) -> Option<String> {
    let object = |name: &str, controller: &str| IngressClass {
        name: name.into(),
        controller: controller.into(),
        ..IngressClass::default()
    };
    let classes = [
        object("mc", CONTROLLER_NAME),
        object("mc2", CONTROLLER_NAME),
        object("other", "example.com/x"),
        object("listed", "example.com/x"),
    ];
    let mut ingress = Ingress::default();
    for choice in words(&case.chooses) {
        match choice.split_once('=') {
            Some(("annotation", name)) => {
                ingress.annotations.insert(class::CLASS_ANNOTATION.into(), name.into());
            }
            Some(("field", name)) => ingress.class_name = Some(Arc::from(name)),
            _ => assert_eq!(choice, "none"),
        }
    }
    let find = |name: &str| classes.iter().find(|class| &*class.name == name);
    let managed = class::managed(&ingress, find, |name| ["listed", "gone"].contains(&name)).is_some();
    (managed != case.managed).then(|| format!("{} ({}): managed is {managed}", case.case, case.rule))
}
