//! Steps (d) to (h): what breaks at 3 a.m.

use std::time::{Duration, Instant};

use roadstead_testkit::kube_api::{FailPage, FaultSettings};
use roadstead_testkit::load::Target;
use serde_json::{Value, json};

use super::{Finding, until};
use crate::cluster::Pods;
use crate::fleet::Fleet;
use crate::traffic::{Plan, Traffic, status};

const WITHIN: Duration = Duration::from_secs(30);
const LIVE_WITHIN: Duration = Duration::from_secs(1);

pub async fn agent_killed(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let traffic = Traffic::start(Plan::shop(fleet));
    fleet.system.agent("eu-north").kill().await;
    let stale =
        until(WITHIN, "eu-north is shown stale", async || cluster_state(fleet, "eu-north").await == "stale").await?;
    traffic.sent_more(500).await?;
    let requests = traffic.stop().await;
    fleet.system.agent("eu-north").start().await?;
    until(WITHIN, "eu-north is live again", async || cluster_state(fleet, "eu-north").await == "live").await?;
    let served = requests.by_cluster("eu-north");
    let shown = format!("shown stale after {:.1} s, it went on answering: {served} requests", stale.as_secs_f32());
    let share = 100 * served / requests.0.sent.max(1);
    Ok(Finding { requests, verdict: if (25..=35).contains(&share) { Ok(shown) } else { Err(shown) } })
}

pub async fn pods_killed(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let traffic = Traffic::start(Plan::shop(fleet));
    traffic.sent(300).await?;
    fleet.cluster_mut("eu-west").kill_pods().await;
    traffic.sent_more(500).await?;
    fleet.cluster("eu-west").publish_all(Pods::None).await?;
    traffic.sent_more(300).await?;
    let emptied = Instant::now();
    traffic.sent_more(200).await?;
    let requests = traffic.stop().await;
    fleet.cluster_mut("eu-west").start_pods().await?;
    fleet.cluster("eu-west").publish_all(Pods::Running).await?;
    let edges = fleet.edges();
    until(WITHIN, "eu-west answers again", async || {
        let answer = Target::get(edges[0], "shop.example.com", "/").once().await;
        answer.is_some_and(|answer| answer.cluster == "eu-west")
    })
    .await?;
    let late = requests.last_answer_of_cluster("eu-west").is_some_and(|at| at > emptied);
    let shown = format!("{} answered by the other two clusters", requests.0.sent - requests.by_cluster("eu-west"));
    Ok(Finding { requests, verdict: if late { Err("an emptied cluster answered".to_owned()) } else { Ok(shown) } })
}

pub async fn controller_killed(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let edges = fleet.edges();
    let first = Traffic::start(Plan::shop(fleet).edges(&edges[..1]));
    fleet.system.controller().kill().await;
    first.sent_more(300).await?;
    fleet.system.edge(1).kill().await;
    fleet.system.edge(1).start().await?;
    fleet.system.edge(1).wait_ready(WITHIN).await?;
    let second = Traffic::start(Plan::shop(fleet).edges(&edges[1..]));
    second.sent(500).await?;
    let restarted = second.stop().await;
    let shown = format!("{} of them by an edge that restarted alone, from its disk", restarted.0.sent);
    let requests = first.stop().await.and(restarted);
    fleet.system.controller().start().await?;
    fleet.system.controller().wait_ready(WITHIN).await?;
    until(WITHIN, "every cluster is live again", async || all_live(fleet).await).await?;
    Ok(Finding { requests, verdict: Ok(shown) })
}

