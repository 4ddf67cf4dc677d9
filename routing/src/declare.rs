//! One Ingress into what it declares (rules S-2, S-7, S-13 to S-17, I-3, I-9).
//!
//! Ingress → entries by host, defaults, findings. Looks at nothing but the Ingress itself, so it runs once when the
//! Ingress changes. A bad entry is skipped with a finding and the rest is kept; an Ingress never fails as a whole.

use std::net::IpAddr;
use std::sync::Arc;

use crate::finding::{Code, Finding, Severity};
use crate::id::{ClusterId, HostKey, Kind, ObjectKey, ObjectName, PortRef};
use crate::limit;
use crate::lookup;
use crate::object::{Ingress, IngressBackend, IngressPath, IngressRule, IngressTls, PathType};
use crate::rules::{self, Rule};
use crate::settings::{CanaryRule, ClientSettings, UpstreamSettings};
use crate::table::PathMatch;

mod annotations;

pub use annotations::Traffic;
use annotations::{PathSyntax, Read, RedirectToHttps};
pub(crate) use annotations::{all_down, protocol};

/// What one Ingress declares, ready to be merged with others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Declared {
    /// Sorted by host, then in spec order.
    entries: Vec<Entry>,
    /// Hosts of the rules, also of those without paths (rule S-13), and those that annotations add. Sorted.
    pub hosts: Vec<HostKey>,
    /// Of those, the ones that only annotations add. Sorted.
    pub(crate) extra: Vec<(HostKey, Extra)>,
    /// `spec.defaultBackend`.
    pub default: Option<NamedBackend>,
    /// No rules: such an Ingress is asked first for a catch-all (rule S-12).
    pub rules_free: bool,
    /// It takes a part of what others declare, and declares nothing itself (rule C-4).
    pub canary: Option<CanaryRule>,
    /// Its ImplementationSpecific paths are patterns (rule S-16).
    pub has_patterns: bool,
    pub tls: Vec<DeclaredTls>,
    pub(crate) traffic: Traffic,
    /// Answers where its own backends cannot (row 27).
    pub(crate) fallback: Option<NamedBackend>,
    pub(crate) upstream: Arc<UpstreamSettings>,
    client: Arc<ClientSettings>,
    /// The same for hosts whose requests over HTTP go to HTTPS.
    client_to_https: Arc<ClientSettings>,
    redirect_to_https: RedirectToHttps,
    notes: Vec<Note>,
}

/// A host that an annotation adds. It yields to every rule that declares the host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Extra {
    /// Serves what this host of the Ingress serves.
    Alias(HostKey),
    /// Sends requests to this host.
    RedirectTo(Arc<str>),
}

/// An entry of `spec.tls`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeclaredTls {
    /// Empty: every host of the rules (rule L-5).
    pub hosts: Vec<HostKey>,
    /// `None`: the pool's default certificate.
    pub secret: Option<Arc<str>>,
}

/// One path of one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub host: HostKey,
    pub path_type: PathType,
    /// As written, with `/` for the empty path: part of the entry's identity (rule I-1).
    pub written: Arc<str>,
    /// Canonical (rule M-1).
    pub path: PathMatch,
    pub backend: NamedBackend,
    /// Position in the spec, over all rules.
    pub order: usize,
}

/// A backend as the Ingress names it; its namespace is the Ingress's (rule I-3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NamedBackend {
    Port {
        name: Arc<str>,
        port: PortRef,
    },
    Resource,
    /// Names no usable service; the slot is kept (rule S-11).
    Nothing,
}

/// A finding about the Ingress that declares it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Note {
    code: Code,
    severity: Severity,
    message: String,
    remedy: &'static str,
}

impl Declared {
    /// The entries of one host, in spec order. An alias has those of the host it stands for.
    pub fn entries(&self, host: &HostKey) -> &[Entry] {
        let host = match self.extra(host) {
            Some(Extra::Alias(of)) => of,
            Some(Extra::RedirectTo(_)) => return &[],
            None => host,
        };
        let start = self.entries.partition_point(|entry| entry.host < *host);
        let length = self.entries[start..].partition_point(|entry| entry.host == *host);
        &self.entries[start..start + length]
    }

