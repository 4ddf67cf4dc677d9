//! Wiring: flags → clients → tasks, and the loop that drives the core. Any task that ends, ends the process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use kube::Client;
use prometheus_client::registry::Registry;
use roadstead_proto::identity::Identity;
use roadstead_proto::tls::TlsFiles;
use roadstead_routing::id::{Kind, ObjectName};
use roadstead_runtime::ready::Readiness;
use roadstead_runtime::{log, observe, stop};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::backoff::Backoff;
use crate::cluster::{self, ClusterFacts};
use crate::complain::{self, Complaint};
use crate::core::{Core, Input, Output};
use crate::events::{self, Notice};
use crate::metrics::Metrics;
use crate::reduce::Observation;
use crate::session::Introduction;
use crate::status::{self, StatusWrite};
use crate::stream::{self, Controllers, LinkEvent};
use crate::watch::{self, WatchSettings};

/// How often the core is asked for what time brings: heartbeats, retries.
const TICK: Duration = Duration::from_millis(200);
/// Observations that may wait for the core; beyond, the watches wait.
const OBSERVATIONS_MAX: usize = 1_024;
/// Observations taken before the next poll, so that bursts coalesce.
const BATCH_MAX: usize = 256;
/// Requests to the Kubernetes API at once, of statuses and of Events each.
const WRITES_AT_ONCE: usize = 8;
/// Status writes and Events that may wait. More than the core ever has on its way at once.
const WRITES_MAX: usize = 256;
const WRITE_MAX: Duration = Duration::from_secs(30);
const IDENTIFY_RETRY_MIN: Duration = Duration::from_millis(500);
const IDENTIFY_RETRY_MAX: Duration = Duration::from_secs(10);

/// Everything the agent's tasks need, checked.
pub struct Agent {
    pub client: Client,
    pub controllers: Controllers,
    /// The cluster's id, from the certificate.
    pub cluster: String,
    pub watch: WatchSettings,
    pub readiness: Readiness,
    pub metrics: Metrics,
}

/// Runs until a signal.
///
/// # Errors
/// If a flag, file or address cannot be used, or a task ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        controller,
        controller_name,
        tls_cert,
        tls_key,
        tls_ca,
        kubeconfig,
        context,
        observe_listen,
        log: log_args,
    } = args;
    log::init(&log_args)?;
    let stop = stop::on_signal().context("install signal handlers")?;

    let shown = tls_cert.display().to_string();
    let tls = TlsFiles { certificate: tls_cert, key: tls_key, authority: tls_ca }.load()?;
    let Identity::Cluster(cluster) = &tls.identity else {
        bail!(
            "--tls-cert {shown}: its identity is {}; an agent needs cluster/ID: roadstead-controller ca issue --identity cluster/ID",
            tls.identity
        );
    };
    let controllers = Controllers::new(&controller, controller_name.as_deref(), &tls)?;
    let client = cluster::connect(kubeconfig.as_deref(), context.as_deref()).await?;
    let listener = observe::bind("--observe-listen", observe_listen).await?;

    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::new();
    let agent = Agent {
        client,
        controllers,
        cluster: cluster.to_string(),
        watch: WatchSettings::default(),
        readiness: readiness.clone(),
        metrics,
    };
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let serving = observe::serve(listener, Arc::new(registry), readiness, axum::Router::new(), stop.clone());
    tasks.spawn(async { serving.await.map_err(anyhow::Error::from) });
    let stopping = stop.clone();
    tasks.spawn(async move { agent.run(stopping).await });
    let first = tasks.join_next().await;
    let stopped = stop.is_cancelled();
    stop.cancel();
    match first {
        Some(ended) if !stopped => ended.context("run a task")?.and_then(|()| bail!("a task ended unexpectedly")),
        _ => Ok(()),
    }
}

impl Agent {
    /// Runs until `stop` is cancelled.
    ///
    /// # Errors
    /// If one of its tasks ends.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Agent { client, controllers, cluster, watch, readiness, metrics } = self;
        readiness.set("controller", Err("not connected yet".to_owned()));
        readiness.set("lists", Err("not complete yet".to_owned()));
        let facts = tokio::select! {
            facts = identify(&client, &readiness) => facts,
            () = stop.cancelled() => return Ok(()),
        };
        tracing::info!("Agent of cluster {cluster} (Kubernetes {}, uid {})", facts.version, facts.uid);
        let introduction = introduce(&cluster, facts);

