//! A second, naive matcher, written from the rules alone: no indexes, no compiled hosts, no shared code but the object
//! types. It answers one request by looking at every object.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::id::{ClusterId, ObjectName, PoolName};
use crate::object::{Ingress, IngressBackend, IngressClass, Object, PathType};
use crate::policy::{CONTROLLER_NAME, Policy};

use super::world::Objects;

/// Cluster, the Ingress that decides, and its backend.
pub(super) type Answer = BTreeSet<(ClusterId, ObjectName, String)>;

/// Who answers a request; empty means 404.
pub(super) fn lookup(objects: &Objects, policy: &Policy, pool: &PoolName, host: &str, target: &str) -> Answer {
    let served: Vec<(&ClusterId, &Ingress)> = objects
        .iter()
        .filter_map(|(cluster, object)| match object {
            Object::Ingress(ingress) if served_by(objects, policy, cluster, ingress).as_ref() == Some(pool) => {
                Some((cluster, &**ingress))
            }
            _ => None,
        })
        .collect();
    let host = host_of(host);
    let parent = host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| format!("*.{parent}"));
    let declared = |name: &str| served.iter().any(|(_, ingress)| declares(ingress, name));
    let bucket = [Some(host.clone()).filter(|host| !host.is_empty()), parent, Some(String::new())]
        .into_iter()
        .flatten()
        .find(|name| declared(name));
    let Some(bucket) = bucket else { return catch_all(&served) };
    let answer = route(&served, &bucket, &path_of(target));
    if !answer.is_empty() {
        return answer;
    }
    let own = defaults(served.iter().filter(|(_, ingress)| declares(ingress, &bucket)).copied().collect(), |_| 0);
    if own.is_empty() { catch_all(&served) } else { own }
}

fn served_by(objects: &Objects, policy: &Policy, cluster: &ClusterId, ingress: &Ingress) -> Option<PoolName> {
    let class_object = |name: &str| -> Option<&IngressClass> {
        objects.iter().filter(|(of, _)| of == cluster).find_map(|(_, object)| match object {
            Object::IngressClass(class) if &*class.name == name => Some(&**class),
            _ => None,
        })
    };
    let annotation = ingress.annotations.get("kubernetes.io/ingress.class");
    let name = annotation.or(ingress.class_name.as_ref())?;
    let object = class_object(name);
    let listed = policy.classes.get(&**name);
    if object.is_none() && annotation.is_none() {
        return None;
    }
    if listed.is_none() && object.is_none_or(|object| &*object.controller != CONTROLLER_NAME) {
        return None;
    }
    let parameters = object.and_then(|object| object.parameters.clone());
    let by_parameters = parameters.filter(|it| &*it.kind == "Pool" && &*it.api_group == "roadstead.dev");
    let pool = match (by_parameters, listed) {
        (Some(parameters), _) => PoolName::new(parameters.name),
        (None, Some(listed)) => listed.pool.clone(),
        (None, None) => policy.default_pool()?.clone(),
    };
    policy.pools.contains_key(&pool).then_some(pool)
}

fn host_of(header: &str) -> String {
    let header = header.to_ascii_lowercase();
    let name = match (header.starts_with('['), header.find(']')) {
        (true, Some(end)) => header[..=end].to_owned(),
        _ => header.split(':').next().unwrap_or_default().to_owned(),
    };
    name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
}

fn path_of(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if path.is_empty() {
        return "/".into();
    }
    let path = unescape(path);
    if !path.starts_with('/') {
        return path;
    }
    let mut elements: Vec<&str> = Vec::new();
    for element in path.split('/').filter(|element| !matches!(*element, "" | ".")) {
        if element == ".." {
            elements.pop();
        } else {
            elements.push(element);
        }
    }
    let open = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end)) && !elements.is_empty();
    format!("/{}{}", elements.join("/"), if open { "/" } else { "" })
}

fn unescape(path: &str) -> String {
    let mut result = Vec::new();
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|it| bytes[at] == b'%' && it.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else {
            result.push(bytes[at]);
            at += 1;
            continue;
        };
        let digits = std::str::from_utf8(digits).expect("ASCII");
        let byte = u8::from_str_radix(digits, 16).expect("hex digits");
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            result.push(byte);
        } else {
            result.extend(format!("%{byte:02X}").bytes());
        }
        at += 3;
    }
    String::from_utf8(result).expect("only ASCII was replaced")
}

fn valid_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() < 64
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c == '-' || c.is_ascii_digit() || c.is_ascii_lowercase())
    };
    host.is_empty() || (host.parse::<IpAddr>().is_err() && name.len() < 254 && name.split('.').all(label))
}

fn declares(ingress: &Ingress, host: &str) -> bool {
    ingress.rules.iter().any(|rule| *rule.host == *host && valid_host(&rule.host))
}

/// One entry, with everything its place in the order depends on.
struct Entry<'a> {
    cluster: &'a ClusterId,
    ingress: &'a Ingress,
    path_type: PathType,
    written: String,
    key: Key,
    order: usize,
    backend: &'a IngressBackend,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Exact(String),
    Pattern(String),
    Elements(Vec<String>),
}

