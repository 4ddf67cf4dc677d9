//! The scenarios of the public Ingress conformance suite (ingress-controller-conformance, release 1.19), as real requests
//! through agent, controller and edge, each over HTTP and over HTTPS. Its headers seen by a backend and its spread over ten
//! pods are here as well.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use roadstead_e2e::site::{Answer, Ask, Cluster, Plan, Site, WITHIN};
use roadstead_e2e::until;
use roadstead_testkit::https::{Certificate, shown};
use serde_json::{Value, json};

/// Where one edge takes requests.
#[derive(Clone, Copy)]
struct Edge {
    http: SocketAddr,
    https: SocketAddr,
}

async fn cluster_with(services: &[&str]) -> anyhow::Result<(Site, Edge)> {
    let mut site = Plan::new(&["eu"], 1).https().start().await?;
    for service in services {
        site.cluster("eu").deploy(service, 1).await?;
    }
    let edge = Edge { http: site.edge(0), https: site.secure_edge(0) };
    Ok((site, edge))
}

impl Edge {
    /// A request over HTTP; what is redirected to HTTPS is followed, as the suite's own client does.
    async fn plain(self, method: &str, host: &str, target: &str) -> anyhow::Result<Answer> {
        let answer = self.sent(Ask::new(self.http, method, host, target)).await?;
        if answer.status == 308 && answer.field("location") == format!("https://{host}{target}") {
            return self.secure(method, host, target).await;
        }
        Ok(answer)
    }

    async fn secure(self, method: &str, host: &str, target: &str) -> anyhow::Result<Answer> {
        self.sent(Ask::new(self.https, method, host, target).over_tls()).await
    }

    async fn sent(self, ask: Ask) -> anyhow::Result<Answer> {
        ask.field("user-agent", "Go-http-client/1.1").send().await
    }

    /// Who answers a GET, a Service or a status, over HTTP and over HTTPS.
    async fn answers(self, host: &str, target: &str) -> anyhow::Result<[String; 2]> {
        let plain = self.plain("GET", host, target).await?;
        let secure = self.secure("GET", host, target).await?;
        Ok([plain, secure].map(|answer| match answer.status {
            200 => answer.service().to_owned(),
            status => status.to_string(),
        }))
    }

    async fn expect(self, rows: &[(&str, &str, &str)]) -> anyhow::Result<()> {
        for (host, target, wanted) in rows {
            let got = self.answers(host, target).await?;
            anyhow::ensure!(got == [*wanted, *wanted], "{host}{target} is answered by {got:?} and not {wanted}");
        }
        Ok(())
    }
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
        for answer in [edge.plain(method, host, target).await?, edge.secure(method, host, target).await?] {
            anyhow::ensure!(answer.status == 200 && answer.service() == "echo-service", "{method} {host}{target}");
            for field in ["content-length", "content-type", "date", "server"] {
                anyhow::ensure!(!answer.field(field).is_empty(), "{method} {host}{target} is answered without {field}");
            }
            let echo = &answer.echo;
            anyhow::ensure!(echo["method"] == method && echo["path"] == target, "{echo}");
            anyhow::ensure!(echo["proto"] == "HTTP/1.1" && answer.is_http11, "{echo}");
            anyhow::ensure!(answer.received("user-agent") == "Go-http-client/1.1", "{echo}");
        }
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
    let certificate = Certificate::for_names(&["foo.bar.com"])?;
    let eu = site.cluster("eu");
    eu.certificate("conformance-tls", &certificate)?;
    let tls = json!([{"hosts": ["foo.bar.com"], "secretName": "conformance-tls"}]);
    apply(eu, &json!({"rules": rules, "tls": tls}))?;
    let is_shown = async || shown(edge.https, "foo.bar.com").await.is_ok_and(|it| it == certificate.der);
    until(WITHIN, "foo.bar.com shows its certificate", is_shown).await?;
    edge.expect(&[
        ("foo.bar.com", "/", "foo-bar-com"),
        ("subdomain.bar.com", "/", "404"),
        ("bar.foo.com", "/", "wildcard-foo-com"),
        ("baz.bar.foo.com", "/", "404"),
        ("foo.com", "/", "404"),
    ])
    .await?;
    for host in ["foo.bar.com", "bar.foo.com"] {
        for seen in [edge.plain("GET", host, "/").await?, edge.secure("GET", host, "/").await?] {
            anyhow::ensure!(seen.echo["host"] == host, "{}", seen.echo);
        }
    }
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
    let is_there = async || edge.answers("exact-path-rules", "/foo").await.is_ok_and(|it| it[0] == "foo-exact");
    until(WITHIN, "the routes are there", is_there).await?;
    edge.expect(&[
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
    ])
    .await?;
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
    edge.expect(&[("class.example.com", "/", "404")]).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancing() -> anyhow::Result<()> {
    let (mut site, edge) = cluster_with(&[]).await?;
    site.cluster("eu").deploy("echo", 10).await?;
    apply(site.cluster("eu"), &json!({"defaultBackend": {"service": {"name": "echo", "port": {"number": 80}}}}))?;
    site.answers("load-balancing", 200).await?;
    for is_secure in [false, true] {
        let mut pods = BTreeSet::new();
        for _ in 0..100 {
            let answer = match is_secure {
                false => edge.plain("GET", "load-balancing", "/").await?,
                true => edge.secure("GET", "load-balancing", "/").await?,
            };
            anyhow::ensure!(answer.status == 200);
            pods.insert(answer.echo["pod"].to_string());
        }
        anyhow::ensure!(pods.len() == 10, "100 requests reached {} of 10 pods", pods.len());
    }
    site.system.stop().await;
    Ok(())
}
