//! Agents that cannot read their cluster, or only a part of it: nothing is removed because something was not seen.

use roadstead_e2e::site::{Flow, Site, WITHIN};
use roadstead_e2e::until;
use roadstead_testkit::kube_api::{FailPage, Restart};

const HOST: &str = "shop.example.com";

async fn one_cluster() -> anyhow::Result<Site> {
    let mut site = Site::start(&["eu"], 1).await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    site.cluster("eu").ingress("other", "other.example.com", "web")?;
    site.served_by(HOST, &["eu"]).await?;
    site.served_by("other.example.com", &["eu"]).await?;
    Ok(site)
}

async fn restart_agent(site: &mut Site) -> anyhow::Result<()> {
    site.system.agent("eu").kill().await;
    site.system.agent("eu").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_its_permissions_removes_nothing() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    for resource in ["ingresses", "services", "endpointslices"] {
        site.cluster("eu").api.faults().forbid(resource);
    }
    restart_agent(&mut site).await?;
    site.has_finding("incomplete-sync").await?;
    flow.more(500).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_removes_nothing() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cluster("eu").api.faults().cut_initial_events("ingresses", 1);
    site.cluster("eu").api.faults().fail_list_page("ingresses", FailPage { page: 1, status: 500 });
    restart_agent(&mut site).await?;
    site.has_finding("incomplete-sync").await?;
    flow.more(300).await?;
    site.served_by("other.example.com", &["eu"]).await?;
    site.cluster("eu").api.faults().clear();
    until(WITHIN, "the finding is gone", async || !site.finding("incomplete-sync").await).await?;
    site.served_by("other.example.com", &["eu"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// A rebuilt cluster, or an etcd restored to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lists_nothing_keeps_its_routes() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cluster("eu").api.stop().await;
    site.cluster("eu").api.start_again(Restart::EmptyState).await?;
    site.has_finding("prune-withheld").await?;
    restart_agent(&mut site).await?;
    site.cluster_is("eu", "live").await?;
    flow.more(500).await?;
    site.has_finding("prune-withheld").await?;
    site.served_by("other.example.com", &["eu"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The watch of an agent that fell behind ends with 410; what it then misses in the list is gone, the rest stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_watch_is_listed_again() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    let edge = site.edge(0);
    site.cluster("eu").api.stop().await;
    site.cluster("eu").delete_ingress("other")?;
    site.cluster("eu").api.faults().compact();
    site.cluster("eu").api.start_again(Restart::SameState).await?;
    until(WITHIN, "the deleted host is gone", async || {
        roadstead_e2e::site::status(edge, "other.example.com").await == 404
    })
    .await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}
