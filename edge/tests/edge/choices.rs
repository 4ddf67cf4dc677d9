//! Who of a route gets a request: canaries, clients that keep to an endpoint, keys, speed, priorities and regions.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use roadstead_edge::proxy::{Config, TrustedProxies};
use roadstead_routing::policy::Strategy;
use roadstead_routing::settings::{Affinity, Balance, CanaryRule, ClientSettings, HashBy, HeaderRule, HeaderValue};
use roadstead_routing::table::{Canary, Route};
use tokio::net::TcpListener;

use crate::support::{Edge, Pod, get, get_with};

const HOST: &str = "a.example.com";
const NAMES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

/// Pods that say their names.
async fn pods(count: usize) -> Vec<Pod> {
    futures::future::join_all(NAMES[..count].iter().map(|name| Pod::saying(name))).await
}

fn addresses(pods: &[Pod]) -> Vec<SocketAddr> {
    pods.iter().map(|pod| pod.address).collect()
}

/// Makes the second cluster the canary.
fn canary(rule: CanaryRule) -> impl FnOnce(&mut Route) {
    |route| {
        let backends = vec![route.backends.pop().unwrap()];
        route.canary = Some(Canary { rule, backends });
    }
}

#[tokio::test]
async fn a_canary_takes_what_its_rule_says() {
    let pods = pods(2).await;
    let mut edge = Edge::start();
    let header = Some(HeaderRule { name: "x-canary".into(), value: HeaderValue::Switch });
    let rule = CanaryRule { header, cookie: Some("canary".into()), weight: 0, weight_total: 100 };
    let clusters: [(&str, u32, &[SocketAddr]); 2] = [("main", 1, &[pods[0].address]), ("new", 1, &[pods[1].address])];
    edge.serve_as(HOST, &clusters, canary(rule.clone()));
    for (fields, expected) in [
        ("", "one"),
        ("X-Canary: always\r\n", "two"),
        ("X-Canary: never\r\nCookie: canary=always\r\n", "one"),
        ("X-Canary: x\r\nCookie: a=b; canary=always\r\n", "two"),
    ] {
        for _ in 0..4 {
            assert_eq!(get_with(edge.address, HOST, "/", fields).await.text(), expected, "{fields}");
        }
    }
    edge.serve_as(HOST, &clusters, canary(CanaryRule { weight: 50, ..rule }));
    let mut answers = Vec::new();
    for _ in 0..60 {
        answers.push(get(edge.address, HOST, "/").await.text().to_owned());
    }
    let share = answers.iter().filter(|answer| *answer == "two").count();
    assert!((5..=55).contains(&share), "half of 60 must not be {share}");
}

#[tokio::test]
async fn a_backend_that_only_a_canary_names_is_kept() {
    let pods = pods(2).await;
    let mut edge = Edge::start();
    let clusters: [(&str, u32, &[SocketAddr]); 2] = [("main", 1, &[pods[0].address]), ("new", 1, &[pods[1].address])];
    edge.serve_as(HOST, &clusters, canary(CanaryRule { weight: 100, weight_total: 100, ..CanaryRule::default() }));
    assert!(edge.table.remove_backend(&crate::support::id("new")).is_err());
    assert_eq!(get(edge.address, HOST, "/").await.text(), "two");
}

fn affinity(is_balanced: bool, change_on_failure: bool) -> ClientSettings {
    let affinity = Affinity {
        cookie: "route".into(),
        path: None,
        domain: None,
        max_age_seconds: Some(60),
        same_site: None,
        secure: false,
        change_on_failure,
        is_balanced,
        forgets_canary: false,
    };
    ClientSettings { affinity: Some(affinity), ..ClientSettings::default() }
}

#[tokio::test]
async fn a_client_comes_back_to_its_endpoint() {
    let pods = pods(6).await;
    let addresses = addresses(&pods);
    for is_balanced in [false, true] {
        let (mut edge, mut other) = (Edge::start(), Edge::start());
        for edge in [&mut edge, &mut other] {
            edge.serve_as(HOST, &[("eu", 1, &addresses[..3]), ("us", 1, &addresses[3..])], |route| {
                route.client = affinity(is_balanced, false).into();
            });
        }
        let mut homes = BTreeSet::new();
        for _ in 0..12 {
            let first = get(edge.address, HOST, "/").await;
            let cookie = first.cookie().unwrap();
            assert!(first.header("set-cookie").unwrap().ends_with("; Path=/; Max-Age=60; HttpOnly"));
            for edge in [&edge, &other] {
                let again = get_with(edge.address, HOST, "/", &format!("Cookie: route={cookie}\r\n")).await;
                assert_eq!((again.text(), again.cookie()), (first.text(), None), "at every edge");
            }
            homes.insert(first.text().to_owned());
        }
        assert!(homes.len() > 2, "clients must be spread: {homes:?}");
        let made_up = get_with(edge.address, HOST, "/", "Cookie: route=1; x=y\r\n").await;
        assert!(made_up.cookie().is_some(), "{is_balanced}");
    }
}

