//! An agent is gone: for a while nothing changes, then what the policy says, or another agent takes its place.

use std::path::PathBuf;

use roadstead_e2e::site::{Flow, Plan, Site, WITHIN};
use roadstead_e2e::until;
use roadstead_testkit::stack::roadstead::AgentOptions;

const HOST: &str = "shop.example.com";
const ONLY: &str = "only.example.com";

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_agent_changes_nothing_until_its_word_expires_and_never_takes_the_last_backend() -> anyhow::Result<()> {
    let plan = Plan::new(&["eu", "us"], 1).policy(
        "clusters: {us: {stale: {hold_for: 10s}}}
defaults: {stale_pod_ip_after: 10s}",
    );
    let mut site = plan.start().await?;
    for cluster in ["eu", "us"] {
        site.cluster(cluster).serve(HOST, "web", 2).await?;
    }
    site.cluster("us").ingress("only", ONLY, "web")?;
    site.served_by(HOST, &["eu", "us"]).await?;
    site.served_by(ONLY, &["us"]).await?;
    let flows = [HOST, ONLY].map(|host| Flow::start(site.edge(0), host, "web"));
    site.system.agent("us").kill().await;
    site.cluster_is("us", "stale").await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    site.cluster_has("us", "liveness", "expired").await?;
    site.served_by(HOST, &["eu"]).await?;
    site.served_by(ONLY, &["us"]).await?;
    site.has_finding("stale-pod-addresses").await?;
    site.system.agent("us").start().await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    until(WITHIN, "the finding is gone", async || !site.finding("stale-pod-addresses").await).await?;
    for flow in flows {
        flow.stop_clean().await?;
    }
    site.system.stop().await;
    Ok(())
}

/// One agent at each of two controllers; requests go to the first pod alone.
async fn one_agent_per_controller(site: &mut Site) -> anyhow::Result<()> {
    let kubeconfig: PathBuf = site.kubeconfig("eu");
    site.system.agent("eu").kill().await;
    for number in [1, 2] {
        let mut options = AgentOptions::new("eu", kubeconfig.clone());
        (options.name, options.controllers) = (format!("eu-{number}"), vec![number]);
        site.system.add_agent(options).await?;
        site.agent_is_at(1, "eu", 1).await?;
    }
    Ok(())
}

async fn two_controllers() -> anyhow::Result<Site> {
    let mut site = Plan::new(&["eu"], 1).edge_at(&[2]).two_controllers().start().await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    site.cluster("eu").publish("web", 1)?;
    for edge in [0, 1] {
        site.pods_at(edge, HOST, &["eu/web-1"]).await?;
    }
    site.controllers_are_peers().await?;
    Ok(site)
}

async fn epoch(site: &Site) -> u64 {
    site.status_of("eu").await["epoch"].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_of_a_cluster_one_holds_it_and_the_other_takes_over() -> anyhow::Result<()> {
    let mut site = two_controllers().await?;
    one_agent_per_controller(&mut site).await?;
    let flows = [0, 1].map(|edge| Flow::start(site.edge(edge), HOST, "web"));
    let waits = async || site.system.status_at(2).await.is_ok_and(|it| it["clusters"][0]["state"] == "live");
    until(WITHIN, "the other controller knows who holds the cluster", waits).await?;
    let before = epoch(&site).await;
    // Ten seconds of requests: several times as long as whoever stands by waits before it asks again.
    flows[0].more(5_000).await?;
    anyhow::ensure!(epoch(&site).await == before, "the agents take the cluster from each other");
    site.system.agent("eu-1").kill().await;
    site.agent_is_at(2, "eu", 2).await?;
    anyhow::ensure!(epoch(&site).await > before, "a new holder begins a new epoch");
    site.cluster("eu").publish_from("web", 1, 1)?;
    for edge in [0, 1] {
        site.pods_at(edge, HOST, &["eu/web-2"]).await?;
    }
    site.cluster("eu").kill_pod("web", 0).await;
    for flow in flows {
        flow.more(300).await?;
        flow.stop_clean().await?;
    }
    site.system.stop().await;
    Ok(())
}

/// The control of the same: without another agent nobody says that the pod is gone.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_second_agent_what_changes_after_the_end_of_the_first_fails_requests() -> anyhow::Result<()> {
    let mut site = two_controllers().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.system.agent("eu").kill().await;
    site.cluster_is("eu", "reconnecting").await?;
    site.cluster("eu").publish_from("web", 1, 1)?;
    flow.more(300).await?;
    site.cluster("eu").kill_pod("web", 0).await;
    flow.more(100).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}
