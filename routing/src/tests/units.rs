//! What case files cannot say: limits, pools, weights, what becomes dirty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::class::{NoPool, pool_of};
use crate::compute::{build, compute_backend, compute_host, compute_ingress};
use crate::declare::declare;
use crate::endpoints::resolve;
use crate::finding::{Code, Severity};
use crate::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName, PortRef};
use crate::inputs::{Dirty, Inputs};
use crate::limit;
use crate::lookup::{buckets, shares, unserved_status};
use crate::object::{Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, Object, PathType};
use crate::policy::{ALL_DOWN, CONTROLLER_NAME, ClusterPolicy, Defaults, Hsts, Policy, StatusPolicy, WEIGHT_MAX};
use crate::settings::AllDown;
use crate::table::{PathMatch, RouteBackend, Target};

use super::world::{self, CLASS, POOL};

const WORLD: &str = "
a shop/web
  h.ex.com  Prefix  /   web
  i.ex.com  Prefix  /x  other
  default   web
b shop/web
  h.ex.com  Prefix  /   web
";

fn cluster() -> ClusterId {
    ClusterId::from("a")
}

fn web() -> ObjectName {
    ObjectName::new("shop", "web")
}

fn host(name: &str) -> (PoolName, HostKey) {
    (PoolName::from(POOL), HostKey::parse(name).expect("a host"))
}

fn backend(cluster: &str, service: &str) -> BackendId {
    let port = PortRef::Name("http".into());
    BackendId { cluster: ClusterId::from(cluster), service: ObjectName::new("shop", service), port }
}

fn dirty(hosts: &[&str], services: &[&str], ingresses: &[&str]) -> Dirty {
    Dirty {
        hosts: hosts.iter().map(|name| host(name)).collect(),
        backends: services.iter().map(|name| backend("a", name)).collect(),
        ingresses: ingresses.iter().map(|name| (cluster(), ObjectName::new("shop", *name))).collect(),
    }
}

fn put(inputs: &mut Inputs, object: Object) -> Dirty {
    inputs.apply(&cluster(), &object.key(), Some(object))
}

fn ingress_with(paths: Vec<IngressPath>) -> Ingress {
    let rules = vec![IngressRule { host: "h.ex.com".into(), paths: Some(paths) }];
    Ingress { name: web(), class_name: Some(CLASS.into()), rules, ..Ingress::default() }
}

fn path(text: impl Into<Arc<str>>) -> IngressPath {
    let backend = IngressBackend::Service { name: "web".into(), port: Some(PortRef::Number(80)) };
    IngressPath { path: text.into(), path_type: PathType::Prefix, backend }
}

/// Codes and severities of one Ingress's own findings.
fn findings(ingress: &Ingress) -> Vec<(Code, Severity)> {
    let found = declare(ingress).findings(&cluster(), &ingress.name);
    found.into_iter().map(|finding| (finding.code, finding.severity)).collect()
}

#[test]
fn a_pod_change_makes_only_its_backends_dirty() {
    let mut inputs = world::inputs(world::policy(), &world::parse(WORLD));
    assert_eq!(put(&mut inputs, world::slice("shop", "web", &["10.0.0.2"])), dirty(&[], &["web"], &[]));
    assert_eq!(put(&mut inputs, world::slice("shop", "web", &["10.0.0.2"])), Dirty::default());
    assert_eq!(put(&mut inputs, world::slice("shop", "unknown", &["10.0.0.2"])), Dirty::default());
    assert_eq!(put(&mut inputs, world::service("shop", "other", false)), dirty(&[], &["other"], &[]));
}

#[test]
fn a_slice_that_changes_its_service_makes_both_dirty() {
    let mut inputs = world::inputs(world::policy(), &world::parse(WORLD));
    let Object::EndpointSlice(slice) = world::slice("shop", "web", &["10.0.0.3"]) else { panic!("a slice") };
    let moved =
        Object::EndpointSlice(Arc::new(crate::object::EndpointSlice { service: "other".into(), ..(*slice).clone() }));
    assert_eq!(put(&mut inputs, moved), dirty(&[], &["other", "web"], &[]));
    let endpoints = |name| compute_backend(&inputs, &backend("a", name)).backend.map(|it| it.endpoints.len());
    assert_eq!((endpoints("web"), endpoints("other")), (Some(0), Some(2)));
}

