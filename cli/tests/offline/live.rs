//! Reports over a running cluster: a simulated API server, and `roadstead` with its kubeconfig.

use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};
use serde_json::{Value, json};

use crate::run::{Said, folder, roadstead};

struct Live {
    api: ApiServer,
    kubeconfig: String,
    _folder: tempfile::TempDir,
}

impl Live {
    async fn start() -> Self {
        let api = ApiServer::start(ApiServerOptions::new("eu")).await.unwrap();
        let folder = folder(&[]);
        let path = folder.path().join("kubeconfig");
        api.write_kubeconfig(&path).unwrap();
        Self { api, kubeconfig: path.display().to_string(), _folder: folder }
    }

    fn with_ingresses(self, count: usize) -> Self {
        let apply = |object: Value| drop(self.api.apply(object).unwrap());
        apply(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"},
            "spec": {"controller": "k8s.io/ingress-nginx"},
        }));
        apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"ports": [{"port": 80, "protocol": "TCP"}]},
        }));
        for number in 0..count {
            let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
            apply(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {
                    "name": format!("web-{number}"), "namespace": "shop",
                    "annotations": {"nginx.ingress.kubernetes.io/server-snippet": "deny all;"},
                },
                "spec": {
                    "ingressClassName": "nginx",
                    "tls": [{"hosts": [format!("h{number}.example.com")], "secretName": "web-tls"}],
                    "rules": [{
                        "host": format!("h{number}.example.com"),
                        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
                    }],
                },
            }));
        }
        self
    }

    async fn migrate(&self, more: &'static [&'static str]) -> Said {
        let kubeconfig = self.kubeconfig.clone();
        let run = move || roadstead(&[&["migrate", "--json", "--kubeconfig", &kubeconfig], more].concat(), "");
        tokio::task::spawn_blocking(run).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_cluster_is_reported_on_page_by_page() {
    let live = Live::start().await.with_ingresses(501);
    let said = live.migrate(&[]).await;
    assert_eq!((said.code, &*said.err), (0, ""));
    let report = said.json();
    assert_eq!((&report["summary"]["ingresses"], &report["summary"]["refused"]), (&json!(501), &json!(501)));
    let findings = report["ingresses"][0]["findings"].to_string();
    assert!(findings.contains("certificate-missing") && findings.contains("no-endpoints"), "{findings}");
    assert_eq!(live.migrate(&["--strict"]).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_named_and_without_ingresses_there_is_no_report() {
    let live = Live::start().await.with_ingresses(1);
    live.api.faults().forbid("secrets");
    let said = live.migrate(&[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.starts_with("warning: secrets: the API server denies them: "), "{said:?}");
    assert_eq!(said.json()["summary"]["ingresses"], 1);
    live.api.faults().forbid("ingresses");
    let said = live.migrate(&[]).await;
    assert_eq!((said.code, &*said.out), (1, ""));
    assert!(said.err.starts_with("error: ingresses: the API server denies them: "), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_reached_and_a_bad_kubeconfig_say_so() {
    let mut live = Live::start().await;
    let said = live.migrate(&["--context", "other"]).await;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("--kubeconfig") && said.err.contains("other"), "{said:?}");
    live.api.stop().await;
    let said = live.migrate(&[]).await;
    assert_eq!((said.code, &*said.out), (3, ""));
    assert!(said.err.starts_with("error: the API server cannot be reached: "), "{said:?}");
    let missing = roadstead(&["migrate", "--kubeconfig", "/nowhere/config"], "");
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("--kubeconfig /nowhere/config"), "{missing:?}");
    assert_eq!(roadstead(&["migrate", "--kubeconfig", "x", "folder"], "").code, 2);
}
