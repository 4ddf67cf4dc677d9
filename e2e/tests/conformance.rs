//! The scenarios of the public Ingress conformance suite (ingress-controller-conformance, release 1.19), as real requests
//! through agent, controller and edge. Its headers seen by a backend and its spread over ten pods are here as well.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use roadstead_e2e::site::{Ask, Cluster, Site, WITHIN};
use roadstead_e2e::until;
use serde_json::{Value, json};

async fn cluster_with(services: &[&str]) -> anyhow::Result<(Site, SocketAddr)> {
    let mut site = Site::start(&["eu"], 1).await?;
    for service in services {
        site.cluster("eu").deploy(service, 1).await?;
    }
    let edge = site.edge(0);
    Ok((site, edge))
}

fn apply(cluster: &Cluster, spec: &Value) -> anyhow::Result<()> {
    let mut ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "conformance", "namespace": "shop"}, "spec": spec,
    });
    if ingress["spec"]["ingressClassName"].is_null() {
        ingress["spec"]["ingressClassName"] = json!("roadstead");
    }
    cluster.apply(ingress)
}

fn path(path: &str, path_type: &str, service: &str) -> Value {
    let backend = json!({"service": {"name": service, "port": {"number": 80}}});
    json!({"path": path, "pathType": path_type, "backend": backend})
}

fn rule(host: &str, paths: &[Value]) -> Value {
    json!({"host": host, "http": {"paths": paths}})
}