/// Of a Hold or a pin: the last endpoints stay until it is known where the Service leads.
#[test]
fn what_is_only_kept_has_no_endpoints_of_a_service_without_slices() {
    let mut inputs = world::inputs(world::policy(), &world::parse(WORLD));
    inputs.set_kept(BTreeSet::from([backend("a", "web")]));
    let ingress = ObjectKey { kind: Kind::Ingress, name: web() };
    inputs.apply(&cluster(), &ingress, None);
    let endpoints =
        |inputs: &Inputs| compute_backend(inputs, &backend("a", "web")).backend.map(|it| it.endpoints.len());
    assert!(endpoints(&inputs).is_some_and(|count| count > 0));
    let slice = world::slice("shop", "web", &[]);
    put(&mut inputs, slice.clone());
    assert_eq!(endpoints(&inputs), Some(0), "scaled to zero");
    inputs.apply(&cluster(), &slice.key(), None);
    assert_eq!(endpoints(&inputs), None, "without a slice");
}

#[test]
fn a_class_that_goes_takes_its_ingresses_along_and_brings_them_back() {
    let mut inputs = world::inputs(world::policy(), &world::parse(WORLD));
    let everything = dirty(&["h.ex.com", "i.ex.com", "_"], &["web", "other"], &["web"]);
    let class = ObjectKey::new(Kind::IngressClass, "", CLASS);
    assert_eq!(inputs.apply(&cluster(), &class, None), everything);
    assert_eq!(inputs.view(&cluster(), &web()), None);
    assert_eq!(inputs.cluster_hosts(&cluster()), 0);
    assert!(compute_backend(&inputs, &backend("a", "web")).backend.is_none());
    // The other cluster still serves the host.
    let (pool, name) = host("h.ex.com");
    assert!(compute_host(&inputs, &pool, &name).host.is_some());
    assert_eq!(put(&mut inputs, world::class(CLASS, CONTROLLER_NAME, None)), everything);
    assert_eq!(inputs.cluster_hosts(&cluster()), 3);
}

#[test]
fn a_class_that_changes_pool_moves_its_hosts() {
    let mut inputs = world::inputs(world::policy(), &world::parse(WORLD));
    let dirty = put(&mut inputs, world::class(CLASS, CONTROLLER_NAME, Some("internal")));
    let pools: BTreeSet<_> = dirty.hosts.iter().map(|(pool, _)| pool.as_str()).collect();
    assert_eq!(pools, BTreeSet::from([POOL, "internal"]));
    let view = inputs.view(&cluster(), &web()).expect("served");
    assert_eq!(view.pool.as_str(), "internal");
    assert_eq!(view.status, StatusPolicy::Write);
    assert_eq!(view.hosts, [host("h.ex.com").1, host("i.ex.com").1, HostKey::CatchAll]);
}

#[test]
fn an_ingress_of_a_pool_that_does_not_exist_is_reported_and_not_served() {
    let mut inputs = world::inputs(world::policy(), &world::parse("a shop/web\n  h.ex.com Prefix / web"));
    put(&mut inputs, world::class(CLASS, CONTROLLER_NAME, Some("nowhere")));
    assert_eq!(inputs.hosts().count(), 0);
    let found = compute_ingress(&inputs, &cluster(), &web());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].code, found[0].severity), (Code::UnknownPool, Severity::Error));
    assert!(found[0].message.contains("nowhere"), "{}", found[0].message);
}

#[test]
fn status_follows_the_class() {
    let world = "a shop/web kubernetes.io/ingress.class=listed\n  h.ex.com Prefix / web";
    let inputs = world::inputs(world::policy(), &world::parse(world));
    let view = inputs.view(&cluster(), &web()).expect("served");
    assert_eq!((view.pool.as_str(), view.status), ("internal", StatusPolicy::Never));
}