#[tokio::test]
async fn whom_the_canary_took_once_it_keeps_unless_it_is_to_forget() {
    let pods = pods(2).await;
    let clusters: [(&str, u32, &[SocketAddr]); 2] = [("main", 1, &[pods[0].address]), ("new", 1, &[pods[1].address])];
    let rule = || CanaryRule { weight: 50, weight_total: 100, ..CanaryRule::default() };
    for (is_balanced, forgets) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut edge = Edge::start();
        edge.serve_as(HOST, &clusters, |route| {
            canary(rule())(route);
            let mut client = affinity(is_balanced, false);
            client.affinity.as_mut().unwrap().forgets_canary = forgets;
            route.client = client.into();
        });
        let mut firsts = BTreeSet::new();
        // Of so many in a row one kind alone is a matter of luck beyond belief.
        for _ in 0..64 {
            let first = get(edge.address, HOST, "/").await;
            let cookie = format!("Cookie: route={}\r\n", first.cookie().unwrap());
            if firsts.insert(first.text().to_owned()) {
                let mut again = BTreeSet::new();
                for _ in 0..64 {
                    again.insert(get_with(edge.address, HOST, "/", &cookie).await.text().to_owned());
                }
                let wanted = if forgets { 2 } else { 1 };
                assert_eq!((again.len(), again.contains(first.text())), (wanted, true), "{is_balanced} {forgets}");
            }
        }
        assert_eq!(firsts.len(), 2);
    }
}

#[tokio::test]
async fn a_client_whose_endpoint_failed_moves_for_good_only_if_asked_to() {
    for (is_balanced, change_on_failure) in [(false, false), (false, true), (true, false), (true, true)] {
        let (gone, live) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Pod::saying("live").await);
        let doomed_address = gone.local_addr().unwrap();
        let doomed = Pod::on(gone, |_| crate::support::Act::Reply(crate::support::ok("doomed")));
        let mut edge = Edge::start();
        edge.serve_as(HOST, &[("eu", 1, &[doomed_address, live.address])], |route| {
            route.client = affinity(is_balanced, change_on_failure).into();
        });
        let cookie = loop {
            let first = get(edge.address, HOST, "/").await;
            if first.text() == "doomed" {
                break first.cookie().unwrap().to_owned();
            }
        };
        doomed.kill().await;
        let moved = get_with(edge.address, HOST, "/", &format!("Cookie: route={cookie}\r\n")).await;
        assert_eq!(moved.text(), "live");
        assert_eq!(moved.cookie().is_some(), change_on_failure, "balanced: {is_balanced}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_forgotten() {
    let pods = pods(2).await;
    let mut edge = Edge::start();
    edge.serve_client(HOST, &pods[0], affinity(false, false));
    let cookie = get(edge.address, HOST, "/").await.cookie().unwrap().to_owned();
    edge.endpoints("eu", &[pods[1].address]);
    let moved = get_with(edge.address, HOST, "/", &format!("Cookie: route={cookie}\r\n")).await;
    assert_eq!(moved.text(), "two");
    assert!(moved.cookie().is_some_and(|new| new != cookie));
}

#[tokio::test]
async fn equal_keys_go_to_one_endpoint_and_few_keys_move_when_one_goes() {
    let pods = pods(6).await;
    let addresses = addresses(&pods);
    let mut edge = Edge::start();
    let by = |hash_by| ClientSettings { hash_by: Some(hash_by), ..ClientSettings::default() };
    edge.serve_as(HOST, &[("eu", 1, &addresses)], |route| route.client = by(HashBy::Header("x-user".into())).into());
    let address = edge.address;
    let of = async |user: usize| get_with(address, HOST, "/", &format!("X-User: {user}\r\n")).await.text().to_owned();
    let mut before = Vec::new();
    for user in 0..100 {
        let home = of(user).await;
        assert_eq!(of(user).await, home);
        before.push(home);
    }
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 6, "100 keys must reach all");
    let without: BTreeSet<String> = {
        let mut homes = BTreeSet::new();
        for _ in 0..12 {
            homes.insert(get(address, HOST, "/").await.text().to_owned());
        }
        homes
    };
    assert_eq!(without.len(), 6, "who has no key takes turns");
    edge.endpoints("eu", &addresses[1..]);
    for (user, home) in before.iter().enumerate() {
        let now = of(user).await;
        assert!(now == *home || home == "one", "user {user} was at {home} and is at {now}");
    }
}

