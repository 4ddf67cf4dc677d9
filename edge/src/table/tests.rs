//! The live table against what routing's own lookup says, and the life of backends.

use proptest::prelude::*;
use roadstead_routing::endpoints::Locality;
use roadstead_routing::id::{ObjectName, PortRef};
use roadstead_routing::lookup::{Found as Expected, request_host, request_path};
use roadstead_routing::policy::Strategy;
use roadstead_routing::settings::ClientSettings;
use roadstead_routing::table::{
    Backend, BackendProtocol, Endpoint, ExternalName, Host, PathMatch, Route, RouteBackend, Table, Target,
};

use super::*;
use crate::health::{Clock, Millis};

fn id(name: &str) -> BackendId {
    BackendId { cluster: "eu".into(), service: ObjectName::new("shop", name), port: PortRef::Number(80) }
}

fn part(name: &str) -> RouteBackend {
    let target = Target::Backend(id(name));
    RouteBackend::new("eu".into(), 1, target, ObjectName::new("shop", "web"))
}

fn backend(name: &str, addresses: &[&str]) -> Backend {
    let endpoint = |text: &&str| Endpoint { address: text.parse().unwrap(), for_zones: vec![] };
    Backend { endpoints: addresses.iter().map(endpoint).collect(), ..Backend::empty(id(name)) }
}

/// A host whose routes lead to backends of these names.
fn host(name: &str, routes: &[(PathMatch, &str)], default: Option<&str>) -> Host {
    let routes = routes.iter().map(|(path, backend)| Route::new(path.clone(), vec![part(backend)]));
    Host {
        routes: routes.collect(),
        default: default.map(part).into_iter().collect(),
        ..Host::new("public".into(), HostKey::parse(name).unwrap())
    }
}

fn put(host: Host) -> HostChange {
    HostChange::Put(Box::new(CompiledHost::new(host).unwrap()))
}

fn writer() -> (TableWriter, Arc<LiveTable>) {
    let table = LiveTable::new();
    (TableWriter::new(table.clone(), Locality::default()), table)
}

/// The name of the service that answers.
fn answer(table: &LiveTable, host: &str, path: &str) -> Option<String> {
    let found = table.find(&request_host(host), &request_path(path))?;
    Some(found.route().clusters[0].backend.as_ref()?.id.service.name.to_string())
}

fn addresses(route: &LiveRoute) -> Vec<String> {
    let backend = route.clusters[0].backend.as_ref().unwrap();
    backend.endpoints().as_slice().iter().map(|endpoint| endpoint.address.to_string()).collect()
}

#[test]
fn the_live_table_finds_what_routing_finds() {
    let prefix = |path: &str| PathMatch::Prefix(path.into());
    let hosts = [
        host("a.example.com", &[(PathMatch::Exact("/x".into()), "exact"), (prefix("/p"), "prefix")], None),
        host("b.example.com", &[(prefix("/only"), "only")], Some("own-default")),
        host("*.example.com", &[(prefix(""), "wildcard")], None),
        host("*", &[(prefix("/any"), "any")], None),
        host("_", &[], Some("catch-all")),
    ];
    let (mut writer, live) = writer();
    let mut table = Table::default();
    for host in hosts {
        table.hosts.insert((host.pool.clone(), host.name.clone()), host.clone());
        writer.change_hosts(vec![put(host)]);
    }
    for with_catch_all in [true, false] {
        if !with_catch_all {
            table.hosts.remove(&("public".into(), HostKey::CatchAll));
            writer.change_hosts(vec![HostChange::Remove(HostKey::CatchAll)]);
        }
        for name in ["a.example.com", "A.EXAMPLE.COM.:80", "b.example.com", "c.example.com", "c.d.example.com", "", "x"]
        {
            for path in ["/", "/x", "/x/", "/p/q", "/pq", "/only", "/any/1", "/a/../x"] {
                let expected = match table.lookup(&"public".into(), name, path) {
                    Expected::NotFound => None,
                    found => match &found.backends()[0].target {
                        Target::Backend(id) => Some(id.service.name.to_string()),
                        Target::Resource | Target::Nothing => unreachable!("no such target here"),
                    },
                };
                assert_eq!(answer(&live, name, path), expected, "{name}{path}");
            }
        }
    }
}

#[test]
fn a_host_may_come_before_its_backend() {
    let (mut writer, table) = writer();
    writer.change_hosts(vec![put(host("a", &[(PathMatch::Prefix("".into()), "web")], None))]);
    let found = table.find("a", "/").unwrap();
    assert!(addresses(found.route()).is_empty());
    assert_eq!((writer.hosts(), writer.backends()), (1, 0));
    writer.put_backend(&backend("web", &["10.0.0.2:80", "10.0.0.1:80"]));
    assert_eq!(addresses(found.route()), ["10.0.0.1:80", "10.0.0.2:80"], "also for a request that is under way");
}

