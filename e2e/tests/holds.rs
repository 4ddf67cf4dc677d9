//! A bad Git commit deletes most Ingresses of a cluster: the guard holds it, a person decides.

use roadstead_e2e::site::{Flow, Site, WITHIN, status};
use roadstead_e2e::until;
use serde_json::Value;

/// Its application has no other Ingress, so that nothing describes its pods once the Ingress is gone.
const HOST: &str = "lonely.example.com";
const OTHERS: usize = 29;
const DELETED: usize = 24;

async fn site() -> anyhow::Result<Site> {
    let mut site = Site::start(&["eu"], 1).await?;
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

async fn cli(site: &Site, args: &[&str]) -> anyhow::Result<String> {
    let output = site.system.cli(args).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "roadstead {args:?}: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}

async fn holds(site: &Site) -> anyhow::Result<Vec<Value>> {
    let answer: Value = serde_json::from_str(&cli(site, &["holds", "--json"]).await?)?;
    Ok(answer["holds"].as_array().cloned().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_deletion_is_held_while_requests_flow_until_it_is_approved() -> anyhow::Result<()> {
    let mut site = site().await?;
    let edge = site.edge(0);
    let flow = Flow::start(edge, HOST, "lonely");
    flow.more(200).await?;
    delete_most(&mut site)?;
    site.has_finding("change-held").await?;
    let is_held = async || {
        let holds = holds(&site).await.unwrap_or_default();
        holds.iter().any(|hold| hold["hosts"].as_array().is_some_and(|hosts| hosts.iter().any(|it| it == HOST)))
    };
    until(WITHIN, "the last deletion is held, too", is_held).await?;
    let found = holds(&site).await?;
    assert_eq!(found.len(), 1, "{found:?}");
    let table = cli(&site, &["holds"]).await?;
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

    let id = holds(&site).await?[0]["id"].as_str().unwrap_or_default().to_owned();
    cli(&site, &["holds", "approve", &id]).await?;
    until(WITHIN, "the approved deletion reaches the edge", async || status(edge, HOST).await == 404).await?;
    assert!(holds(&site).await?.is_empty());
    assert_eq!(status(edge, &host(OTHERS - 1)).await, 200);
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reverted_deletion_ends_its_hold_and_nobody_noticed() -> anyhow::Result<()> {
    let mut site = site().await?;
    let flow = Flow::start(site.edge(0), HOST, "lonely");
    delete_most(&mut site)?;
    site.has_finding("change-held").await?;
    flow.more(300).await?;
    site.cluster("eu").ingress("lonely", HOST, "lonely")?;
    for number in 0..DELETED {
        site.cluster("eu").ingress(&name(number), &host(number), "web")?;
    }
    until(WITHIN, "the Hold is resolved", async || holds(&site).await.is_ok_and(|holds| holds.is_empty())).await?;
    flow.more(300).await?;
    flow.stop_clean().await?;
    site.served_by(&host(0), &["eu"]).await?;
    site.system.stop().await;
    Ok(())
}

/// The control: what the guard keeps from happening happens at once when it was told to expect it.
#[tokio::test(flavor = "multi_thread")]
async fn an_expected_mass_deletion_goes_at_once() -> anyhow::Result<()> {
    let mut site = site().await?;
    let edge = site.edge(0);
    let flow = Flow::start(edge, HOST, "lonely");
    flow.more(200).await?;
    let terms = ["--for", "10m", "--reason", "the shop moves out"];
    cli(&site, &[&["expect-removal", "--cluster", "eu", "--namespace", "shop"][..], &terms].concat()).await?;
    delete_most(&mut site)?;
    until(WITHIN, "the host is gone", async || status(edge, HOST).await == 404).await?;
    flow.more(300).await?;
    let report = flow.stop().await;
    assert!(report.failed > 0, "sent {}, failed {}", report.sent, report.failed);
    assert!(holds(&site).await?.is_empty());
    site.system.stop().await;
    Ok(())
}
