//! One small installation: simulated clusters in this process, everything else as real processes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use roadstead_testkit::stack::roadstead::{AgentOptions, EdgeOptions, Roadstead, RoadsteadOptions};
use serde_json::Value;
use tempfile::TempDir;

mod ask;
mod cluster;
mod flow;

pub use ask::{Answer, Ask};
pub use cluster::Cluster;
pub use flow::{Flow, SENT_MIN, clusters, pods, service, status};

/// For everything that should happen soon.
pub const WITHIN: Duration = Duration::from_secs(30);
/// If this variable is set, the folders of tests stay, with the logs of all processes.
const KEEP: &str = "ROADSTEAD_E2E_KEEP";
/// Names parts of an edge that it is to do without, for control runs.
pub const UNSAFE_OFF: &str = "ROADSTEAD_UNSAFE_OFF";
/// The smallest policy; a test may add to it.
pub const POLICY: &str = "
pools: {public: {kind: edge, addresses: [203.0.113.10], default: true}}
classes: {roadstead: {pool: public}}
";

/// What to start.
pub struct Plan {
    /// Names of the clusters, which have no application yet. Each has one agent.
    pub clusters: Vec<String>,
    pub edges: Vec<EdgeOptions>,
    pub controllers: usize,
    pub controller_args: Vec<String>,
    pub policy: String,
}

/// Clusters, and the system in front of them. Controllers have numbers from 1, edges indices from 0.
pub struct Site {
    pub clusters: Vec<Cluster>,
    pub system: Roadstead,
    pub folder: TempDir,
}

impl Plan {
    /// One controller. All agents begin at the first, the edges `e1`, `e2` … one at each.
    pub fn new(clusters: &[&str], edges: usize) -> Self {
        Self {
            clusters: clusters.iter().map(|name| (*name).to_owned()).collect(),
            edges: (1..=edges).map(edge_options).collect(),
            controllers: 1,
            controller_args: Vec::new(),
            policy: POLICY.to_owned(),
        }
    }

    /// The same with two controllers.
    #[must_use]
    pub fn two_controllers(self) -> Self {
        Self { controllers: 2, ..self }
    }

    /// The same with HTTPS at every edge.
    #[must_use]
    pub fn https(self) -> Self {
        Self { edges: self.edges.into_iter().map(EdgeOptions::with_https).collect(), ..self }
    }

    /// The same with this added to the policy.
    #[must_use]
    pub fn policy(self, more: &str) -> Self {
        Self { policy: format!("{POLICY}{more}\n"), ..self }
    }

    /// The same with one more edge that knows only these controllers.
    #[must_use]
    pub fn edge_at(mut self, controllers: &[usize]) -> Self {
        let mut edge = edge_options(self.edges.len() + 1);
        edge.controllers = controllers.to_vec();
        self.edges.push(edge);
        self
    }

    /// The same with one more edge that does without these parts of itself.
    #[must_use]
    pub fn edge_without(mut self, parts: &str) -> Self {
        let mut edge = edge_options(self.edges.len() + 1);
        edge.env.push((UNSAFE_OFF.to_owned(), parts.to_owned()));
        self.edges.push(edge);
        self
    }

    /// Starts it; everything is ready then.
    ///
    /// # Errors
    /// Says what did not start.
    pub async fn start(self) -> anyhow::Result<Site> {
        let is_kept = std::env::var_os(KEEP).is_some();
        let folder = tempfile::Builder::new().prefix("roadstead-e2e-").disable_cleanup(is_kept).tempdir()?;
        let mut options = RoadsteadOptions::new(crate::binaries()?, folder.path(), self.policy);
        (options.edges, options.controllers) = (self.edges, self.controllers);
        options.controller_args = self.controller_args;
        let mut clusters = Vec::new();
        for (network, name) in (1..).zip(&self.clusters) {
            let cluster = Cluster::start(name, network).await?;
            let kubeconfig = folder.path().join(format!("{name}.kubeconfig"));
            cluster.write_kubeconfig(&kubeconfig)?;
            options.agents.push(AgentOptions::new(name, kubeconfig));
            clusters.push(cluster);
        }
        let mut system = Roadstead::start(options).await?;
        system.wait_ready(WITHIN).await?;
        Ok(Site { clusters, system, folder })
    }
}

impl Site {
    /// Clusters of these names without any application, and `edges` edges; everything ready.
    ///
    /// # Errors
    /// Says what did not start.
    pub async fn start(names: &[&str], edges: usize) -> anyhow::Result<Self> {
        Plan::new(names, edges).start().await
    }

    /// # Panics
    /// If there is none of that name.
    pub fn cluster(&mut self, name: &str) -> &mut Cluster {
        self.clusters.iter_mut().find(|cluster| cluster.name == name).expect("a cluster of this site")
    }

