//! What holds in every world: generated objects, changes and requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use crate::check::check;
use crate::compute::{build, compute_backend, compute_host, compute_ingress};
use crate::declare::{Entry, declare};
use crate::diff::{Change, diff};
use crate::grant::Grant;
use crate::id::{ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName, PortRef};
use crate::inputs::{Dirty, Inputs};
use crate::lookup::{HostMatcher, request_host, request_path};
use crate::membership::{Lifecycle, Liveness, Membership};
use crate::object::{
    Ingress, IngressBackend, IngressPath, IngressRule, IngressTls, Meta, Node, NodeAddress, NodeAddressKind, Object,
    PathType, Service, ServiceType,
};
use crate::policy::{CONTROLLER_NAME, ClusterPolicy, Policy};
use crate::reach;
use crate::table::{Host, PathMatch, Route, RouteBackend, SecretId, Table, Target};

use super::naive;
use super::world::{self, CLASS, Objects, POOL};

const CLUSTERS: [&str; 3] = ["a", "b", "c"];
const HOSTS: [&str; 8] = ["", "ex.com", "a.ex.com", "b.ex.com", "*.ex.com", "*.com", "10.0.0.1", "Bad_Host"];
const PATHS: [&str; 18] = [
    "",
    "/",
    "/foo",
    "/foo/",
    "/foo/bar",
    "/foo/bar/",
    "/%66oo",
    "/f%6Fo",
    "/FOO",
    "/a.c",
    "/a|/foo",
    "/[ab]/x",
    "/foo//x",
    "/a%2fb",
    "/foo/..",
    "x",
    "/(",
    "/caf%c3%a9",
];
const REQUEST_HOSTS: [&str; 8] =
    ["", "EX.com:80", "a.ex.com", "b.ex.com.", "c.ex.com", "x.y.ex.com", "com", "10.0.0.1"];
const REQUEST_PATHS: [&str; 18] = [
    "/",
    "/foo",
    "/foo/",
    "/foo/bar",
    "/foo/bar/x",
    "/foobar",
    "/FOO",
    "//foo",
    "/x/../foo/./bar",
    "/a.c",
    "/abc",
    "/a",
    "/b/x",
    "/A/X/y",
    "/f%6fo?x",
    "/caf%C3%A9",
    "*",
    "/foo/..",
];

fn config() -> ProptestConfig {
    // PROPTEST_CASES asks for more.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn backend() -> impl Strategy<Value = IngressBackend> {
    let port =
        select(vec![Some(PortRef::Number(80)), Some(PortRef::Name("http".into())), Some(PortRef::Number(9)), None]);
    let service = (select(vec!["s1", "s2", "s3"]), port)
        .prop_map(|(name, port)| IngressBackend::Service { name: name.into(), port });
    let resource = IngressBackend::Resource { kind: "Bucket".into(), name: "b".into() };
    prop_oneof![8 => service, 1 => Just(resource), 1 => Just(IngressBackend::Invalid)]
}

fn rule() -> impl Strategy<Value = IngressRule> {
    let types = vec![PathType::Exact, PathType::Prefix, PathType::ImplementationSpecific];
    let path = (select(PATHS.to_vec()), select(types), backend()).prop_map(|(path, path_type, backend)| IngressPath {
        path: path.into(),
        path_type,
        backend,
    });
    let paths = prop_oneof![6 => prop::collection::vec(path, 0..4).prop_map(Some), 1 => Just(None)];
    (select(HOSTS.to_vec()), paths).prop_map(|(host, paths)| IngressRule { host: host.into(), paths })
}

