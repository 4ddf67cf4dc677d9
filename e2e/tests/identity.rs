//! Two clusters under one identity: the first keeps it, the second is told why it is not served.

use roadstead_e2e::site::{Flow, Site};
use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};
use roadstead_testkit::stack::roadstead::AgentOptions;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_cluster_under_one_identity_is_held() -> anyhow::Result<()> {
    let host = "shop.example.com";
    let mut site = Site::start(&["eu"], 1).await?;
    site.cluster("eu").serve(host, "web", 2).await?;
    site.served_by(host, &["eu"]).await?;
    let flow = Flow::start(site.edge(0), host, "web");

    // Another, empty Kubernetes cluster; its agent has the certificate of the first and takes its place.
    let mut options = ApiServerOptions::new("impostor");
    options.kube_system_uid = Some("11111111-2222-4333-8444-555555555555".to_owned());
    let impostor = ApiServer::start(options).await?;
    let kubeconfig = site.folder.path().join("eu.kubeconfig");
    site.system.agent("eu").kill().await;
    impostor.write_kubeconfig(&kubeconfig)?;
    site.system.agent("eu").start().await?;
    site.has_finding("cluster-identity").await?;
    flow.more(500).await?;
    site.served_by(host, &["eu"]).await?;

    site.system.agent("eu").kill().await;
    let own = site.folder.path().join("own.kubeconfig");
    site.cluster("eu").api.write_kubeconfig(&own)?;
    site.system.add_agent(AgentOptions::new("eu", own)).await?;
    site.cluster_is("eu", "live").await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}
