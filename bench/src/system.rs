//! Everything that runs during a measurement, real and synthetic, and the first synchronisation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use roadstead_proto::tls::TlsFiles;
use roadstead_routing::id::ClusterId;
use roadstead_routing::object::Object;
use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};
use roadstead_testkit::stack::ports;
use roadstead_testkit::stack::roadstead::{AgentOptions, EdgeOptions, Roadstead, RoadsteadOptions, beside_current_exe};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::applied::{self, EDGE_LOG_FLAGS, Followers};
use crate::args::Propagation;
use crate::clock::Clock;
use crate::cluster::{self, Link};
use crate::manifest;
use crate::schedule::{Bench, Sink, Source};
use crate::tracker::{Change, Series, Tracker};
use crate::usage::{self, Usage};
use crate::world::{Addresses, CLASS, Shape, World};

const POOL: &str = "public";
const REAL_CLUSTER: &str = "real-agent";
/// Endpoints of each host of the cluster with a real agent.
const REAL_ENDPOINTS_PER_HOST: usize = 5;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Changes that may wait for one stream: far more than a healthy one ever lets wait.
const CHANGES_QUEUED_MAX: usize = 4_096;
/// The first synchronisation is over when the edges have applied nothing for so long.
const QUIET: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);
/// When a run fails: lines of each log, and keys that are waited for.
const LOG_LINES: usize = 20;
const MISSING_SHOWN: usize = 5;

pub struct System {
    pub bench: Arc<Bench>,
    pub synthetic: Arc<Source>,
    pub real: Arc<Source>,
    roadstead: Roadstead,
    followers: Followers,
    streams: JoinSet<anyhow::Result<()>>,
    /// Taken by [`Self::load`]: what each stream needs to start.
    pending: Vec<Pending>,
    /// Removes the working folder at the end, unless it is to be kept.
    _folder: Option<tempfile::TempDir>,
}

/// A synthetic cluster whose stream is not open yet.
struct Pending {
    link: Link,
    changes: mpsc::Receiver<Object>,
}

impl System {
    /// Starts all processes and waits until the controller and the edges are ready. The synthetic clusters do not dial
    /// before [`Self::load`]; the real agent does, as agents do.
    ///
    /// # Errors
    /// Names the process that did not start.
    pub async fn start(args: &Propagation) -> anyhow::Result<Self> {
        let (folder, path) = folder(args)?;
        let [port] = ports::free(1)[..] else { unreachable!("one port was asked for") };
        let mut addresses = Addresses::default();
        let synthetic = World::new(synthetic_shape(args, port), &mut addresses);
        let real = World::new(real_shape(args, port), &mut addresses);
        let api = start_api(&real).await?;
        let kubeconfig = path.join("kubeconfig.yaml");
        api.write_kubeconfig(&kubeconfig).context("write the kubeconfig")?;

        let mut roadstead = Roadstead::start(options(args, path, kubeconfig)?).await?;
        roadstead.wait_ready(READY_WITHIN).await?;
        expect_route_changes(&roadstead).await?;
        let mut tracker = Tracker::new(args.edges);
        // Before the logs are followed: the real agent's objects may be applied already.
        expect_everything(&mut tracker, [&synthetic, &real]);
        let tracker = Arc::new(Mutex::new(tracker));
        let logs: Vec<PathBuf> = roadstead.edges().iter().map(|edge| edge.log().to_owned()).collect();
        let followers =
            Followers::start(logs.iter().map(PathBuf::as_path), &tracker).context("follow the edges' logs")?;
        let (senders, pending) = links(&mut roadstead, synthetic.clusters()).await?;
        let edges = roadstead.edges().iter().map(|edge| edge.http().context("an edge must take requests"));
        let bench = Bench {
            clock: Clock::new(),
            tracker,
            addresses: Mutex::new(addresses),
            edges: edges.collect::<anyhow::Result<_>>()?,
            port,
            confirmed: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
        };
        Ok(Self {
            bench: Arc::new(bench),
            synthetic: Arc::new(Source { world: Mutex::new(synthetic), sink: Sink::Streams(senders) }),
            real: Arc::new(Source { world: Mutex::new(real), sink: Sink::Api(Arc::new(api)) }),
            roadstead,
            followers,
            streams: JoinSet::new(),
            pending,
            _folder: folder,
        })
    }

