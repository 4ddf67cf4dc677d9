//! Clusters whose pods edges cannot reach: by node port, and through a gateway.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Context;
use roadstead_e2e::site::{Ask, Cluster, Flow, Plan, Site, WITHIN, pods};
use roadstead_e2e::until;
use roadstead_testkit::echo::{EchoBackend, EchoOptions, Identity};
use serde_json::json;

const HOST: &str = "shop.example.com";
/// Where Kubernetes takes node ports from.
const NODE_PORTS: std::ops::Range<u16> = 30_000..32_768;

/// Answers for all pods of `eu` at addresses that no pod has, as kube-proxy and ingress controllers do.
async fn front(name: &str, address: SocketAddr) -> std::io::Result<EchoBackend> {
    let identity = Identity {
        cluster: "eu".to_owned(),
        namespace: "shop".to_owned(),
        ingress: String::new(),
        service: "web".to_owned(),
        pod: name.to_owned(),
    };
    EchoBackend::start(identity, address, EchoOptions::default()).await
}

/// Nodes of `eu` that answer at one port.
async fn nodes(names: &[&str]) -> anyhow::Result<(u16, Vec<EchoBackend>)> {
    for port in NODE_PORTS {
        let mut started = Vec::new();
        for (number, name) in (1..).zip(names) {
            started.extend(front(name, address(number, port)).await.ok());
        }
        if started.len() == names.len() {
            return Ok((port, started));
        }
    }
    anyhow::bail!("no node port is free")
}

fn address(node: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 1, 200, node], port))
}

fn node(cluster: &Cluster, name: &str, number: u8, ready: &str) -> anyhow::Result<()> {
    cluster.apply(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address(number, 0).ip().to_string()}],
            "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": null, "lastTransitionTime": null}],
        },
    }))
}

/// Service `web` of `eu` as one with a node port.
fn expose(cluster: &Cluster, node_port: u16, annotations: &serde_json::Value) -> anyhow::Result<()> {
    cluster.apply(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": {"type": "NodePort", "ports": [
            {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http", "nodePort": node_port},
        ]},
    }))
}

fn gateway(cluster: &Cluster, at: SocketAddr) -> anyhow::Result<()> {
    cluster.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "gateway", "namespace": "ingress"},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": at.port(), "protocol": "TCP"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": at.ip().to_string()}]}},
    }))
}

/// Waits until exactly these answer at an edge.
async fn answer(site: &mut Site, edge: usize, wanted: &[&str]) -> anyhow::Result<()> {
    let wanted: BTreeSet<String> = wanted.iter().map(|name| format!("eu/{name}")).collect();
    let at = site.edge(edge);
    until(WITHIN, &format!("{wanted:?} answer at edge {}", edge + 1), async || pods(at, HOST).await == wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn node_ports_of_ready_nodes_are_used_and_a_node_may_go_without_a_failed_request() -> anyhow::Result<()> {
    let (port, _nodes) = nodes(&["node-1", "node-2", "node-3"]).await?;
    let mut site = Plan::new(&["eu"], 1).policy("clusters: {eu: {reach: node-port}}").start().await?;
    let eu = site.cluster("eu");
    for (name, number, ready) in [("n1", 1, "True"), ("n2", 2, "True"), ("n3", 3, "False")] {
        node(eu, name, number, ready)?;
    }
    eu.serve(HOST, "web", 2).await?;
    site.has_finding("no-address").await?;
    site.answers(HOST, 503).await?;
    expose(site.cluster("eu"), port, &json!({}))?;
    answer(&mut site, 0, &["node-1", "node-2"]).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    flow.more(200).await?;
    node(site.cluster("eu"), "n2", 2, "Unknown")?;
    answer(&mut site, 0, &["node-1"]).await?;
    node(site.cluster("eu"), "n3", 3, "True")?;
    answer(&mut site, 0, &["node-1", "node-3"]).await?;
    // The Service decides for itself, and pods can be reached here after all.
    expose(site.cluster("eu"), port, &json!({"roadstead.dev/reach": "pod-ip"}))?;
    answer(&mut site, 0, &["web-1", "web-2"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_gets_the_clients_host_and_path_from_edges_of_other_regions() -> anyhow::Result<()> {
    let gateway_at = front("gateway", SocketAddr::from(([127, 1, 201, 1], 0))).await?;
    let mut plan = Plan::new(&["eu"], 2).policy(
        "clusters: {eu: {region: eu, reach: gateway, gateway: ingress/gateway, reach_from: [{region: eu, reach: pod-ip}]}}",
    );
    plan.edges[0].region = Some("eu".to_owned());
    plan.edges[1].region = Some("us".to_owned());
    let mut site = plan.start().await?;
    let eu = site.cluster("eu");
    gateway(eu, gateway_at.address())?;
    eu.serve(HOST, "web", 1).await?;
    let mut ingress = eu.api.get("ingresses", "shop", "web").context("the Ingress")?;
    ingress["metadata"] = json!({
        "name": "web", "namespace": "shop",
        "annotations": {
            "nginx.ingress.kubernetes.io/rewrite-target": "/inner",
            "nginx.ingress.kubernetes.io/upstream-vhost": "inner.example.com",
        },
    });
    eu.apply(ingress)?;
    answer(&mut site, 0, &["web-1"]).await?;
    answer(&mut site, 1, &["gateway"]).await?;
    for (edge, path, host) in [(0, "/inner", "inner.example.com"), (1, "/shop?a=b", HOST)] {
        let answer = Ask::get(site.edge(edge), HOST, "/shop?a=b").send().await?;
        let path = if edge == 0 { format!("{path}?a=b") } else { path.to_owned() };
        anyhow::ensure!((answer.status, answer.echo["path"].as_str()) == (200, Some(&path)), "{:?}", answer.echo);
        anyhow::ensure!(answer.echo["host"] == host, "{:?}", answer.echo);
    }
    // Nobody is behind it: the gateway would only answer 503.
    site.cluster("eu").publish("web", 0)?;
    site.answers(HOST, 503).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_agent_is_lost_moves_from_its_pods_to_its_gateway_and_back() -> anyhow::Result<()> {
    let gateway_at = front("gateway", SocketAddr::from(([127, 1, 201, 2], 0))).await?;
    let plan =
        Plan::new(&["eu"], 1).policy("clusters: {eu: {gateway: ingress/gateway}}\ndefaults: {stale_pod_ip_after: 10s}");
    let mut site = plan.start().await?;
    let eu = site.cluster("eu");
    gateway(eu, gateway_at.address())?;
    eu.serve(HOST, "web", 2).await?;
    answer(&mut site, 0, &["web-1", "web-2"]).await?;
    let flow = Flow::start(site.edge(0), HOST, "web");
    site.system.agent("eu").kill().await;
    answer(&mut site, 0, &["gateway"]).await?;
    site.has_finding("stale-pod-addresses").await?;
    site.system.agent("eu").start().await?;
    answer(&mut site, 0, &["web-1", "web-2"]).await?;
    until(WITHIN, "the finding is gone", async || !site.finding("stale-pod-addresses").await).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
    Ok(())
}
