//! One simulated cluster, one controller, and agents between them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use prometheus_client::registry::Registry;
use roadstead_agent::app::Agent;
use roadstead_agent::metrics::Metrics;
use roadstead_agent::stream::Controllers;
use roadstead_agent::watch::WatchSettings;
use roadstead_routing::id::Kind;
use roadstead_runtime::ready::Readiness;
use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::certificates::Authority;
use crate::controller::{Controller, State};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const POLL: Duration = Duration::from_millis(10);

pub(crate) struct Rig {
    pub(crate) api: ApiServer,
    pub(crate) controller: Controller,
    pub(crate) authority: Authority,
    pub(crate) directory: TempDir,
}

/// A running agent; stopped when dropped.
pub(crate) struct RunningAgent {
    pub(crate) readiness: Readiness,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl RunningAgent {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl Rig {
    /// A cluster without objects.
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path());
        let controller = Controller::start(authority.issue("controller/c1")).await;
        // Often enough that no watch is idle without a cause.
        let options = ApiServerOptions { bookmark_interval: Duration::from_millis(200), ..ApiServerOptions::new("eu") };
        let api = ApiServer::start(options).await.unwrap();
        Self { api, controller, authority, directory }
    }

    /// A cluster with our class, another class, and one application of each.
    pub(crate) async fn with_shop() -> Self {
        let rig = Self::new().await;
        rig.apply(class("roadstead", "roadstead.dev/ingress"));
        rig.apply(class("nginx", "k8s.io/ingress-nginx"));
        rig.apply(ingress("web", "roadstead", "front"));
        rig.apply(ingress("foreign", "nginx", "back"));
        for name in ["front", "back"] {
            rig.apply(service(name));
            rig.apply(slice(name, 1));
        }
        rig
    }

    pub(crate) fn apply(&self, object: Value) {
        self.api.apply(object).unwrap();
    }

    pub(crate) async fn start_agent(&self) -> RunningAgent {
        self.start_agent_at(self.api.address()).await
    }

    /// An agent that finds its API server at `address`.
    pub(crate) async fn start_agent_at(&self, address: SocketAddr) -> RunningAgent {
        let kubeconfig = self.api.kubeconfig().replace(&self.api.url(), &format!("http://{address}"));
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        config.default_retry = false;
        self.start_agent_with(Client::try_from(config).unwrap())
    }

    pub(crate) fn start_agent_with(&self, client: Client) -> RunningAgent {
        let tls = self.authority.issue("cluster/eu").load().unwrap();
        let agent = Agent {
            client,
            controllers: Controllers::new(&[self.controller.url()], None, &tls).unwrap(),
            cluster: "eu".to_owned(),
            watch: WatchSettings {
                streaming_list_max: Duration::from_secs(2),
                idle_max: Duration::from_secs(2),
                answer_max: Duration::from_secs(2),
                retry_min: Duration::from_millis(10),
                retry_max: Duration::from_millis(100),
            },
            readiness: Readiness::new(),
            metrics: Metrics::register(&mut Registry::default()),
        };
        let (readiness, stop) = (agent.readiness.clone(), CancellationToken::new());
        let task = tokio::spawn(agent.run(stop.clone()));
        RunningAgent { readiness, stop, task }
    }

    /// Waits until the controller's state is as described.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&mut State) -> bool) {
        eventually(what, || is(&mut self.controller.state())).await;
    }

    /// Waits until every kind is complete on the current stream, which must be the `streams`-th.
    pub(crate) async fn until_synced(&self, streams: usize) {
        self.until("all kinds complete", |state| state.streams.len() >= streams && state.completed() == Kind::ALL)
            .await;
    }

    pub(crate) fn get_ingress(&self, name: &str) -> Value {
        self.api.get("ingresses", "shop", name).expect("the Ingress exists")
    }
}

pub(crate) async fn eventually(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < deadline, "timed out waiting for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

pub(crate) fn class(name: &str, controller: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": name}, "spec": {"controller": controller},
    })
}

pub(crate) fn ingress(name: &str, class: &str, service: &str) -> Value {
    let backend = json!({"service": {"name": service, "port": {"number": 80}}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ingressClassName": class, "rules": [{
            "host": format!("{name}.example.com"),
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
        }]},
    })
}

pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

/// `last`: of the one endpoint's address.
pub(crate) fn slice(service: &str, last: u8) -> Value {
    let labels = json!({"kubernetes.io/service-name": service});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-1"), "namespace": "shop", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [format!("10.0.0.{last}")], "conditions": {"ready": true}}],
    })
}