fn ingress() -> impl Strategy<Value = Object> {
    let name = (select(vec!["n1", "n2"]), select(vec!["i1", "i2", "i3"]));
    let class = select(vec![Some(CLASS), Some(CLASS), Some(CLASS), Some("listed"), Some("other"), Some("lost"), None]);
    let annotations = prop::sample::subsequence(
        vec![
            ("kubernetes.io/ingress.class", "listed"),
            ("kubernetes.io/ingress.class", "other"),
            ("nginx.ingress.kubernetes.io/use-regex", "true"),
            ("nginx.ingress.kubernetes.io/use-regex", "maybe"),
            ("nginx.ingress.kubernetes.io/rewrite-target", "/$1"),
            ("nginx.ingress.kubernetes.io/auth-url", "x"),
        ],
        0..=2,
    )
    .prop_map(|picked| picked.into_iter().map(|(key, value)| (Arc::from(key), Arc::from(value))).collect());
    let rules = prop::collection::vec(rule(), 0..4);
    let default = prop_oneof![2 => Just(None), 1 => backend().prop_map(Some)];
    (name, 0..3_i64, class, annotations, (rules, default)).prop_map(
        |((namespace, name), created_at, class, annotations, (rules, default_backend))| {
            Object::Ingress(Arc::new(Ingress {
                name: ObjectName::new(namespace, name),
                meta: Meta { created_at, ..Meta::default() },
                class_name: class.map(Into::into),
                annotations,
                default_backend,
                rules,
                tls: Vec::new(),
            }))
        },
    )
}

/// An Ingress with everything that annotations, classes and certificates may do to its hosts.
fn rich_ingress() -> impl Strategy<Value = Object> {
    let annotations = prop::sample::subsequence(
        vec![
            ("server-alias", "alias.ex.com,b.ex.com"),
            ("from-to-www-redirect", "true"),
            ("canary", "true"),
            ("canary-weight", "20"),
            ("rewrite-target", "/$1"),
            ("app-root", "/app"),
            ("limit-rps", "5"),
            ("auth-type", "basic"),
            ("auth-secret", "users"),
            ("auth-tls-secret", "c1"),
            ("all-down", "404"),
            ("default-backend", "s3"),
            ("custom-http-errors", "404"),
            ("weigh-by-endpoints", "true"),
            ("allowlist-source-range", "10.0.0.0/8"),
            ("whitelist-source-range", "192.0.2.0/24"),
            ("auth-url", "http://auth.ex.com"),
            ("strategy", "failover"),
            ("weight", "30"),
        ],
        0..=4,
    );
    let hosts = prop::collection::vec(select(vec!["a.ex.com", "b.ex.com", "*.ex.com"]), 0..3);
    let tls = prop::collection::vec((hosts, select(vec!["", "c1", "c2"])), 0..3);
    let class = select(vec![CLASS, world::NGINX]);
    (ingress(), annotations, tls, class).prop_map(|(object, annotations, tls, class)| {
        let Object::Ingress(ingress) = object else { unreachable!("it makes Ingresses") };
        let mut ingress = Ingress::clone(&ingress);
        let own =
            annotations.into_iter().map(|(name, value)| (Arc::from(format!("roadstead.dev/{name}")), Arc::from(value)));
        ingress.annotations.extend(own);
        let entry = |(hosts, secret): (Vec<&str>, &str)| IngressTls {
            hosts: hosts.into_iter().map(Into::into).collect(),
            secret_name: secret.into(),
        };
        ingress.tls = tls.into_iter().map(entry).collect();
        ingress.class_name = ingress.class_name.map(|_| class.into());
        Object::Ingress(Arc::new(ingress))
    })
}

fn secret() -> impl Strategy<Value = Object> {
    let names = select(vec!["a.ex.com", "*.ex.com", "a.ex.com,b.ex.com", "bad", "values"]);
    let times = select(vec!["until=50", "until=150", "from=150", "until=1000"]);
    (select(vec!["n1", "n2"]), select(vec!["c1", "c2"]), names, times).prop_map(|(namespace, name, names, times)| {
        let words = ["one", &format!("{namespace}/{name}"), "secret", names, times].map(str::to_owned);
        world::secret(&words)
    })
}

