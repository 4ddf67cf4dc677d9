//! Everything the demo runs, and how its parts belong together.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use roadstead_testkit::stack::ports;
use roadstead_testkit::stack::roadstead::{AgentOptions, EdgeOptions, Member, Roadstead, RoadsteadOptions};

use crate::cluster::{Cluster, ClusterOptions};
use crate::say;

pub const POOL: &str = "public";
const READY_WITHIN: Duration = Duration::from_secs(60);
const CLUSTERS: [&str; 3] = ["eu-west", "eu-north", "us-east"];
const EDGES: [&str; 2] = ["e1", "e2"];

const POLICY: &str = include_str!("../../examples/policy.yaml");
const INGRESS_CLASS: &str = include_str!("../../examples/ingress-class.yaml");
const SHOP: &str = include_str!("../../examples/apps/shop/shop.yaml");
const DOCS: &str = include_str!("../../examples/apps/docs/docs.yaml");
const PREVIEW: &str = include_str!("../../examples/apps/preview/preview.yaml");

pub struct FleetOptions {
    pub binaries: PathBuf,
    pub directory: PathBuf,
    /// The first edge's port if it is free; the second edge takes the next one. `None`: any free ports.
    pub http_port: Option<u16>,
}

pub struct Fleet {
    pub clusters: Vec<Cluster>,
    pub system: Roadstead,
}

impl Fleet {
    pub async fn start(options: FleetOptions) -> anyhow::Result<Self> {
        let FleetOptions { binaries, directory, http_port } = options;
        let mut clusters = say::step("three clusters with their pods", clusters(&binaries, &directory)).await?;
        say::step("applications applied, as GitOps would", applications(&mut clusters)).await?;
        let mut wanted = RoadsteadOptions::new(binaries, directory, POLICY.to_owned());
        for (index, name) in (0..).zip(EDGES) {
            let mut edge = EdgeOptions::new(name, POOL);
            edge.region = Some("eu".to_owned());
            edge.http =
                http_port.map(|port| ([127, 0, 0, 1], port + index).into()).filter(|it| TcpListener::bind(it).is_ok());
            wanted.edges.push(edge);
        }
        for cluster in &clusters {
            wanted.agents.push(AgentOptions::new(&cluster.name, &cluster.kubeconfig));
        }
        let mut system = say::step("Postgres, controller, two edges, three agents", Roadstead::start(wanted)).await?;
        say::step("everything ready", system.wait_ready(READY_WITHIN)).await?;
        Ok(Self { clusters, system })
    }

    /// Panics on a name that the demo does not have: a mistake in the scenario.
    pub fn cluster(&self, name: &str) -> &Cluster {
        self.clusters.iter().find(|cluster| cluster.name == name).expect("a cluster of the demo")
    }

    pub fn cluster_mut(&mut self, name: &str) -> &mut Cluster {
        self.clusters.iter_mut().find(|cluster| cluster.name == name).expect("a cluster of the demo")
    }

    /// Where the edges take requests.
    pub fn edges(&mut self) -> Vec<SocketAddr> {
        self.system.edges().iter().filter_map(Member::http).collect()
    }
}

async fn clusters(binaries: &Path, directory: &Path) -> anyhow::Result<Vec<Cluster>> {
    let pod_port = ports::free(1)[0];
    let mut clusters = Vec::new();
    for (network, name) in (1..).zip(CLUSTERS) {
        let options = ClusterOptions { name, network, pod_port, binaries, directory };
        clusters.push(Cluster::start(options).await.with_context(|| format!("start cluster {name}"))?);
    }
    Ok(clusters)
}

async fn applications(clusters: &mut [Cluster]) -> anyhow::Result<()> {
    for cluster in clusters {
        cluster.apply(INGRESS_CLASS).await?;
        cluster.apply(SHOP).await?;
        cluster.run("shop", "web", 3).await?;
        cluster.run("shop", "api", 2).await?;
        if cluster.name == "us-east" {
            cluster.apply(DOCS).await?;
            cluster.run("docs", "docs", 2).await?;
        } else {
            cluster.apply(PREVIEW).await?;
            cluster.run("preview", "preview", 2).await?;
        }
    }
    Ok(())
}
