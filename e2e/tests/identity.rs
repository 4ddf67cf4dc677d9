//! Two clusters under one identity: the first keeps it, the second is told why it is not served, a person may let it in.

use roadstead_e2e::site::{Cluster, Flow, Site};
use roadstead_testkit::stack::roadstead::AgentOptions;

const HOST: &str = "shop.example.com";
const UID: &str = "11111111-2222-4333-8444-555555555555";

async fn one_cluster() -> anyhow::Result<Site> {
    let mut site = Site::start(&["eu"], 1).await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    site.served_by(HOST, &["eu"]).await?;
    Ok(site)
}

/// An agent of another Kubernetes cluster has the certificate of the first and takes its place.
async fn replace_cluster(site: &mut Site, other: &Cluster) -> anyhow::Result<()> {
    site.system.agent("eu").kill().await;
    other.write_kubeconfig(&site.kubeconfig("eu"))?;
    site.system.agent("eu").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_cluster_under_one_identity_is_held() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    let impostor = Cluster::start_with_uid("impostor", 2, UID).await?;
    replace_cluster(&mut site, &impostor).await?;
    site.has_finding("cluster-identity").await?;
    flow.more(500).await?;
    site.served_by(HOST, &["eu"]).await?;

    site.system.agent("eu").kill().await;
    let own = site.folder.path().join("own.kubeconfig");
    site.cluster("eu").write_kubeconfig(&own)?;
    let mut options = AgentOptions::new("eu", own);
    options.name = "eu-own".to_owned();
    site.system.add_agent(options).await?;
    site.cluster_is("eu", "live").await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_cluster_is_let_in_once_it_is_readopted() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    let mut rebuilt = Cluster::start_with_uid("rebuilt", 2, UID).await?;
    rebuilt.serve(HOST, "web", 2).await?;
    replace_cluster(&mut site, &rebuilt).await?;
    site.has_finding("cluster-identity").await?;
    site.served_by(HOST, &["eu"]).await?;
    site.cli(1, &["cluster", "readopt", "eu", "--uid", UID]).await?;
    site.served_by(HOST, &["rebuilt"]).await?;
    site.cluster("eu").kill_pods("web").await;
    flow.more(300).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// Even then its difference from the first one goes by the guard.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cluster_that_is_readopted_is_a_hold() -> anyhow::Result<()> {
    let mut site = one_cluster().await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    let empty = Cluster::start_with_uid("empty", 2, UID).await?;
    replace_cluster(&mut site, &empty).await?;
    site.has_finding("cluster-identity").await?;
    site.cli(1, &["cluster", "readopt", "eu", "--uid", UID]).await?;
    let id = site.hold_of(1, HOST).await?["id"].as_str().unwrap_or_default().to_owned();
    flow.more(300).await?;
    flow.stop_clean().await?;
    // The control: with every protection lifted, the second cluster takes the first one's routes away.
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cli(1, &["holds", "approve", &id]).await?;
    site.answers(HOST, 404).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}