fn rich_object() -> impl Strategy<Value = Object> {
    let nginx = world::class(world::NGINX, "k8s.io/ingress-nginx", None);
    prop_oneof![6 => rich_ingress(), 3 => secret(), 3 => object(), 2 => Just(nginx)]
}

fn object() -> impl Strategy<Value = Object> {
    let names = || (select(vec!["n1", "n2"]), select(vec!["s1", "s2", "s3"]));
    let class = (select(vec![CLASS, "listed", "other"]), select(vec![None, Some("internal"), Some("nowhere")]))
        .prop_map(|(name, pool)| world::class(name, if name == CLASS { CONTROLLER_NAME } else { "else" }, pool));
    let service = (names(), any::<bool>()).prop_map(|((ns, name), real)| world::service(ns, name, real));
    let addresses = prop::collection::vec(select(vec!["10.0.0.1", "10.0.0.2", "fd00::1"]), 0..3);
    let slice = (names(), addresses).prop_map(|((ns, name), addresses)| world::slice(ns, name, &addresses));
    prop_oneof![6 => ingress(), 2 => class, 2 => service, 2 => slice, 1 => reached_service(), 1 => node()]
}

/// A Service with a node port, and perhaps addresses of its own: s1 of n1 is the gateway of a policy.
fn reached_service() -> impl Strategy<Value = Object> {
    let names = (select(vec!["n1", "n2"]), select(vec!["s1", "s2", "s3"]));
    let reach = select(vec![None, None, Some("node-port"), Some("gateway"), Some("pod-ip"), Some("x")]);
    let at = prop::sample::subsequence(vec!["192.0.2.1", "192.0.2.2", "lb.example.org"], 0..=2);
    (names, reach, at, any::<bool>()).prop_map(|((namespace, name), reach, at, is_local)| {
        let Object::Service(plain) = world::service(namespace, name, true) else { unreachable!("it makes Services") };
        let mut service = Service { is_local, service_type: ServiceType::LoadBalancer, ..Service::clone(&plain) };
        service.ports[0].node_port = 30_080;
        service.annotations = reach.into_iter().map(|mode| (reach::ANNOTATION.into(), mode.into())).collect();
        service.load_balancer = at.into_iter().map(Into::into).collect();
        Object::Service(Arc::new(service))
    })
}

fn node() -> impl Strategy<Value = Object> {
    (select(vec!["w1", "w2"]), any::<bool>(), 0..3_u8).prop_map(|(name, is_ready, last)| {
        let kind = if last == 0 { NodeAddressKind::External } else { NodeAddressKind::Internal };
        let addresses = vec![NodeAddress { kind, address: [10, 1, 0, last].into() }];
        Object::Node(Arc::new(Node { name: name.into(), is_ready, addresses, ..Node::default() }))
    })
}

fn cluster() -> impl Strategy<Value = ClusterId> {
    select(CLUSTERS.to_vec()).prop_map(ClusterId::from)
}

/// A world in which every cluster has the class, and no object is there twice.
fn objects() -> impl Strategy<Value = Objects> {
    prop::collection::vec((cluster(), object()), 0..24).prop_map(|drawn| {
        let classes = CLUSTERS.map(|cluster| (ClusterId::from(cluster), world::class(CLASS, CONTROLLER_NAME, None)));
        let unique: BTreeMap<_, _> =
            classes.into_iter().chain(drawn).map(|(cluster, object)| ((cluster, object.key()), object)).collect();
        unique.into_iter().map(|((cluster, _), object)| (cluster, object)).collect()
    })
}

#[derive(Clone, Debug)]
enum Step {
    Put(ClusterId, Object),
    Delete(ClusterId, Object),
    RemoveCluster(ClusterId),
    SetPolicy(Policy),
    SetMembership(ClusterId, Membership),
    SetNow(i64),
}

