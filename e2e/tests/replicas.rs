//! Two controllers: one is killed or paused, the other goes on, and no edge ever goes back.

use roadstead_e2e::site::{Cluster, Flow, Plan, Site, WITHIN};
use roadstead_e2e::until;
use serde_json::Value;

const HOST: &str = "shop.example.com";
const OTHER: &str = "other.example.com";

/// The agent and the first edge are at controller 1, the second edge is at controller 2.
async fn two_controllers(plan: Plan) -> anyhow::Result<Site> {
    let mut site = plan.two_controllers().start().await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    site.served_by(HOST, &["eu"]).await?;
    site.agent_is_at(1, "eu", 1).await?;
    site.edge_is_at(1, "e1", 1).await?;
    site.edge_is_at(2, "e2", 2).await?;
    site.controllers_are_peers().await?;
    Ok(site)
}

/// Requests go to the first pod alone, so that whoever still believes in it once it is dead fails.
async fn only_first_pod(site: &mut Site) -> anyhow::Result<()> {
    site.cluster("eu").publish("web", 1)?;
    for edge in 0..site.system.edges().len() {
        site.pods_at(edge, HOST, &["eu/web-1"]).await?;
    }
    Ok(())
}

fn only_second_pod(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.publish_from("web", 1, 1)
}

/// Both controllers know two replicas of which one is the clerk.
async fn one_clerk(site: &Site) -> anyhow::Result<()> {
    for number in [1, 2] {
        let is_one = async || {
            let replicas = site.list(number, "replicas").await;
            replicas.len() == 2 && replicas.iter().filter(|replica| replica["is_clerk"] == true).count() == 1
        };
        until(WITHIN, &format!("controller {number} knows two replicas and one clerk"), is_one).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_replaced_by_the_other_and_nothing_is_sent_again() -> anyhow::Result<()> {
    const SENT: &str = "roadstead_controller_publish_upserts_total";
    let mut site = two_controllers(Plan::new(&["eu"], 2)).await?;
    let flows = [0, 1].map(|edge| Flow::start(site.edge(edge), HOST, "web"));
    let before = site.controller_counter(2, SENT).await?;
    site.system.controller().kill().await;
    site.agent_is_at(2, "eu", 2).await?;
    site.edge_is_at(2, "e1", 2).await?;
    // A change that arrives: everything that was to be sent before it had its chance.
    site.cluster("eu").ingress("later", "later.example.com", "web")?;
    site.served_by("later.example.com", &["eu"]).await?;
    let sent = site.controller_counter(2, SENT).await? - before;
    anyhow::ensure!((sent - 2.0).abs() < 0.5, "{sent} resources were sent instead of the new host to each edge");
    for flow in flows {
        flow.stop_clean().await?;
    }
    site.system.stop().await;
    Ok(())
}

/// The control of the same: an edge that knows no other controller misses what happens after the end of its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_knows_only_the_killed_replica_fails_requests() -> anyhow::Result<()> {
    let mut site = two_controllers(Plan::new(&["eu"], 2).edge_at(&[1])).await?;
    only_first_pod(&mut site).await?;
    let flow = Flow::start(site.edge(2), HOST, "web");
    site.system.controller().kill().await;
    site.agent_is_at(2, "eu", 2).await?;
    only_second_pod(site.cluster("eu"))?;
    for edge in [0, 1] {
        site.pods_at(edge, HOST, &["eu/web-2"]).await?;
    }
    site.cluster("eu").kill_pod("web", 0).await;
    flow.more(100).await?;
    flow.stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

/// Two replicas believe that they have the agent. The one that was asleep knows no better when it wakes; its edge
/// waited with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replica_that_resumes_brings_its_edge_up_to_date() -> anyhow::Result<()> {
    let mut site = two_controllers(Plan::new(&["eu"], 2).edge_at(&[1])).await?;
    site.edge_is_at(1, "e3", 1).await?;
    only_first_pod(&mut site).await?;
    let flows = [0, 1, 2].map(|edge| Flow::start(site.edge(edge), HOST, "web"));
    site.system.controller().pause();
    site.agent_is_at(2, "eu", 2).await?;
    site.edge_is_at(2, "e1", 2).await?;
    only_second_pod(site.cluster("eu"))?;
    for edge in [0, 1] {
        site.pods_at(edge, HOST, &["eu/web-2"]).await?;
    }
    site.system.controller().resume();
    site.pods_at(2, HOST, &["eu/web-2"]).await?;
    // Who still believes in the first pod, or begins to again, fails from here on.
    site.cluster("eu").kill_pod("web", 0).await;
    one_clerk(&site).await?;
    site.agent_is_at(1, "eu", 2).await?;
    for flow in flows {
        flow.more(500).await?;
        flow.stop_clean().await?;
    }
    site.system.stop().await;
    Ok(())
}

/// The control of the same: while its replica sleeps on, an edge that knows no other one misses what happens.
#[tokio::test(flavor = "multi_thread")]
async fn the_edge_of_a_replica_that_sleeps_on_fails_requests() -> anyhow::Result<()> {
    let mut site = two_controllers(Plan::new(&["eu"], 2).edge_at(&[1])).await?;
    site.edge_is_at(1, "e3", 1).await?;
    only_first_pod(&mut site).await?;
    let flow = Flow::start(site.edge(2), HOST, "web");
    site.system.controller().pause();
    site.agent_is_at(2, "eu", 2).await?;
    only_second_pod(site.cluster("eu"))?;
    site.pods_at(1, HOST, &["eu/web-2"]).await?;
    flow.more(500).await?;
    site.cluster("eu").kill_pod("web", 0).await;
    flow.more(100).await?;
    flow.stop_hurt().await?;
    site.system.controller().resume();
    site.system.stop().await;
    Ok(())
}

/// The replica that was asleep is all that is left when it wakes, and edges that know more than it come to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replica_that_resumes_alone_takes_no_edge_back() -> anyhow::Result<()> {
    let mut site = two_controllers(Plan::new(&["eu"], 2)).await?;
    only_first_pod(&mut site).await?;
    asleep_while_pods_move(&mut site).await?;
    let flows = [0, 1].map(|edge| Flow::start(site.edge(edge), HOST, "web"));
    site.system.controllers()[1].kill().await;
    site.system.controller().resume();
    for edge in ["e1", "e2"] {
        site.edge_is_at(1, edge, 1).await?;
    }
    site.agent_is_at(1, "eu", 1).await?;
    site.cluster("eu").ingress("later", "later.example.com", "web")?;
    site.served_by("later.example.com", &["eu"]).await?;
    for flow in flows {
        flow.stop_clean().await?;
    }
    site.system.stop().await;
    Ok(())
}

