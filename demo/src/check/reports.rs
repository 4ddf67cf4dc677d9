//! Steps (i) and (j): what application teams are told.

use std::time::Duration;

use serde_json::Value;

use super::{Finding, until};
use crate::fleet::Fleet;
use crate::traffic::{Plan, Traffic, status};

const BROKEN: &str = include_str!("../../../examples/apps/broken/broken.yaml");
const POOL_ADDRESS: &str = "203.0.113.10";
const WITHIN: Duration = Duration::from_secs(30);

pub async fn status_written(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let traffic = Traffic::start(Plan::shop(fleet));
    let mut shown = Vec::new();
    for cluster in &fleet.clusters {
        let address = async || {
            let ingress = cluster.get("networking.k8s.io/v1", "Ingress", "shop", "shop").await.unwrap_or_default();
            ingress.pointer("/status/loadBalancer/ingress/0/ip").cloned().unwrap_or_default()
        };
        until(WITHIN, "the status is written", async || address().await == POOL_ADDRESS).await?;
        shown.push(format!("{} {}", cluster.name, address().await.as_str().unwrap_or_default()));
    }
    traffic.sent(super::SENT_MIN).await?;
    Ok(Finding { requests: traffic.stop().await, verdict: Ok(shown.join(", ")) })
}

pub async fn bad_ingress(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let traffic = Traffic::start(Plan::shop(fleet));
    let edges = fleet.edges();
    let cluster = fleet.cluster("eu-west");
    cluster.apply(BROKEN).await?;
    let mut event = Value::Null;
    until(WITHIN, "an Event names the missing Service", async || {
        let events = cluster.list("events.k8s.io/v1", "Event", "broken").await.unwrap_or_default();
        event = events.into_iter().find(|event| event["reason"] == "ServiceNotFound").unwrap_or_default();
        !event.is_null()
    })
    .await?;
    traffic.sent(super::SENT_MIN).await?;
    let requests = traffic.stop().await;
    let status = status(edges[0], "broken.example.com", "/").await;
    let shown = format!("its own host answers {status}; Event: {}", event["note"].as_str().unwrap_or_default());
    Ok(Finding { requests, verdict: if status == 503 { Ok(shown) } else { Err(shown) } })
}