fn membership() -> impl Strategy<Value = Membership> {
    let parts = (select(Lifecycle::ALL.to_vec()), 0..=100_u8, select(Liveness::ALL.to_vec()), any::<bool>());
    let any = parts.prop_map(|(lifecycle, percent, liveness, is_doubtful)| Membership {
        lifecycle,
        percent,
        liveness,
        is_doubtful,
    });
    // Staleness matters most where it is all that differs.
    let expired = Membership { liveness: Liveness::Expired, ..Membership::default() };
    prop_oneof![2 => any, 1 => Just(Membership::default()), 1 => Just(expired)]
}

fn memberships() -> impl Strategy<Value = Vec<(ClusterId, Membership)>> {
    prop::collection::vec((cluster(), membership()), 0..4)
}

fn stand(inputs: &mut Inputs, memberships: &[(ClusterId, Membership)]) {
    for (cluster, membership) in memberships {
        inputs.set_membership(cluster, *membership);
    }
}

fn policies() -> impl Strategy<Value = Policy> {
    let weighted = || {
        let mut policy = world::policy();
        policy.clusters.insert(ClusterId::from("a"), ClusterPolicy { weight: 7, ..ClusterPolicy::default() });
        policy
    };
    let smaller = || {
        let mut policy = world::policy();
        policy.pools.remove(&PoolName::from("internal"));
        policy
    };
    let unlisted = || Policy { classes: BTreeMap::new(), ..world::policy() };
    let reaching = |yaml: &str| {
        let mut policy = world::policy();
        policy.clusters.insert(ClusterId::from("a"), serde_saphyr::from_str(yaml).expect("a cluster"));
        policy
    };
    let nodes = || reaching("{reach_from: [{region: us, reach: node-port}]}");
    let gateway = || reaching("{reach: gateway, gateway: n1/s1}");
    let fallback = || reaching("{gateway: n1/s1}");
    select(vec![world::policy(), weighted(), smaller(), unlisted(), nodes(), gateway(), fallback()])
}

fn rich_policies() -> impl Strategy<Value = Policy> {
    let granted = || {
        let grant = Grant {
            hosts: vec!["*.ex.com".parse().expect("a pattern")],
            clusters: vec![ClusterId::from("a")],
            namespaces: vec!["n1".to_owned()],
        };
        Policy { grants: vec![grant], ..world::policy() }
    };
    let shown = || {
        let mut policy = world::policy();
        let certificate = SecretId { cluster: "a".into(), secret: ObjectName::new("n1", "c1") };
        policy.pools.get_mut(&PoolName::from(POOL)).expect("the pool").certificate = Some(certificate);
        policy
    };
    prop_oneof![3 => policies(), 1 => Just(granted()), 1 => Just(shown())]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (cluster(), rich_object()).prop_map(|(cluster, object)| Step::Put(cluster, object)),
        4 => (cluster(), rich_object()).prop_map(|(cluster, object)| Step::Delete(cluster, object)),
        1 => (0..300_i64).prop_map(Step::SetNow),
        1 => cluster().prop_map(Step::RemoveCluster),
        1 => rich_policies().prop_map(Step::SetPolicy),
        3 => (cluster(), membership()).prop_map(|(cluster, it)| Step::SetMembership(cluster, it)),
    ]
}

fn take(inputs: &mut Inputs, step: &Step) -> Dirty {
    match step {
        Step::Put(cluster, object) => inputs.apply(cluster, &object.key(), Some(object.clone())),
        Step::Delete(cluster, object) => inputs.apply(cluster, &object.key(), None),
        Step::RemoveCluster(cluster) => inputs.remove_cluster(cluster),
        Step::SetPolicy(policy) => inputs.set_policy(policy.clone()),
        Step::SetMembership(cluster, membership) => inputs.set_membership(cluster, *membership),
        Step::SetNow(now) => inputs.set_now(*now),
    }
}