pub async fn api_down(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let edges = fleet.edges();
    let traffic = Traffic::start(Plan::shop(fleet));
    let docs = Traffic::start(Plan::docs(fleet));
    fleet.cluster("us-east").set_faults(&FaultSettings { outage: true, ..FaultSettings::default() }).await?;
    fleet.system.agent("us-east").kill().await;
    fleet.system.agent("us-east").start().await?;
    fleet.system.controller().kill().await;
    fleet.system.controller().start().await?;
    fleet.system.controller().wait_ready(WITHIN).await?;
    until(WITHIN, "eu-west is live", async || cluster_state(fleet, "eu-west").await == "live").await?;

    let host = "fresh.example.com";
    fleet.cluster("eu-west").apply_object(&extra_ingress(host)).await?;
    let live = async || status(edges[0], host, "/").await == 200;
    let took = until(WITHIN, "a new host of a healthy cluster is live", live).await?;
    traffic.sent_more(300).await?;
    docs.sent(super::SENT_MIN).await?;
    let served = docs.stop().await;
    let requests = traffic.stop().await;
    fleet.cluster("us-east").set_faults(&FaultSettings::default()).await?;
    until(WITHIN, "every cluster is live again", async || all_live(fleet).await).await?;
    let shown = format!(
        "new host of a healthy cluster live after {} ms; {} requests for the host that only us-east has",
        took.as_millis(),
        served.0.sent
    );
    let requests = requests.and(served);
    Ok(Finding { requests, verdict: if took <= LIVE_WITHIN { Ok(shown) } else { Err(shown) } })
}

pub async fn list_fails(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let traffic = Traffic::start(Plan::shop(fleet));
    let before = hosts(fleet, "eu-west").await?;
    fleet.cluster("eu-west").set_faults(&list_fails_half_way()).await?;
    fleet.system.agent("eu-west").kill().await;
    fleet.system.agent("eu-west").start().await?;
    let reported = async || findings(fleet).await.is_ok_and(|all| all.contains("incomplete-sync"));
    until(WITHIN, "the incomplete list is reported", reported).await?;
    traffic.sent_more(500).await?;
    let during = hosts(fleet, "eu-west").await?;
    fleet.cluster("eu-west").set_faults(&FaultSettings::default()).await?;
    until(WITHIN, "the report is gone", async || {
        findings(fleet).await.is_ok_and(|all| !all.contains("incomplete-sync"))
    })
    .await?;
    let requests = traffic.stop().await;
    let after = hosts(fleet, "eu-west").await?;
    let shown = format!("hosts of eu-west before {before}, during {during}, after {after}");
    let verdict = if before == during && during == after { Ok(shown) } else { Err(shown) };
    Ok(Finding { requests, verdict })
}

/// Streaming lists break off after the first Ingress, and plain ones fail too.
fn list_fails_half_way() -> FaultSettings {
    let mut faults = FaultSettings::default();
    faults.cut_initial_events.insert("ingresses".to_owned(), 1);
    faults.fail_list_page.insert("ingresses".to_owned(), FailPage { page: 1, status: 500 });
    faults
}

fn extra_ingress(host: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "fresh", "namespace": "shop"},
        "spec": {
            "ingressClassName": "roadstead",
            "rules": [{"host": host, "http": {"paths": [{
                "path": "/",
                "pathType": "Prefix",
                "backend": {"service": {"name": "web", "port": {"number": 80}}},
            }]}}],
        },
    })
}

async fn cluster(fleet: &Fleet, name: &str) -> anyhow::Result<Value> {
    let status = fleet.system.status().await?;
    let clusters = status["clusters"].as_array().cloned().unwrap_or_default();
    let found = clusters.into_iter().find(|cluster| cluster["id"] == name);
    found.ok_or_else(|| anyhow::anyhow!("/status does not list {name}"))
}

/// Empty while the controller does not answer.
async fn cluster_state(fleet: &Fleet, name: &str) -> String {
    let state = cluster(fleet, name).await.map(|cluster| cluster["state"].clone()).unwrap_or_default();
    state.as_str().unwrap_or_default().to_owned()
}

async fn all_live(fleet: &Fleet) -> bool {
    for cluster in &fleet.clusters {
        if cluster_state(fleet, &cluster.name).await != "live" {
            return false;
        }
    }
    true
}

async fn hosts(fleet: &Fleet, name: &str) -> anyhow::Result<u64> {
    cluster(fleet, name).await?["hosts"].as_u64().ok_or_else(|| anyhow::anyhow!("/status shows no hosts of {name}"))
}

async fn findings(fleet: &Fleet) -> anyhow::Result<String> {
    Ok(fleet.system.status().await?["findings"].to_string())
}
