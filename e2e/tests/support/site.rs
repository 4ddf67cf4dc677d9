//! One small installation: simulated clusters in this process, everything else as real processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use roadstead_testkit::echo::{EchoBackend, EchoOptions, Identity};
use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};
use roadstead_testkit::load::{Load, Pace, Report, Running, Sample, Target};
use roadstead_testkit::stack::ports;
use roadstead_testkit::stack::roadstead::{AgentOptions, EdgeOptions, Roadstead, RoadsteadOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

/// For everything that should happen soon.
pub const WITHIN: Duration = Duration::from_secs(30);
/// Fewer requests than this prove nothing.
pub const SENT_MIN: u64 = 500;

const NAMESPACE: &str = "shop";
const POLICY: &str = "
pools: {public: {kind: edge, addresses: [203.0.113.10], default: true}}
classes: {roadstead: {pool: public}}
";
const REQUESTS_PER_SECOND: f64 = 500.0;
const CONNECTIONS: usize = 4;
const REQUESTS_MAX: u64 = 200_000;

/// Clusters, and the system in front of them.
pub struct Site {
    pub clusters: Vec<Cluster>,
    pub system: Roadstead,
    pub folder: TempDir,
}

impl Site {
    /// Clusters of these names without any application, and `edges` edges; everything ready.
    ///
    /// # Errors
    /// Says what did not start.
    pub async fn start(names: &[&str], edges: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut options = RoadsteadOptions::new(crate::binaries()?, folder.path(), POLICY);
        options.edges = (1..=edges).map(|number| EdgeOptions::new(&format!("e{number}"), "public")).collect();
        let mut clusters = Vec::new();
        for (network, name) in (1..).zip(names) {
            let cluster = Cluster::start(name, network).await?;
            let kubeconfig = folder.path().join(format!("{name}.kubeconfig"));
            cluster.api.write_kubeconfig(&kubeconfig)?;
            options.agents.push(AgentOptions::new(name, kubeconfig));
            clusters.push(cluster);
        }
        let mut system = Roadstead::start(options).await?;
        system.wait_ready(WITHIN).await?;
        Ok(Self { clusters, system, folder })
    }

    /// # Panics
    /// If there is none of that name.
    pub fn cluster(&mut self, name: &str) -> &mut Cluster {
        self.clusters.iter_mut().find(|cluster| cluster.name == name).expect("a cluster of this site")
    }

    /// Where an edge takes requests.
    ///
    /// # Panics
    /// If there are not so many edges.
    pub fn edge(&mut self, index: usize) -> SocketAddr {
        self.system.edge(index).http().expect("an edge takes requests")
    }

    /// Waits until a host is served by exactly these clusters, as seen by every edge.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn served_by(&mut self, host: &str, wanted: &[&str]) -> anyhow::Result<()> {
        for index in 0..self.system.edges().len() {
            let edge = self.edge(index);
            let what = format!("edge {} serves {host} from {wanted:?}", index + 1);
            crate::until(WITHIN, &what, async || seen(edge, host).await == wanted).await?;
        }
        Ok(())
    }

    /// One cluster's entry of the controller's `/status`; null while there is none.
    pub async fn status_of(&self, cluster: &str) -> Value {
        let status = self.system.status().await.unwrap_or_default();
        let clusters = status["clusters"].as_array().cloned().unwrap_or_default();
        clusters.into_iter().find(|entry| entry["id"] == cluster).unwrap_or_default()
    }

    /// Waits until `/status` shows a cluster in this state.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn cluster_is(&self, cluster: &str, state: &str) -> anyhow::Result<()> {
        let what = format!("{cluster} is {state}");
        crate::until(WITHIN, &what, async || self.status_of(cluster).await["state"] == state).await
    }

    /// Waits until some finding has this code.
    ///
    /// # Errors
    /// If none has in time.
    pub async fn has_finding(&self, code: &str) -> anyhow::Result<()> {
        crate::until(WITHIN, &format!("there is a finding {code}"), async || self.finding(code).await).await
    }

    /// Whether some finding has this code now.
    pub async fn finding(&self, code: &str) -> bool {
        let status = self.system.status().await.unwrap_or_default();
        status["findings"].as_array().is_some_and(|all| all.iter().any(|finding| finding["code"] == code))
    }

    /// The sum of a counter over all its labels in the controller's `/metrics`.
    ///
    /// # Errors
    /// If the controller does not answer.
    pub async fn controller_counter(&mut self, name: &str) -> anyhow::Result<f64> {
        let text = self.system.controller().metrics().await?;
        let lines = text.lines().filter(|line| line.starts_with(name));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

/// One simulated cluster with its pods.
pub struct Cluster {
    pub name: String,
    pub api: ApiServer,
    network: u8,
    port: u16,
    services: BTreeMap<String, Vec<EchoBackend>>,
}

impl Cluster {
    async fn start(name: &str, network: u8) -> anyhow::Result<Self> {
        let api = ApiServer::start(ApiServerOptions::new(name)).await?;
        let port = ports::free(1)[0];
        let cluster = Self { name: name.to_owned(), api, network, port, services: BTreeMap::new() };
        cluster.apply(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "roadstead"},
            "spec": {"controller": "roadstead.dev/ingress"},
        }))?;
        Ok(cluster)
    }

    /// An application as teams have it: pods, a Service with its EndpointSlice, an Ingress for `host` on `/`.
    ///
    /// # Errors
    /// If the API refuses an object or a pod cannot listen.
    pub async fn serve(&mut self, host: &str, service: &str, pods: u8) -> anyhow::Result<()> {
        let index = u8::try_from(self.services.len()).context("few services")?;
        let mut backends = Vec::new();
        for number in 1..=pods {
            let identity = Identity {
                cluster: self.name.clone(),
                namespace: NAMESPACE.to_owned(),
                ingress: String::new(),
                service: service.to_owned(),
                pod: format!("{service}-{number}"),
            };
            let address = SocketAddr::from(([127, self.network, index, number], self.port));
            backends.push(EchoBackend::start(identity, address, EchoOptions::default()).await?);
        }
        self.services.insert(service.to_owned(), backends);
        self.apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "namespace": NAMESPACE},
            "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]},
        }))?;
        self.publish(service, usize::from(pods))?;
        self.ingress(service, host, service)
    }

    /// Writes a Service's EndpointSlice: its first `ready` pods are ready.
    ///
    /// # Errors
    /// If the API refuses it.
    pub fn publish(&self, service: &str, ready: usize) -> anyhow::Result<()> {
        let pods = self.services[service].iter().take(ready).map(|pod| pod.address().ip().to_string());
        let endpoints: Vec<Value> =
            pods.map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
        self.apply(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{service}-1"), "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": service},
            },
            "ports": [{"name": "http", "port": self.port, "protocol": "TCP"}], "endpoints": endpoints,
        }))
    }

    /// Writes an Ingress that sends all of `host` to `service`.
    ///
    /// # Errors
    /// If the API refuses it.
    pub fn ingress(&self, name: &str, host: &str, service: &str) -> anyhow::Result<()> {
        self.apply(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"ingressClassName": "roadstead", "rules": [{"host": host, "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": service, "port": {"name": "http"}}},
            }]}}]},
        }))
    }

    /// # Errors
    /// If there is none of that name.
    pub fn delete_ingress(&self, name: &str) -> anyhow::Result<()> {
        self.api.delete("ingresses", NAMESPACE, name)?;
        Ok(())
    }

    /// Kills every pod of a Service, connections and all.
    ///
    /// # Panics
    /// If there is no such Service.
    pub async fn kill_pods(&mut self, service: &str) {
        for pod in self.services.get_mut(service).expect("a Service of this cluster") {
            pod.kill().await;
        }
    }

    pub fn apply(&self, object: Value) -> anyhow::Result<()> {
        self.api.apply(object)?;
        Ok(())
    }
}

