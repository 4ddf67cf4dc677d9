//! The real binary: with a real Postgres, over real mutual TLS, killed and started again; and what it says when it
//! cannot start.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cli;
mod holds;
mod mistakes;
mod operations;
mod peers;
mod setup;

use std::collections::BTreeMap;

use peers::{Agent, Edge};
use roadstead_proto::wire;
use setup::Setup;

#[tokio::test]
async fn an_ingress_reaches_an_edge_and_a_restart_sends_nothing_again() {
    let setup = Setup::new().await;
    let mut controller = setup.start().await;
    let mut agent = Agent::connect(&setup, "eu").await;
    let epoch = agent.welcome.epoch;
    agent.report(1, &["a", "b"]).await;
    agent.acknowledged(1).await;

    let mut edge = Edge::connect(&setup, "e1", BTreeMap::new()).await;
    let first = edge.until_synced().await;
    assert_eq!(first, 3, "two hosts and the backend they share");
    assert_eq!(edge.hosts(), ["a.example.com", "b.example.com"]);
    assert_eq!(agent.status_of("a").await, ["203.0.113.10"]);
    let status = setup.status().await;
    assert_eq!(status["clusters"][0]["state"], "live");
    assert_eq!(status["pools"][0]["edges"][0]["synced"], true);
    assert_eq!(status["store"]["state"], "durable");

    controller.kill().await;
    let held = edge.leave();
    controller.start_again().await.unwrap();
    let mut edge = Edge::connect(&setup, "e1", held).await;
    assert_eq!(edge.until_synced().await, 0, "the edge has everything already");
    let status = setup.status().await;
    assert_eq!(
        status["clusters"][0]["state"], "reconnecting",
        "no agent came yet, and its hosts are served all the same"
    );
    assert_eq!(status["pools"][0]["hosts"], 2);

    let mut agent = Agent::connect(&setup, "eu").await;
    assert!(agent.welcome.epoch > epoch);
    assert_ne!(agent.welcome.known, roadstead_proto::digest::BucketHashes::default().to_bytes());
    agent.report(1, &["c"]).await;
    assert_eq!(edge.until_host("c.example.com").await, 1, "only the new host");
    assert!(setup.metrics().await.contains("roadstead_controller_store_commits_total"));
    setup.until_count("SELECT count(*) FROM host_revisions", 3).await;
}

#[tokio::test]
async fn a_database_outage_stops_acknowledgements_and_nothing_else() {
    let setup = Setup::new().await;
    let _controller = setup.start().await;
    let mut agent = Agent::connect(&setup, "eu").await;
    agent.report(1, &["a"]).await;
    agent.acknowledged(1).await;
    let mut edge = Edge::connect(&setup, "e1", BTreeMap::new()).await;
    edge.until_synced().await;

    setup.lock_database().await;
    agent.report(2, &["b"]).await;
    edge.until_host("b.example.com").await;
    setup.until_status("degraded", |status| status["store"]["state"] == "degraded: not durable").await;
    assert_eq!(setup.status().await["clusters"][0]["durable_seq"], 1);
    assert!(setup.get("/readyz").await.starts_with("HTTP/1.1 200"), "it still serves");

    setup.unlock_database().await;
    agent.acknowledged(2).await;
    setup.until_status("durable", |status| status["store"]["state"] == "durable").await;
    setup.until_count("SELECT count(*) FROM objects", 2).await;
    agent.report(3, &["c"]).await;
    agent.acknowledged(3).await;
    assert_eq!(setup.count("SELECT count(*) FROM host_revisions WHERE cause LIKE 'gap%'").await, 1);
}

#[tokio::test]
async fn a_peer_may_only_do_what_its_certificate_says() {
    let setup = Setup::new().await;
    let _controller = setup.start().await;
    let as_agent = |identity: &'static str| {
        let setup = &setup;
        async move { peers::open_agent(setup, identity).await.map(|_| ()).unwrap_err().code() }
    };
    assert_eq!(as_agent("pool/public/edge/e1").await, tonic::Code::PermissionDenied);
    assert_eq!(as_agent("controller/c2").await, tonic::Code::PermissionDenied);
    let as_edge = peers::open_edge(&setup, "cluster/eu").await.map(|_| ()).unwrap_err();
    assert_eq!(as_edge.code(), tonic::Code::PermissionDenied);

    let (sender, mut stream) = peers::open_agent(&setup, "cluster/eu").await.unwrap();
    let hello = wire::Hello { cluster: "us".to_owned(), cluster_uid: "u".to_owned(), ..wire::Hello::default() };
    sender.send(peers::agent_says(wire::agent_message::Message::Hello(hello))).await.unwrap();
    assert_eq!(stream.message().await.unwrap_err().code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn a_policy_change_is_followed_and_a_bad_file_keeps_the_last_one() {
    let setup = Setup::new().await;
    let _controller = setup.start().await;
    setup.write_policy(&setup::POLICY.replace("203.0.113.10", "203.0.113.99"));
    setup.until_status("rev 2", |status| status["policy"]["rev"] == 2).await;
    setup.write_policy("pools: {public: {kind: cloud}}");
    setup.until_status("a problem", |status| status["policy"]["problem"].is_string()).await;
    assert_eq!(setup.status().await["policy"]["rev"], 2);
    setup.write_policy(&setup::POLICY.replace("203.0.113.10", "203.0.113.99"));
    setup.until_status("no problem", |status| status["policy"]["problem"].is_null()).await;
    assert_eq!(setup.count("SELECT count(*) FROM policies").await, 2);
}

#[tokio::test]
async fn a_start_with_a_bad_policy_file_uses_the_accepted_row() {
    let setup = Setup::new().await;
    let mut controller = setup.start().await;
    controller.kill().await;
    setup.write_policy("nonsense: true");
    controller.start_again().await.unwrap();
    let status = setup.status().await;
    assert_eq!(status["policy"]["rev"], 1);
    assert!(status["policy"]["problem"].as_str().unwrap().contains("line 1"), "{status}");
}
