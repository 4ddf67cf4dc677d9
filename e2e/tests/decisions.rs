//! What a person decides holds, whatever the objects say: a freeze, a pinned version, an edge that follows nobody.

use roadstead_e2e::site::{Flow, Site, WITHIN, service, status};
use roadstead_e2e::until;

const HOST: &str = "shop.example.com";
const LATER: &str = "later.example.com";
const TERMS: [&str; 4] = ["--for", "10m", "--reason", "an incident"];

/// The host belongs to `web`; `wrong` is there, too.
async fn one_cluster(edges: usize) -> anyhow::Result<Site> {
    let mut site = Site::start(&["eu"], edges).await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    site.cluster("eu").deploy("wrong", 1).await?;
    site.served_by(HOST, &["eu"]).await?;
    Ok(site)
}

/// The host is sent to the wrong application, and the controller knows it.
async fn bad_change(site: &mut Site) -> anyhow::Result<()> {
    let before = site.status_of("eu").await["seq"].as_u64().unwrap_or_default();
    site.cluster("eu").ingress("web", HOST, "wrong")?;
    site.accepts_beyond("eu", before).await
}

async fn is_at(site: &mut Site, edge: usize, wanted: &str) -> anyhow::Result<()> {
    let edge = site.edge(edge);
    until(WITHIN, &format!("{HOST} is served by {wanted}"), async || service(edge, HOST).await == wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_changes_of_hosts_back_and_lets_endpoints_go_on() -> anyhow::Result<()> {
    let mut site = one_cluster(1).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cli(1, &[&["freeze", "public"][..], &TERMS].concat()).await?;
    bad_change(&mut site).await?;
    site.cluster("eu").ingress("later", LATER, "web")?;
    site.cluster("eu").publish_from("web", 1, 1)?;
    site.pods_at(0, HOST, &["eu/web-2"]).await?;
    site.cluster("eu").kill_pod("web", 0).await;
    flow.more(300).await?;
    anyhow::ensure!(status(site.edge(0), LATER).await == 404, "a host was added during the freeze");
    flow.stop_clean().await?;
    // The control: what was held back arrives.
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cli(1, &["unfreeze", "public"]).await?;
    is_at(&mut site, 0, "wrong").await?;
    site.answers(LATER, 200).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_host_serves_its_earlier_version_until_the_pin_is_lifted() -> anyhow::Result<()> {
    let mut site = one_cluster(1).await?;
    let recorded = async || site.ask(1, &["history", HOST]).await.unwrap_or_default()["revisions"].clone();
    until(WITHIN, "the host has a history", async || recorded().await.as_array().is_some_and(|it| it.len() == 1))
        .await?;
    let good = recorded().await[0]["id"].to_string();
    bad_change(&mut site).await?;
    is_at(&mut site, 0, "wrong").await?;
    site.cli(1, &[&["pin", HOST, &good][..], &TERMS].concat()).await?;
    is_at(&mut site, 0, "web").await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    // Further changes of the host's objects do not get through either; others do.
    site.cluster("eu").ingress("second", HOST, "wrong")?;
    site.cluster("eu").ingress("later", LATER, "web")?;
    site.answers(LATER, 200).await?;
    site.cluster("eu").publish_from("web", 1, 1)?;
    site.pods_at(0, HOST, &["eu/web-2"]).await?;
    site.cluster("eu").kill_pod("web", 0).await;
    flow.more(300).await?;
    flow.stop_clean().await?;
    // The control: without the pin the objects count.
    let flow = Flow::start(site.edge(0), HOST, "web");
    let overrides = site.list(1, "overrides").await;
    let id = overrides.first().and_then(|it| it["id"].as_str()).unwrap_or_default();
    site.cli(1, &["overrides", "lift", id]).await?;
    is_at(&mut site, 0, "wrong").await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_edge_serves_its_last_table_and_follows_nobody() -> anyhow::Result<()> {
    let mut site = one_cluster(2).await?;
    site.system.edge(1).set_env("ROADSTEAD_FROZEN", "true");
    site.system.edge(1).restart().await?;
    site.system.edge(1).wait_ready(WITHIN).await?;
    // The control is the other edge, which follows.
    let flows = [0, 1].map(|edge| Flow::start(site.edge(edge), HOST, "web"));
    bad_change(&mut site).await?;
    is_at(&mut site, 0, "wrong").await?;
    site.cluster("eu").ingress("later", LATER, "web")?;
    site.answers_at(0, LATER, 200).await?;
    let [follows, frozen] = flows;
    frozen.more(300).await?;
    anyhow::ensure!(status(site.edge(1), LATER).await == 404, "a frozen edge followed a change");
    follows.stop_hurt().await?;
    frozen.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}