impl Key {
    /// How well the key matches: greater is better.
    fn matches(&self, path: &str) -> Option<(u8, usize)> {
        match self {
            Key::Exact(exact) => (exact == path).then_some((2, 0)),
            Key::Pattern(pattern) => {
                let regex = regex::Regex::new(&format!("(?i)^(?:{pattern})")).expect("checked");
                regex.is_match(path).then_some((1, pattern.len()))
            }
            Key::Elements(elements) => {
                let path: Vec<&str> = path.split('/').filter(|element| !element.is_empty()).collect();
                let starts = elements.len() <= path.len() && elements.iter().zip(path).all(|(a, b)| a == b);
                starts.then_some((0, elements.len()))
            }
        }
    }
}

fn entries<'a>(cluster: &'a ClusterId, ingress: &'a Ingress, host: &str) -> Vec<Entry<'a>> {
    let annotation = |name: &str| ingress.annotations.get(&*format!("nginx.ingress.kubernetes.io/{name}"));
    let patterns = annotation("use-regex").is_some_and(|v| &**v == "true") || annotation("rewrite-target").is_some();
    let rules = ingress.rules.iter().filter(|rule| *rule.host == *host && valid_host(&rule.host));
    let paths = rules.flat_map(|rule| rule.paths.iter().flatten()).enumerate();
    paths
        .filter_map(|(order, path)| {
            let implementation = path.path_type == PathType::ImplementationSpecific;
            let written = if implementation && path.path.is_empty() { "/" } else { &*path.path }.to_owned();
            let key = if implementation && patterns {
                regex::Regex::new(&written).ok()?;
                Key::Pattern(written.clone())
            } else {
                if [&written, &unescape(&written)].into_iter().any(|path| rejected(path)) {
                    return None;
                }
                match path.path_type {
                    PathType::Exact => Key::Exact(unescape(&written)),
                    _ => Key::Elements(
                        unescape(&written).split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect(),
                    ),
                }
            };
            let (path_type, backend) = (path.path_type, &path.backend);
            Some(Entry { cluster, ingress, path_type, written, key, order, backend })
        })
        .collect()
}

fn rejected(path: &str) -> bool {
    !path.starts_with('/')
        || ["//", "/./", "/../", "%2f", "%2F"].iter().any(|bad| path.contains(bad))
        || ["/.", "/.."].iter().any(|bad| path.ends_with(bad))
}

fn route(served: &[(&ClusterId, &Ingress)], host: &str, path: &str) -> Answer {
    let all: Vec<Entry<'_>> = served.iter().flat_map(|(cluster, ingress)| entries(cluster, ingress, host)).collect();
    // I-2: an entry stands if no identical one of its cluster is older.
    let age = |entry: &Entry<'_>| (entry.ingress.meta.created_at, entry.ingress.name.clone(), entry.order);
    let beaten = |entry: &Entry<'_>| {
        all.iter().any(|other| {
            other.cluster == entry.cluster
                && (other.path_type, &other.written) == (entry.path_type, &entry.written)
                && age(other) < age(entry)
        })
    };
    let standing: Vec<&Entry<'_>> = all.iter().filter(|entry| !beaten(entry)).collect();
    // S-10 over the union; a pattern of equal length is decided by its bytes, the smaller first.
    let matching = standing.iter().filter_map(|entry| entry.key.matches(path).map(|quality| (quality, &entry.key)));
    let best = matching.max_by(|(a, key_a), (b, key_b)| a.cmp(b).then_with(|| key_b.cmp(key_a)));
    let Some((_, key)) = best else { return Answer::new() };
    // M-1: each cluster's winner of that key.
    let mut winners: BTreeMap<&ClusterId, &Entry<'_>> = BTreeMap::new();
    let rank = |entry: &Entry<'_>| (usize::MAX - entry.written.len(), entry.path_type, age(entry));
    for entry in standing.iter().filter(|entry| entry.key == *key) {
        let winner = winners.entry(entry.cluster).or_insert(entry);
        if rank(entry) < rank(winner) {
            *winner = entry;
        }
    }
    winners.into_values().map(|it| (it.cluster.clone(), it.ingress.name.clone(), describe(it.backend))).collect()
}

fn catch_all(served: &[(&ClusterId, &Ingress)]) -> Answer {
    defaults(served.to_vec(), |ingress| usize::from(!ingress.rules.is_empty()))
}

/// The default of each cluster: the least by `class`, then the oldest.
fn defaults(candidates: Vec<(&ClusterId, &Ingress)>, class: impl Fn(&Ingress) -> usize) -> Answer {
    let mut chosen: BTreeMap<&ClusterId, &Ingress> = BTreeMap::new();
    let rank = |ingress: &Ingress| (class(ingress), ingress.meta.created_at, ingress.name.clone());
    for (cluster, ingress) in candidates.into_iter().filter(|(_, ingress)| ingress.default_backend.is_some()) {
        let current = chosen.entry(cluster).or_insert(ingress);
        if rank(ingress) < rank(current) {
            *current = ingress;
        }
    }
    let answer = |(cluster, ingress): (&ClusterId, &Ingress)| {
        let backend = ingress.default_backend.as_ref().map(describe).unwrap_or_default();
        (cluster.clone(), ingress.name.clone(), backend)
    };
    chosen.into_iter().map(answer).collect()
}

pub(super) fn describe(backend: &IngressBackend) -> String {
    match backend {
        IngressBackend::Service { name, port: Some(port) } => format!("{name}:{port}"),
        IngressBackend::Resource { .. } => "resource".into(),
        IngressBackend::Service { .. } | IngressBackend::Invalid => "nothing".into(),
    }
}