/// The same objects, policy and memberships, applied once each.
fn afresh(inputs: &Inputs) -> Inputs {
    let objects: Objects =
        inputs.clusters().flat_map(|id| inputs.objects(id).map(|object| (id.clone(), object))).collect();
    let mut fresh = world::inputs(inputs.policy().clone(), &objects);
    fresh.set_now(inputs.now());
    stand(&mut fresh, &CLUSTERS.map(|id| (ClusterId::from(id), inputs.membership(&ClusterId::from(id)))));
    fresh
}

/// What a controller keeps: results by what they are about, and only the dirty ones computed again.
#[derive(Default)]
struct Kept {
    table: Table,
    findings: BTreeMap<String, Vec<crate::finding::Finding>>,
}

impl Kept {
    fn update(&mut self, inputs: &Inputs, dirty: Dirty) {
        for key in dirty.hosts {
            let outcome = compute_host(inputs, &key.0, &key.1);
            self.findings.insert(format!("{key:?}"), outcome.findings);
            match outcome.host {
                Some(host) => self.table.hosts.insert(key, host),
                None => self.table.hosts.remove(&key),
            };
        }
        for id in dirty.backends {
            let outcome = compute_backend(inputs, &id);
            self.findings.insert(format!("{id:?}"), outcome.findings);
            match outcome.backend {
                Some(backend) => self.table.backends.insert(id, backend),
                None => self.table.backends.remove(&id),
            };
        }
        for (cluster, ingress) in dirty.ingresses {
            let findings = compute_ingress(inputs, &cluster, &ingress);
            self.findings.insert(format!("{cluster} {ingress}"), findings);
        }
    }
}

fn host_of(change: &Change) -> Option<(&PoolName, &HostKey)> {
    match change {
        Change::HostAdded { pool, host }
        | Change::HostRemoved { pool, host }
        | Change::Route { pool, host, .. }
        | Change::Default { pool, host, .. } => Some((pool, host)),
        Change::BackendAdded { .. } | Change::BackendRemoved { .. } | Change::Endpoints { .. } => None,
    }
}

fn hosts_of(inputs: &Inputs, cluster: &ClusterId) -> BTreeSet<(PoolName, HostKey)> {
    let views = inputs.ingresses().filter(|(id, _)| *id == cluster).filter_map(|(id, name)| inputs.view(id, name));
    views.flat_map(|view| view.hosts.into_iter().map(move |host| (view.pool.clone(), host))).collect()
}

/// A world and the same in another order.
fn objects_twice() -> impl Strategy<Value = (Objects, Objects)> {
    objects().prop_flat_map(|objects| (Just(objects.clone()), Just(objects).prop_shuffle()))
}

/// The routes (`None`: the default) of one host with the backends of all clusters but one.
fn parts_of_others(
    table: &Table,
    key: &(PoolName, HostKey),
    cluster: &ClusterId,
) -> Vec<(Option<PathMatch>, Vec<RouteBackend>)> {
    let Some(host) = table.hosts.get(key) else { return Vec::new() };
    let routes = host.routes.iter().map(|route| (Some(route.path.clone()), &route.backends));
    let others = |(path, backends): (_, &Vec<RouteBackend>)| {
        let others: Vec<_> = backends.iter().filter(|backend| backend.cluster != *cluster).cloned().collect();
        (!others.is_empty()).then_some((path, others))
    };
    routes.chain([(None, &host.default)]).filter_map(others).collect()
}

fn requests() -> impl Iterator<Item = (PoolName, &'static str, &'static str)> {
    let of_host = |pool, host| REQUEST_PATHS.into_iter().map(move |target| (PoolName::from(pool), host, target));
    let of_pool = move |pool| REQUEST_HOSTS.into_iter().flat_map(move |host| of_host(pool, host));
    [POOL, "internal"].into_iter().flat_map(of_pool)
}