#[test]
fn a_backend_stays_while_a_host_names_it() {
    let (mut writer, _table) = writer();
    let named = |backend| put(host("a", &[(PathMatch::Prefix("".into()), backend)], Some(backend)));
    writer.put_backend(&backend("old", &["10.0.0.1:80"]));
    writer.change_hosts(vec![named("old")]);
    assert_eq!(writer.remove_backend(&id("old")), Err(StillNamed));
    writer.change_hosts(vec![named("old")]);
    assert_eq!(writer.remove_backend(&id("old")), Err(StillNamed));
    writer.change_hosts(vec![named("new")]);
    assert_eq!(writer.remove_backend(&id("old")), Ok(()));
    assert_eq!(writer.backends(), 0, "one that was only named does not count");
    writer.put_backend(&backend("new", &[]));
    writer.change_hosts(vec![HostChange::Remove(HostKey::Exact("a".into()))]);
    assert_eq!(writer.remove_backend(&id("new")), Ok(()));
    assert_eq!((writer.hosts(), writer.backends()), (0, 0));
}

#[test]
fn an_endpoint_that_stays_keeps_its_health_and_one_that_goes_is_dropped() {
    let (mut writer, table) = writer();
    writer.change_hosts(vec![put(host("a", &[(PathMatch::Prefix("".into()), "web")], None))]);
    writer.put_backend(&backend("web", &["10.0.0.1:80", "10.0.0.2:80"]));
    let now: Millis = Clock::start().now();
    let found = table.find("a", "/").unwrap();
    let live = found.route().clusters[0].backend.clone().unwrap();
    let gone = Arc::downgrade(&live.endpoints().as_slice()[1]);
    live.endpoints().as_slice()[0].health.failed(now);
    writer.put_backend(&backend("web", &["10.0.0.1:80", "10.0.0.3:80"]));
    let usable: Vec<bool> = live.endpoints().as_slice().iter().map(|one| one.health.is_usable(now)).collect();
    assert_eq!(usable, [false, true]);
    assert!(gone.upgrade().is_none(), "pools notice by this that an endpoint left the table");
}

#[test]
fn backends_with_endpoints_that_may_not_be_used_are_named() {
    let (mut writer, table) = writer();
    let prefix = || PathMatch::Prefix("".into());
    writer.change_hosts(vec![
        put(host("a", &[(prefix(), "web")], None)),
        put(host("b", &[(prefix(), "api")], None)),
        put(host("c", &[(prefix(), "never-put")], None)),
    ]);
    writer.put_backend(&backend("web", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]));
    writer.put_backend(&backend("api", &["10.0.0.4:80"]));
    let at = |ms| Millis::new(std::time::Duration::from_millis(ms));
    assert_eq!(writer.failing(at(0)).count(), 0);
    let found = table.find("a", "/").unwrap();
    let live = found.route().clusters[0].backend.clone().unwrap();
    live.endpoints().as_slice()[..2].iter().for_each(|endpoint| endpoint.health.failed(at(0)));
    let web = id("web");
    let failing: Vec<FailingBackend<'_>> = writer.failing(at(1)).collect();
    assert_eq!(failing, [FailingBackend { id: &web, failing: 2, endpoints: 3 }]);
    live.endpoints().as_slice()[0].health.succeeded();
    assert_eq!(writer.failing(at(1)).map(|backend| backend.failing).collect::<Vec<_>>(), [1]);
    assert_eq!(writer.failing(at(10_000)).count(), 0, "its rest is over");
}

#[test]
fn zone_hints_are_applied_where_the_edge_is() {
    let mut backend = backend("web", &["10.0.0.1:80", "10.0.0.2:80"]);
    backend.endpoints[0].for_zones = vec!["a".into()];
    backend.endpoints[1].for_zones = vec!["b".into()];
    for (zone, expected) in [(Some("b"), 1), (Some("c"), 2), (None, 2)] {
        let table = LiveTable::new();
        let mut writer = TableWriter::new(table.clone(), Locality { zone: zone.map(Arc::from), ..Locality::default() });
        writer.put_backend(&backend);
        writer.change_hosts(vec![put(host("a", &[(PathMatch::Prefix("".into()), "web")], None))]);
        assert_eq!(addresses(table.find("a", "/").unwrap().route()).len(), expected, "{zone:?}");
    }
}

