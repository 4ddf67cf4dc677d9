//! From a request to a route: the matcher that edges, `explain` and tests share (rules S-1 to S-16).
//!
//! Host header + request target → host bucket → route or default. It decides nothing about clusters or health:
//! a route that nobody can serve is still the answer (rule S-11).

use std::borrow::Cow;
use std::sync::Arc;

use crate::id::{BackendId, HostKey, PoolName};
use crate::rules::{self, Rule};
use crate::table::{Host, PathMatch, Route, RouteBackend, SecretId, Table, Target};

mod path;
mod pattern;

pub use path::request_path;
pub(crate) use path::rule_path;
pub use pattern::PatternError;
pub use pattern::value_pattern;
pub(crate) use pattern::{check_value_pattern, compile};

/// A request's host as rule S-1 compares it: lower-case, without port and without one trailing dot. IPv6 literals
/// keep their brackets. Empty means "no host".
pub fn request_host(host_header: &str) -> Cow<'_, str> {
    let name = if rules::on(Rule::HostWithoutPort) { without_port(host_header) } else { host_header };
    let name = if rules::on(Rule::HostWithoutDot) { name.strip_suffix('.').unwrap_or(name) } else { name };
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) && rules::on(Rule::HostLowercased) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn without_port(host_header: &str) -> &str {
    let end = match host_header.strip_prefix('[') {
        Some(literal) => literal.find(']').map(|end| end + 2),
        None => host_header.find(':'),
    };
    end.map_or(host_header, |end| &host_header[..end])
}

/// A place where a request's host may be declared: [`HostKey`] without its allocations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bucket<'a> {
    Exact(&'a str),
    /// The suffix without `*.`.
    Wildcard(&'a str),
    Any,
}

impl From<Bucket<'_>> for HostKey {
    fn from(bucket: Bucket<'_>) -> HostKey {
        match bucket {
            Bucket::Exact(name) => HostKey::Exact(name.into()),
            Bucket::Wildcard(suffix) => HostKey::Wildcard(suffix.into()),
            Bucket::Any => HostKey::Any,
        }
    }
}

/// The buckets to ask for `host` (as [`request_host`] returns it), in order. The first that a pool's table has is
/// final: an unmatched path does not fall to a wider one (rule S-3).
pub fn buckets(host: &str) -> impl Iterator<Item = Bucket<'_>> {
    let exact = (!host.is_empty()).then_some(Bucket::Exact(host));
    let wildcards = suffixes(host).map(Bucket::Wildcard);
    let (first, last) = if rules::on(Rule::HostExactBeforeWildcard) { (exact, None) } else { (None, exact) };
    first.into_iter().chain(wildcards).chain(last).chain([Bucket::Any])
}

/// What a wildcard may stand before: the host without its first label, which must not be empty (rule S-2).
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    let labels = if rules::on(Rule::WildcardOneLabel) { 1 } else { usize::MAX };
    let dots = host.match_indices('.').filter(|(at, _)| *at > 0).take(labels);
    dots.filter(move |(at, _)| !host.starts_with('.') && at + 1 < host.len()).map(move |(at, _)| &host[at + 1..])
}

/// A [`Host`] compiled for matching. Holds positions in `host.routes`, so it must be kept together with its host.
#[derive(Clone, Debug)]
pub struct HostMatcher {
    /// Sorted by path.
    exact: Vec<(Arc<str>, usize)>,
    /// In match order: the longest pattern first.
    patterns: Vec<(regex::bytes::Regex, usize)>,
    /// Sorted by path.
    prefixes: Vec<(Arc<str>, usize)>,
}

impl HostMatcher {
    /// Compiles the routes of `host`, which must be in match order, as `compute_host` makes them.
    ///
    /// # Errors
    /// A pattern that is no regular expression or compiles too large. `compute_host` never makes such a host; one
    /// that comes from elsewhere must be refused as a whole, or requests would reach a lesser route.
    pub fn new(host: &Host) -> Result<HostMatcher, PatternError> {
        let mut matcher = HostMatcher { exact: Vec::new(), patterns: Vec::new(), prefixes: Vec::new() };
        for (index, route) in host.routes.iter().enumerate() {
            match &route.path {
                PathMatch::Exact(path) => matcher.exact.push((path.clone(), index)),
                PathMatch::Regex(pattern) => matcher.patterns.push((compile(pattern)?, index)),
                PathMatch::Prefix(path) => matcher.prefixes.push((path.clone(), index)),
            }
        }
        matcher.exact.sort();
        matcher.prefixes.sort();
        if !rules::on(Rule::LongestRegexFirst) {
            matcher.patterns.reverse();
        }
        Ok(matcher)
    }

    /// The route for `path` (as [`request_path`] returns it) as an index into `host.routes`: Exact, then patterns,
    /// then the longest prefix (rule S-10).
    pub fn find(&self, path: &str) -> Option<usize> {
        let exact = || position(&self.exact, path);
        let pattern = || self.patterns.iter().find(|(regex, _)| regex.is_match(path.as_bytes())).map(|found| found.1);
        let prefix = || self.find_prefix(path);
        if !rules::on(Rule::ExactBeforePrefix) {
            return prefix().or_else(exact).or_else(pattern);
        }
        if !rules::on(Rule::RegexBeforePrefix) {
            return exact().or_else(prefix).or_else(pattern);
        }
        exact().or_else(pattern).or_else(prefix)
    }