        let mut tasks = JoinSet::new();
        let (observed, observations) = mpsc::channel(OBSERVATIONS_MAX);
        for kind in Kind::ALL {
            tasks.spawn(watch::run(kind, client.clone(), watch.clone(), observed.clone()));
        }
        let (events, links) = mpsc::channel(stream::QUEUE_MAX);
        tasks.spawn(stream::run(controllers, events));
        let (status, written) = spawn_status_writer(&mut tasks, client.clone(), metrics.clone());
        let notices = spawn_event_writer(&mut tasks, client, introduction.agent.clone(), metrics.clone());

        let driver = Driver {
            core: Core::new(introduction),
            began: Instant::now(),
            heard: Instant::now(),
            link: None,
            status,
            notices,
            readiness,
            metrics,
        };
        tokio::select! {
            ended = driver.drive(observations, links, written) => ended,
            _ = tasks.join_next() => bail!("a task of the agent ended"),
            () = stop.cancelled() => Ok(()),
        }
    }
}

/// Asks the cluster who it is, for as long as it takes.
async fn identify(client: &Client, readiness: &Readiness) -> ClusterFacts {
    let mut backoff = Backoff::new(IDENTIFY_RETRY_MIN, IDENTIFY_RETRY_MAX);
    let mut complaint = Complaint::default();
    loop {
        match cluster::identify(client).await {
            Ok(facts) => {
                readiness.set("kubernetes", Ok(()));
                return facts;
            }
            Err(why) => {
                if complaint.is_new(&why) {
                    tracing::warn!("{why}. Trying again");
                }
                readiness.set("kubernetes", Err(why));
            }
        }
        backoff.wait().await;
    }
}

fn introduce(cluster: &str, facts: ClusterFacts) -> Introduction {
    Introduction {
        cluster: cluster.to_owned(),
        agent: uuid::Uuid::new_v4().to_string(),
        cluster_uid: facts.uid,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kubernetes_version: facts.version,
    }
}

/// The core and what it is connected to.
struct Driver {
    core: Core,
    began: Instant,
    /// When the Kubernetes API was last heard.
    heard: Instant,
    link: Option<(mpsc::Sender<roadstead_proto::wire::AgentMessage>, CancellationToken)>,
    status: mpsc::Sender<StatusWrite>,
    notices: mpsc::Sender<Notice>,
    readiness: Readiness,
    metrics: Metrics,
}

