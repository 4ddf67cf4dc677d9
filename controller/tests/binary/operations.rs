//! What operators ask of a real controller by the real command line: steps in a cluster's life, worlds, earlier versions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use roadstead_proto::wire::RemovalCause;
use serde_json::{Value, json};

use crate::cli::{cli, cli_at, json, refused, said};
use crate::peers::{Agent, Edge};
use crate::setup::Setup;

const DEADLINE: Duration = Duration::from_secs(60);

/// What other replicas wrote, and what this one wrote itself, is read once a second.
async fn until(setup: &Setup, api: SocketAddr, args: &[&str], is: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let answer = json(cli_at(setup, api, &[args, &["--json"]].concat()));
        if is(&answer) {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{args:?}: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_names_who_would_be_left_alone_and_force_does_it_anyway() {
    let setup = Setup::new().await;
    let _controller = setup.start().await;
    let mut agent = Agent::connect(&setup, "eu").await;
    agent.report(1, &["a", "b"]).await;
    agent.acknowledged(1).await;
    let clusters = json(cli(&setup, &["cluster", "list", "--json"]));
    let eu = &clusters["clusters"][0];
    assert_eq!((&eu["state"], &eu["lifecycle"], &eu["percent"]), (&json!("live"), &json!("active"), &json!(100)));
    assert_eq!((&eu["liveness"], &eu["settled"]), (&json!("fresh"), &json!(false)));
    assert_eq!(eu["replica"], setup.status().await["replica"]);

    let reason = ["--reason", "an upgrade", "--by", "somebody"];
    let drain = |more: &[&str]| cli(&setup, &[&["cluster", "drain", "eu"], &reason[..], more].concat());
    let alone = refused(drain(&[]));
    assert!(alone.contains("2 hosts") && alone.contains("a.example.com in pool public"), "{alone}");
    assert!(alone.contains("b.example.com") && alone.contains("--force"), "{alone}");
    let order = refused(cli(&setup, &[&["cluster", "offline", "eu"], &reason[..]].concat()));
    assert!(order.contains("cluster eu is active; what may follow is draining"), "{order}");
    let nobody = refused(cli(&setup, &[&["cluster", "drain", "nobody"], &reason[..]].concat()));
    assert!(nobody.contains("no cluster nobody ever reported"), "{nobody}");

    let begun = said(drain(&["--force", "--over", "1h"]));
    assert!(begun.contains("Cluster eu is draining 100 %") && begun.contains("somebody: an upgrade"), "{begun}");
    until(&setup, setup.api, &["clusters"], |it| it["clusters"][0]["lifecycle"] == "draining").await;
    said(drain(&["--force"]));
    until(&setup, setup.api, &["clusters"], |it| it["clusters"][0]["percent"] == 0).await;
    said(cli(&setup, &[&["cluster", "finish-drain", "eu", "--force"], &reason[..]].concat()));
    said(cli(&setup, &[&["cluster", "offline", "eu"], &reason[..]].concat()));
    until(&setup, setup.api, &["clusters"], |it| it["clusters"][0]["lifecycle"] == "offline").await;
    let back = json(cli(&setup, &[&["cluster", "activate", "eu", "--json"], &reason[..]].concat()));
    assert_eq!((&back["lifecycle"], &back["percent"]), (&json!("active"), &json!(100)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_cluster_is_adopted_again_by_its_uid() {
    let setup = Setup::new().await;
    let _controller = setup.start().await;
    let mut agent = Agent::connect(&setup, "eu").await;
    agent.report(1, &["a"]).await;
    agent.acknowledged(1).await;
    drop(agent);
    let unknown = refused(cli(&setup, &["cluster", "readopt", "nobody", "--uid", "new"]));
    assert!(unknown.contains("no cluster nobody ever reported"), "{unknown}");
    let unusable = refused(cli(&setup, &["cluster", "readopt", "eu", "--uid", " "]));
    assert!(unusable.contains("`uid` must have 1 to 200 characters"), "{unusable}");
    said(cli(&setup, &["cluster", "readopt", "eu", "--uid", "new"]));
    assert_eq!(setup.count("SELECT count(*) FROM clusters WHERE cluster_uid = 'new'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_is_adopted_once_every_cluster_has_reported() {
    let setup = Setup::new().await;
    let _controller = setup.start().await;
    let mut agent = Agent::connect(&setup, "eu").await;
    agent.report(1, &["a"]).await;
    agent.acknowledged(1).await;
    let before = json(cli(&setup, &["world", "--json"]));
    assert_eq!((&before["incarnation"], &before["adopted"]), (&json!(1), &json!([])));
    let missing = refused(cli(&setup, &["adopt-world"]));
    assert!(missing.contains("1 cluster has not reported everything yet: eu (live)"), "{missing}");
    assert!(refused(cli(&setup, &["adopt-world", "--world", "mine"])).contains("must be a UUID"));
    let own = before["id"].as_str().unwrap();
    assert!(refused(cli(&setup, &["adopt-world", "--world", own, "--force"])).contains("world of this database"));

    agent.complete(1).await;
    until(&setup, setup.api, &["clusters"], |it| it["clusters"][0]["settled"] == true).await;
    assert!(said(cli(&setup, &["adopt-world"])).contains("incarnation 2"));
    let other = "6f2c1c0e-7a3d-4a55-9d0a-5d4d1a0f9b11";
    said(cli(&setup, &["adopt-world", "--world", other, "--force"]));
    let after = until(&setup, setup.api, &["world"], |it| it["adopted"] == json!([other])).await;
    assert_eq!((&after["id"], &after["incarnation"]), (&before["id"], &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_version_is_found_pinned_and_let_go() {
    let setup = Setup::new().await;
    let _controller = setup.start().await;
    let mut agent = Agent::connect(&setup, "eu").await;
    let mut edge = Edge::connect(&setup, "e1", BTreeMap::new()).await;
    agent.report(1, &["a", "b"]).await;
    agent.acknowledged(1).await;
    edge.until_hosts(2).await;
    // History is written by the clerk, which a controller becomes a moment after its start.
    let versions = |count: usize| move |it: &Value| it["revisions"].as_array().is_some_and(|all| all.len() == count);
    let history = until(&setup, setup.api, &["history", "a.example.com"], versions(1)).await;
    let revision = history["revisions"][0]["id"].to_string();
    agent.remove(2, &["a"], RemovalCause::Deleted).await;
    edge.until_hosts(1).await;
    let gone = until(&setup, setup.api, &["history", "A.example.com", "--pool", "public"], versions(2)).await;
    assert_eq!(gone["revisions"][0]["digest"], Value::Null, "newest first: {gone}");
    let short = json(cli(&setup, &["history", "a.example.com", "--limit", "1", "--json"]));
    assert!(versions(1)(&short), "{short}");
    let table = said(cli(&setup, &["history", "a.example.com"]));
    assert!(table.contains("gone") && table.contains("objects"), "{table}");
    assert!(said(cli(&setup, &["history", "c.example.com"])).contains("never published"));

    let terms = ["--for", "1h", "--reason", "it was good"];
    let pin =
        |revision: &str, more: &[&str]| cli(&setup, &[&["pin", "a.example.com", revision], &terms[..], more].concat());
    assert!(refused(pin("999", &[])).contains("a.example.com has no revision 999 in pool public"));
    let newest = gone["revisions"][0]["id"].to_string();
    assert!(refused(pin(&newest, &[])).contains("or was gone in it"));
    let pinned = json(pin(&revision, &["--json"]));
    assert_eq!(pinned["kind"], "pin");
    assert_eq!(pinned["scope"], json!(format!("pool/public/host/a.example.com@{revision}")));
    edge.until_hosts(2).await;
    assert!(said(cli(&setup, &["overrides"])).contains("host/a.example.com@"));
    said(cli(&setup, &["overrides", "lift", pinned["id"].as_str().unwrap()]));
    edge.until_hosts(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_show_each_other_and_each_others_edges() {
    let setup = Setup::new().await;
    let _controller = setup.start().await;
    let own = setup.status().await["replica"].as_str().unwrap().to_owned();
    assert!(said(cli(&setup, &["alerts"])).contains("No alerts."));
    assert!(said(cli(&setup, &["pools"])).contains("public"));
    assert!(refused(cli(&setup, &["canary", "release", "public"])).contains("tries nothing on one edge"));
    let (_other, api) = setup.start_another("c2").await;
    let seen =
        until(&setup, api, &["replicas"], |it| it["replicas"].as_array().is_some_and(|all| all.len() == 2)).await;
    assert_eq!((&seen["replicas"][0]["id"], &seen["replicas"][0]["is_self"]), (&json!("c2"), &json!(true)));
    assert_eq!((&seen["replicas"][1]["id"], &seen["replicas"][1]["is_self"]), (&json!(own), &json!(false)));

    let mut agent = Agent::connect(&setup, "eu").await;
    agent.report(1, &["a"]).await;
    agent.acknowledged(1).await;
    let mut edge = Edge::connect(&setup, "e1", BTreeMap::new()).await;
    edge.until_hosts(1).await;
    let edges = until(&setup, api, &["edges"], |it| it["edges"][0]["synced"] == true).await;
    let e1 = &edges["edges"][0];
    assert_eq!((&e1["id"], &e1["replica"], &e1["connected"]), (&json!("e1"), &json!(own), &json!(true)));
    let clusters = until(&setup, api, &["clusters"], |it| it["clusters"][0]["state"] == "live").await;
    assert_eq!(clusters["clusters"][0]["replica"], json!(own));
    let known = until(&setup, setup.api, &["replicas"], |it| it["replicas"][1]["reports_to"] == true).await;
    let clerks = known["replicas"].as_array().unwrap().iter().filter(|it| it["is_clerk"] == true).count();
    assert_eq!((&known["replicas"][1]["id"], clerks), (&json!("c2"), 1));
    let here = json(cli(&setup, &["edges", "--json"]));
    assert_eq!((here["edges"].as_array().unwrap().len(), &here["edges"][0]["replica"]), (1, &json!(own)));
}
