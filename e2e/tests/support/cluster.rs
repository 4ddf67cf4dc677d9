//! One simulated cluster with its pods.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use roadstead_testkit::echo::{EchoBackend, EchoOptions, Identity};
use roadstead_testkit::https::Certificate;
use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};
use roadstead_testkit::stack::ports;
use serde_json::{Value, json};

const NAMESPACE: &str = "shop";

/// An API server in this process, and pods that say who they are.
pub struct Cluster {
    /// What its pods say they belong to.
    pub name: String,
    pub api: ApiServer,
    network: u8,
    port: u16,
    services: BTreeMap<String, Vec<EchoBackend>>,
}

impl Cluster {
    /// One without any application, whose pods have addresses in 127.`network`.0.0/16.
    ///
    /// # Errors
    /// If its API cannot listen.
    pub async fn start(name: &str, network: u8) -> anyhow::Result<Self> {
        Self::start_as(ApiServerOptions::new(name), network).await
    }

    /// As [`Self::start`], with this uid of namespace kube-system.
    ///
    /// # Errors
    /// If its API cannot listen.
    pub async fn start_with_uid(name: &str, network: u8, uid: &str) -> anyhow::Result<Self> {
        let mut options = ApiServerOptions::new(name);
        options.kube_system_uid = Some(uid.to_owned());
        Self::start_as(options, network).await
    }

    async fn start_as(options: ApiServerOptions, network: u8) -> anyhow::Result<Self> {
        let name = options.name.clone();
        let api = ApiServer::start(options).await?;
        let port = ports::free(1)[0];
        let cluster = Self { name, api, network, port, services: BTreeMap::new() };
        cluster.apply(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "roadstead"},
            "spec": {"controller": "roadstead.dev/ingress"},
        }))?;
        Ok(cluster)
    }

    /// # Errors
    /// If the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> anyhow::Result<()> {
        self.api.write_kubeconfig(path).with_context(|| format!("write {}", path.display()))
    }

    /// An application as teams have it: pods, a Service with its EndpointSlice, an Ingress for `host` on `/`.
    ///
    /// # Errors
    /// If the API refuses an object or a pod cannot listen.
    pub async fn serve(&mut self, host: &str, service: &str, pods: u8) -> anyhow::Result<()> {
        self.deploy(service, pods).await?;
        self.ingress(service, host, service)
    }

    /// As [`Self::serve`], without an Ingress.
    ///
    /// # Errors
    /// If the API refuses an object or a pod cannot listen.
    pub async fn deploy(&mut self, service: &str, pods: u8) -> anyhow::Result<()> {
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
        self.publish(service, usize::from(pods))
    }

    /// Writes a Service's EndpointSlice: its first `ready` pods are ready.
    ///
    /// # Errors
    /// If the API refuses it.
    pub fn publish(&self, service: &str, ready: usize) -> anyhow::Result<()> {
        self.publish_from(service, 0, ready)
    }

    /// As [`Self::publish`], without the first `skipped` pods.
    ///
    /// # Errors
    /// If the API refuses it.
    pub fn publish_from(&self, service: &str, skipped: usize, ready: usize) -> anyhow::Result<()> {
        let pods = self.services[service].iter().skip(skipped).take(ready).map(|pod| pod.address().ip().to_string());
        let endpoints = pods.map(|address| json!({"addresses": [address], "conditions": {"ready": true}}));
        self.slice(service, &endpoints.collect::<Vec<_>>())
    }

    /// Writes a Service's EndpointSlice: all its pods are in it, but that of this index is not ready.
    ///
    /// # Errors
    /// If the API refuses it.
    pub fn publish_unready(&self, service: &str, index: usize) -> anyhow::Result<()> {
        let pods = self.services[service].iter().enumerate();
        let endpoint = |(number, pod): (usize, &EchoBackend)| {
            let address = pod.address().ip().to_string();
            json!({"addresses": [address], "conditions": {"ready": number != index}})
        };
        self.slice(service, &pods.map(endpoint).collect::<Vec<_>>())
    }

    fn slice(&self, service: &str, endpoints: &[Value]) -> anyhow::Result<()> {
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

    /// As [`Self::ingress`], showing the certificate of this Secret.
    ///
    /// # Errors
    /// If the API refuses it.
    pub fn secure_ingress(&self, name: &str, host: &str, secret: &str) -> anyhow::Result<()> {
        self.ingress(name, host, name)?;
        let mut ingress = self.api.get("ingresses", NAMESPACE, name).context("what was just written")?;
        ingress["spec"]["tls"] = json!([{"hosts": [host], "secretName": secret}]);
        ingress["metadata"] = json!({"name": name, "namespace": NAMESPACE});
        self.apply(ingress)
    }

    /// Writes a Secret with a certificate.
    ///
    /// # Errors
    /// If the API refuses it.
    pub fn certificate(&self, secret: &str, certificate: &Certificate) -> anyhow::Result<()> {
        self.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": secret, "namespace": NAMESPACE},
            "stringData": {"tls.crt": certificate.chain_pem, "tls.key": certificate.key_pem},
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

    /// The `status` of an Ingress; null if there is none.
    pub fn status(&self, ingress: &str) -> Value {
        self.api.get("ingresses", NAMESPACE, ingress).map(|it| it["status"].clone()).unwrap_or_default()
    }

    /// The address of one pod of a Service.
    ///
    /// # Panics
    /// If there is no such Service or pod.
    pub fn pod(&self, service: &str, index: usize) -> SocketAddr {
        self.services[service][index].address()
    }

    /// Kills one pod of a Service, connections and all.
    ///
    /// # Panics
    /// If there is no such Service or pod.
    pub async fn kill_pod(&mut self, service: &str, index: usize) {
        self.services.get_mut(service).expect("a Service of this cluster")[index].kill().await;
    }

    /// # Errors
    /// If the API refuses it.
    pub fn apply(&self, object: Value) -> anyhow::Result<()> {
        self.api.apply(object)?;
        Ok(())
    }
}
