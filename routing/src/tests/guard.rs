//! The guard: its case file, and what holds for every table and every history.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Deserialize;

use crate::guard::{
    Context, HOST_LOSSES_MAX, Scope, Split, Summary, Trip, Unit, Units, WINDOW_MS, Why, Window, apply, guard,
};
use crate::id::{BackendId, HostKey, ObjectName, PoolName, PortRef};
use crate::table::{Host, PathMatch, Route, RouteBackend, Target};

use super::cases::read;
use super::world::{POOL, words};

/// `cluster/namespace`, and whether it leads to a backend.
type Owner = (&'static str, &'static str, bool);
/// Hosts, their paths, and who has a part in each.
type Spec = BTreeMap<String, Paths>;
type Paths = BTreeMap<String, BTreeSet<(String, String, bool)>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    rule: String,
    says: String,
    published: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    at: u64,
    next: String,
    #[serde(default)]
    context: String,
    #[serde(default)]
    trips: String,
    #[serde(default)]
    held: usize,
}

pub(super) fn failures() -> Vec<String> {
    read("guard.yaml").iter().flat_map(check_case).collect()
}

fn check_case(case: &Case) -> Vec<String> {
    let name = format!("{} ({}: {})", case.case, case.rule, case.says);
    let mut window = Window::new(summary(&parse(&case.published)));
    let mut failures = Vec::new();
    for (index, step) in case.steps.iter().enumerate() {
        let now_ms = step.at * 60_000;
        let next = parse(&step.next);
        let (trips, split) = propose(&mut window, now_ms, &next, &parse_context(&step.context));
        let got: Vec<_> = trips.iter().map(describe).collect();
        let want: Vec<_> = step.trips.lines().map(|line| words(line).join(" ")).collect();
        if got != want {
            failures.push(format!("{name} step {}: wants {want:#?}, got {got:#?}", index + 1));
        }
        if split.held.len() != step.held {
            failures.push(format!("{name} step {}: {} are held, not {}", index + 1, split.held.len(), step.held));
        }
        publish(&mut window, now_ms, split);
    }
    failures
}

fn parse(text: &str) -> Spec {
    let mut spec = Spec::new();
    for line in text.lines() {
        let words = words(line);
        let (from, to) = words[1].split_once('-').expect("from-to");
        let (from, to): (u32, u32) = (from.parse().expect("a number"), to.parse().expect("a number"));
        for index in from..=to {
            let paths = spec.entry(format!("{}{index}", words[0])).or_default();
            paths.entry(words[2].clone()).or_default().extend(words[3..].iter().map(|owner| {
                let (cluster, namespace) = owner.trim_start_matches('!').split_once('/').expect("cluster/namespace");
                (cluster.to_owned(), namespace.to_owned(), !owner.starts_with('!'))
            }));
        }
    }
    spec
}

fn parse_context(text: &str) -> Context {
    let mut context = Context::default();
    for word in text.split_whitespace() {
        let (what, name) = word.split_once(':').expect("what:name");
        match what {
            "approved" => drop(context.approved.insert(HostKey::Exact(name.into()))),
            "inferred" => drop(context.inferred.insert(name.into())),
            "expected" => drop(context.expected.insert(match name.split_once('/') {
                Some((cluster, namespace)) => Scope::Namespace(cluster.into(), namespace.into()),
                None if name == "pool" => Scope::Pool,
                None => Scope::Cluster(name.into()),
            })),
            other => panic!("context {other}"),
        }
    }
    context
}

fn describe(trip: &Trip) -> String {
    let Trip { scope, why, count, of, limit, .. } = trip;
    let why = match why {
        Why::Above => "above",
        Why::Emptied => "emptied",
    };
    format!("{scope} {why} {count} of {of} limit {limit}")
}

