//! Every invariant that `check` knows is noticed when broken, and `diff` says what changed.

use crate::check::{BackendFault, HostFault, Violation, check, check_host};
use crate::compute::build;
use crate::diff::diff;
use crate::id::{BackendId, ClusterId, HostKey, ObjectName, PoolName, PortRef};
use crate::inputs::Inputs;
use crate::policy::WEIGHT_MAX;
use crate::table::{Host, PathMatch, Table, Target};

use super::world::{self, POOL};

const WORLD: &str = "
a shop/web use-regex=true
  h.ex.com  Exact   /e     web
  h.ex.com  Impl    /p.*   web
  h.ex.com  Prefix  /long  web
  h.ex.com  Prefix  /      web
  default   web
b shop/web
  h.ex.com  Prefix  /      web
";

fn world() -> (Inputs, Table) {
    let inputs = world::inputs(world::policy(), &world::parse(WORLD));
    let table = build(&inputs).table;
    (inputs, table)
}

fn key() -> (PoolName, HostKey) {
    (PoolName::from(POOL), HostKey::Exact("h.ex.com".into()))
}

fn backend() -> BackendId {
    let (cluster, port) = (ClusterId::from("a"), PortRef::Name("http".into()));
    BackendId { cluster, service: ObjectName::new("shop", "web"), port }
}

/// The host faults that `check` finds after `break_it` was done to the host.
fn host_faults(break_it: impl FnOnce(&mut Host)) -> Vec<HostFault> {
    let (inputs, mut table) = world();
    break_it(table.hosts.get_mut(&key()).expect("the host"));
    let fault = |violation| match violation {
        Violation::Host { fault, .. } => fault,
        Violation::Backend { .. } => panic!("only the host is broken: {violation}"),
    };
    check(&inputs, &table).into_iter().map(fault).collect()
}

/// All violations after `break_it` was done to the table.
fn violations(break_it: impl FnOnce(&mut Table)) -> Vec<String> {
    let (inputs, mut table) = world();
    break_it(&mut table);
    check(&inputs, &table).iter().map(ToString::to_string).collect()
}

#[test]
fn a_built_table_has_no_violation() {
    assert_eq!(violations(|_| ()), Vec::<String>::new());
}

#[test]
fn broken_routes_are_found() {
    let prefix = |path: &str| PathMatch::Prefix(path.into());
    assert_eq!(host_faults(|host| host.routes[0].backends.clear()), [HostFault::NoBackends(host_path(0))]);
    assert_eq!(host_faults(|host| host.routes.swap(2, 3)), [HostFault::RouteOrder(prefix("/long"))]);
    let twice = host_faults(|host| host.routes.push(host.routes[3].clone()));
    assert_eq!(twice, [HostFault::DuplicateRoute(prefix(""))]);
    assert_eq!(host_faults(|host| host.routes[2].path = prefix("/long/")), [HostFault::NotCanonical(prefix("/long/"))]);
    assert_eq!(host_faults(|host| host.routes[1].path = PathMatch::Regex("(".into())), [HostFault::Pattern]);
}

fn host_path(index: usize) -> PathMatch {
    world().1.hosts[&key()].routes[index].path.clone()
}

#[test]
fn broken_backend_sets_are_found() {
    assert_eq!(host_faults(|host| host.routes[3].backends.reverse()), [HostFault::BackendOrder]);
    let twice = host_faults(|host| host.default.push(host.default[0].clone()));
    assert_eq!(twice, [HostFault::BackendOrder]);
    assert_eq!(host_faults(|host| host.default[0].weight = WEIGHT_MAX + 1), [HostFault::Weight]);
    let elsewhere = BackendId { port: PortRef::Number(9), ..backend() };
    let dangling = host_faults(|host| host.default[0].target = Target::Backend(elsewhere.clone()));
    assert_eq!(dangling, [HostFault::DanglingBackend(elsewhere)]);
    let foreign = BackendId { cluster: ClusterId::from("b"), ..backend() };
    let crossed = host_faults(|host| host.default[0].target = Target::Backend(foreign.clone()));
    assert_eq!(crossed, [HostFault::ForeignBackend(foreign)]);
    let other = ObjectName::new("shop", "other");
    assert_eq!(host_faults(|host| host.default[0].ingress = other.clone()), [HostFault::ForeignIngress(other)]);
}