#[tokio::test]
async fn everything_that_may_be_hashed_by_is() {
    let pods = pods(6).await;
    let addresses = addresses(&pods);
    let trusted_proxies = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let mut edge = Edge::start_with(Config { trusted_proxies, ..Config::default() });
    for hash_by in [
        HashBy::RequestUri,
        HashBy::RemoteAddress,
        HashBy::Argument("key".into()),
        HashBy::Cookie("key".into()),
        HashBy::Header("x-key".into()),
    ] {
        edge.serve_as(HOST, &[("eu", 1, &addresses)], |route| {
            route.client = ClientSettings { hash_by: Some(hash_by.clone()), ..ClientSettings::default() }.into();
        });
        let address = edge.address;
        let of = async |key: usize| {
            let fields = format!("Cookie: key={key}\r\nX-Key: {key}\r\nX-Forwarded-For: 192.0.2.{key}\r\n");
            get_with(address, HOST, &format!("/?key={key}"), &fields).await.text().to_owned()
        };
        let mut homes = BTreeSet::new();
        for key in 1..20 {
            let home = of(key).await;
            assert_eq!(of(key).await, home, "{hash_by:?}");
            homes.insert(home);
        }
        assert!(homes.len() > 2, "{hash_by:?}: {homes:?}");
    }
}

#[tokio::test]
async fn the_faster_of_two_endpoints_gets_more() {
    let fast = Pod::saying("fast").await;
    let slow = Pod::start(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        crate::support::Act::Reply(crate::support::ok("slow"))
    })
    .await;
    let mut edge = Edge::start();
    edge.serve_as(HOST, &[("eu", 1, &[fast.address, slow.address])], |route| {
        route.client = ClientSettings { balance: Balance::Ewma, ..ClientSettings::default() }.into();
    });
    for _ in 0..30 {
        assert_eq!(get(edge.address, HOST, "/").await.status(), 200);
    }
    let (fast, slow) = (fast.requests().len(), slow.requests().len());
    assert!(fast > slow * 2 && slow > 0, "{fast} and {slow}");
}

#[tokio::test]
async fn a_cluster_of_lower_priority_is_used_only_when_the_first_is_not_well() {
    let pods = pods(1).await;
    let first_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first_address = first_listener.local_addr().unwrap();
    let first = Pod::on(first_listener, |_| crate::support::Act::Reply(crate::support::ok("first")));
    let mut edge = Edge::start();
    edge.serve_as(HOST, &[("main", 1, &[first_address]), ("spare", 1_000, &[pods[0].address])], |route| {
        route.strategy = Strategy::Failover;
        route.backends[1].priority = 1;
    });
    for _ in 0..10 {
        assert_eq!(get(edge.address, HOST, "/").await.text(), "first");
    }
    first.kill().await;
    for _ in 0..10 {
        assert_eq!(get(edge.address, HOST, "/").await.text(), "one");
    }
}

#[tokio::test]
async fn a_cluster_in_the_edges_region_comes_first() {
    let pods = pods(3).await;
    let mut edge = Edge::start_in("eu-west");
    let regions = ["us-east", "eu-west", ""];
    let clusters: Vec<(&str, u32, &[SocketAddr])> =
        NAMES.iter().zip(&pods).map(|(name, pod)| (*name, 1, std::slice::from_ref(&pod.address))).collect();
    edge.serve_as(HOST, &clusters, |route| {
        route.strategy = Strategy::Nearest;
        for (backend, region) in route.backends.iter_mut().zip(regions) {
            backend.region = region.into();
        }
    });
    for _ in 0..10 {
        assert_eq!(get(edge.address, HOST, "/").await.text(), "two");
    }
    edge.endpoints("two", &[]);
    let mut answers = BTreeSet::new();
    for _ in 0..10 {
        answers.insert(get(edge.address, HOST, "/").await.text().to_owned());
    }
    assert_eq!(answers.len(), 2, "{answers:?}");
}