    /// Opens the streams of all synthetic clusters and waits until the controller has everything durable and every edge
    /// has applied every host and every backend. Returns how long that took.
    ///
    /// # Errors
    /// If a stream breaks.
    pub async fn load(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut synced = JoinSet::new();
        for (index, pending) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let objects = self.synthetic.world().objects(index);
            let (on_synced, is_synced) = oneshot::channel();
            self.streams.spawn(cluster::run(pending.link, objects, pending.changes, on_synced));
            synced.spawn(is_synced);
        }
        let mut poll = tokio::time::interval(POLL);
        let mut quiet = (self.followers.seen(), Instant::now());
        loop {
            tokio::select! {
                _ = synced.join_next(), if !synced.is_empty() => {}
                broken = self.stream_ended() => return Err(broken.context("load the clusters")),
                _ = poll.tick() => {
                    if quiet.0 != self.followers.seen() {
                        quiet = (self.followers.seen(), Instant::now());
                    }
                    let complete = synced.is_empty() && self.bench.tracker().waiting() == 0;
                    if complete && quiet.1.elapsed() >= QUIET {
                        return Ok(quiet.1.duration_since(start));
                    }
                }
            }
        }
    }

    /// Returns only when a synthetic cluster's stream has ended, which it never does by itself.
    pub async fn stream_ended(&mut self) -> anyhow::Error {
        match self.streams.join_next().await {
            Some(Ok(Ok(()))) => anyhow!("its changes ended"),
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => anyhow::Error::new(error).context("run a stream"),
            None => std::future::pending().await,
        }
    }

    /// By process; Postgres is all of its processes together.
    pub fn usage(&mut self) -> BTreeMap<String, Usage> {
        let mut usage = BTreeMap::from([("bench".to_owned(), usage::of_process(std::process::id()))]);
        for member in self.roadstead.members() {
            usage.insert(member.name().to_owned(), member.pid().map(usage::of_process).unwrap_or_default());
        }
        let postgres = self.roadstead.postgres().pid().map(usage::of_tree);
        usage.insert("postgres".to_owned(), postgres.unwrap_or_default());
        usage
    }

    /// For a run that failed: what is still waited for, and how each log ends.
    pub fn problems(&mut self) -> String {
        let mut text = String::new();
        for (key, edges) in self.bench.tracker().missing(MISSING_SHOWN) {
            text += &format!("not applied: {key} by edges {edges:?}\n");
        }
        for member in self.roadstead.members() {
            let log = member.log_tail(LOG_LINES);
            let lines = log.lines().filter(|line| !applied::is_about_applied(line));
            text += &format!("── {}\n{}\n", member.name(), lines.collect::<Vec<_>>().join("\n"));
        }
        text
    }

    pub async fn stop(mut self) {
        self.streams.shutdown().await;
        drop(self.followers);
        self.roadstead.stop().await;
    }
}

/// Has the tracker wait until every edge has every host and every backend of the worlds.
fn expect_everything(tracker: &mut Tracker, worlds: [&World; 2]) {
    for world in worlds {
        let hosts = (0..world.hosts()).map(|host| world.host_key(host));
        for key in hosts.chain((0..world.services()).map(|service| world.backend_key(service))) {
            tracker.begin(Change { key, series: Series::Load, scheduled_nanos: 0, done: None });
        }
    }
}