fn host(name: &str, paths: &Paths) -> Host {
    let part = |(cluster, namespace, serves): &(String, String, bool)| {
        let ingress = ObjectName::new(namespace.as_str(), "web");
        let id = BackendId { cluster: cluster.as_str().into(), service: ingress.clone(), port: PortRef::Number(80) };
        let target = if *serves { Target::Backend(id.clone()) } else { Target::Nothing };
        RouteBackend::new(id.cluster, 100, target, ingress)
    };
    let route = |(path, owners): (&String, &BTreeSet<_>)| {
        Route::new(PathMatch::Prefix(path.as_str().into()), owners.iter().map(part).collect())
    };
    let routes = paths.iter().filter(|(path, _)| *path != "default").map(route).collect();
    let default = paths.get("default").map(|owners| owners.iter().map(part).collect()).unwrap_or_default();
    Host { routes, default, ..Host::new(PoolName::from(POOL), HostKey::Exact(name.into())) }
}

fn hosts(spec: &Spec) -> Vec<Host> {
    spec.iter().map(|(name, paths)| host(name, paths)).collect()
}

fn summary(spec: &Spec) -> Summary {
    Summary::of(&PoolName::from(POOL), &hosts(spec))
}

/// What differs between the published hosts and `next`.
fn changes(published: &Summary, next: &Spec) -> BTreeMap<HostKey, Option<Units>> {
    let gone = published.hosts().map(|host| (host.clone(), None));
    let next = hosts(next).into_iter().map(|host| (host.name.clone(), Some(Units::of(&host))));
    let all: BTreeMap<_, _> = gone.chain(next).collect();
    all.into_iter().filter(|(host, units)| published.get(host) != units.as_ref()).collect()
}

/// Reviews, and holds [`Window::judge`] against [`guard`].
fn propose(window: &mut Window, now_ms: u64, next: &Spec, context: &Context) -> (Vec<Trip>, Split<Units>) {
    let changes = changes(window.published(), next);
    let withdraws = changes.iter().any(|(host, after)| Units::loses(window.published().get(host), after.as_ref()));
    let trips = window.judge(now_ms, &changes, context);
    let whole = if withdraws { guard(window.baseline(now_ms), &summary(next), context) } else { Vec::new() };
    assert_eq!(trips, whole, "in proportion to what changed, or to everything");
    let first = apply(&trips, window.published(), changes.clone(), Units::clone);
    let (reviewed, split) = window.review(now_ms, changes, context, Units::clone);
    assert!(first.held.keys().all(|host| split.held.contains_key(host)), "what is held stays held");
    assert!(trips.iter().all(|trip| reviewed.iter().any(|it| it.scope == trip.scope)), "what trips is named");
    (reviewed, split)
}

fn publish(window: &mut Window, now_ms: u64, split: Split<Units>) {
    for (host, units) in split.flow {
        window.publish(now_ms, &host, units);
    }
}

