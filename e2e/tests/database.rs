//! The database is away, empty or another one: routing goes on from memory, and nothing is wiped.

use std::time::Duration;

use roadstead_e2e::site::{Flow, Site, WITHIN};
use roadstead_e2e::until;

const HOST: &str = "shop.example.com";

async fn one_cluster() -> anyhow::Result<Site> {
    let mut site = Site::start(&["eu"], 1).await?;
    site.cluster("eu").serve(HOST, "web", 3).await?;
    site.served_by(HOST, &["eu"]).await?;
    Ok(site)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_on_while_the_database_is_away() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    site.cluster("eu").publish("web", 1)?;
    site.pods_at(0, HOST, &["eu/web-1"]).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.system.postgres_mut().stop().await;
    site.cluster("eu").ingress("later", "later.example.com", "web")?;
    site.served_by("later.example.com", &["eu"]).await?;
    site.cluster("eu").publish_from("web", 1, 1)?;
    site.pods_at(0, HOST, &["eu/web-2"]).await?;
    site.cluster("eu").kill_pod("web", 0).await;
    let state = async || site.system.status().await.unwrap_or_default()["store"]["state"].clone();
    until(WITHIN, "the store is shown as not durable", async || {
        let state = state().await;
        state.is_string() && state != "durable"
    })
    .await?;
    let ready = site.system.controller().get("/readyz").await?;
    anyhow::ensure!(ready.contains("degraded: store"), "{ready}");
    site.system.postgres_mut().start_again().await?;
    until(WITHIN, "the store is durable again", async || {
        site.system.status().await.unwrap_or_default()["store"]["state"] == "durable"
    })
    .await?;
    // What was accepted meanwhile is in the database: a controller that starts from it serves it.
    site.is_durable("eu").await?;
    site.system.agent("eu").kill().await;
    site.system.controller().kill().await;
    site.system.controller().start().await?;
    site.system.controller().wait_ready(WITHIN).await?;
    site.served_by("later.example.com", &["eu"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The control of the same: a controller that is gone as well has nothing to go on from.
#[tokio::test(flavor = "multi_thread")]
async fn without_controller_and_database_what_changes_fails_requests() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    site.cluster("eu").publish("web", 1)?;
    site.pods_at(0, HOST, &["eu/web-1"]).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.system.postgres_mut().stop().await;
    site.system.controller().kill().await;
    site.system.controller().start().await?;
    site.cluster("eu").publish_from("web", 1, 1)?;
    flow.more(500).await?;
    site.cluster("eu").kill_pod("web", 0).await;
    flow.more(100).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_without_its_database_takes_no_streams() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.system.postgres_mut().stop().await;
    site.system.controller().kill().await;
    site.system.controller().start().await?;
    let mut reason = async || match site.system.controller().wait_ready(Duration::ZERO).await {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    };
    until(WITHIN, "the reason is shown", async || reason().await.to_lowercase().contains("database")).await?;
    flow.more(300).await?;
    site.system.postgres_mut().start_again().await?;
    site.system.controller().wait_ready(WITHIN).await?;
    site.cluster_is("eu", "live").await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}
