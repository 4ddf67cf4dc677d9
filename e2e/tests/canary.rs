//! A change that no object asked for, such as a policy edit, costs at most the edge that tries it first.

use std::time::{Duration, Instant};

use roadstead_e2e::site::{Flow, POLICY, Plan, Site, WITHIN, clusters};
use roadstead_e2e::until;

const HOST: &str = "shop.example.com";
/// Less than one edge is given to find out: what is watched here is noticed a moment late.
const BETWEEN_MIN: Duration = Duration::from_secs(4);

/// The host is served by `web` in eu. What us would serve it by is wrong, and us has no weight.
async fn one_good_cluster() -> anyhow::Result<Site> {
    let mut site = Plan::new(&["eu", "us"], 2).policy(&weights(100, 0)).start().await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    site.served_by(HOST, &["eu"]).await?;
    site.cluster("us").serve(HOST, "wrong", 2).await?;
    until(WITHIN, "us has a host", async || site.status_of("us").await["hosts"] == 1).await?;
    site.served_by(HOST, &["eu"]).await?;
    Ok(site)
}

fn weights(eu: u32, us: u32) -> String {
    format!("clusters: {{eu: {{weight: {eu}}}, us: {{weight: {us}}}}}")
}

fn set_weights(site: &Site, eu: u32, us: u32) -> anyhow::Result<()> {
    site.system.set_policy(&format!("{POLICY}{}\n", weights(eu, us)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_change_is_tried_on_one_edge_before_the_others_get_it() -> anyhow::Result<()> {
    let mut site = Site::start(&["eu", "us"], 2).await?;
    for cluster in ["eu", "us"] {
        site.cluster(cluster).serve(HOST, "web", 2).await?;
    }
    site.served_by(HOST, &["eu", "us"]).await?;
    let flows = [0, 1].map(|edge| Flow::start(site.edge(edge), HOST, "web"));
    set_weights(&site, 100, 0)?;
    site.served_at(0, HOST, &["eu"]).await?;
    let first = Instant::now();
    anyhow::ensure!(clusters(site.edge(1), HOST).await.len() == 2, "both edges got the change at once");
    site.alert(1, "canary").await?;
    site.served_at(1, HOST, &["eu"]).await?;
    anyhow::ensure!(first.elapsed() >= BETWEEN_MIN, "the other edge followed after {:?}", first.elapsed());
    site.no_alert(1).await?;
    for flow in flows {
        flow.stop_clean().await?;
    }
    site.system.stop().await;
    Ok(())
}

/// A policy that sends everything to the wrong place, and that takes the edge with it that tries it.
async fn bad_policy_and_lost_edge(site: &mut Site) -> anyhow::Result<()> {
    set_weights(site, 0, 100)?;
    site.served_at(0, HOST, &["us"]).await?;
    site.system.edge(0).kill().await;
    site.alert(1, "canary-lost").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_costs_the_edge_that_tries_it_reaches_no_other() -> anyhow::Result<()> {
    let mut site = one_good_cluster().await?;
    let flow = Flow::start(site.edge(1), HOST, "web");
    bad_policy_and_lost_edge(&mut site).await?;
    // Longer than a trial that goes well.
    flow.more(4_000).await?;
    // Taken back, there is nothing left to try, although the edge is still gone.
    set_weights(&site, 100, 0)?;
    site.no_alert(1).await?;
    site.system.edge(0).start().await?;
    site.served_by(HOST, &["eu"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The control of the same: a person lets it go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_policy_that_is_released_reaches_the_other_edges() -> anyhow::Result<()> {
    let mut site = one_good_cluster().await?;
    bad_policy_and_lost_edge(&mut site).await?;
    let flow = Flow::start(site.edge(1), HOST, "web");
    site.cli(1, &["canary", "release", "public"]).await?;
    site.served_at(1, HOST, &["us"]).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}
