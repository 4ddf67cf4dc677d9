//! A cluster's life, step by step, while requests flow.

use roadstead_e2e::site::{Flow, Plan, Site, WITHIN};
use roadstead_e2e::until;

const HOST: &str = "shop.example.com";

async fn two_clusters(plan: Plan) -> anyhow::Result<Site> {
    let mut site = plan.start().await?;
    for cluster in ["eu", "us"] {
        site.cluster(cluster).serve(HOST, "web", 2).await?;
    }
    Ok(site)
}

async fn step(site: &Site, step: &str, args: &[&str]) -> anyhow::Result<String> {
    site.cli(1, &[&["cluster", step, "us", "--reason", "maintenance"][..], args].concat()).await
}

/// The second edge does without retries: what keeps its requests whole is the drain alone. What they are otherwise,
/// `pods::without_retries_requests_to_killed_pods_fail` shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_cluster_can_be_switched_off_without_a_failed_request() -> anyhow::Result<()> {
    let mut site = two_clusters(Plan::new(&["eu", "us"], 1).edge_without("edge-retries")).await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    let flows = [0, 1].map(|edge| Flow::start(site.edge(edge), HOST, "web"));
    step(&site, "drain", &["--over", "10s"]).await?;
    site.cluster_has("us", "lifecycle", "draining").await?;
    let percent = async || site.status_of("us").await["percent"].as_u64();
    until(WITHIN, "the drain goes step by step", async || percent().await.is_some_and(|it| it > 0 && it < 100)).await?;
    site.cluster_has("us", "lifecycle", "drained").await?;
    site.served_by(HOST, &["eu"]).await?;
    site.cluster("us").kill_pods("web").await;
    step(&site, "offline", &[]).await?;
    site.cluster_has("us", "lifecycle", "offline").await?;
    for flow in flows {
        flow.more(300).await?;
        let report = flow.stop_clean().await?;
        anyhow::ensure!(report.share("us") > 0.0, "us never had a share");
    }
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_leaves_a_host_without_backends_is_refused() -> anyhow::Result<()> {
    let mut site = two_clusters(Plan::new(&["eu", "us"], 1)).await?;
    site.cluster("us").ingress("only", "only.example.com", "web")?;
    site.served_by("only.example.com", &["us"]).await?;
    let flow = Flow::start(site.edge(0), "only.example.com", "web");
    let refusal = site.refusal(1, &["cluster", "drain", "us", "--reason", "maintenance"]).await?;
    anyhow::ensure!(refusal.contains("only.example.com"), "{refusal}");
    site.cluster_has("us", "lifecycle", "active").await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The control of the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_forced_fails_requests_of_the_last_backend() -> anyhow::Result<()> {
    let mut site = two_clusters(Plan::new(&["eu", "us"], 1)).await?;
    site.cluster("us").ingress("only", "only.example.com", "web")?;
    site.served_by("only.example.com", &["us"]).await?;
    let flow = Flow::start(site.edge(0), "only.example.com", "web");
    step(&site, "drain", &["--force"]).await?;
    site.answers("only.example.com", 503).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_rejoins_gets_no_request_until_it_is_activated() -> anyhow::Result<()> {
    let mut site = two_clusters(Plan::new(&["eu", "us"], 1)).await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    step(&site, "drain", &[]).await?;
    site.cluster_has("us", "lifecycle", "drained").await?;
    step(&site, "offline", &[]).await?;
    step(&site, "rejoin", &[]).await?;
    site.cluster_has("us", "lifecycle", "joining").await?;
    // A change that arrives: what the step was to bring had its chance.
    site.cluster("eu").ingress("later", "later.example.com", "web")?;
    site.served_by("later.example.com", &["eu"]).await?;
    site.served_by(HOST, &["eu"]).await?;
    step(&site, "activate", &[]).await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// A new cluster that says it serves the host, and sends its requests to something else.
async fn half_finished_cluster(activate: &str) -> anyhow::Result<Site> {
    let plan = Plan::new(&["eu", "us"], 1).policy(&format!("clusters: {{us: {{activate: {activate}}}}}"));
    let mut site = plan.start().await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    site.served_by(HOST, &["eu"]).await?;
    site.cluster("us").deploy("web", 2).await?;
    Ok(site)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_gets_no_request_until_it_is_activated() -> anyhow::Result<()> {
    let mut site = half_finished_cluster("manual").await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cluster("us").serve(HOST, "unfinished", 1).await?;
    until(WITHIN, "the cluster's host is known", async || site.status_of("us").await["hosts"] == 1).await?;
    site.cluster_has("us", "lifecycle", "joining").await?;
    flow.more(500).await?;
    site.cluster("us").ingress("unfinished", HOST, "web")?;
    site.accepts_beyond("us", 0).await?;
    let report = flow.stop_clean().await?;
    anyhow::ensure!(!report.by_cluster.contains_key("us"), "us got requests while it was joining");
    let flow = Flow::start(site.edge(0), HOST, "web");
    step(&site, "activate", &["--over", "2s"]).await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The control of the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_that_activates_itself_gets_requests_before_it_is_finished() -> anyhow::Result<()> {
    let mut site = half_finished_cluster("auto").await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.cluster("us").serve(HOST, "unfinished", 1).await?;
    site.served_by(HOST, &["eu", "us"]).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}