    /// Whether a rule declares the host, or an annotation that may add it.
    pub(crate) fn extra(&self, host: &HostKey) -> Option<&Extra> {
        let at = self.extra.binary_search_by(|(candidate, _)| candidate.cmp(host)).ok()?;
        Some(&self.extra[at].1)
    }

    /// Whether the Ingress means to serve the host over TLS (rule L-5).
    pub fn has_tls(&self, host: &HostKey) -> bool {
        self.tls.iter().any(|tls| tls.names(host))
    }

    /// The Secrets that say who may enter. May repeat.
    pub(crate) fn users(&self) -> impl Iterator<Item = &ObjectName> {
        let access = &self.client.access;
        let basic = access.basic.iter().map(|basic| &basic.secret);
        basic.chain(access.certificates.iter().map(|certificate| &certificate.secret))
    }

    /// Settings of the client's leg for one of its hosts.
    pub fn client(&self, host: &HostKey) -> &Arc<ClientSettings> {
        let to_https = match self.redirect_to_https {
            RedirectToHttps::Always => true,
            RedirectToHttps::Never => false,
            RedirectToHttps::WithTls => self.has_tls(host),
        };
        if to_https { &self.client_to_https } else { &self.client }
    }

    /// Every Service port this Ingress refers to. May repeat.
    pub fn service_ports(&self) -> impl Iterator<Item = (&Arc<str>, &PortRef)> {
        let backends = self.entries.iter().map(|entry| &entry.backend).chain(&self.default).chain(&self.fallback);
        backends.filter_map(|backend| match backend {
            NamedBackend::Port { name, port } => Some((name, port)),
            NamedBackend::Resource | NamedBackend::Nothing => None,
        })
    }

    /// The findings of the Ingress alone, at most [`limit::FINDINGS_PER_OBJECT_MAX`].
    pub fn findings(&self, cluster: &ClusterId, ingress: &ObjectName) -> Vec<Finding> {
        let object = ObjectKey { kind: Kind::Ingress, name: ingress.clone() };
        let finding = |note: &Note| Finding {
            cluster: cluster.clone(),
            object: Some(object.clone()),
            code: note.code,
            severity: note.severity,
            message: note.message.clone(),
            remedy: note.remedy.to_owned(),
        };
        self.notes.iter().map(finding).collect()
    }

    fn note(&mut self, code: Code, severity: Severity, message: String, remedy: &'static str) {
        if self.notes.len() < limit::FINDINGS_PER_OBJECT_MAX {
            self.notes.push(Note { code, severity, message, remedy });
        }
    }
}

/// Reads one Ingress. Whether it is managed is not asked here.
pub fn declare(ingress: &Ingress) -> Declared {
    let mut declared = Declared { rules_free: ingress.rules.is_empty(), ..Declared::default() };
    let Read { syntax, settings, redirect_to_https, canary, extra_hosts, traffic, fallback } =
        annotations::read(ingress, &mut declared);
    let mut paths_left = limit::PATHS_PER_INGRESS_MAX;
    for rule in &ingress.rules {
        declare_rule(rule, syntax, &mut paths_left, &mut declared);
    }
    // A rule without paths counts as one, or their number would have no limit.
    let count: usize = ingress.rules.iter().map(|rule| rule.paths.as_ref().map_or(1, |paths| paths.len().max(1))).sum();
    if count > limit::PATHS_PER_INGRESS_MAX {
        let message = format!("it has {count} paths, of which the first {} are served", limit::PATHS_PER_INGRESS_MAX);
        declared.note(Code::TooManyPaths, Severity::Warning, message, "Split the Ingress into several.");
    }
    if let Some(backend) = &ingress.default_backend {
        declared.default = Some(declare_backend(backend, "the default backend", &mut declared));
    }
    if ingress.rules.is_empty() && ingress.default_backend.is_none() {
        let remedy = "Add rules or spec.defaultBackend.";
        declared.note(Code::EmptyIngress, Severity::Error, "it has neither rules nor a default backend".into(), remedy);
    }
    declared.tls = ingress.tls.iter().map(declare_tls).collect();
    declared.extra = extra_hosts.of(ingress.rules.first().and_then(|rule| rule_host(&rule.host)), &declared.hosts);
    declared.hosts.extend(declared.extra.iter().map(|(host, _)| host.clone()));
    (declared.has_patterns, declared.redirect_to_https) = (syntax == PathSyntax::Regex, redirect_to_https);
    (declared.canary, declared.traffic) = (canary, traffic);
    declared.fallback = fallback.map(|name| NamedBackend::Port { name, port: PortRef::FIRST });
    let to_https = ClientSettings { https_redirect: true, ..settings.client.clone() };
    declared.client_to_https = Arc::new(to_https);
    (declared.client, declared.upstream) = (Arc::new(settings.client), Arc::new(settings.upstream));
    if declared.canary.is_some() {
        declared.default = None;
    }
    if !rules::on(Rule::BadEntrySkippedAlone) && !declared.notes.is_empty() {
        declared.entries.clear();
    }
    finish(declared)
}