/// Who answers: a Service, or a status.
async fn answer(edge: SocketAddr, host: &str, target: &str) -> String {
    match Ask::get(edge, host, target).send().await {
        Ok(answer) if answer.status == 200 => answer.service().to_owned(),
        Ok(answer) => answer.status.to_string(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn default_backend() -> anyhow::Result<()> {
    let (mut site, edge) = cluster_with(&["echo-service"]).await?;
    let backend = json!({"service": {"name": "echo-service", "port": {"number": 80}}});
    apply(site.cluster("eu"), &json!({"defaultBackend": backend}))?;
    let has_address = async || !site.cluster("eu").status("conformance")["loadBalancer"]["ingress"].is_null();
    until(WITHIN, "the status has an address", has_address).await?;
    let rows = [
        ("GET", "my-host", "/"),
        ("GET", "my-host", "/sub-path"),
        ("POST", "some-host", "/"),
        ("PUT", "", "/resource"),
        ("DELETE", "some-host", "/resource"),
        ("PATCH", "my-host", "/resource"),
    ];
    for (method, host, target) in rows {
        let ask = Ask::new(edge, method, host, target).field("user-agent", "Go-http-client/1.1");
        let answer = ask.send().await?;
        anyhow::ensure!(answer.status == 200 && answer.service() == "echo-service", "{method} {host}{target}");
        for field in ["content-length", "content-type", "date", "server"] {
            anyhow::ensure!(!answer.field(field).is_empty(), "{method} {host}{target} is answered without {field}");
        }
        let echo = &answer.echo;
        anyhow::ensure!(echo["method"] == method && echo["path"] == target && echo["proto"] == "HTTP/1.1", "{echo}");
        anyhow::ensure!(answer.received("user-agent") == "Go-http-client/1.1", "{echo}");
    }
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn host_rules() -> anyhow::Result<()> {
    let (mut site, edge) = cluster_with(&["wildcard-foo-com", "foo-bar-com"]).await?;
    let named = json!({"service": {"name": "foo-bar-com", "port": {"name": "http"}}});
    let by_name = json!({"path": "/", "pathType": "Prefix", "backend": named});
    let rules = [rule("*.foo.com", &[path("/", "Prefix", "wildcard-foo-com")]), rule("foo.bar.com", &[by_name])];
    apply(site.cluster("eu"), &json!({"rules": rules}))?;
    site.answers("foo.bar.com", 200).await?;
    let rows = [
        ("foo.bar.com", "foo-bar-com"),
        ("subdomain.bar.com", "404"),
        ("bar.foo.com", "wildcard-foo-com"),
        ("baz.bar.foo.com", "404"),
        ("foo.com", "404"),
    ];
    for (host, wanted) in rows {
        let got = answer(edge, host, "/").await;
        anyhow::ensure!(got == wanted, "{host} is answered by {got} and not {wanted}");
    }
    let seen = Ask::get(edge, "bar.foo.com", "/").send().await?;
    anyhow::ensure!(seen.echo["host"] == "bar.foo.com", "{}", seen.echo);
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn path_rules() -> anyhow::Result<()> {
    let services = [
        "foo-exact",
        "foo-prefix",
        "aaa-slash-bbb-prefix",
        "aaa-prefix",
        "aaa-slash-bbb-slash-prefix",
        "foo-slash-exact",
    ];
    let (mut site, edge) = cluster_with(&services).await?;
    let rules = [
        rule("exact-path-rules", &[path("/foo", "Exact", "foo-exact")]),
        rule(
            "prefix-path-rules",
            &[
                path("/foo", "Prefix", "foo-prefix"),
                path("/aaa/bbb", "Prefix", "aaa-slash-bbb-prefix"),
                path("/aaa", "Prefix", "aaa-prefix"),
            ],
        ),
        rule("mixed-path-rules", &[path("/foo", "Prefix", "foo-prefix"), path("/foo", "Exact", "foo-exact")]),
        rule(
            "trailing-slash-path-rules",
            &[path("/aaa/bbb/", "Prefix", "aaa-slash-bbb-slash-prefix"), path("/foo/", "Exact", "foo-slash-exact")],
        ),
    ];
    apply(site.cluster("eu"), &json!({"rules": rules}))?;
    until(WITHIN, "the routes are there", async || answer(edge, "exact-path-rules", "/foo").await == "foo-exact")
        .await?;
    let rows = [
        ("exact-path-rules", "/foo", "foo-exact"),
        ("exact-path-rules", "/foo/", "404"),
        ("exact-path-rules", "/FOO", "404"),
        ("exact-path-rules", "/bar", "404"),
        ("prefix-path-rules", "/foo", "foo-prefix"),
        ("prefix-path-rules", "/foo/", "foo-prefix"),
        ("prefix-path-rules", "/FOO", "404"),
        ("prefix-path-rules", "/aaa/bbb", "aaa-slash-bbb-prefix"),
        ("prefix-path-rules", "/aaa/bbb/ccc", "aaa-slash-bbb-prefix"),
        ("prefix-path-rules", "/aaa/ccc", "aaa-prefix"),
        ("prefix-path-rules", "/aaaccc", "404"),
        ("mixed-path-rules", "/foo", "foo-exact"),
        ("mixed-path-rules", "/foo/", "foo-prefix"),
        ("trailing-slash-path-rules", "/aaa/bbb", "aaa-slash-bbb-slash-prefix"),
        ("trailing-slash-path-rules", "/aaa/bbb/", "aaa-slash-bbb-slash-prefix"),
        ("trailing-slash-path-rules", "/foo", "404"),
        ("trailing-slash-path-rules", "/foo/", "foo-slash-exact"),
    ];
    for (host, target, wanted) in rows {
        let got = answer(edge, host, target).await;
        anyhow::ensure!(got == wanted, "{host}{target} is answered by {got} and not {wanted}");
    }
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ingress_class() -> anyhow::Result<()> {
    let (mut site, edge) = cluster_with(&["web"]).await?;
    let rules = [rule("class.example.com", &[path("/", "Prefix", "web")])];
    let spec = json!({"ingressClassName": "some-invalid-class-name", "rules": rules});
    apply(site.cluster("eu"), &spec)?;
    // One of our class that came later is served and has an address: the other one had its chance.
    site.cluster("eu").ingress("later", "later.example.com", "web")?;
    site.answers("later.example.com", 200).await?;
    let is_written = async || !site.cluster("eu").status("later")["loadBalancer"]["ingress"].is_null();
    until(WITHIN, "the later Ingress has an address", is_written).await?;
    let status = site.cluster("eu").status("conformance");
    anyhow::ensure!(status["loadBalancer"]["ingress"].is_null(), "{status}");
    anyhow::ensure!(answer(edge, "class.example.com", "/").await == "404");
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancing() -> anyhow::Result<()> {
    let mut site = Site::start(&["eu"], 1).await?;
    site.cluster("eu").deploy("echo", 10).await?;
    apply(site.cluster("eu"), &json!({"defaultBackend": {"service": {"name": "echo", "port": {"number": 80}}}}))?;
    site.answers("load-balancing", 200).await?;
    let mut pods = BTreeSet::new();
    for _ in 0..100 {
        let answer = Ask::get(site.edge(0), "load-balancing", "/").send().await?;
        anyhow::ensure!(answer.status == 200);
        pods.insert(answer.echo["pod"].to_string());
    }
    anyhow::ensure!(pods.len() == 10, "100 requests reached {} of 10 pods", pods.len());
    site.system.stop().await;
    Ok(())
}