fn folder(args: &Propagation) -> anyhow::Result<(Option<tempfile::TempDir>, PathBuf)> {
    if let Some(path) = &args.keep {
        std::fs::create_dir_all(path).with_context(|| format!("--keep {}", path.display()))?;
        return Ok((None, path.clone()));
    }
    let folder = tempfile::Builder::new().prefix("roadstead-bench-").tempdir().context("create a working folder")?;
    let path = folder.path().to_owned();
    Ok((Some(folder), path))
}

fn options(args: &Propagation, folder: PathBuf, kubeconfig: PathBuf) -> anyhow::Result<RoadsteadOptions> {
    let mut options = RoadsteadOptions::new(beside_current_exe()?, folder, policy());
    options.controller_args = ["--log", "warn"].map(str::to_owned).to_vec();
    options.edges = (1..=args.edges)
        .map(|number| {
            let mut edge = EdgeOptions::new(&format!("e{number}"), POOL);
            edge.args = EDGE_LOG_FLAGS.map(str::to_owned).to_vec();
            edge
        })
        .collect();
    let mut agent = AgentOptions::new(REAL_CLUSTER, kubeconfig);
    agent.args = ["--log", "warn"].map(str::to_owned).to_vec();
    options.agents = vec![agent];
    Ok(options)
}

fn policy() -> String {
    format!(
        "pools:\n  {POOL}:\n    kind: edge\n    addresses: [192.0.2.1]\n    default: true\n\
         classes:\n  {CLASS}:\n    pool: {POOL}\n"
    )
}

fn synthetic_shape(args: &Propagation, port: u16) -> Shape {
    Shape {
        clusters: (1..=args.clusters).map(|number| ClusterId::new(format!("c{number:04}"))).collect(),
        hosts: args.hosts,
        endpoints: args.endpoints,
        domain: "bench.test".to_owned(),
        port,
    }
}

fn real_shape(args: &Propagation, port: u16) -> Shape {
    Shape {
        clusters: vec![REAL_CLUSTER.into()],
        hosts: args.agent_hosts,
        endpoints: args.agent_hosts * REAL_ENDPOINTS_PER_HOST,
        domain: "agent.test".to_owned(),
        port,
    }
}

/// Every Ingress change takes a route away and adds another. In a cluster of few hosts, which nobody else serves, that is
/// a mass change, and the guard would hold it: it is announced, as an operator would.
async fn expect_route_changes(roadstead: &Roadstead) -> anyhow::Result<()> {
    let command = ["expect-removal", "--cluster", REAL_CLUSTER, "--for", "1h", "--reason", "benchmark"];
    let output = roadstead.cli(&command).await.context("announce the changes")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "announce the changes: {}", said.trim());
    Ok(())
}

async fn start_api(world: &World) -> anyhow::Result<ApiServer> {
    let api = ApiServer::start(ApiServerOptions::new(REAL_CLUSTER)).await.context("start the Kubernetes API")?;
    for object in world.objects(0) {
        api.apply(manifest::of(&object)).map_err(|failure| anyhow!("fill the Kubernetes API: {failure:?}"))?;
    }
    Ok(api)
}

/// Certificates for all synthetic clusters, and the channels on which their streams will take changes.
async fn links(
    roadstead: &mut Roadstead,
    clusters: &[ClusterId],
) -> anyhow::Result<(Vec<mpsc::Sender<Object>>, Vec<Pending>)> {
    let controller = roadstead.controller().grpc().context("the controller must take streams")?;
    let (mut senders, mut pending) = (Vec::new(), Vec::new());
    for cluster in clusters {
        let issued = roadstead.issue(&format!("cluster/{cluster}")).await?;
        let files = TlsFiles { certificate: issued.certificate, key: issued.key, authority: issued.authority };
        let link =
            Link { cluster: cluster.clone(), controller: format!("https://{controller}"), tls: files.load()?.client() };
        let (sender, changes) = mpsc::channel(CHANGES_QUEUED_MAX);
        senders.push(sender);
        pending.push(Pending { link, changes });
    }
    Ok((senders, pending))
}