/// Puts everything in order and marks findings of an Ingress that declares nothing at all as errors.
fn finish(mut declared: Declared) -> Declared {
    // Entries are made in spec order and the sort is stable.
    declared.entries.sort_by(|a, b| a.host.cmp(&b.host));
    declared.hosts.sort();
    declared.hosts.dedup();
    if declared.hosts.is_empty() && declared.default.is_none() {
        for note in declared.notes.iter_mut().filter(|note| note.severity == Severity::Warning) {
            note.severity = Severity::Error;
        }
    }
    declared.entries.shrink_to_fit();
    declared.hosts.shrink_to_fit();
    declared.notes.shrink_to_fit();
    declared
}

/// Declares a rule as far as `paths_left` reaches.
fn declare_rule(rule: &IngressRule, syntax: PathSyntax, paths_left: &mut usize, declared: &mut Declared) {
    let paths = rule.paths.as_deref().unwrap_or_default();
    let allowed = paths.len().max(1).min(*paths_left);
    *paths_left -= allowed;
    if allowed == 0 {
        return;
    }
    let Some(host) = rule_host(&rule.host) else {
        let message = format!("host {:?} is neither a DNS name nor a wildcard of one label", shortened(&rule.host));
        let remedy = "Use a lower-case DNS name or *. and a DNS name, without port.";
        return declared.note(Code::InvalidHost, Severity::Warning, message, remedy);
    };
    if rule.paths.is_some() || rules::on(Rule::NoPathsDeclaresHost) {
        declared.hosts.push(host.clone());
    }
    for path in paths.iter().take(allowed) {
        if let Some(entry) = declare_path(&host, path, syntax, declared) {
            declared.entries.push(entry);
        }
    }
}

/// Rule S-2: a lower-case DNS name, `*.` and one, or nothing. `None`: invalid.
pub(crate) fn rule_host(host: &str) -> Option<HostKey> {
    if host.is_empty() {
        return Some(HostKey::Any);
    }
    match host.strip_prefix("*.") {
        Some(suffix) => is_dns_name(suffix).then(|| HostKey::Wildcard(suffix.into())),
        None => (is_dns_name(host) && host.parse::<IpAddr>().is_err()).then(|| HostKey::Exact(host.into())),
    }
}

fn declare_tls(tls: &IngressTls) -> DeclaredTls {
    let secret = (!tls.secret_name.is_empty()).then(|| tls.secret_name.clone());
    DeclaredTls { hosts: tls.hosts.iter().filter_map(|host| rule_host(host)).collect(), secret }
}

impl DeclaredTls {
    /// Whether the entry is about the host: names it, a wildcard above it, or no host at all.
    pub fn names(&self, host: &HostKey) -> bool {
        let is_above = |candidate: &HostKey| match (candidate, host) {
            (HostKey::Wildcard(suffix), HostKey::Exact(name)) => {
                name.split_once('.').is_some_and(|(_, rest)| rest == &**suffix)
            }
            _ => false,
        };
        self.hosts.is_empty() || self.hosts.iter().any(|candidate| candidate == host || is_above(candidate))
    }
}

