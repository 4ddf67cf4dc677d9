//! Processes end and come back, one after the other and together, while requests flow.

use roadstead_e2e::site::{Flow, Site, WITHIN};
use roadstead_testkit::kube_api::Restart;

const HOST: &str = "shop.example.com";

async fn two_clusters() -> anyhow::Result<Site> {
    let mut site = Site::start(&["eu", "us"], 1).await?;
    for cluster in ["eu", "us"] {
        site.cluster(cluster).serve(HOST, "web", 2).await?;
    }
    site.served_by(HOST, &["eu", "us"]).await?;
    Ok(site)
}

/// Several systems hang, panic or push empty endpoints in this state.
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_starts_while_a_cluster_is_unreachable_serves_all() -> anyhow::Result<()> {
    let mut site = two_clusters().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cluster("us").api.stop().await;
    site.system.agent("us").kill().await;
    site.system.controller().kill().await;
    site.system.controller().start().await?;
    site.system.controller().wait_ready(WITHIN).await?;
    site.cluster_is("eu", "live").await?;
    site.cluster_is("us", "stale").await?;
    site.cluster("eu").ingress("later", "later.example.com", "web")?;
    site.served_by("later.example.com", &["eu"]).await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_restarts_without_a_controller_serves_its_last_table() -> anyhow::Result<()> {
    let mut site = two_clusters().await?;
    site.system.controller().kill().await;
    site.system.edge(0).kill().await;
    site.system.edge(0).start().await?;
    site.system.edge(0).wait_ready(WITHIN).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    flow.more(500).await?;
    flow.stop_clean().await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    site.system.stop().await;
    Ok(())
}

/// The control of the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_restarts_alone_without_its_last_table_fails_requests() -> anyhow::Result<()> {
    let mut site = two_clusters().await?;
    site.system.controller().kill().await;
    site.restart_edge_without(0, "edge-last-good").await?;
    Flow::start(site.edge(0), HOST, "web").stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

/// Versions are content digests: what is equal is not sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_restart_sends_edges_nothing() -> anyhow::Result<()> {
    let mut site = two_clusters().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.system.controller().kill().await;
    site.system.controller().start().await?;
    site.system.controller().wait_ready(WITHIN).await?;
    site.cluster_is("eu", "live").await?;
    site.cluster_is("us", "live").await?;
    // A change that arrives: everything that was to be sent before it had its chance.
    site.cluster("eu").ingress("later", "later.example.com", "web")?;
    site.served_by("later.example.com", &["eu"]).await?;
    let sent = site.controller_counter(1, "roadstead_controller_publish_upserts_total").await?;
    anyhow::ensure!((sent - 1.0).abs() < 0.5, "{sent} resources were sent instead of the new host alone");
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_the_agent_was_away_is_pruned() -> anyhow::Result<()> {
    let mut site = two_clusters().await?;
    site.cluster("eu").ingress("extra", "extra.example.com", "web")?;
    site.served_by("extra.example.com", &["eu"]).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.system.agent("eu").kill().await;
    site.cluster("eu").delete_ingress("extra")?;
    site.system.agent("eu").start().await?;
    site.answers("extra.example.com", 404).await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// Kubernetes API servers restart all the time; agents keep their streams and what they know.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_restarts_changes_nothing() -> anyhow::Result<()> {
    let mut site = two_clusters().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    let api = &mut site.cluster("eu").api;
    api.stop().await;
    flow.more(300).await?;
    site.cluster("eu").api.start_again(Restart::SameState).await?;
    site.cluster("eu").ingress("later", "later.example.com", "web")?;
    site.served_by("later.example.com", &["eu"]).await?;
    site.cluster_is("eu", "live").await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}