#[test]
fn hosts_without_a_place_are_found() {
    let missing = violations(|table| drop(table.hosts.remove(&key())));
    assert_eq!(missing, ["pool public host h.ex.com: it is declared but not in the table"]);
    let undeclared = violations(|table| {
        let name = HostKey::Wildcard("ex.com".into());
        let host = Host::new(PoolName::from("nowhere"), name.clone());
        table.hosts.insert((host.pool.clone(), name), host);
    });
    assert_eq!(
        undeclared,
        [
            "pool nowhere host *.ex.com: the policy has no such pool",
            "pool nowhere host *.ex.com: no Ingress declares it"
        ]
    );
    let misplaced = violations(|table| {
        let host = table.hosts[&key()].clone();
        table.hosts.insert((PoolName::from(POOL), HostKey::CatchAll), host);
    });
    assert_eq!(misplaced, ["pool public host h.ex.com: is stored under another name"]);
}

#[test]
fn a_catch_all_with_routes_is_found() {
    let (_, table) = world();
    let host = Host { name: HostKey::CatchAll, ..table.hosts[&key()].clone() };
    let found = check_host(&host);
    assert!(
        matches!(&found[..], [Violation::Host { fault: HostFault::CatchAllRoutes, .. }]),
        "only the routes are wrong: {found:?}"
    );
}

#[test]
fn broken_backends_are_found() {
    let faults = |break_it: fn(&mut Table)| {
        let (inputs, mut table) = world();
        break_it(&mut table);
        let fault = |violation: Violation| match violation {
            Violation::Backend { fault, .. } => Some(fault),
            Violation::Host { .. } => None,
        };
        check(&inputs, &table).into_iter().filter_map(fault).collect::<Vec<_>>()
    };
    assert_eq!(faults(|table| drop(table.backends.remove(&backend()))), [BackendFault::Missing]);
    let unreferenced = faults(|table| {
        let id = BackendId { port: PortRef::Number(9), ..backend() };
        let stray = crate::table::Backend { id: id.clone(), ..table.backends[&backend()].clone() };
        table.backends.insert(id, stray);
    });
    assert_eq!(unreferenced, [BackendFault::Unreferenced]);
    let doubled = faults(|table| {
        let endpoints = &mut table.backends.get_mut(&backend()).expect("the backend").endpoints;
        endpoints.push(endpoints[0].clone());
    });
    assert_eq!(doubled, [BackendFault::EndpointOrder]);
    let renamed = faults(|table| table.backends.get_mut(&backend()).expect("it").id.port = PortRef::Number(9));
    assert_eq!(renamed, [BackendFault::WrongKey]);
}

fn lines(before: &str, after: &str) -> Vec<String> {
    let table = |text| build(&world::inputs(world::policy(), &world::parse(text))).table;
    diff(&table(before), &table(after)).iter().map(ToString::to_string).collect()
}

#[test]
fn a_diff_reads_as_one_line_for_each_change() {
    let before = "
a shop/web
  gone.ex.com  Prefix  /     web
  h.ex.com     Exact   /old  web
  h.ex.com     Prefix  /     web
";
    let after = "
a shop/web use-regex=true
  h.ex.com  Prefix  /      web
  h.ex.com  Impl    /n.w$  @bucket
  default   other
b shop/web
  h.ex.com  Prefix  /      ?web
";
    assert_eq!(
        lines(before, after),
        [
            "- public gone.ex.com",
            "- public h.ex.com exact /old: a/shop/web:http weight 100",
            "+ public h.ex.com regex /n.w$: a/resource",
            concat!(
                "~ public h.ex.com prefix /: a/shop/web:http weight 100 -> ",
                "a/shop/web:http weight 100, b/shop/web:http weight 100"
            ),
            "+ public h.ex.com default: a/shop/other:http weight 100",
            "+ public _",
            "+ public _ default: a/shop/other:http weight 100",
            "+ backend a/shop/other:http: 1 endpoints",
            "+ backend b/shop/web:http: 0 endpoints",
        ]
    );
}

#[test]
fn a_diff_names_endpoints() {
    let world = "a shop/web\n  h.ex.com  Prefix  /  web";
    assert_eq!(
        lines(world, &world.replace("web\n", "web age=9\n").replace("  web", "  ?web")),
        ["~ backend a/shop/web:http: -10.0.0.1:8080"]
    );
    assert_eq!(lines("", world).last().map(String::as_str), Some("+ backend a/shop/web:http: 1 endpoints"));
    assert_eq!(lines(world, "").last().map(String::as_str), Some("- backend a/shop/web:http"));
    assert_eq!(lines(world, world), Vec::<String>::new());
}
