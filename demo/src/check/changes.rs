//! Steps (a) to (c): what application teams change all day.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Finding, until};
use crate::fleet::Fleet;
use crate::traffic::{Plan, Traffic, service};

const SHARES: [(&str, f64); 3] = [("eu-west", 50.0), ("eu-north", 30.0), ("us-east", 20.0)];
const DOCS: &str = "docs.example.com";
const POINTS_OFF_MAX: f64 = 5.0;
const LIVE_WITHIN: Duration = Duration::from_secs(1);

pub async fn shares(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let plan = Plan::shop(fleet).requests(2_000);
    let requests = Traffic::start(plan).finish().await;
    let share = |cluster: &str| 100.0 * requests.by_cluster(cluster) as f64 / requests.0.sent.max(1) as f64;
    let shown: Vec<String> = SHARES.iter().map(|(cluster, _)| format!("{cluster} {:.1} %", share(cluster))).collect();
    let near = SHARES.iter().all(|(cluster, wanted)| (share(cluster) - wanted).abs() <= POINTS_OFF_MAX);
    let verdict = if near { Ok(shown.join(", ")) } else { Err(shown.join(", ")) };
    Ok(Finding { requests, verdict })
}

pub async fn endpoint_removed(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let traffic = Traffic::start(Plan::shop(fleet));
    traffic.sent(300).await?;
    let cluster = fleet.cluster("eu-west");
    let pods = cluster.workload("shop/web").pods.clone();
    let (removed, kept) = pods.split_first().expect("web has pods");
    let removed_at = Instant::now();
    cluster.publish("shop", "web", kept).await?;
    traffic.sent_more(1_000).await?;
    let requests = traffic.stop().await;
    let last = requests.last_answer_of_pod("eu-west", &removed.name);
    cluster.publish("shop", "web", &pods).await?;
    let verdict = match last.map(|at| at.saturating_duration_since(removed_at)) {
        None => Err(format!("{} never answered, so its removal proves nothing", removed.name)),
        Some(late) if late > LIVE_WITHIN => Err(format!("reached {} ms after its removal", late.as_millis())),
        Some(late) => Ok(format!("last reached {} ms after its removal", late.as_millis())),
    };
    Ok(Finding { requests, verdict })
}

pub async fn path_edited(fleet: &mut Fleet) -> anyhow::Result<Finding> {
    let traffic = Traffic::start(Plan::shop(fleet));
    let edges = fleet.edges();
    let cluster = fleet.cluster("us-east");
    let ingress = |path: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "docs", "namespace": "docs"},
            "spec": {
                "ingressClassName": "roadstead",
                "rules": [{"host": DOCS, "http": {"paths": [{
                    "path": path,
                    "pathType": "Prefix",
                    "backend": {"service": {"name": "docs", "port": {"name": "http"}}},
                }]}}],
            },
        })
    };
    cluster.apply_object(&ingress("/guide")).await?;
    let live = async || {
        for edge in &edges {
            // What no path matches goes to the default backend that another application declares.
            if service(*edge, DOCS, "/guide/x").await != "docs" || service(*edge, DOCS, "/").await != "preview" {
                return false;
            }
        }
        true
    };
    let took = until(Duration::from_secs(10), "the edited path is live on every edge", live).await?;
    cluster.apply_object(&ingress("/")).await?;
    traffic.sent(super::SENT_MIN).await?;
    let requests = traffic.stop().await;
    let shown = format!("live on {} edges after {} ms", edges.len(), took.as_millis());
    Ok(Finding { requests, verdict: if took <= LIVE_WITHIN { Ok(shown) } else { Err(shown) } })
}