#[test]
fn pools_come_from_parameters_then_policy_then_default() {
    let policy = world::policy();
    let class = |pool: Option<&str>, kind: &str| {
        let Object::IngressClass(class) = world::class("listed", CONTROLLER_NAME, pool) else { panic!("a class") };
        let mut class = (*class).clone();
        if let Some(parameters) = &mut class.parameters {
            parameters.kind = kind.into();
        }
        class
    };
    let pool = |name: &str, class: Option<&IngressClass>, policy: &Policy| {
        pool_of(&name.into(), class, policy).map(|pool| pool.to_string())
    };
    assert_eq!(pool("listed", Some(&class(Some(POOL), "Pool")), &policy), Ok(POOL.to_owned()));
    assert_eq!(pool("listed", Some(&class(Some(POOL), "Other")), &policy), Ok("internal".to_owned()));
    assert_eq!(pool("listed", None, &policy), Ok("internal".to_owned()));
    assert_eq!(pool("unlisted", None, &policy), Ok(POOL.to_owned()));
    let unknown = NoPool::Unknown { class: "listed".into(), pool: PoolName::from("x") };
    assert_eq!(pool("listed", Some(&class(Some("x"), "Pool")), &policy), Err(unknown));
    let none = NoPool::NoDefault { class: "unlisted".into() };
    assert_eq!(pool("unlisted", None, &Policy::default()), Err(none));
}

#[test]
fn weights_come_from_the_policy() {
    let weight = |weight| ClusterPolicy { weight, ..ClusterPolicy::default() };
    let clusters = BTreeMap::from([(cluster(), weight(30)), (ClusterId::from("b"), weight(WEIGHT_MAX + 1))]);
    let policy = Policy { clusters, ..world::policy() };
    let inputs = world::inputs(policy, &world::parse(WORLD));
    let table = build(&inputs).table;
    let weights: Vec<_> = table.hosts[&host("h.ex.com")].routes[0].backends.iter().map(|it| it.weight).collect();
    assert_eq!(weights, [30, WEIGHT_MAX]);
}

#[test]
fn a_changed_policy_makes_everything_dirty_and_the_same_one_nothing() {
    let mut inputs = world::inputs(world::policy(), &world::parse(WORLD));
    assert!(inputs.set_policy(world::policy()).is_empty());
    let mut smaller = world::policy();
    smaller.pools.remove(&PoolName::from(POOL));
    smaller.pools.values_mut().for_each(|pool| pool.default = true);
    let dirty = inputs.set_policy(smaller);
    assert!(dirty.hosts.contains(&host("h.ex.com")));
    assert!(dirty.hosts.contains(&(PoolName::from("internal"), HostKey::CatchAll)));
    assert_eq!(dirty.ingresses.len(), 2);
    assert!(inputs.hosts().all(|(pool, _)| pool.as_str() == "internal"));
}

