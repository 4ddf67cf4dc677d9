//! A bad Git commit deletes most Ingresses of a cluster: the guard holds it, a person decides.

use roadstead_e2e::site::{Flow, Plan, Site, WITHIN, status};
use roadstead_e2e::until;

/// Its application has no other Ingress, so that nothing describes its pods once the Ingress is gone.
const HOST: &str = "lonely.example.com";
const OTHERS: usize = 29;
const DELETED: usize = 24;

async fn site(plan: Plan) -> anyhow::Result<Site> {
    let mut site = plan.start().await?;
    site.cluster("eu").serve(HOST, "lonely", 2).await?;
    site.cluster("eu").serve(&host(0), "web", 2).await?;
    for number in 1..OTHERS {
        site.cluster("eu").ingress(&name(number), &host(number), "web")?;
    }
    site.served_by(HOST, &["eu"]).await?;
    site.served_by(&host(OTHERS - 1), &["eu"]).await?;
    Ok(site)
}

/// [`Site`]'s first Ingress of an application is named after its Service.
fn name(number: usize) -> String {
    if number == 0 { "web".to_owned() } else { format!("web-{number:02}") }
}

fn host(number: usize) -> String {
    format!("web-{number:02}.example.com")
}

/// The lonely one last, so that it is not among the few that may always go.
fn delete_most(site: &mut Site) -> anyhow::Result<()> {
    for number in 0..DELETED {
        site.cluster("eu").delete_ingress(&name(number))?;
    }
    site.cluster("eu").delete_ingress("lonely")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_deletion_is_held_while_requests_flow_until_it_is_approved() -> anyhow::Result<()> {
    let mut site = site(Plan::new(&["eu"], 1)).await?;
    let edge = site.edge(0);
    let flow = Flow::start(edge, HOST, "lonely");
    flow.more(200).await?;
    delete_most(&mut site)?;
    site.has_finding("change-held").await?;
    let id = site.hold_of(1, HOST).await?["id"].as_str().unwrap_or_default().to_owned();
    let found = site.list(1, "holds").await;
    assert_eq!(found.len(), 1, "{found:?}");
    let table = site.cli(1, &["holds"]).await?;
    assert!(table.contains("namespace/eu/shop"), "{table}");
    flow.more(300).await?;
    site.system.controller().kill().await;
    site.system.controller().start().await?;
    site.system.wait_ready(WITHIN).await?;
    flow.more(300).await?;
    // What else changes goes on, also while something is held.
    site.cluster("eu").ingress("new", "new.example.com", "web")?;
    site.served_by("new.example.com", &["eu"]).await?;
    flow.stop_clean().await?;

    site.cli(1, &["holds", "approve", &id]).await?;
    until(WITHIN, "the approved deletion reaches the edge", async || status(edge, HOST).await == 404).await?;
    assert!(site.list(1, "holds").await.is_empty());
    assert_eq!(status(edge, &host(OTHERS - 1)).await, 200);
    site.system.stop().await;
    Ok(())
}

/// Each replica judges by itself, and all keep the hosts; whoever is asked decides for all.
#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_hold_a_mass_deletion_and_the_other_one_may_approve_it() -> anyhow::Result<()> {
    let mut site = site(Plan::new(&["eu"], 2).two_controllers()).await?;
    site.edge_is_at(1, "e1", 1).await?;
    site.edge_is_at(2, "e2", 2).await?;
    site.agent_is_at(1, "eu", 1).await?;
    site.controllers_are_peers().await?;
    let flows = [0, 1].map(|edge| Flow::start(site.edge(edge), HOST, "lonely"));
    delete_most(&mut site)?;
    let id = site.common_hold_of(HOST).await?;
    for flow in flows {
        flow.more(300).await?;
        flow.stop_clean().await?;
    }
    site.cli(2, &["holds", "approve", &id]).await?;
    site.answers(HOST, 404).await?;
    site.answers(&host(OTHERS - 1), 200).await?;
    for number in [1, 2] {
        let is_over = async || site.list(number, "holds").await.is_empty();
        until(WITHIN, &format!("controller {number} holds nothing"), is_over).await?;
    }
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reverted_deletion_ends_its_hold_and_nobody_noticed() -> anyhow::Result<()> {
    let mut site = site(Plan::new(&["eu"], 1)).await?;
    let flow = Flow::start(site.edge(0), HOST, "lonely");
    delete_most(&mut site)?;
    site.has_finding("change-held").await?;
    flow.more(300).await?;
    site.cluster("eu").ingress("lonely", HOST, "lonely")?;
    for number in 0..DELETED {
        site.cluster("eu").ingress(&name(number), &host(number), "web")?;
    }
    until(WITHIN, "the Hold is resolved", async || site.list(1, "holds").await.is_empty()).await?;
    flow.more(300).await?;
    flow.stop_clean().await?;
    site.served_by(&host(0), &["eu"]).await?;
    site.system.stop().await;
    Ok(())
}

/// The control: what the guard keeps from happening happens at once when it was told to expect it.
#[tokio::test(flavor = "multi_thread")]
async fn an_expected_mass_deletion_goes_at_once() -> anyhow::Result<()> {
    let mut site = site(Plan::new(&["eu"], 1)).await?;
    let edge = site.edge(0);
    let flow = Flow::start(edge, HOST, "lonely");
    flow.more(200).await?;
    let terms = ["--for", "10m", "--reason", "the shop moves out"];
    site.cli(1, &[&["expect-removal", "--cluster", "eu", "--namespace", "shop"][..], &terms].concat()).await?;
    delete_most(&mut site)?;
    until(WITHIN, "the host is gone", async || status(edge, HOST).await == 404).await?;
    flow.more(300).await?;
    flow.stop_hurt().await?;
    assert!(site.list(1, "holds").await.is_empty());
    site.system.stop().await;
    Ok(())
}