fn answer(backend: &RouteBackend) -> (ClusterId, ObjectName, String) {
    let target = match &backend.target {
        Target::Backend(id) => format!("{}:{}", id.service.name, id.port),
        Target::Resource => "resource".to_owned(),
        Target::Nothing => "nothing".to_owned(),
    };
    (backend.cluster.clone(), backend.ingress.clone(), target)
}

/// A rule with one path in every type.
fn every_type(host: &str, path: &str) -> IngressRule {
    let path = |path_type| IngressPath { path: path.into(), path_type, backend: IngressBackend::Invalid };
    let types = [PathType::Exact, PathType::Prefix, PathType::ImplementationSpecific];
    IngressRule { host: host.into(), paths: Some(types.map(path).to_vec()) }
}

const SMALL_WORLD: &str = "
one shop/web use-regex=true
  -         Impl    /.*x  pattern
  a.ex.com  Prefix  /     web
  *.ex.com  Exact   /x    web
  default   web
";

proptest! {
    #![proptest_config(config())]

    #[test]
    fn incremental_equals_full(steps in prop::collection::vec(step(), 1..40)) {
        let mut inputs = Inputs::new(world::policy());
        let mut kept = Kept::default();
        for step in &steps {
            let dirty = take(&mut inputs, step);
            kept.update(&inputs, dirty);
        }
        let fresh = afresh(&inputs);
        let full = build(&fresh);
        prop_assert_eq!(&kept.table, &full.table);
        let mut findings: Vec<_> = kept.findings.into_values().flatten().collect();
        findings.sort();
        findings.dedup();
        prop_assert_eq!(findings, full.findings);
        prop_assert!(inputs.hosts().eq(fresh.hosts()));
        prop_assert!(inputs.backends().eq(fresh.backends()));
        for id in CLUSTERS.map(ClusterId::from) {
            prop_assert_eq!(inputs.cluster_hosts(&id), hosts_of(&fresh, &id).len());
        }
    }

    #[test]
    fn input_order_does_not_matter((objects, shuffled) in objects_twice()) {
        let (one, other) = (world::inputs(world::policy(), &objects), world::inputs(world::policy(), &shuffled));
        prop_assert_eq!(build(&one), build(&other));
    }

    #[test]
    fn computing_twice_changes_nothing(objects in objects()) {
        let mut inputs = world::inputs(world::policy(), &objects);
        let first = build(&inputs);
        for (cluster, object) in &objects {
            prop_assert!(inputs.apply(cluster, &object.key(), Some(object.clone())).is_empty());
        }
        let second = build(&inputs);
        prop_assert_eq!(&first, &second);
        prop_assert!(diff(&first.table, &second.table).is_empty());
    }

    #[test]
    fn nothing_violates_an_invariant(
        objects in objects(),
        rich in prop::collection::vec((cluster(), rich_object()), 0..12),
        policy in rich_policies(),
        memberships in memberships(),
    ) {
        let mut inputs = world::inputs(policy, &objects);
        for (cluster, object) in rich {
            inputs.apply(&cluster, &object.key(), Some(object));
        }
        stand(&mut inputs, &memberships);
        let violations = check(&inputs, &build(&inputs).table);
        prop_assert!(violations.is_empty(), "{:?}", violations);
    }

    #[test]
    fn a_change_touches_only_what_its_cluster_serves(
        (objects, cluster, object, remove) in (objects(), cluster(), object(), any::<bool>()),
    ) {
        let mut inputs = world::inputs(world::policy(), &objects);
        let (served_before, before) = (hosts_of(&inputs, &cluster), build(&inputs).table);
        let dirty = inputs.apply(&cluster, &object.key(), (!remove).then(|| object.clone()));
        let (served_after, after) = (hosts_of(&inputs, &cluster), build(&inputs).table);
        let served = |key: &(PoolName, HostKey)| served_before.contains(key) || served_after.contains(key);
        prop_assert!(dirty.hosts.iter().all(served));
        prop_assert!(dirty.backends.iter().all(|id| id.cluster == cluster));
        prop_assert!(dirty.ingresses.iter().all(|(id, _)| *id == cluster));
        for (pool, host) in diff(&before, &after).iter().filter_map(host_of) {
            let key = (pool.clone(), host.clone());
            prop_assert!(dirty.hosts.contains(&key));
            prop_assert_eq!(parts_of_others(&before, &key, &cluster), parts_of_others(&after, &key, &cluster));
        }
    }

    #[test]
    fn a_cluster_that_changes_its_standing_touches_only_what_it_declares(
        objects in objects(), memberships in memberships(), cluster in cluster(), to in membership(),
    ) {
        let mut inputs = world::inputs(world::policy(), &objects);
        stand(&mut inputs, &memberships);
        let (declared, before) = (hosts_of(&inputs, &cluster), build(&inputs).table);
        let dirty = inputs.set_membership(&cluster, to);
        let after = build(&inputs).table;
        prop_assert!(dirty.hosts.is_subset(&declared));
        prop_assert!(dirty.backends.iter().all(|id| id.cluster == cluster));
        prop_assert!(dirty.ingresses.iter().all(|(id, _)| *id == cluster));
        let fresh = |parts: Vec<(Option<PathMatch>, Vec<RouteBackend>)>| -> Vec<_> {
            // Whether an expired cluster yields depends on the others (rule D-5); nothing else of it does.
            let weightless = |mut part: RouteBackend| {
                if inputs.membership(&part.cluster).liveness == Liveness::Expired {
                    part.weight = 0;
                }
                part
            };
            parts.into_iter().map(|(path, set)| (path, set.into_iter().map(weightless).collect::<Vec<_>>())).collect()
        };
        for (pool, host) in diff(&before, &after).iter().filter_map(host_of) {
            let key = (pool.clone(), host.clone());
            prop_assert!(dirty.hosts.contains(&key));
            let (was, is) = (parts_of_others(&before, &key, &cluster), parts_of_others(&after, &key, &cluster));
            prop_assert_eq!(fresh(was), fresh(is));
        }
    }

    #[test]
    fn clusters_out_of_the_table_change_no_answer(objects in objects(), memberships in memberships()) {
        let mut inputs = world::inputs(world::policy(), &objects);
        stand(&mut inputs, &memberships);
        let is_out = |id: &ClusterId| !inputs.membership(id).lifecycle.is_in_table();
        let seen: Objects = objects.iter().filter(|(id, _)| !is_out(id)).cloned().collect();
        let mut others = world::inputs(world::policy(), &seen);
        stand(&mut others, &memberships);
        prop_assert_eq!(build(&inputs).table, build(&others).table);
    }

    #[test]
    fn staleness_never_takes_the_last_backend(objects in objects(), memberships in memberships()) {
        let mut inputs = world::inputs(world::policy(), &objects);
        let fresh = |(id, it): (ClusterId, Membership)| (id, Membership { liveness: Liveness::Fresh, ..it });
        stand(&mut inputs, &memberships.iter().cloned().map(fresh).collect::<Vec<_>>());
        let before = build(&inputs).table;
        stand(&mut inputs, &memberships);
        let after = build(&inputs).table;
        prop_assert!(before.hosts.keys().eq(after.hosts.keys()));
        let sets = |host: &Host| -> Vec<Vec<RouteBackend>> {
            host.routes.iter().map(|route| route.backends.clone()).chain([host.default.clone()]).collect()
        };
        let serves = |part: &RouteBackend| part.weight > 0 && matches!(part.target, Target::Backend(_));
        for (was, is) in before.hosts.values().zip(after.hosts.values()) {
            for (was, is) in sets(was).into_iter().zip(sets(is)) {
                prop_assert_eq!(was.iter().any(serves), is.iter().any(serves));
                prop_assert!(was.iter().zip(&is).all(|(was, is)| was.target == is.target && is.weight <= was.weight));
            }
        }
    }

    #[test]
    fn lookup_agrees_with_the_naive_matcher(objects in objects(), policy in policies()) {
        let inputs = world::inputs(policy.clone(), &objects);
        let table = build(&inputs).table;
        for (pool, host, target) in requests() {
            let got: naive::Answer = table.lookup(&pool, host, target).backends().iter().map(answer).collect();
            let want = naive::lookup(&objects, &policy, &pool, host, target);
            prop_assert_eq!(got, want, "{} {:?} {:?}", pool, host, target);
        }
    }

    #[test]
    fn any_text_is_declared_without_panic(
        (host, path, key, value) in (".*", ".*", ".*", ".*"),
        regex in any::<bool>(),
    ) {
        let mut annotations = BTreeMap::from([(Arc::from(key), Arc::from(value))]);
        if regex {
            annotations.insert("nginx.ingress.kubernetes.io/use-regex".into(), "true".into());
        }
        let rules = [host.as_str(), "", "a.ex.com", &path].map(|host| every_type(host, &path)).to_vec();
        let declared = declare(&Ingress { annotations, rules, ..Ingress::default() });
        // Whatever is accepted can be compiled and asked for any path.
        for name in &declared.hosts {
            let route = |entry: &Entry| Route::new(entry.path.clone(), Vec::new());
            let routes: Vec<_> = declared.entries(name).iter().map(route).collect();
            let host = Host { routes, ..Host::new(PoolName::from(POOL), name.clone()) };
            let matcher = HostMatcher::new(&host);
            prop_assert!(matcher.is_ok());
            let found = matcher.ok().and_then(|matcher| matcher.find(&request_path(&path)));
            prop_assert!(found.is_none_or(|at| at < host.routes.len()));
        }
    }

    #[test]
    fn any_text_is_looked_up_without_panic(host in ".*", target in ".*") {
        let table = build(&world::inputs(world::policy(), &world::parse(SMALL_WORLD))).table;
        let found = table.lookup(&PoolName::from(POOL), &host, &target);
        prop_assert!(!found.backends().is_empty());
    }

    #[test]
    fn paths_are_normalised_once_and_for_all(target in "[/.%25eEfF?#ab~]{0,24}") {
        let once = request_path(&target).into_owned();
        prop_assert!(!once.is_empty());
        prop_assert_eq!(request_path(&once), once.as_str());
        if once.starts_with('/') {
            let escapes = ["//", "/./", "/../"];
            prop_assert!(!escapes.iter().any(|bad| once.contains(bad)), "{}", once);
        }
    }

    #[test]
    fn hosts_are_lower_case_without_port(name in "[a-zA-Z.-]{0,12}", port in ":[0-9]{1,5}|") {
        let header = format!("{name}{port}");
        let host = request_host(&header);
        prop_assert_eq!(host.as_ref(), name.strip_suffix('.').unwrap_or(&name).to_lowercase());
    }
}

#[test]
fn removing_everything_leaves_nothing() {
    let objects = world::parse("one shop/web\n  a.ex.com Prefix / web\n  default dflt");
    let mut inputs = world::inputs(world::policy(), &objects);
    let full = build(&inputs).table;
    assert!(full.hosts.values().any(|host| host.routes.iter().any(|route| route.path == PathMatch::Prefix("".into()))));
    let cluster = ClusterId::from("one");
    let dirty = inputs.remove_cluster(&cluster);
    assert_eq!(dirty.hosts, full.hosts.keys().cloned().collect());
    assert_eq!(dirty.backends, full.backends.keys().cloned().collect());
    assert_eq!(build(&inputs).table, Table::default());
    assert_eq!(inputs.clusters().count(), 0);
    assert!(inputs.object(&cluster, &ObjectKey::new(Kind::Ingress, "shop", "web")).is_none());
}
