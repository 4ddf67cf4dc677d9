//! One simulated cluster: a Kubernetes API server and the pods of its applications, all real processes. Plays the
//! part of GitOps (server-side apply of manifests) and of kube-controller-manager (EndpointSlices of running pods).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use roadstead_testkit::kube_api::FaultSettings;
use roadstead_testkit::stack::{Process, Ready, Spec, ports};
use serde_json::{Value, json};

/// Who applies the manifests; shown as the last manager of every object.
const GITOPS: &str = "gitops";

/// Where one Service's pods listen.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub ip: String,
    pub port: u16,
}

/// A Service with running pods.
pub struct Workload {
    pub namespace: String,
    pub service: String,
    pub pods: Vec<Pod>,
    process: Process,
}

pub struct ClusterOptions<'a> {
    pub name: &'a str,
    /// Second octet of the pods' loopback addresses.
    pub network: u8,
    pub pod_port: u16,
    pub binaries: &'a Path,
    pub directory: &'a Path,
}

pub struct Cluster {
    pub name: String,
    pub kubeconfig: PathBuf,
    network: u8,
    pod_port: u16,
    binaries: PathBuf,
    directory: PathBuf,
    client: Client,
    workloads: BTreeMap<String, Workload>,
    /// Kept to end with the cluster.
    _api: Process,
}

impl Cluster {
    pub async fn start(options: ClusterOptions<'_>) -> anyhow::Result<Self> {
        let ClusterOptions { name, network, pod_port, binaries, directory } = options;
        let kubeconfig = directory.join(format!("{name}.kubeconfig"));
        let listen = SocketAddr::from(([127, 0, 0, 1], ports::free(1)[0]));
        let mut spec = Spec::new(format!("kube-{name}"), binaries.join("roadstead-fake-kube"))
            .args(["--name".to_owned(), name.to_owned(), "--listen".to_owned(), listen.to_string()])
            .args(["--kubeconfig-out".to_owned(), kubeconfig.display().to_string()])
            .ready(Ready::Readyz(listen));
        spec.log_folder = Some(directory.to_owned());
        let api = Process::spawn(spec).await?;
        Ok(Self {
            name: name.to_owned(),
            client: client(&kubeconfig).await?,
            kubeconfig,
            network,
            pod_port,
            binaries: binaries.to_owned(),
            directory: directory.to_owned(),
            workloads: BTreeMap::new(),
            _api: api,
        })
    }

    /// Applies every document of a manifest by server-side apply, as a GitOps tool does.
    pub async fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        for document in serde_saphyr::from_multiple::<Value>(manifest).context("read a manifest")? {
            self.apply_object(&document).await?;
        }
        Ok(())
    }

    /// Applies one object by server-side apply.
    pub async fn apply_object(&self, object: &Value) -> anyhow::Result<()> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let types = TypeMeta { api_version: text("/apiVersion"), kind: text("/kind") };
        let api = self.api(&types, &text("/metadata/namespace"))?;
        let name = text("/metadata/name");
        api.patch(&name, &PatchParams::apply(GITOPS).force(), &Patch::Apply(object))
            .await
            .with_context(|| format!("apply {} {name} to {}", types.kind, self.name))?;
        Ok(())
    }

    pub async fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Value> {
        let types = TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() };
        let object = self.api(&types, namespace)?.get(name).await?;
        Ok(serde_json::to_value(object)?)
    }

    pub async fn list(&self, api_version: &str, kind: &str, namespace: &str) -> anyhow::Result<Vec<Value>> {
        let types = TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() };
        let list = self.api(&types, namespace)?.list(&kube::api::ListParams::default()).await?;
        Ok(list.items.into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
    }

    /// Starts `count` pods of a Service and publishes them as its EndpointSlice.
    pub async fn run(&mut self, namespace: &str, service: &str, count: u8) -> anyhow::Result<()> {
        let index = u8::try_from(self.workloads.len()).context("few workloads")?;
        let pods: Vec<Pod> = (1..=count)
            .map(|number| Pod {
                name: format!("{service}-{number}"),
                ip: format!("127.{}.{index}.{number}", self.network),
                port: self.pod_port,
            })
            .collect();
        let listed: Vec<String> = pods.iter().map(|pod| format!("{}={}:{}", pod.name, pod.ip, pod.port)).collect();
        let name = format!("pods-{}-{namespace}-{service}", self.name);
        let mut spec = Spec::new(name, self.binaries.join("roadstead-echo"))
            .args(["--cluster", &self.name, "--namespace", namespace, "--service", service])
            .args(["--pods", &listed.join(",")])
            .ready(Ready::Listens(format!("{}:{}", pods[0].ip, pods[0].port).parse()?));
        spec.log_folder = Some(self.directory.clone());
        let process = Process::spawn(spec).await?;
        self.publish(namespace, service, &pods).await?;
        let (namespace, service) = (namespace.to_owned(), service.to_owned());
        self.workloads.insert(format!("{namespace}/{service}"), Workload { namespace, service, pods, process });
        Ok(())
    }

    /// Writes a Service's EndpointSlice: exactly these pods are ready.
    pub async fn publish(&self, namespace: &str, service: &str, ready: &[Pod]) -> anyhow::Result<()> {
        let endpoints: Vec<Value> = ready
            .iter()
            .map(|pod| json!({"addresses": [pod.ip], "conditions": {"ready": true, "serving": true}}))
            .collect();
        self.apply_object(&json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-1"),
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": self.pod_port, "protocol": "TCP"}],
            "endpoints": endpoints,
        }))
        .await
    }

    /// Panics if `run` was not called for it: a mistake in the scenario.
    pub fn workload(&self, name: &str) -> &Workload {
        &self.workloads[name]
    }

    /// Kills the pods of every workload at once, connections and all.
    pub async fn kill_pods(&mut self) {
        for workload in self.workloads.values_mut() {
            workload.process.kill().await;
        }
    }

    /// Starts killed pods again under the same addresses.
    pub async fn start_pods(&mut self) -> anyhow::Result<()> {
        for workload in self.workloads.values_mut() {
            workload.process.start_again().await?;
        }
        Ok(())
    }

    /// Publishes the EndpointSlices of every workload: with all its pods, or with none.
    pub async fn publish_all(&self, pods: Pods) -> anyhow::Result<()> {
        for workload in self.workloads.values() {
            let ready: &[Pod] = match pods {
                Pods::Running => &workload.pods,
                Pods::None => &[],
            };
            self.publish(&workload.namespace, &workload.service, ready).await?;
        }
        Ok(())
    }

    /// Makes the API server misbehave until told otherwise.
    pub async fn set_faults(&self, settings: &FaultSettings) -> anyhow::Result<()> {
        let body = serde_json::to_vec(&json!({"settings": settings}))?;
        let request = http::Request::put("/__faults").body(body)?;
        self.client.request::<Value>(request).await.with_context(|| format!("set faults of {}", self.name))?;
        Ok(())
    }

    fn api(&self, types: &TypeMeta, namespace: &str) -> anyhow::Result<Api<DynamicObject>> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        Ok(if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Pods {
    Running,
    None,
}

async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