#[test]
fn a_weight_of_zero_serves_only_if_nobody_else_can() {
    let route = |weights: [u32; 2]| -> Vec<RouteBackend> {
        let part = |(cluster, weight): (&str, u32)| {
            RouteBackend::new(ClusterId::from(cluster), weight, Target::Backend(backend(cluster, "web")), web())
        };
        ["a", "b"].into_iter().zip(weights).map(part).collect()
    };
    let shared = |weights, usable: &[&str]| -> Vec<(String, u32)> {
        let route = route(weights);
        let shares = shares(&route, |id: &BackendId| u32::from(usable.contains(&id.cluster.as_str())));
        shares.into_iter().map(|(backend, weight)| (backend.cluster.to_string(), weight)).collect()
    };
    assert_eq!(shared([3, 0], &["a", "b"]), [("a".to_owned(), 3)]);
    assert_eq!(shared([3, 0], &["b"]), [("b".to_owned(), 1)]);
    assert_eq!(shared([0, 0], &["a", "b"]), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert_eq!(shared([3, 5], &["a", "b"]), [("a".to_owned(), 3), ("b".to_owned(), 5)]);
    assert_eq!(shared([3, 5], &[]), []);
}

#[test]
fn a_weight_may_count_once_for_each_endpoint() {
    let part = |(cluster, weight): (&str, u32)| {
        let target = Target::Backend(backend(cluster, "web"));
        let part = RouteBackend::new(ClusterId::from(cluster), weight, target, web());
        RouteBackend { weigh_by_endpoints: true, ..part }
    };
    let route = [("a", 10), ("b", 20), ("c", 10), ("d", 0)].map(part);
    let pods = |id: &BackendId| match id.cluster.as_str() {
        "a" => 30,
        "b" => 1,
        "c" => 0,
        _ => 5,
    };
    let shared: Vec<u32> = shares(&route, pods).into_iter().map(|(_, weight)| weight).collect();
    assert_eq!(shared, [300, 20]);
}

/// Weights of clusters that count differently could not be compared.
#[test]
fn all_clusters_of_a_route_are_weighed_as_the_first_asks() {
    let given = "a shop/web weigh-by-endpoints=true\n  h.ex.com  Prefix  /  web\n\
                 b shop/web\n  h.ex.com  Prefix  /  web\n  h.ex.com  Prefix  /b  web";
    let priority = |priority| ClusterPolicy { priority, ..ClusterPolicy::default() };
    for (a_priority, weighed) in [(0, true), (2, false)] {
        let clusters = [("a".into(), priority(a_priority)), ("b".into(), priority(1))].into();
        let inputs = world::inputs(Policy { clusters, ..world::policy() }, &world::parse(given));
        let host = build(&inputs).table.hosts.into_values().next().unwrap();
        let of = |path: &str| {
            let route = host.routes.iter().find(|route| route.path == PathMatch::Prefix(path.into())).unwrap();
            route.backends.iter().map(|part| part.weigh_by_endpoints).collect::<Vec<_>>()
        };
        assert_eq!(of(""), [weighed, weighed]);
        assert_eq!(of("/b"), [false]);
    }
}

#[test]
fn what_clients_get_while_nobody_serves_comes_from_the_ingress_else_from_the_policy() {
    let given = "one shop/web\n  h.ex.com  Prefix  /  web\n  h.ex.com  Prefix  /b  web\n\
                 one shop/own all-down=https://own.ex.com/\n  h.ex.com  Prefix  /own  web\n\
                 one shop/503 all-down=503\n  h.ex.com  Prefix  /503  web";
    let answers = |all_down: AllDown| {
        let defaults = Defaults { all_down, ..Defaults::default() };
        let inputs = world::inputs(Policy { defaults, ..world::policy() }, &world::parse(given));
        let host = build(&inputs).table.hosts.into_values().next().unwrap();
        let of = |path: &str| {
            let route = host.routes.iter().find(|route| route.path == PathMatch::Prefix(path.into())).unwrap();
            route.client.all_down.clone()
        };
        ["", "/own", "/503"].map(of)
    };
    let own = Some(AllDown::Redirect("https://own.ex.com/".into()));
    assert_eq!(answers(ALL_DOWN), [None, own.clone(), None]);
    assert_eq!(answers(AllDown::Status(500)), [Some(AllDown::Status(500)), own, None]);
}

#[test]
fn a_class_tells_browsers_to_stay_with_https() {
    let given = "one shop/web\n  a.ex.com  Prefix  /  web\n\
                 one shop/old class=nginx\n  b.ex.com  Prefix  /  web";
    let mut policy = world::policy();
    let hsts = Some(Hsts { max_age: 60, include_subdomains: false, preload: true });
    policy.classes.get_mut(world::NGINX).unwrap().hsts = hsts;
    let table = build(&world::inputs(policy, &world::parse(given))).table;
    let told: Vec<_> = table.hosts.values().map(|host| host.routes[0].client.hsts).collect();
    assert_eq!(told, [None, hsts]);
}

#[test]
fn nobody_to_serve_is_503() {
    assert_eq!(unserved_status(&[]), 503);
}

#[test]
fn buckets_are_asked_from_narrow_to_wide() {
    let names = |host| buckets(host).map(|bucket| HostKey::from(bucket).to_string()).collect::<Vec<_>>();
    assert_eq!(names("a.b.com"), ["a.b.com", "*.b.com", "*"]);
    assert_eq!(names("localhost"), ["localhost", "*"]);
    assert_eq!(names("a."), ["a.", "*"]);
    assert_eq!(names(""), ["*"]);
}

#[test]
fn paths_of_one_ingress_are_limited() {
    let paths = |count: usize| (0..count).map(|at| path(format!("/{at}"))).collect::<Vec<_>>();
    let declared = |ingress: &Ingress| declare(ingress).entries(&HostKey::Exact("h.ex.com".into())).len();
    let full = ingress_with(paths(limit::PATHS_PER_INGRESS_MAX));
    assert_eq!((declared(&full), findings(&full)), (limit::PATHS_PER_INGRESS_MAX, vec![]));
    let over = ingress_with(paths(limit::PATHS_PER_INGRESS_MAX + 1));
    assert_eq!(declared(&over), limit::PATHS_PER_INGRESS_MAX);
    assert_eq!(findings(&over), [(Code::TooManyPaths, Severity::Warning)]);
    // Rules without paths count as well.
    let rule = |at: usize| IngressRule { host: format!("h{at}.ex.com").into(), paths: None };
    let rules = (0..limit::PATHS_PER_INGRESS_MAX + 5).map(rule).collect();
    let hosts = Ingress { rules, ..Ingress::default() };
    assert_eq!(declare(&hosts).hosts.len(), limit::PATHS_PER_INGRESS_MAX);
    assert_eq!(findings(&hosts), [(Code::TooManyPaths, Severity::Warning)]);
}

#[test]
fn a_path_is_limited() {
    let of_length = |length: usize| ingress_with(vec![path(format!("/{}", "x".repeat(length - 1))), path("/ok")]);
    assert_eq!(findings(&of_length(limit::PATH_BYTES_MAX)), []);
    assert_eq!(findings(&of_length(limit::PATH_BYTES_MAX + 1)), [(Code::InvalidPath, Severity::Warning)]);
}

#[test]
fn an_annotation_is_limited() {
    let mut ingress = ingress_with(vec![path("/ok")]);
    let key: Arc<str> = "nginx.ingress.kubernetes.io/rewrite-target".into();
    ingress.annotations.insert(key.clone(), "/x".into());
    assert_eq!(findings(&ingress), []);
    ingress.annotations.insert(key.clone(), "x".repeat(limit::ANNOTATION_BYTES_MAX + 1).into());
    assert_eq!(findings(&ingress), [(Code::InvalidAnnotation, Severity::Warning)]);
    ingress.annotations.insert(key, "/\u{0}".into());
    assert_eq!(findings(&ingress), [(Code::InvalidAnnotation, Severity::Warning)]);
}

#[test]
fn tuning_annotations_are_only_worth_a_note() {
    let mut ingress = ingress_with(vec![path("/ok")]);
    ingress.annotations.insert("nginx.ingress.kubernetes.io/proxy-buffering".into(), "on".into());
    assert_eq!(findings(&ingress), [(Code::UnsupportedAnnotation, Severity::Info)]);
}

#[test]
fn findings_of_one_ingress_are_limited() {
    let bad: Vec<_> = (0..limit::FINDINGS_PER_OBJECT_MAX + 9).map(|at| path(format!("bad-{at}"))).collect();
    assert_eq!(findings(&ingress_with(bad)).len(), limit::FINDINGS_PER_OBJECT_MAX);
    // The same for findings that come from comparing entries.
    let mut text = "a shop/web\n".to_owned();
    for at in 0..limit::FINDINGS_PER_OBJECT_MAX + 9 {
        text += &format!("  h.ex.com Prefix /{at} web\n  h.ex.com Prefix /{at} web\n");
    }
    let outcome = build(&world::inputs(world::policy(), &world::parse(&text)));
    assert_eq!(outcome.findings.len(), limit::FINDINGS_PER_OBJECT_MAX);
}

#[test]
fn an_ingress_without_any_effect_is_an_error() {
    let nowhere = Ingress { rules: vec![IngressRule { host: "1.2.3.4".into(), paths: None }], ..Ingress::default() };
    assert_eq!(findings(&nowhere), [(Code::InvalidHost, Severity::Error)]);
    assert_eq!(findings(&Ingress::default()), [(Code::EmptyIngress, Severity::Error)]);
}

#[test]
fn zones_of_an_endpoint_are_limited_and_sorted() {
    let (Object::Service(service), Object::EndpointSlice(slice)) =
        (world::service("shop", "web", true), world::slice("shop", "web", &["10.0.0.1"]))
    else {
        panic!("a Service and a slice")
    };
    let mut slice = (*slice).clone();
    slice.endpoints[0].for_zones = (0..20).rev().map(|zone| format!("z{zone:02}").into()).collect();
    let endpoints = resolve(Some(&service), &PortRef::Number(80), [&slice]).expect("resolved").endpoints;
    assert_eq!(endpoints[0].for_zones.len(), limit::ZONES_PER_ENDPOINT_MAX);
    assert!(endpoints[0].for_zones.is_sorted());
}

#[test]
fn a_conflict_names_the_winner() {
    let world = "a shop/old age=1\n  h.ex.com Prefix /x web\na team/young age=2\n  h.ex.com Prefix /x web";
    let inputs = world::inputs(world::policy(), &world::parse(world));
    let (pool, name) = host("h.ex.com");
    let found = compute_host(&inputs, &pool, &name).findings;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].object, Some(ObjectKey::new(Kind::Ingress, "team", "young")));
    assert_eq!(found[0].severity, Severity::Warning);
    assert!(found[0].message.contains("shop/old"), "{}", found[0].message);
}