/// Requests for a host's `/` through one edge, from clients that never retry.
pub struct Flow(Running);

impl Flow {
    /// Answers of another Service than `service` count as misrouted.
    pub fn start(edge: SocketAddr, host: &str, service: &'static str) -> Self {
        let mut load = Load::new(Target::get(edge, host, "/"), CONNECTIONS, REQUESTS_MAX);
        load.pace = Pace::PerSecond(REQUESTS_PER_SECOND);
        load.duration_max = Duration::from_secs(120);
        load.is_misrouted =
            std::sync::Arc::new(move |sample: &Sample| sample.status == 200 && sample.echo["service"] != service);
        Self(load.start())
    }

    /// Waits until so many more requests have been sent.
    ///
    /// # Errors
    /// If they are not in time.
    pub async fn more(&self, requests: u64) -> anyhow::Result<()> {
        let wanted = self.0.sent() + requests;
        crate::until(WITHIN, &format!("{wanted} requests are sent"), async || self.0.sent() >= wanted).await
    }

    /// Sends no more and waits for the answers.
    pub async fn stop(self) -> Report {
        self.0.stop().await
    }

    /// As [`Self::stop`], after at least [`SENT_MIN`] requests; none may have failed or gone astray.
    ///
    /// # Errors
    /// What the clients saw.
    pub async fn stop_clean(self) -> anyhow::Result<Report> {
        crate::until(WITHIN, "enough requests are sent", async || self.0.sent() >= SENT_MIN).await?;
        let report = self.stop().await;
        let Report { sent, failed, misrouted, errors, .. } = &report;
        anyhow::ensure!(
            *failed == 0 && *misrouted == 0,
            "sent {sent}, failed {failed}, misrouted {misrouted}: {errors:?}"
        );
        Ok(report)
    }
}

/// Status of one request on a connection of its own; 0 if there was no answer.
pub async fn status(edge: SocketAddr, host: &str) -> u16 {
    Target::get(edge, host, "/").once().await.map_or(0, |answer| answer.status)
}

/// The clusters that answer a handful of requests, sorted.
async fn seen(edge: SocketAddr, host: &str) -> Vec<String> {
    let report = Load::new(Target::get(edge, host, "/"), 1, 12).run().await;
    if report.failed > 0 {
        return vec![format!("{} failed", report.failed)];
    }
    report.by_cluster.into_keys().collect()
}