    /// What the pattern of route `index` is matched by; `None` if its path is none.
    pub fn pattern(&self, index: usize) -> Option<&regex::bytes::Regex> {
        self.patterns.iter().find(|(_, at)| *at == index).map(|(pattern, _)| pattern)
    }

    /// Walks from the whole path to the root, one element at a time (rule S-6).
    fn find_prefix(&self, path: &str) -> Option<usize> {
        if !rules::on(Rule::PrefixByElement) {
            return path.char_indices().rev().find_map(|(end, _)| position(&self.prefixes, &path[..end]));
        }
        let shorter = path.rmatch_indices('/').map(|(end, _)| &path[..end]);
        let mut found = std::iter::once(path).chain(shorter).chain([""]).filter_map(|it| position(&self.prefixes, it));
        if rules::on(Rule::LongestPrefixFirst) { found.next() } else { found.next_back() }
    }
}

fn position(sorted: &[(Arc<str>, usize)], path: &str) -> Option<usize> {
    sorted.binary_search_by(|(candidate, _)| (**candidate).cmp(path)).ok().map(|at| sorted[at].1)
}

/// Who answers a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found<'a> {
    Route(&'a Route),
    /// No route matches; these default backends do (rule S-12).
    Default(&'a [RouteBackend]),
    NotFound,
}

impl<'a> Found<'a> {
    /// The backends to choose from; none if nothing was found.
    pub fn backends(self) -> &'a [RouteBackend] {
        match self {
            Found::Route(route) => &route.backends,
            Found::Default(backends) => backends,
            Found::NotFound => &[],
        }
    }
}

impl Table {
    /// What `pool` does with a request. Compiles the host anew each time: for `explain`, checks and tests; an edge
    /// keeps its matchers.
    pub fn lookup(&self, pool: &PoolName, host_header: &str, target: &str) -> Found<'_> {
        let name = request_host(host_header);
        let path = request_path(target);
        let found = buckets(&name).filter_map(|bucket| self.hosts.get(&(pool.clone(), bucket.into())));
        for host in found {
            let index = HostMatcher::new(host).ok().and_then(|matcher| matcher.find(&path));
            if let Some(index) = index {
                return Found::Route(&host.routes[index]);
            }
            if !host.default.is_empty() {
                return Found::Default(&host.default);
            }
            if rules::on(Rule::FirstBucketFinal) {
                break;
            }
        }
        match self.hosts.get(&(pool.clone(), HostKey::CatchAll)) {
            Some(catch_all) if !catch_all.default.is_empty() => Found::Default(&catch_all.default),
            _ => Found::NotFound,
        }
    }
}

impl Table {
    /// What a client of `pool` that names this host by SNI is shown: the host's own certificate, else that of a wildcard
    /// above it, else that of the pool (rule L-1). `None`: the edge's own.
    pub fn certificate(&self, pool: &PoolName, sni: &str) -> Option<&SecretId> {
        let name = request_host(sni);
        let shown = |bucket: Bucket<'_>| self.hosts.get(&(pool.clone(), bucket.into()))?.certificate.as_ref();
        let named = buckets(&name).filter(|bucket| !matches!(bucket, Bucket::Any)).find_map(shown);
        named.or_else(|| self.hosts.get(&(pool.clone(), HostKey::CatchAll))?.certificate.as_ref())
    }
}

/// Who shares the requests of a route, with weights. `pods` says how many usable endpoints a backend has; one that has
/// none takes no part (rule M-3), others may count once for each (rule E-1). A weight of 0 takes part only if nobody else
/// can. Empty: answer [`unserved_status`].
pub fn shares(backends: &[RouteBackend], pods: impl Fn(&BackendId) -> u32) -> Vec<(&RouteBackend, u32)> {
    let pods = |backend: &RouteBackend| match &backend.target {
        Target::Backend(id) => Some(pods(id)).filter(|pods| *pods > 0 || !rules::on(Rule::EmptyHasNoShare)),
        Target::Resource | Target::Nothing => None,
    };
    let serving: Vec<_> = backends.iter().filter_map(|backend| Some((backend, pods(backend)?))).collect();
    if serving.iter().all(|(backend, _)| backend.weight == 0) {
        return serving.into_iter().map(|(backend, _)| (backend, 1)).collect();
    }
    let with_weight = serving.into_iter().filter(|(backend, _)| backend.weight > 0);
    let weight = |backend: &RouteBackend, pods: u32| {
        if backend.weigh_by_endpoints { backend.weight.saturating_mul(pods) } else { backend.weight }
    };
    with_weight.map(|(backend, pods)| (backend, weight(backend, pods))).collect()
}

/// The status of a request that was routed but that no backend can serve: 503, or 404 if all backends are resources
/// (rules M-1, S-11).
pub fn unserved_status(backends: &[RouteBackend]) -> u16 {
    let is_resource = |backend: &RouteBackend| backend.target == Target::Resource;
    let resource = if rules::on(Rule::ResourceOnlyIfAll) {
        !backends.is_empty() && backends.iter().all(is_resource)
    } else {
        backends.iter().any(is_resource)
    };
    if resource && rules::on(Rule::ResourceIs404) { 404 } else { 503 }
}
