//! Agents that cannot read their cluster, or only a part of it: nothing is removed because something was not seen.

use std::time::Duration;

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

/// What is left of a cluster is its name.
async fn empty(site: &mut Site) -> anyhow::Result<()> {
    let api = &mut site.cluster("eu").api;
    api.stop().await;
    Ok(api.start_again(Restart::EmptyState).await?)
}

async fn nothing_is_left(site: &Site) -> anyhow::Result<()> {
    until(WITHIN, "nothing is left of the cluster", async || {
        let objects = site.status_of("eu").await["objects"].clone();
        objects.as_object().is_some_and(|kinds| kinds.values().all(|count| *count == 0))
    })
    .await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WhoLists {
    /// The agent that was there before, because its watches ended.
    SameAgent,
    NewAgent,
}

/// Lists complete in any order, and what is held keeps its pods whichever comes last.
async fn held_hosts_keep_their_pods(last: &str, who_lists: WhoLists) -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    if who_lists == WhoLists::NewAgent {
        site.system.agent("eu").kill().await;
    }
    site.cluster("eu").api.faults().slow(last, Duration::from_millis(500));
    empty(&mut site).await?;
    if who_lists == WhoLists::NewAgent {
        site.system.agent("eu").start().await?;
    }
    site.hold_of(1, HOST).await?;
    nothing_is_left(&site).await?;
    flow.more(100).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

async fn expect_removal(site: &Site) -> anyhow::Result<()> {
    site.cli(1, &["expect-removal", "--cluster", "eu", "--for", "10m", "--reason", "rebuilt"]).await?;
    Ok(())
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

/// A rebuilt cluster, or an etcd restored to nothing: everything it has is a Hold, which a person may let go.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lists_nothing_keeps_its_routes() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    empty(&mut site).await?;
    let hold = site.hold_of(1, HOST).await?;
    anyhow::ensure!(hold["scope"] == "namespace/eu/shop" && hold["hosts_total"] == 2, "{hold:#}");
    restart_agent(&mut site).await?;
    site.cluster_is("eu", "live").await?;
    flow.more(500).await?;
    let id = site.hold_of(1, HOST).await?["id"].as_str().unwrap_or_default().to_owned();
    site.served_by("other.example.com", &["eu"]).await?;
    flow.stop_clean().await?;
    site.cli(1, &["holds", "approve", &id]).await?;
    site.answers(HOST, 404).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lists_nothing_keeps_its_pods_if_ingresses_come_last() -> anyhow::Result<()> {
    held_hosts_keep_their_pods("ingresses", WhoLists::SameAgent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lists_nothing_keeps_its_pods_if_services_come_last() -> anyhow::Result<()> {
    held_hosts_keep_their_pods("services", WhoLists::SameAgent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lists_nothing_to_a_new_agent_keeps_its_pods() -> anyhow::Result<()> {
    held_hosts_keep_their_pods("ingresses", WhoLists::NewAgent).await
}

/// What its Ingresses referred to is left for another agent to find missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lists_nothing_keeps_its_pods_if_its_agent_ends_meanwhile() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    for resource in ["services", "endpointslices"] {
        site.cluster("eu").api.faults().slow(resource, Duration::from_secs(60));
    }
    empty(&mut site).await?;
    site.hold_of(1, HOST).await?;
    site.system.agent("eu").kill().await;
    site.cluster("eu").api.faults().clear();
    site.cluster("eu").api.faults().slow("services", Duration::from_millis(500));
    site.system.agent("eu").start().await?;
    nothing_is_left(&site).await?;
    flow.more(100).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The control of the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_expected_to_list_nothing_loses_its_routes() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    expect_removal(&site).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    flow.more(200).await?;
    empty(&mut site).await?;
    site.answers(HOST, 404).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

/// The control of every incomplete list: one that is complete and empty, and that somebody announced, is obeyed.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_empty_list_that_is_expected_removes_hosts() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    expect_removal(&site).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    flow.more(200).await?;
    site.cluster("eu").api.faults().empty_lists("ingresses");
    restart_agent(&mut site).await?;
    site.answers(HOST, 404).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

/// The watch of an agent that fell behind ends with 410; what it then misses in the list is gone, the rest stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_watch_is_listed_again() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cluster("eu").api.stop().await;
    site.cluster("eu").delete_ingress("other")?;
    site.cluster("eu").api.faults().compact();
    site.cluster("eu").api.start_again(Restart::SameState).await?;
    site.answers("other.example.com", 404).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}