#[test]
fn a_route_that_sets_nothing_costs_nothing() {
    let (mut writer, table) = writer();
    let mut plain = host("a", &[(PathMatch::Prefix("/p".into()), "web")], Some("web"));
    writer.change_hosts(vec![put(plain.clone())]);
    for path in ["/p", "/"] {
        let found = table.find("a", path).unwrap();
        let route = found.route();
        assert!(route.settings.is_none() && route.levels.is_empty() && route.clusters[0].upstream.is_none());
    }
    let client = Arc::new(ClientSettings { https_redirect: true, ..ClientSettings::default() });
    plain.default_client = client.clone();
    writer.change_hosts(vec![put(plain.clone())]);
    assert!(table.find("a", "/p").unwrap().route().settings.is_none());
    assert!(table.find("a", "/").unwrap().route().settings.as_ref().unwrap().client.https_redirect);
    plain.default_client = Arc::default();
    plain.routes[0].client = client;
    writer.change_hosts(vec![put(plain)]);
    let id = |found: &Found| found.route().settings.as_ref().unwrap().id;
    let (found, before) = (table.find("a", "/p").unwrap(), table.find("a", "/p/x").unwrap());
    assert_eq!(id(&found), id(&before));
    assert!(table.find("a", "/").unwrap().route().settings.is_none());
}

#[test]
fn levels_are_what_the_strategy_makes_of_priorities_and_regions() {
    let table = LiveTable::new();
    let at = Locality { region: Some("eu-west".into()), ..Locality::default() };
    let mut writer = TableWriter::new(table.clone(), at);
    for (strategy, levels, distinct) in
        [(Strategy::Spread, [0, 0, 0], 0), (Strategy::Failover, [7, 3, 3], 2), (Strategy::Nearest, [1, 0, 1], 2)]
    {
        let mut host = host("a", &[(PathMatch::Prefix("".into()), "web")], None);
        let part = |(priority, region): (u32, &str)| RouteBackend { priority, region: region.into(), ..part("web") };
        host.routes[0].backends = [(7, "us-east"), (3, "eu-west"), (3, "")].map(part).to_vec();
        host.routes[0].strategy = strategy;
        writer.change_hosts(vec![put(host)]);
        let found = table.find("a", "/").unwrap();
        assert_eq!(found.route().clusters.iter().map(|one| one.level).collect::<Vec<_>>(), levels);
        assert_eq!(found.route().levels.len(), distinct);
    }
}

#[test]
fn an_external_name_is_one_endpoint_that_keeps_its_health_until_it_changes() {
    let (mut writer, table) = writer();
    writer.change_hosts(vec![put(host("a", &[(PathMatch::Prefix("".into()), "web")], None))]);
    let found = table.find("a", "/").unwrap();
    let live = found.route().clusters[0].backend.clone().unwrap();
    let named = |name: &str, protocol| {
        let external_name = Some(ExternalName { host: name.into(), port: 443 });
        Backend { external_name, protocol, ..backend("web", &[]) }
    };
    let only = || live.endpoints().as_slice()[0].clone();
    writer.put_backend(&named("one.example.com", BackendProtocol::Https1));
    let first = only();
    assert_eq!((first.name.as_ref().unwrap().as_str(), first.address.port()), ("one.example.com", 443));
    writer.put_backend(&named("one.example.com", BackendProtocol::Https1));
    assert!(Arc::ptr_eq(&first, &only()));
    writer.put_backend(&named("one.example.com", BackendProtocol::H2));
    assert!(!Arc::ptr_eq(&first, &only()), "another protocol is another endpoint");
    writer.put_backend(&backend("web", &["10.0.0.1:80"]));
    assert!(only().name.is_none());
}

#[test]
fn a_pattern_that_cannot_be_compiled_refuses_the_host() {
    let broken = host("a", &[(PathMatch::Regex("(".into()), "web")], None);
    assert!(CompiledHost::new(broken).is_err());
}

proptest! {
    /// Whatever the order and batching of changes, the table is what the last change of each host said.
    #[test]
    fn the_last_change_of_each_host_counts(
        changes in prop::collection::vec((0usize..40, prop::option::of(0usize..5)), 0..120),
        batch in 1usize..10,
    ) {
        let (mut writer, table) = writer();
        let mut expected: HashMap<usize, usize> = HashMap::new();
        let name = |number: usize| if number.is_multiple_of(4) { format!("*.w{number}") } else { format!("h{number}.w") };
        for batch in changes.chunks(batch) {
            let change = |(number, backend): &(usize, Option<usize>)| match backend {
                Some(backend) => {
                    expected.insert(*number, *backend);
                    let prefix = PathMatch::Prefix("".into());
                    put(host(&name(*number), &[(prefix, &format!("b{backend}"))], None))
                }
                None => {
                    expected.remove(number);
                    HostChange::Remove(HostKey::parse(&name(*number)).unwrap())
                }
            };
            writer.change_hosts(batch.iter().map(change).collect());
        }
        for number in 0..40 {
            let answered = answer(&table, &name(number).replace('*', "x"), "/");
            prop_assert_eq!(answered, expected.get(&number).map(|backend| format!("b{backend}")));
        }
        prop_assert_eq!(writer.hosts(), expected.len());
        for backend in 0..5 {
            let named = expected.values().any(|it| *it == backend);
            prop_assert_eq!(writer.remove_backend(&id(&format!("b{backend}"))).is_err(), named);
        }
    }
}