/// DNS-1123 subdomain, as the API server checks it.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let inner = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        label.len() <= 63 && inner && alphanumeric(bytes.first()) && alphanumeric(bytes.last())
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn declare_path(host: &HostKey, path: &IngressPath, syntax: PathSyntax, declared: &mut Declared) -> Option<Entry> {
    let empty_is_root = path.path_type == PathType::ImplementationSpecific && rules::on(Rule::EmptyPathIsRoot);
    let written = if path.path.is_empty() && empty_is_root { "/".into() } else { path.path.clone() };
    let is_pattern = syntax == PathSyntax::Regex
        && (path.path_type == PathType::ImplementationSpecific || !rules::on(Rule::RegexOnlyImpl));
    let canonical = if is_pattern { pattern(&written) } else { literal(path.path_type, &written) };
    let canonical = match canonical {
        Ok(canonical) => canonical,
        Err((code, why)) => {
            let message = format!("path {:?} of host {host}: {why}; the entry is skipped", shortened(&path.path));
            declared.note(code, Severity::Warning, message, "Correct the path.");
            return None;
        }
    };
    let place = format!("path {written} of host {host}");
    let backend = declare_backend(&path.backend, &place, declared);
    if backend == NamedBackend::Nothing && !rules::on(Rule::SlotKept) {
        return None;
    }
    let order = declared.entries.len();
    Some(Entry { host: host.clone(), path_type: path.path_type, written, path: canonical, backend, order })
}

fn pattern(written: &Arc<str>) -> Result<PathMatch, (Code, String)> {
    check_length(written)?;
    lookup::compile(written).map_err(|error| (Code::InvalidRegex, error.to_string()))?;
    Ok(PathMatch::Regex(written.clone()))
}

/// An Exact or Prefix path, or an ImplementationSpecific one without patterns, which is a prefix (rule S-7).
fn literal(path_type: PathType, written: &Arc<str>) -> Result<PathMatch, (Code, String)> {
    check_length(written)?;
    check_literal(written).map_err(|why| (Code::InvalidPath, why))?;
    let decoded: Arc<str> = if rules::on(Rule::DecodedRulePaths) && written.contains('%') {
        lookup::rule_path(written).into()
    } else {
        written.clone()
    };
    check_literal(&decoded).map_err(|why| (Code::InvalidPath, why))?;
    Ok(match path_type {
        PathType::Exact => PathMatch::Exact(decoded),
        PathType::Prefix | PathType::ImplementationSpecific => match decoded.strip_suffix('/') {
            Some(canonical) if rules::on(Rule::CanonicalSlash) => PathMatch::Prefix(canonical.into()),
            _ => PathMatch::Prefix(decoded),
        },
    })
}

fn check_length(written: &str) -> Result<(), (Code, String)> {
    if written.len() <= limit::PATH_BYTES_MAX {
        return Ok(());
    }
    Err((Code::InvalidPath, format!("it is longer than {} bytes", limit::PATH_BYTES_MAX)))
}

/// Rule S-17: what the API server rejects today, and what no request can spell.
fn check_literal(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("it does not start with a slash".into());
    }
    if let Some(bad) = ["//", "/./", "/../", "%2f", "%2F"].into_iter().find(|bad| path.contains(bad)) {
        return Err(format!("it contains {bad}"));
    }
    if let Some(bad) = ["/.", "/.."].into_iter().find(|bad| path.ends_with(bad)) {
        return Err(format!("it ends in {bad}"));
    }
    if path.chars().any(char::is_control) {
        return Err("it contains a control character".into());
    }
    Ok(())
}

fn declare_backend(backend: &IngressBackend, place: &str, declared: &mut Declared) -> NamedBackend {
    match backend {
        IngressBackend::Service { name, port: Some(port) } if !name.is_empty() => {
            NamedBackend::Port { name: name.clone(), port: port.clone() }
        }
        IngressBackend::Resource { kind, name } => {
            let message = format!("{place} names resource {kind} {name}, which cannot be served and answers 404");
            declared.note(Code::ResourceBackend, Severity::Warning, message, "Name a Service instead.");
            NamedBackend::Resource
        }
        IngressBackend::Service { .. } | IngressBackend::Invalid => {
            let message = format!("{place} names no Service with a port and answers 503");
            let remedy = "Name exactly one Service and one of its ports.";
            declared.note(Code::InvalidBackend, Severity::Warning, message, remedy);
            NamedBackend::Nothing
        }
    }
}

/// For messages: text from a cluster may be long.
fn shortened(text: &str) -> &str {
    const CHARACTERS_MAX: usize = 100;
    text.char_indices().nth(CHARACTERS_MAX).map_or(text, |(end, _)| &text[..end])
}