impl Driver {
    async fn drive(
        mut self,
        mut observations: mpsc::Receiver<(Kind, Observation)>,
        mut links: mpsc::Receiver<LinkEvent>,
        mut written: mpsc::Receiver<ObjectName>,
    ) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                observation = observations.recv() => {
                    let Some((kind, observation)) = observation else { bail!("the watches ended") };
                    self.observe(kind, observation);
                    for _ in 1..BATCH_MAX {
                        let Ok((kind, observation)) = observations.try_recv() else { break };
                        self.observe(kind, observation);
                    }
                }
                event = links.recv() => {
                    let Some(event) = event else { bail!("the link to the controller ended") };
                    self.linked(event);
                }
                ingress = written.recv() => {
                    let Some(ingress) = ingress else { bail!("the status writer ended") };
                    self.handle(Input::StatusWritten(ingress));
                }
                _ = tick.tick() => self.tell(),
            }
            for output in self.core.poll(self.began.elapsed()) {
                self.perform(output);
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(self.began.elapsed(), input);
    }

    fn observe(&mut self, kind: Kind, observation: Observation) {
        self.metrics.observed(kind, &observation);
        if !matches!(observation, Observation::Failed(_) | Observation::ListStarted) {
            self.heard = Instant::now();
        }
        self.handle(Input::Observed(kind, observation));
    }

    fn linked(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { sender, close } => {
                self.link = Some((sender, close));
                self.metrics.connections.inc();
                self.handle(Input::Connected);
            }
            // What is still queued of a stream that was given up belongs to nobody.
            LinkEvent::Message(_) if self.link.is_none() => {}
            LinkEvent::Message(message) => self.handle(Input::Received(message)),
            LinkEvent::Down => {
                self.link = None;
                self.handle(Input::Disconnected);
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send(message) => self.send(message),
            Output::Disconnect(why) => self.disconnect(&why),
            // The core counts what is on its way, so the queue has room; if not, it asks again.
            Output::WriteStatus(write) => {
                let ingress = write.ingress.clone();
                if self.status.try_send(write).is_err() {
                    self.handle(Input::StatusWritten(ingress));
                }
            }
            Output::CreateEvent(notice) => {
                if self.notices.try_send(notice).is_err() {
                    self.metrics.event_failures.inc();
                }
            }
        }
    }

    fn send(&mut self, message: roadstead_proto::wire::AgentMessage) {
        let Some((sender, _)) = &self.link else { return };
        let is_delta = matches!(message.message, Some(roadstead_proto::wire::agent_message::Message::Delta(_)));
        match sender.try_send(message) {
            Ok(()) if is_delta => drop(self.metrics.deltas_sent.inc()),
            Ok(()) => {}
            Err(_) => {
                self.disconnect("the controller does not take what we send");
                self.handle(Input::Disconnected);
            }
        }
    }

    fn disconnect(&mut self, why: &str) {
        if let Some((_, close)) = self.link.take() {
            tracing::warn!("Closing the stream: {why}");
            close.cancel();
        }
    }

    /// Tells probes and metrics how things are.
    fn tell(&self) {
        let session = self.core.session();
        // Standing by is all that a second replica can do: were it not ready, a rolling update would never end.
        let controller = if session.is_welcomed() || session.is_standing_by() {
            Ok(())
        } else if session.is_connected() {
            Err("connected, but not welcomed yet".to_owned())
        } else {
            Err("not connected".to_owned())
        };
        self.readiness.set("controller", controller);
        if self.core.reducer().settled() {
            self.readiness.set("lists", Ok(()));
        }
        self.metrics.refresh(&self.core, self.heard.elapsed());
    }
}

fn spawn_status_writer(
    tasks: &mut JoinSet<()>,
    client: Client,
    metrics: Metrics,
) -> (mpsc::Sender<StatusWrite>, mpsc::Receiver<ObjectName>) {
    let (sender, writes) = mpsc::channel::<StatusWrite>(WRITES_MAX);
    let (done, written) = mpsc::channel(WRITES_MAX);
    tasks.spawn(async move {
        let each = |write: StatusWrite| {
            let (client, done, metrics) = (client.clone(), done.clone(), metrics.clone());
            async move {
                let name = &write.ingress;
                match in_time(status::write::write(&client, &write)).await {
                    Ok(()) => drop(metrics.status_writes.inc()),
                    Err(why) => {
                        metrics.status_write_failures.inc();
                        tracing::warn!(ingress = %name, "Cannot write the status of Ingress {name}: {why}. Trying again later");
                    }
                }
                // Nobody listens only when the agent is stopping.
                let _ = done.send(write.ingress).await;
            }
        };
        ReceiverStream::new(writes).for_each_concurrent(WRITES_AT_ONCE, each).await;
    });
    (sender, written)
}

fn spawn_event_writer(
    tasks: &mut JoinSet<()>,
    client: Client,
    instance: String,
    metrics: Metrics,
) -> mpsc::Sender<Notice> {
    let (sender, notices) = mpsc::channel::<Notice>(WRITES_MAX);
    tasks.spawn(async move {
        let each = |notice: Notice| {
            let (client, instance, metrics) = (client.clone(), instance.clone(), metrics.clone());
            async move {
                let object = notice.object.clone();
                match in_time(events::write::write(&client, &instance, notice)).await {
                    Ok(()) => drop(metrics.events_created.inc()),
                    Err(why) => {
                        metrics.event_failures.inc();
                        tracing::warn!("Cannot create an Event for {object}: {why}");
                    }
                }
            }
        };
        ReceiverStream::new(notices).for_each_concurrent(WRITES_AT_ONCE, each).await;
    });
    sender
}

async fn in_time(request: impl Future<Output = Result<(), kube::Error>>) -> Result<(), String> {
    match tokio::time::timeout(WRITE_MAX, request).await {
        Err(_elapsed) => Err(format!("no answer within {WRITE_MAX:?}")),
        Ok(answer) => answer.map_err(|error| complain::chain(&error)),
    }
}
