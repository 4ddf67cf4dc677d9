//! Bad objects of every sort beside a good one: each is reported on itself alone, and the good one never notices.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use roadstead_e2e::until;
use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};
use roadstead_testkit::load::Target;
use roadstead_testkit::stack::roadstead::{AgentOptions, EdgeOptions, Roadstead, RoadsteadOptions};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(30);
const POLICY: &str = "
pools: {public: {kind: edge, addresses: [203.0.113.10], default: true}}
classes: {roadstead: {pool: public}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_object_hurts_only_itself() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let api = ApiServer::start(ApiServerOptions::new("eu-west")).await?;
    good_application(&api)?;
    let mut system = start(&api, folder.path()).await?;
    let edge = system.edge(0).http().context("an edge has an address")?;
    until(WITHIN, "the good host answers 502: its pod does not exist", async || {
        status(edge, "good.example.com").await == Some(502)
    })
    .await?;

    api.faults().change(|faults| faults.accept_invalid = true);
    for bad in bad_objects() {
        api.insert_raw(bad)?;
    }
    for (name, code) in EXPECTED {
        let told = async || codes_of(&system, name).await.iter().any(|found| found == code);
        until(WITHIN, &format!("{name} has finding {code}"), told).await?;
    }
    // Whatever was wrong with the others: their host is not served, the good one is, and so is what comes after.
    anyhow::ensure!(status(edge, "foreign.example.com").await == Some(404), "another class's Ingress is served");
    anyhow::ensure!(status(edge, "good.example.com").await == Some(502), "the good host is gone");
    anyhow::ensure!(codes_of(&system, "good").await.is_empty(), "the good Ingress has findings");
    anyhow::ensure!(status(edge, "missing.example.com").await == Some(503), "a missing Service answers 503");
    anyhow::ensure!(status(edge, "empty.example.com").await == Some(503), "an empty slice answers 503");
    api.apply(ingress("later", "later.example.com", "good", "/"))?;
    until(WITHIN, "a later host is served", async || status(edge, "later.example.com").await == Some(502)).await?;
    system.stop().await;
    Ok(())
}

/// Name of the Ingress and the finding it must get.
const EXPECTED: &[(&str, &str)] = &[
    ("missing-service", "service-not-found"),
    ("missing-port", "service-port-not-found"),
    ("empty-slice", "no-endpoints"),
    ("bad-host", "invalid-host"),
    ("bad-path", "invalid-path"),
    ("duplicate", "path-conflict"),
    ("malformed", "malformed-object"),
    ("nul", "invalid-annotation"),
    ("huge", "too-many-paths"),
    ("nothing", "empty-ingress"),
];

fn bad_objects() -> Vec<Value> {
    let mut objects = vec![
        ingress("missing-service", "missing.example.com", "no-such-service", "/"),
        ingress("empty-slice", "empty.example.com", "empty", "/"),
        ingress("bad-host", "Not A Host!", "good", "/"),
        ingress("bad-path", "path.example.com", "good", "no-slash//%2f"),
        service("empty"),
        slice("empty", &[]),
    ];
    let mut port = ingress("missing-port", "port.example.com", "good", "/");
    port["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] = json!({"name": "nope"});
    objects.push(port);

    // The same entry as the good Ingress has, and younger.
    let mut duplicate = ingress("duplicate", "good.example.com", "empty", "/");
    duplicate["metadata"]["creationTimestamp"] = json!("2099-01-01T00:00:00Z");
    objects.push(duplicate);

    let mut malformed = ingress("malformed", "malformed.example.com", "good", "/");
    malformed["spec"]["rules"] = json!("not a list");
    objects.push(malformed);

    let mut nul = ingress("nul", "nul.example.com", "good", "/");
    nul["metadata"]["annotations"] = json!({"roadstead.dev/strategy": "spread\u{0}"});
    objects.push(nul);

    let mut huge = ingress("huge", "huge.example.com", "good", "/");
    let path = huge["spec"]["rules"][0]["http"]["paths"][0].clone();
    let numbered = |number: usize| {
        let mut path = path.clone();
        path["path"] = json!(format!("/{number}"));
        path
    };
    huge["spec"]["rules"][0]["http"]["paths"] = (0..3_000).map(numbered).collect();
    objects.push(huge);

    let mut nothing = ingress("nothing", "nothing.example.com", "good", "/");
    nothing["spec"] = json!({"ingressClassName": "roadstead"});
    objects.push(nothing);

    let mut foreign = ingress("foreign", "foreign.example.com", "good", "/");
    foreign["spec"]["ingressClassName"] = json!("somebody-elses");
    objects.push(foreign);

    let mut unknown = ingress("unknown-fields", "unknown.example.com", "good", "/");
    unknown["spec"]["fromTheFuture"] = json!({"deep": [1, 2, 3]});
    objects.push(unknown);
    objects
}

fn good_application(api: &ApiServer) -> anyhow::Result<()> {
    api.apply(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "roadstead"},
        "spec": {"controller": "roadstead.dev/ingress"},
    }))?;
    api.apply(service("good"))?;
    // Nothing listens there: a request that is routed to it answers 502.
    api.apply(slice("good", &["127.255.0.1"]))?;
    api.apply(ingress("good", "good.example.com", "good", "/"))?;
    Ok(())
}

fn ingress(name: &str, host: &str, service: &str, path: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ingressClassName": "roadstead", "rules": [{"host": host, "http": {"paths": [{
            "path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}},
        }]}}]},
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 9}]},
    })
}

fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|it| json!({"addresses": [it], "conditions": {"ready": true}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 9, "protocol": "TCP"}], "endpoints": endpoints,
    })
}

async fn start(api: &ApiServer, folder: &Path) -> anyhow::Result<Roadstead> {
    let kubeconfig = folder.join("kubeconfig");
    api.write_kubeconfig(&kubeconfig)?;
    let mut options = RoadsteadOptions::new(roadstead_e2e::binaries()?, folder.to_owned(), POLICY.to_owned());
    options.edges.push(EdgeOptions::new("e1", "public"));
    options.agents.push(AgentOptions::new("eu-west", &kubeconfig));
    let mut system = Roadstead::start(options).await?;
    system.wait_ready(WITHIN).await?;
    Ok(system)
}

/// Status of one request on a connection of its own; `None` if there was no answer.
async fn status(edge: std::net::SocketAddr, host: &str) -> Option<u16> {
    Target::get(edge, host, "/").once().await.map(|answer| answer.status)
}

/// Codes of the findings on one Ingress, as `/status` shows them.
async fn codes_of(system: &Roadstead, ingress: &str) -> Vec<String> {
    let Ok(status) = system.status().await else { return Vec::new() };
    let findings = status["findings"].as_array().cloned().unwrap_or_default();
    let about = |finding: &&Value| finding.to_string().contains(&format!("shop/{ingress}\""));
    findings.iter().filter(about).filter_map(|finding| finding["code"].as_str().map(str::to_owned)).collect()
}
