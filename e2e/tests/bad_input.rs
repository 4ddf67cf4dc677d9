//! Bad objects of every sort beside a good one: each is reported on itself alone, and the good one never notices.

use roadstead_e2e::site::{Flow, Site, WITHIN, status};
use roadstead_e2e::until;
use serde_json::{Value, json};

const GOOD: &str = "good.example.com";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_object_hurts_only_itself() -> anyhow::Result<()> {
    let mut site = Site::start(&["eu-west"], 1).await?;
    site.cluster("eu-west").serve(GOOD, "good", 2).await?;
    site.served_by(GOOD, &["eu-west"]).await?;
    let edge = site.edge(0);
    let flow = Flow::start(edge, GOOD, "good");

    let api = &site.cluster("eu-west").api;
    api.faults().change(|faults| faults.accept_invalid = true);
    for bad in bad_objects() {
        api.insert_raw(bad)?;
    }
    for (name, code) in EXPECTED {
        let told = async || codes_of(&site, name).await.iter().any(|found| found == code);
        until(WITHIN, &format!("{name} has finding {code}"), told).await?;
    }
    // Whatever was wrong with the others: their host is not served, the good one is, and so is what comes after.
    anyhow::ensure!(status(edge, "foreign.example.com").await == 404, "another class's Ingress is served");
    anyhow::ensure!(codes_of(&site, "good").await.is_empty(), "the good Ingress has findings");
    anyhow::ensure!(status(edge, "missing.example.com").await == 503, "a missing Service answers 503");
    anyhow::ensure!(status(edge, "empty.example.com").await == 503, "an empty slice answers 503");
    site.cluster("eu-west").apply(ingress("later", "later.example.com", "good", "/"))?;
    site.served_by("later.example.com", &["eu-west"]).await?;
    flow.stop_clean().await?;
    site.system.stop().await;
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
        slice("empty"),
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

fn slice(service: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 9, "protocol": "TCP"}], "endpoints": [],
    })
}

/// Codes of the findings on one Ingress, as `/status` shows them.
async fn codes_of(site: &Site, ingress: &str) -> Vec<String> {
    let Ok(status) = site.system.status().await else { return Vec::new() };
    let findings = status["findings"].as_array().cloned().unwrap_or_default();
    let about = |finding: &&Value| finding.to_string().contains(&format!("shop/{ingress}\""));
    findings.iter().filter(about).filter_map(|finding| finding["code"].as_str().map(str::to_owned)).collect()
}