/// The control of the same: an edge that forgot what it knew takes what the sleeper says.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_forgot_what_it_knew_goes_back_with_a_paused_replica() -> anyhow::Result<()> {
    let mut site = two_controllers(Plan::new(&["eu"], 2)).await?;
    only_first_pod(&mut site).await?;
    asleep_while_pods_move(&mut site).await?;
    // Nobody tells the sleeper what happened.
    site.system.agent("eu").kill().await;
    site.system.controllers()[1].kill().await;
    site.system.postgres_mut().stop().await;
    site.restart_edge_without(0, "edge-last-good").await?;
    site.system.controller().resume();
    site.answers_at(0, HOST, 502).await?;
    Flow::start(site.edge(0), HOST, "web").stop_hurt().await?;
    // The other edge remembers.
    Flow::start(site.edge(1), HOST, "web").stop_clean().await?;
    site.system.postgres_mut().start_again().await?;
    site.system.stop().await;
    Ok(())
}

/// Controller 1 is paused; the other one has the agent and all edges, and they know that the first pod is gone.
async fn asleep_while_pods_move(site: &mut Site) -> anyhow::Result<()> {
    site.system.controller().pause();
    site.agent_is_at(2, "eu", 2).await?;
    site.edge_is_at(2, "e1", 2).await?;
    only_second_pod(site.cluster("eu"))?;
    for edge in 0..site.system.edges().len() {
        site.pods_at(edge, HOST, &["eu/web-2"]).await?;
    }
    site.cluster("eu").kill_pod("web", 0).await;
    Ok(())
}

async fn policy_problem(site: &Site) -> Value {
    site.system.status().await.unwrap_or_default()["policy"]["problem"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_reach_edges_of_all_replicas_while_the_database_is_away() -> anyhow::Result<()> {
    let mut site = two_controllers(Plan::new(&["eu"], 1).edge_at(&[2])).await?;
    site.cluster("eu").ingress("other", OTHER, "web")?;
    only_first_pod(&mut site).await?;
    let flows = [0, 1].map(|edge| Flow::start(site.edge(edge), HOST, "web"));
    site.system.postgres_mut().stop().await;
    // Endpoints and routes are what clusters say.
    only_second_pod(site.cluster("eu"))?;
    for edge in [0, 1] {
        site.pods_at(edge, HOST, &["eu/web-2"]).await?;
    }
    site.cluster("eu").kill_pod("web", 0).await;
    site.cluster("eu").ingress("later", "later.example.com", "web")?;
    site.served_by("later.example.com", &["eu"]).await?;
    // What a person says must be stored before it counts.
    let refusal = site.refusal(1, &["cluster", "drain", "eu", "--force", "--reason", "maintenance"]).await?;
    anyhow::ensure!(refusal.contains("refused while the database is away"), "{refusal}");
    site.system.set_policy(&format!("{}clusters: {{eu: {{weight: 50}}}}\n", roadstead_e2e::site::POLICY))?;
    until(WITHIN, "it is said that the policy is not in force", async || policy_problem(&site).await.is_string())
        .await?;
    site.system.postgres_mut().start_again().await?;
    until(WITHIN, "the policy is in force", async || policy_problem(&site).await.is_null()).await?;
    site.is_durable("eu").await?;
    site.cluster_has("eu", "lifecycle", "active").await?;
    for flow in flows {
        flow.stop_clean().await?;
    }
    site.system.stop().await;
    Ok(())
}

/// The control of the same: replicas that cannot reach each other have only the database between them.
#[tokio::test(flavor = "multi_thread")]
async fn without_streams_between_replicas_an_outage_of_the_database_fails_requests() -> anyhow::Result<()> {
    let mut plan = Plan::new(&["eu"], 1).edge_at(&[2]).two_controllers();
    // Nobody listens there.
    plan.controller_args = ["--peer-address", "127.0.0.1:1"].map(str::to_owned).to_vec();
    let mut site = plan.start().await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    site.served_by(HOST, &["eu"]).await?;
    only_first_pod(&mut site).await?;
    let flow = Flow::start(site.edge(1), HOST, "web");
    site.system.postgres_mut().stop().await;
    only_second_pod(site.cluster("eu"))?;
    site.pods_at(0, HOST, &["eu/web-2"]).await?;
    site.cluster("eu").kill_pod("web", 0).await;
    flow.more(300).await?;
    flow.stop_hurt().await?;
    site.system.postgres_mut().start_again().await?;
    site.system.stop().await;
    Ok(())
}