#[test]
fn cases() {
    let failures = failures();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn a_trip_reads_as_a_sentence() {
    let before = "h 1-30 / a/shop\nh 1-30 /api a/shop\ng 1-1 / b/pay\ng 1-1 default a/shop";
    let after = "h 9-30 / a/shop\nh 22-30 /api a/shop\ng 1-1 / a/shop";
    let context = parse_context("inferred:b");
    let trips = guard(&summary(&parse(before)), &summary(&parse(after)), &context);
    let lines: Vec<_> = trips.iter().map(ToString::to_string).collect();
    let hosts = "h1 (the host); h10 (prefix /api); h11 (prefix /api); h12 (prefix /api); and 17 more";
    let above = "would lose hosts, routes or last backends on 22 of 31 hosts within 10 minutes, more than";
    let emptied = "would be left with none of 1 hosts, by objects that a list lacked and that nobody saw being deleted";
    assert_eq!(
        lines,
        [
            format!("pool public {above} 20: g1 (default, last backend of cluster b); {hosts}"),
            format!("cluster a in pool public {above} 9: g1 (default); {hosts}"),
            format!("cluster b in pool public {emptied}: g1 (last backend of cluster b)"),
            format!("namespace shop of cluster a in pool public {above} 9: g1 (default); {hosts}"),
            format!(
                "namespace pay of cluster b in pool public {emptied}: g1 (last backend of namespace pay of cluster b)"
            ),
        ]
    );
}

#[test]
fn units_forget_weights_and_services_but_not_who_serves() {
    let spec = parse("h 1-1 / a/shop b/shop");
    let mut changed = hosts(&spec).remove(0);
    let before = Units::of(&changed);
    changed.routes[0].backends[0].weight = 0;
    if let Target::Backend(id) = &mut changed.routes[0].backends[0].target {
        id.port = PortRef::Number(81);
    }
    assert_eq!(Units::of(&changed), before);
    changed.routes[0].backends[0].target = Target::Resource;
    assert!(Units::loses(Some(&before), Some(&Units::of(&changed))));
    assert!(!Units::loses(Some(&Units::of(&changed)), Some(&before)));
    assert!(!Units::loses(None, Some(&before)));
    assert!(Units::loses(Some(&before), None));
}

#[test]
fn a_host_that_nobody_has_a_part_in_counts_for_the_pool() {
    let bare = |index: usize| Host::new(PoolName::from(POOL), HostKey::Exact(format!("h{index}").into()));
    let all: Vec<Host> = (0..21).map(bare).collect();
    let pool = PoolName::from(POOL);
    let trips = guard(&Summary::of(&pool, &all), &Summary::new(pool.clone()), &Context::default());
    assert_eq!(trips.iter().map(describe).collect::<Vec<_>>(), ["pool above 21 of 21 limit 20"]);
    assert_eq!(trips[0].hosts.values().next(), Some(&vec![Unit::Host]));
    assert_eq!(Summary::of(&PoolName::from("other"), &all).len(), 0, "hosts of another pool are not counted");
}

#[test]
fn a_withdrawal_of_an_earlier_process_is_recalled() {
    let spec = parse("h 1-100 / a/shop");
    let left: Spec = spec.clone().into_iter().skip(15).collect();
    let mut window = Window::new(summary(&left));
    for lost in hosts(&spec).iter().take(15) {
        window.recall(1_000, &lost.name, Units::of(lost));
    }
    assert_eq!(*window.baseline(2_000), summary(&spec));
    let fewer: Spec = left.into_iter().skip(6).collect();
    let (trips, split) = propose(&mut window, 2_000, &fewer, &Context::default());
    assert_eq!((trips.len(), split.held.len()), (1, 6));
    let (trips, _) = propose(&mut window, 1_000 + WINDOW_MS, &fewer, &Context::default());
    assert_eq!(trips, []);
}

#[test]
fn time_never_goes_back() {
    let one = parse("h 1-1 / a/shop");
    let (name, units) = (hosts(&one)[0].name.clone(), Units::of(&hosts(&one)[0]));
    let mut window = Window::new(summary(&one));
    window.publish(WINDOW_MS, &name, None);
    assert_eq!(window.baseline(0).len(), 1, "an earlier time forgets nothing");
    window.publish(WINDOW_MS + 5, &name, Some(units));
    window.publish(0, &name, None);
    assert_eq!(window.baseline(2 * WINDOW_MS + 4).len(), 1, "what happened before now happened now");
    assert_eq!(window.baseline(2 * WINDOW_MS + 5).len(), 0);
}

#[test]
fn a_full_window_forgets_the_oldest_first() {
    let spec = parse("h 1-9 / a/shop");
    let mut window = Window::bounded(summary(&spec), 5);
    let gone = hosts(&spec);
    for (at, lost) in gone.iter().enumerate() {
        window.publish(at as u64, &lost.name, None);
    }
    let kept: Vec<_> = window.baseline(9).hosts().cloned().collect();
    assert_eq!(kept, gone[4..].iter().map(|host| host.name.clone()).collect::<Vec<_>>());
}

#[test]
fn a_host_that_changes_often_is_remembered_whole() {
    let name = HostKey::Exact("h1".into());
    let routes = |count: usize| {
        let text: Vec<_> = (0..count).map(|index| format!("h 1-1 /{index} a/shop")).collect();
        parse(&text.join("\n"))
    };
    let most = 2 * HOST_LOSSES_MAX;
    let mut window = Window::new(summary(&routes(most)));
    for (at, count) in (1..most).rev().enumerate() {
        let fewer = hosts(&routes(count)).remove(0);
        window.publish(at as u64, &name, Some(Units::of(&fewer)));
    }
    assert_eq!(*window.baseline(WINDOW_MS - 1), summary(&routes(most)));
    // The oldest withdrawals count as long as the oldest that is kept apart.
    let apart = (most - HOST_LOSSES_MAX) as u64 - 1;
    assert_eq!(*window.baseline(WINDOW_MS + apart - 1), summary(&routes(most)));
    assert_eq!(*window.baseline(WINDOW_MS + apart), summary(&routes(HOST_LOSSES_MAX)));
}

/// What a scope loses, from the rules alone: hosts, by looking at every part.
fn naive(before: &Spec, after: &Spec, context: &Context, scope: &Scope) -> BTreeSet<HostKey> {
    let of_scope = |(cluster, namespace, _): &(String, String, bool)| match scope {
        Scope::Pool => true,
        Scope::Cluster(of) => of.as_str() == cluster,
        Scope::Namespace(of, within) => of.as_str() == cluster && **within == **namespace,
    };
    let unexpected = |(cluster, namespace, _): &(String, String, bool)| {
        let cluster = cluster.as_str();
        let scopes =
            [Scope::Pool, Scope::Cluster(cluster.into()), Scope::Namespace(cluster.into(), namespace.as_str().into())];
        !scopes.iter().any(|scope| context.expected.contains(scope))
    };
    let empty = BTreeMap::new();
    let loses = |(name, paths): &(&String, &Paths)| {
        let left = after.get(*name).unwrap_or(&empty);
        let route_left = paths.iter().any(|(path, owners)| {
            !left.contains_key(path) && owners.iter().any(|owner| of_scope(owner) && unexpected(owner))
        });
        let same = |a: &(String, String, bool), b: &(String, String, bool)| match scope {
            Scope::Namespace(..) => (&a.0, &a.1) == (&b.0, &b.1),
            Scope::Pool | Scope::Cluster(_) => a.0 == b.0,
        };
        let standing = |of: &(String, String, bool), in_paths: &Paths| {
            in_paths.values().flatten().filter(|owner| same(owner, of)).map(|owner| owner.2).max()
        };
        let own = |of: &(String, String, bool), in_paths: &Paths| {
            let owners = in_paths.values().flatten().filter(|owner| (&owner.0, &owner.1) == (&of.0, &of.1));
            owners.map(|owner| owner.2).max()
        };
        let backend_left = paths.values().flatten().any(|owner| {
            let falls = standing(owner, left) < standing(owner, paths) && own(owner, left) < own(owner, paths);
            falls && of_scope(owner) && unexpected(owner)
        });
        route_left || backend_left
    };
    let lost = before.iter().filter(loses).map(|(name, _)| HostKey::Exact(name.as_str().into()));
    lost.filter(|host| !context.approved.contains(host)).collect()
}

/// How many hosts a scope has a part in.
fn naive_total(spec: &Spec, scope: &Scope) -> usize {
    let of_scope = |(cluster, namespace, _): &(String, String, bool)| match scope {
        Scope::Pool => true,
        Scope::Cluster(of) => of.as_str() == cluster,
        Scope::Namespace(of, within) => of.as_str() == cluster && **within == **namespace,
    };
    spec.values().filter(|paths| paths.values().flatten().any(of_scope)).count()
}

fn naive_scopes() -> Vec<Scope> {
    let clusters = ["a", "b", "c"];
    let namespaces =
        clusters.iter().flat_map(|cluster| ["x", "y"].map(|it| Scope::Namespace((*cluster).into(), it.into())));
    let clusters = clusters.iter().map(|cluster| Scope::Cluster((*cluster).into()));
    [Scope::Pool].into_iter().chain(clusters).chain(namespaces).collect()
}

fn naive_trips(before: &Spec, after: &Spec, context: &Context) -> Vec<(Scope, Why, BTreeSet<HostKey>)> {
    let trip = |scope: Scope| {
        let lost = naive(before, after, context, &scope);
        let total = naive_total(before, &scope);
        let (least, percent) = if scope == Scope::Pool { (20, 5) } else { (5, 30) };
        let inferred = match scope.cluster() {
            Some(cluster) => context.inferred.contains(cluster),
            None => context
                .inferred
                .iter()
                .any(|cluster| !naive(before, after, context, &Scope::Cluster(cluster.clone())).is_empty()),
        };
        let why = if !lost.is_empty() && inferred && naive_total(after, &scope) == 0 {
            Why::Emptied
        } else if lost.len() > least && lost.len() * 100 > total * percent {
            Why::Above
        } else {
            return None;
        };
        Some((scope, why, lost))
    };
    naive_scopes().into_iter().filter_map(trip).collect()
}

fn owner() -> impl Strategy<Value = Owner> {
    (select(vec!["a", "b", "c"]), select(vec!["x", "y"]), prop::bool::weighted(0.9))
}

/// Up to 40 hosts with up to 3 slots each.
fn spec() -> impl Strategy<Value = Spec> {
    let part = (0..40_u8, select(vec!["/", "/api", "default"]), owner());
    prop::collection::vec(part, 0..120).prop_map(|parts| {
        let mut spec = Spec::new();
        for (host, path, (cluster, namespace, serves)) in parts {
            let owners = spec.entry(format!("h{host}")).or_default().entry(path.to_owned()).or_default();
            owners.retain(|owner| (owner.0.as_str(), owner.1.as_str()) != (cluster, namespace));
            owners.insert((cluster.to_owned(), namespace.to_owned(), serves));
        }
        spec
    })
}

fn context() -> impl Strategy<Value = Context> {
    let expected = prop::collection::btree_set(select(naive_scopes()[1..].to_vec()), 0..2);
    let approved = prop::collection::btree_set((0..40_u8).prop_map(|it| HostKey::Exact(format!("h{it}").into())), 0..8);
    let inferred = prop::collection::btree_set(select(vec!["a", "b", "c"]).prop_map(Into::into), 0..3);
    (expected, approved, inferred).prop_map(|(expected, approved, inferred)| Context { expected, approved, inferred })
}

/// Which parts are taken away: each by its place among all parts.
fn picks() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..100)
}