    /// The kubeconfig that the agents of a cluster use.
    pub fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.folder.path().join(format!("{cluster}.kubeconfig"))
    }

    /// Where an edge takes requests.
    ///
    /// # Panics
    /// If there are not so many edges.
    pub fn edge(&mut self, index: usize) -> SocketAddr {
        self.system.edge(index).http().expect("an edge takes requests")
    }

    /// Where an edge takes HTTPS requests.
    ///
    /// # Panics
    /// If there are not so many edges, or the plan had no HTTPS.
    pub fn secure_edge(&mut self, index: usize) -> SocketAddr {
        self.system.edge(index).https().expect("an edge takes HTTPS requests")
    }

    /// Ends an edge and starts it again without these parts of itself, until it takes requests.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart_edge_without(&mut self, index: usize, parts: &str) -> anyhow::Result<()> {
        let edge = self.system.edge(index);
        edge.set_env(UNSAFE_OFF, parts);
        edge.restart().await?;
        crate::until(WITHIN, "the edge lives", async || edge.get("/livez").await.is_ok()).await
    }

    /// Waits until a host is served by exactly these clusters, as seen by every edge.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn served_by(&mut self, host: &str, wanted: &[&str]) -> anyhow::Result<()> {
        for index in 0..self.system.edges().len() {
            self.served_at(index, host, wanted).await?;
        }
        Ok(())
    }

    /// As [`Self::served_by`], as seen by one edge.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn served_at(&mut self, index: usize, host: &str, wanted: &[&str]) -> anyhow::Result<()> {
        let edge = self.edge(index);
        let what = format!("edge {} serves {host} from {wanted:?}", index + 1);
        crate::until(WITHIN, &what, async || clusters(edge, host).await.iter().eq(wanted)).await
    }

    /// Waits until a host is served by exactly these pods, `CLUSTER/POD`, as seen by one edge.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn pods_at(&mut self, index: usize, host: &str, wanted: &[&str]) -> anyhow::Result<()> {
        let edge = self.edge(index);
        let what = format!("edge {} serves {host} from {wanted:?}", index + 1);
        crate::until(WITHIN, &what, async || pods(edge, host).await.iter().eq(wanted)).await
    }

    /// Waits until one request for a host is answered with this status, as seen by every edge.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn answers(&mut self, host: &str, wanted: u16) -> anyhow::Result<()> {
        for index in 0..self.system.edges().len() {
            self.answers_at(index, host, wanted).await?;
        }
        Ok(())
    }

    /// As [`Self::answers`], as seen by one edge.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn answers_at(&mut self, index: usize, host: &str, wanted: u16) -> anyhow::Result<()> {
        let edge = self.edge(index);
        let what = format!("edge {} answers {wanted} for {host}", index + 1);
        crate::until(WITHIN, &what, async || status(edge, host).await == wanted).await
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
        self.cluster_has(cluster, "state", state).await
    }

    /// Waits until a field of a cluster's entry of `/status` has this value.
    ///
    /// # Errors
    /// If it has not in time.
    pub async fn cluster_has(&self, cluster: &str, field: &str, wanted: &str) -> anyhow::Result<()> {
        let what = format!("{field} of {cluster} is {wanted}");
        crate::until(WITHIN, &what, async || self.status_of(cluster).await[field] == wanted).await
    }

    /// Waits until what a cluster's agent reports now is accepted. The test must have changed something since `seq`.
    ///
    /// # Errors
    /// If nothing is accepted in time.
    pub async fn accepts_beyond(&self, cluster: &str, seq: u64) -> anyhow::Result<()> {
        let seq_now = async || self.status_of(cluster).await["seq"].as_u64().unwrap_or_default();
        crate::until(WITHIN, &format!("more of {cluster} is accepted"), async || seq_now().await > seq).await
    }

    /// Waits until everything that was accepted of a cluster is stored.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn is_durable(&self, cluster: &str) -> anyhow::Result<()> {
        crate::until(WITHIN, "everything accepted is durable", async || {
            let status = self.status_of(cluster).await;
            status["seq"].is_u64() && status["seq"] == status["durable_seq"]
        })
        .await
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

    /// What `roadstead` prints, asked of a controller.
    ///
    /// # Errors
    /// If it refuses: what it says.
    pub async fn cli(&self, number: usize, args: &[&str]) -> anyhow::Result<String> {
        let output = self.system.cli_at(number, args).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "roadstead {args:?}: {stderr}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same with `--json`.
    ///
    /// # Errors
    /// If it refuses: what it says.
    pub async fn ask(&self, number: usize, args: &[&str]) -> anyhow::Result<Value> {
        let answer = self.cli(number, &[args, &["--json"][..]].concat()).await?;
        serde_json::from_str(&answer).with_context(|| format!("read what roadstead {args:?} prints"))
    }

    /// What `roadstead` says when a controller refuses something.
    ///
    /// # Errors
    /// If it does not end with exit code 1.
    pub async fn refusal(&self, number: usize, args: &[&str]) -> anyhow::Result<String> {
        let output = self.system.cli_at(number, args).await?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.code() == Some(1), "roadstead {args:?}: {:?}: {stderr}", output.status);
        Ok(stderr)
    }

    /// The list of this name that `roadstead NAME --json` prints; empty if it cannot be asked.
    pub async fn list(&self, number: usize, name: &str) -> Vec<Value> {
        let answer = self.ask(number, &[name]).await.unwrap_or_default();
        answer[name].as_array().cloned().unwrap_or_default()
    }

    /// Waits until a controller has an alert of this code, and gives its message.
    ///
    /// # Errors
    /// If it has none in time.
    pub async fn alert(&self, number: usize, code: &str) -> anyhow::Result<String> {
        let mut message = String::new();
        crate::until(WITHIN, &format!("controller {number} alerts {code}"), async || {
            let alerts = self.list(number, "alerts").await;
            let found = alerts.iter().find(|alert| alert["code"] == code);
            message = found.and_then(|alert| alert["message"].as_str()).unwrap_or_default().to_owned();
            found.is_some()
        })
        .await?;
        Ok(message)
    }

    /// Waits until a controller has no alert.
    ///
    /// # Errors
    /// If it still has one after a while.
    pub async fn no_alert(&self, number: usize) -> anyhow::Result<()> {
        let is_calm = async || match self.ask(number, &["alerts"]).await {
            Ok(answer) => answer["alerts"].as_array().is_some_and(Vec::is_empty),
            Err(_) => false,
        };
        let calmed = crate::until(WITHIN, &format!("controller {number} has no alert"), is_calm).await;
        let left: Vec<Value> = self.list(number, "alerts").await;
        calmed.with_context(|| format!("alerts: {left:?}"))
    }

    /// Waits for a Hold of this host at a controller.
    ///
    /// # Errors
    /// If there is none in time.
    pub async fn hold_of(&self, number: usize, host: &str) -> anyhow::Result<Value> {
        let mut held = Value::Null;
        crate::until(WITHIN, &format!("controller {number} holds {host}"), async || {
            let holds = self.list(number, "holds").await;
            let names = |hold: &Value| hold["hosts"].as_array().is_some_and(|hosts| hosts.iter().any(|it| it == host));
            held = holds.into_iter().find(names).unwrap_or_default();
            !held.is_null()
        })
        .await?;
        Ok(held)
    }

    /// Waits for one Hold of this host at two controllers, and gives its id.
    ///
    /// # Errors
    /// If they do not agree in time.
    pub async fn common_hold_of(&self, host: &str) -> anyhow::Result<String> {
        let mut ids = [String::new(), String::new()];
        let agree = async || {
            for (number, id) in (1..).zip(&mut ids) {
                let hold = self.hold_of(number, host).await.unwrap_or_default();
                *id = hold["id"].as_str().unwrap_or_default().to_owned();
            }
            ids[0] == ids[1] && !ids[0].is_empty()
        };
        crate::until(WITHIN, "both controllers have the same Hold", agree).await?;
        Ok(ids[0].clone())
    }

    /// Waits until a controller says that an edge is in step with `replica`, the number of a controller.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn edge_is_at(&self, number: usize, edge: &str, replica: usize) -> anyhow::Result<()> {
        crate::until(WITHIN, &format!("edge {edge} is at controller {replica}"), async || {
            let edges = self.list(number, "edges").await;
            edges.iter().any(|it| it["id"] == edge && it["synced"] == true && is_replica(it, replica))
        })
        .await
    }

    /// Waits until a controller says that the cluster's agent is connected to `replica` and has reported everything.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn agent_is_at(&self, number: usize, cluster: &str, replica: usize) -> anyhow::Result<()> {
        crate::until(WITHIN, &format!("the agent of {cluster} is at controller {replica}"), async || {
            let clusters = self.list(number, "clusters").await;
            clusters.iter().any(|it| it["id"] == cluster && it["settled"] == true && is_replica(it, replica))
        })
        .await
    }

    /// Waits until both controllers report to each other.
    ///
    /// # Errors
    /// If they do not in time.
    pub async fn controllers_are_peers(&self) -> anyhow::Result<()> {
        for number in [1, 2] {
            let reports = async || self.list(number, "replicas").await.iter().any(|it| it["reports_to"] == true);
            crate::until(WITHIN, &format!("controller {number} reports to the other one"), reports).await?;
        }
        Ok(())
    }

    /// The sum of a counter over all its labels in a controller's `/metrics`.
    ///
    /// # Errors
    /// If the controller does not answer.
    ///
    /// # Panics
    /// If there are not so many controllers.
    pub async fn controller_counter(&mut self, number: usize, name: &str) -> anyhow::Result<f64> {
        let text = self.system.controllers()[number - 1].metrics().await?;
        let lines = text.lines().filter(|line| line.starts_with(name));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

fn edge_options(number: usize) -> EdgeOptions {
    EdgeOptions::new(&format!("e{number}"), "public")
}

/// Whether an edge's or cluster's entry names the controller of this number.
fn is_replica(entry: &Value, number: usize) -> bool {
    entry["replica"].as_str().is_some_and(|replica| replica.starts_with(&format!("c{number}.")))
}
