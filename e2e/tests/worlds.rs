//! Controllers start on another database, an empty one or an older backup: edges keep what they have until a person
//! says otherwise.

use roadstead_e2e::site::{Flow, Plan, Site, WITHIN, service, status};
use roadstead_e2e::until;

const HOST: &str = "shop.example.com";
const LATER: &str = "later.example.com";
/// Changes of which the backup knows nothing.
const LOST: usize = 20;

async fn one_cluster(controllers: usize) -> anyhow::Result<Site> {
    let mut plan = Plan::new(&["eu"], controllers);
    plan.controllers = controllers;
    let mut site = plan.start().await?;
    site.cluster("eu").serve(HOST, "web", 2).await?;
    site.served_by(HOST, &["eu"]).await?;
    Ok(site)
}

async fn start_controllers(site: &mut Site) -> anyhow::Result<()> {
    for controller in site.system.controllers() {
        controller.start().await?;
    }
    for controller in site.system.controllers() {
        controller.wait_ready(WITHIN).await?;
    }
    Ok(())
}

async fn stop_controllers(site: &mut Site) {
    for controller in site.system.controllers() {
        controller.terminate().await;
    }
}

async fn restart_on_an_empty_database(site: &mut Site) -> anyhow::Result<()> {
    stop_controllers(site).await;
    site.system.use_empty_database("empty").await?;
    start_controllers(site).await
}

async fn world_of(site: &Site) -> anyhow::Result<String> {
    let world = site.ask(1, &["world"]).await?;
    Ok(world["id"].as_str().unwrap_or_default().to_owned())
}

/// Each controller speaks for the edges that are connected to it.
async fn other_world(site: &Site) -> anyhow::Result<String> {
    let mut message = String::new();
    until(WITHIN, "a controller alerts other-world", async || {
        let alerts = [site.list(1, "alerts").await, site.list(2, "alerts").await].concat();
        let found = alerts.iter().find(|alert| alert["code"] == "other-world");
        message = found.and_then(|alert| alert["message"].as_str()).unwrap_or_default().to_owned();
        found.is_some()
    })
    .await?;
    Ok(message)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_changes_nothing_until_a_person_adopts_it() -> anyhow::Result<()> {
    let mut site = one_cluster(2).await?;
    let flows = [0, 1].map(|edge| Flow::start(site.edge(edge), HOST, "web"));
    let old = world_of(&site).await?;
    restart_on_an_empty_database(&mut site).await?;
    let new = world_of(&site).await?;
    let message = other_world(&site).await?;
    anyhow::ensure!(message.contains(&old) && message.contains(&new), "{old} and {new}: {message}");
    site.cluster("eu").ingress("later", LATER, "web")?;
    until(WITHIN, "the agent has reported everything", async || site.status_of("eu").await["settled"] == true).await?;
    for flow in &flows {
        flow.more(500).await?;
    }
    for edge in [0, 1] {
        anyhow::ensure!(status(site.edge(edge), LATER).await == 404, "an edge follows a world nobody adopted");
    }
    site.cli(1, &["adopt-world", "--world", &old]).await?;
    site.served_by(LATER, &["eu"]).await?;
    for number in [1, 2] {
        site.no_alert(number).await?;
    }
    for flow in flows {
        flow.stop_clean().await?;
    }
    site.system.stop().await;
    Ok(())
}

/// The control of the same: an edge that forgot its world is emptied by an empty database.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_forgot_its_world_is_emptied_by_an_empty_database() -> anyhow::Result<()> {
    let mut site = one_cluster(1).await?;
    site.system.agent("eu").kill().await;
    restart_on_an_empty_database(&mut site).await?;
    site.restart_edge_without(0, "edge-last-good").await?;
    site.answers(HOST, 404).await?;
    Flow::start(site.edge(0), HOST, "web").stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}

/// A backup is made, then the host moves from one application to another whose pods take the place of the first one's,
/// and more changes.
async fn moved_on_since_the_backup(site: &mut Site) -> anyhow::Result<()> {
    stop_controllers(site).await;
    site.system.back_up_database("backup").await?;
    start_controllers(site).await?;
    site.agent_is_at(1, "eu", 1).await?;
    let eu = site.cluster("eu");
    eu.deploy("new", 2).await?;
    eu.ingress("web", HOST, "new")?;
    let edge = site.edge(0);
    until(WITHIN, "the host has moved", async || service(edge, HOST).await == "new").await?;
    site.cluster("eu").kill_pods("web").await;
    for number in 0..LOST {
        let host = format!("lost-{number}.example.com");
        site.cluster("eu").ingress(&format!("lost-{number}"), &host, "new")?;
        site.answers(&host, 200).await?;
    }
    site.is_durable("eu").await
}

async fn restore_the_backup(site: &mut Site) -> anyhow::Result<()> {
    stop_controllers(site).await;
    site.system.use_database("backup");
    start_controllers(site).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_takes_no_edge_back() -> anyhow::Result<()> {
    let mut site = one_cluster(1).await?;
    moved_on_since_the_backup(&mut site).await?;
    let flow = Flow::start(site.edge(0), HOST, "new");
    site.system.agent("eu").kill().await;
    restore_the_backup(&mut site).await?;
    let message = site.alert(1, "restored-backup").await?;
    anyhow::ensure!(message.contains("eu"), "{message}");
    flow.more(500).await?;
    site.system.agent("eu").start().await?;
    site.agent_is_at(1, "eu", 1).await?;
    site.cli(1, &["adopt-world"]).await?;
    site.cluster("eu").ingress("later", LATER, "new")?;
    site.served_by(LATER, &["eu"]).await?;
    site.served_by("lost-0.example.com", &["eu"]).await?;
    site.no_alert(1).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The cluster itself says what the backup lacks, so that nobody needs to adopt anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_restored_under_a_running_agent_is_followed() -> anyhow::Result<()> {
    let mut site = one_cluster(1).await?;
    moved_on_since_the_backup(&mut site).await?;
    let flow = Flow::start(site.edge(0), HOST, "new");
    restore_the_backup(&mut site).await?;
    site.agent_is_at(1, "eu", 1).await?;
    site.cluster("eu").ingress("later", LATER, "new")?;
    site.served_by(LATER, &["eu"]).await?;
    site.served_by("lost-0.example.com", &["eu"]).await?;
    site.no_alert(1).await?;
    flow.more(500).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

/// The control of the same: an edge that forgot how far it was takes what the backup says.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_forgot_how_far_it_was_goes_back_with_a_backup() -> anyhow::Result<()> {
    let mut site = one_cluster(1).await?;
    moved_on_since_the_backup(&mut site).await?;
    site.system.agent("eu").kill().await;
    restore_the_backup(&mut site).await?;
    site.restart_edge_without(0, "edge-last-good").await?;
    site.answers(HOST, 502).await?;
    Flow::start(site.edge(0), HOST, "new").stop_hurt().await?;
    site.system.stop().await;
    Ok(())
}