/// What stays without some of the parts, and without what they leave empty.
fn without(spec: &Spec, picks: &[Index]) -> Spec {
    let mut parts: Vec<_> = spec
        .iter()
        .flat_map(|(host, paths)| paths.iter().map(move |(path, owners)| (host, path, owners)))
        .flat_map(|(host, path, owners)| owners.iter().map(move |owner| (host, path, owner)))
        .collect();
    for pick in picks {
        if !parts.is_empty() {
            parts.swap_remove(pick.index(parts.len()));
        }
    }
    let mut left = Spec::new();
    for (host, path, owner) in parts {
        left.entry(host.clone()).or_default().entry(path.clone()).or_default().insert(owner.clone());
    }
    left
}

fn union<'a>(specs: impl Iterator<Item = &'a Spec>) -> Spec {
    let mut whole = Spec::new();
    for (host, paths) in specs.flatten() {
        for (path, owners) in paths {
            let into = whole.entry(host.clone()).or_default().entry(path.clone()).or_default();
            into.extend(owners.iter().cloned());
        }
    }
    whole
}

fn same_units(a: &Summary, b: &Summary) -> bool {
    let hosts: BTreeSet<_> = a.hosts().chain(b.hosts()).collect();
    hosts.iter().all(|host| !Units::loses(a.get(host), b.get(host)) && !Units::loses(b.get(host), a.get(host)))
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_guard_agrees_with_the_naive_one(
        (before, after, picks, context) in (spec(), spec(), picks(), context()),
    ) {
        for after in [without(&before, &picks), after] {
            let trips = guard(&summary(&before), &summary(&after), &context);
            let got: Vec<_> =
                trips.iter().map(|trip| (trip.scope.clone(), trip.why, trip.hosts.keys().cloned().collect())).collect();
            prop_assert_eq!(got, naive_trips(&before, &after, &context));
            for trip in trips {
                prop_assert_eq!(trip.count, trip.hosts.len());
                prop_assert_eq!(trip.of, naive_total(&before, &trip.scope));
                prop_assert!(trip.hosts.values().all(|units| !units.is_empty()));
            }
        }
    }

    #[test]
    fn withdrawing_more_never_makes_a_trip_go_away(
        (before, some, more, context) in (spec(), picks(), picks(), context()),
    ) {
        let less = without(&before, &some);
        let least = without(&less, &more);
        let baseline = summary(&before);
        let trips = guard(&baseline, &summary(&less), &context);
        let further = guard(&baseline, &summary(&least), &context);
        for trip in trips {
            let same = further.iter().find(|it| it.scope == trip.scope);
            prop_assert!(same.is_some_and(|same| trip.hosts.keys().all(|host| same.hosts.contains_key(host))));
        }
    }

    #[test]
    fn expecting_more_never_adds_a_trip((before, after, context) in (spec(), spec(), context())) {
        let (baseline, next) = (summary(&before), summary(&after));
        let strict = Context { inferred: context.inferred.clone(), ..Context::default() };
        let strict: BTreeSet<_> = guard(&baseline, &next, &strict).into_iter().map(|trip| trip.scope).collect();
        let lenient = guard(&baseline, &next, &context);
        prop_assert!(lenient.iter().all(|trip| strict.contains(&trip.scope)));
        prop_assert!(!lenient.iter().any(|trip| context.expected.contains(&trip.scope)));
    }

    #[test]
    fn few_withdrawals_never_trip((before, picks) in (spec(), picks())) {
        let few: Vec<_> = picks.into_iter().take(5).collect();
        prop_assert_eq!(guard(&summary(&before), &summary(&without(&before, &few)), &Context::default()), []);
    }

    #[test]
    fn order_does_not_matter((spec, shuffled) in spec().prop_flat_map(|spec| {
        let hosts = hosts(&spec);
        (Just(spec), Just(hosts).prop_shuffle())
    })) {
        let mut other = Summary::new(PoolName::from(POOL));
        for host in &shuffled {
            other.insert(host);
            other.remove(&host.name);
            other.insert(host);
        }
        prop_assert_eq!(&other, &summary(&spec));
        shuffled.iter().for_each(|host| other.remove(&host.name));
        prop_assert_eq!(other, Summary::new(PoolName::from(POOL)));
    }

    /// Whatever is proposed, what gets through is never too much, and what is not affected gets through.
    #[test]
    fn what_is_published_is_never_above_the_limits(
        steps in prop::collection::vec((0..WINDOW_MS / 2, spec()), 1..8),
        inferred in prop::collection::btree_set(select(vec!["a", "b", "c"]).prop_map(Into::into), 0..3),
    ) {
        let context = Context { inferred, ..Context::default() };
        let mut window = Window::new(Summary::new(PoolName::from(POOL)));
        let mut now_ms = 0;
        for (pause_ms, next) in steps {
            now_ms += pause_ms;
            let (trips, split) = propose(&mut window, now_ms, &next, &context);
            prop_assert_eq!(split.held.is_empty(), trips.is_empty(), "what trips is held, and nothing else");
            publish(&mut window, now_ms, split);
            let published = window.published().clone();
            prop_assert_eq!(guard(window.baseline(now_ms), &published, &context), []);
        }
    }

    #[test]
    fn the_baseline_is_everything_published_within_the_window(
        steps in prop::collection::vec((1..WINDOW_MS / 2, spec()), 1..8),
    ) {
        let mut window = Window::new(Summary::new(PoolName::from(POOL)));
        let mut history: Vec<(u64, Spec)> = Vec::new();
        let mut now_ms = 0;
        for (pause_ms, next) in steps {
            now_ms += pause_ms;
            for (host, units) in changes(window.published(), &next) {
                window.publish(now_ms, &host, units);
            }
            history.push((now_ms, next));
            let until = |index: usize| history.get(index + 1).map_or(u64::MAX, |(from, _)| *from);
            let seen = history.iter().enumerate().filter(|(index, _)| until(*index) > now_ms.saturating_sub(WINDOW_MS));
            let whole = summary(&union(seen.map(|(_, (_, spec))| spec)));
            prop_assert!(same_units(window.baseline(now_ms), &whole));
        }
        let published = window.published().clone();
        prop_assert_eq!(window.baseline(now_ms + WINDOW_MS), &published);
    }
}
