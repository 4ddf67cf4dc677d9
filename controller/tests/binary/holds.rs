//! Holds with a real controller, a real Postgres and the real command line: held, shown, kept over a kill, approved.

use std::collections::BTreeMap;

use roadstead_proto::wire::RemovalCause;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cli::{cli, said};
use crate::peers::{Agent, Edge};
use crate::setup::Setup;

const HOSTS: usize = 30;
const DELETED: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_deletion_is_held_until_the_command_line_approves_it() {
    let setup = Setup::new().await;
    let mut controller = setup.start().await;
    let names: Vec<String> = (0..HOSTS).map(|number| format!("i{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut agent = Agent::connect(&setup, "eu").await;
    agent.report(1, &names).await;
    agent.acknowledged(1).await;
    let mut edge = Edge::connect(&setup, "e1", BTreeMap::new()).await;
    edge.until_synced().await;
    assert!(said(cli(&setup, &["holds"])).contains("Nothing is held"));

    agent.remove(2, &names[..DELETED], RemovalCause::Deleted).await;
    agent.acknowledged(2).await;
    let holds: serde_json::Value = serde_json::from_str(&said(cli(&setup, &["holds", "--json"]))).unwrap();
    let hold = &holds["holds"][0];
    assert_eq!(hold["hosts_total"], DELETED, "{holds}");
    assert_eq!(hold["scope"], "namespace/eu/shop");
    let id = hold["id"].as_str().unwrap();
    let table = said(cli(&setup, &["holds"]));
    assert!(table.contains(id) && table.contains("i00.example.com"), "{table}");
    assert!(said(cli(&setup, &["findings"])).contains("change-held"));
    assert!(said(cli(&setup, &["clusters"])).contains("live"));
    assert!(said(cli(&setup, &["edges"])).contains("30/30"));
    assert!(setup.metrics().await.contains("roadstead_controller_publish_holds 1"));

    setup.until_count("SELECT count(*) FROM holds WHERE live", 1).await;
    controller.kill().await;
    let held = edge.leave();
    controller.start_again().await.unwrap();
    let mut edge = Edge::connect(&setup, "e1", held).await;
    assert_eq!(edge.until_synced().await, 0, "a restart lets nothing go");
    assert_eq!(edge.hosts().len(), HOSTS);

    said(cli(&setup, &["holds", "approve", id, "--by", "somebody"]));
    edge.until_hosts(HOSTS - DELETED).await;
    let again = cli(&setup, &["holds", "approve", id]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is no open Hold"));
    setup.until_count("SELECT count(*) FROM holds WHERE document->>'closed_by' = 'somebody'", 1).await;
    setup.until_count("SELECT count(*) FROM published", (HOSTS - DELETED) as i64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_are_set_shown_kept_and_lifted() {
    let setup = Setup::new().await;
    let mut controller = setup.start().await;
    let mut agent = Agent::connect(&setup, "eu").await;
    agent.report(1, &["a"]).await;
    agent.acknowledged(1).await;
    let terms = ["--for", "30m", "--reason", "a move"];
    said(cli(&setup, &[&["expect-removal", "--cluster", "eu", "--namespace", "shop"][..], &terms].concat()));
    said(cli(&setup, &[&["freeze", "public"][..], &terms].concat()));
    setup.until_count("SELECT count(*) FROM overrides", 2).await;
    controller.kill().await;
    controller.start_again().await.unwrap();
    let table = said(cli(&setup, &["overrides"]));
    assert!(
        table.contains("namespace/eu/shop") && table.contains("pool/public") && table.contains("a move"),
        "{table}"
    );
    said(cli(&setup, &["unfreeze", "public"]));
    assert_eq!(cli(&setup, &["unfreeze", "public"]).status.code(), Some(1));
    setup.until_count("SELECT count(*) FROM overrides", 1).await;

    let typo = cli(&setup, &[&["freeze", "publik"][..], &terms].concat());
    assert!(String::from_utf8_lossy(&typo.stderr).contains("no pool publik"));
    assert_eq!(cli(&setup, &["freeze", "--for", "soon", "--reason", "x"]).status.code(), Some(2));
    controller.kill().await;
    let gone = cli(&setup, &["holds"]);
    assert_eq!(gone.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&gone.stderr).trim_end().lines().count(), 1);
}

#[tokio::test]
async fn every_request_but_health_needs_the_token() {
    let setup = Setup::new().await;
    let _controller = setup.start().await;
    let ask = async |line: &str, header: &str| {
        let mut stream = tokio::net::TcpStream::connect(setup.api).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(ask("GET /api/v1/health", "").await.starts_with("HTTP/1.1 200"));
    for line in [
        "GET /api/v1/holds",
        "POST /api/v1/freezes",
        "DELETE /api/v1/overrides/o-1",
        "POST /api/v1/clusters/eu/lifecycle",
        "POST /api/v1/clusters/eu/readopt",
        "POST /api/v1/adopt-world",
        "GET /api/v1/world",
        "GET /api/v1/alerts",
        "GET /api/v1/replicas",
        "GET /api/v1/pools",
        "GET /api/v1/pools/public/hosts/a.example.com/revisions",
        "POST /api/v1/pools/public/canary/release",
        "POST /api/v1/pins",
        "GET /",
        "GET /api/v1/x",
    ] {
        for header in
            ["", "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n", "Authorization: Basic eDp5\r\n"]
        {
            let answer = ask(line, header).await;
            assert!(
                answer.starts_with("HTTP/1.1 401") && answer.contains("application/problem+json"),
                "{line}: {answer}"
            );
        }
    }
    let token = std::fs::read_to_string(setup.path("api.token")).unwrap();
    let header = format!("Authorization: Bearer {}\r\n", token.trim());
    assert!(ask("GET /api/v1/holds", &header).await.starts_with("HTTP/1.1 200"));
    assert!(ask("GET /api/v1/x", &header).await.starts_with("HTTP/1.1 404"));
    let bad = ask("POST /api/v1/freezes", &header).await;
    assert!(bad.starts_with("HTTP/1.1 4") && bad.contains("application/problem+json"), "{bad}");
}
