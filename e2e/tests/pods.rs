//! Pods die, go, come back and change their minds, while requests flow.

use std::collections::BTreeSet;

use roadstead_e2e::site::{Flow, Plan, Site, WITHIN};

const HOST: &str = "shop.example.com";
const PODS: u8 = 10;

async fn two_clusters(plan: Plan) -> anyhow::Result<Site> {
    let mut site = plan.start().await?;
    for cluster in ["eu", "us"] {
        site.cluster(cluster).serve(HOST, "web", 2).await?;
    }
    site.served_by(HOST, &["eu", "us"]).await?;
    Ok(site)
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_pods_of_a_cluster_die_the_others_serve() -> anyhow::Result<()> {
    let mut site = two_clusters(Plan::new(&["eu", "us"], 1)).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    flow.more(200).await?;
    site.cluster("us").kill_pods("web").await;
    flow.more(500).await?;
    site.served_by(HOST, &["eu"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The control of the same.
#[tokio::test(flavor = "multi_thread")]
async fn without_retries_requests_to_killed_pods_fail() -> anyhow::Result<()> {
    let mut site = two_clusters(Plan::new(&["eu", "us"], 0).edge_without("edge-retries")).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    flow.more(200).await?;
    site.cluster("us").kill_pods("web").await;
    flow.more(500).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

fn first(pods: u8) -> BTreeSet<String> {
    (1..=pods).map(|number| format!("eu/web-{number}")).collect()
}

async fn served_by_first(site: &mut Site, pods: u8) -> anyhow::Result<()> {
    let wanted = first(pods);
    site.pods_at(0, HOST, &wanted.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Several systems lose or keep endpoints when a Service is scaled faster than they work.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_scaled_down_and_up_at_once_ends_with_exactly_its_pods() -> anyhow::Result<()> {
    let mut site = Site::start(&["eu"], 1).await?;
    site.cluster("eu").serve(HOST, "web", PODS).await?;
    served_by_first(&mut site, PODS).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    for _ in 0..5 {
        for ready in [2, PODS] {
            site.cluster("eu").publish("web", usize::from(ready))?;
        }
    }
    served_by_first(&mut site, PODS).await?;
    for ready in [2, PODS, 2] {
        site.cluster("eu").publish("web", usize::from(ready))?;
    }
    served_by_first(&mut site, 2).await?;
    for pod in 2..usize::from(PODS) {
        site.cluster("eu").kill_pod("web", pod).await;
    }
    flow.more(300).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The control of whatever follows pods: an edge that does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_follows_nobody_fails_requests_to_pods_that_are_gone() -> anyhow::Result<()> {
    let mut site = Plan::new(&["eu"], 0).edge_without("edge-retries").start().await?;
    site.cluster("eu").serve(HOST, "web", PODS).await?;
    served_by_first(&mut site, PODS).await?;
    site.system.edge(0).set_env("ROADSTEAD_FROZEN", "true");
    site.system.edge(0).restart().await?;
    site.system.edge(0).wait_ready(WITHIN).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cluster("eu").publish("web", 2)?;
    for pod in 2..usize::from(PODS) {
        site.cluster("eu").kill_pod("web", pod).await;
    }
    flow.more(300).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_readiness_flaps_is_served_again_each_time() -> anyhow::Result<()> {
    let mut site = Site::start(&["eu"], 1).await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    served_by_first(&mut site, 2).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    for _ in 0..3 {
        site.cluster("eu").publish_unready("web", 1)?;
        served_by_first(&mut site, 1).await?;
        site.cluster("eu").publish("web", 2)?;
        served_by_first(&mut site, 2).await?;
    }
    // Faster than anybody follows.
    for _ in 0..10 {
        site.cluster("eu").publish_unready("web", 1)?;
        site.cluster("eu").publish("web", 2)?;
    }
    served_by_first(&mut site, 2).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}
