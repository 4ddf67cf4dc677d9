//! The connection to a controller: gRPC over mutual TLS, and the loop that drives the [`Machine`].
//!
//! One task owns the machine; one task at a time owns a connection and only carries messages. Everything the machine
//! says is done here: dialling, sending, and handing Updates to the journal.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Uri;
use roadstead_proto::tls::TlsMaterial;
use roadstead_proto::wire;
use roadstead_proto::wire::edge_config_client::EdgeConfigClient;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;
use roadstead_runtime::ready::Readiness;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::machine::{Counts, Input, Machine, Output};
use super::{CONNECT_TIMEOUT, HEALTH_EVERY};
use crate::health::Clock;
use crate::last_good::writer::LastGood;
use crate::observe::status::{SharedStatus, Status};
use crate::observe::{ClusterLabel, Metrics};

/// Messages to a controller that may wait. One that reads so slowly is left.
const OUTBOX_MAX: usize = 4_096;
/// Messages of a controller that may wait; beyond, it has to.
const INBOX_MAX: usize = 16;
/// Controllers that may be named.
pub const CONTROLLERS_MAX: usize = 64;
/// Between two reports while things change.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// How often the last good table is marked as current while it does not change. Far below the guard's window.
const CURRENT_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    #[error("--controller {0}: expected https://HOST:PORT")]
    Url(String),
    #[error("--controller: more than {CONTROLLERS_MAX}")]
    TooMany,
    #[error("--tls-cert, --tls-key and --tls-ca do not fit together")]
    Tls(#[source] tonic::transport::Error),
}

/// The controllers of this edge, in the order in which they are tried.
#[derive(Clone)]
pub struct Controllers(Vec<Endpoint>);

impl Controllers {
    /// `name` is what to expect in a controller's certificate where it is not the host of its address.
    ///
    /// # Errors
    /// If an address is no `https` URL, or the certificates do not fit together.
    pub fn new(urls: &[String], name: Option<&str>, tls: &TlsMaterial) -> Result<Self, ControllerError> {
        if urls.len() > CONTROLLERS_MAX {
            return Err(ControllerError::TooMany);
        }
        urls.iter().map(|url| endpoint(url, name, tls)).collect::<Result<_, _>>().map(Self)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

fn endpoint(url: &str, name: Option<&str>, tls: &TlsMaterial) -> Result<Endpoint, ControllerError> {
    let uri: Uri = url.parse().map_err(|_| ControllerError::Url(url.to_owned()))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none() {
        return Err(ControllerError::Url(url.to_owned()));
    }
    let endpoint = Channel::builder(uri).tls_config(tls.client_of(name)).map_err(ControllerError::Tls)?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true))
}

/// What this task looks after and who it talks to.
pub struct Following {
    pub machine: Machine,
    pub controllers: Controllers,
    pub last_good: LastGood,
    /// The one by which requests judge endpoints.
    pub clock: Clock,
    pub reports: Reports,
}

/// Where this task tells how it is going.
#[derive(Clone)]
pub struct Reports {
    pub readiness: Readiness,
    pub status: SharedStatus,
    pub metrics: Arc<Metrics>,
    /// Pool and edge id, for the status page.
    pub pool: String,
    pub edge: String,
}

/// Follows the controllers until `stop`, then writes the last good table a last time.
pub async fn follow(following: Following, stop: CancellationToken) {
    let (events, inbox) = mpsc::channel(INBOX_MAX);
    let Following { machine, controllers, last_good, clock, reports } = following;
    let mut follower = Follower {
        machine,
        controllers,
        last_good,
        clock,
        reporter: Reporter { reports, changed_at: None, counts: Counts::default() },
        started: Instant::now(),
        marked_current: None,
        events,
        link: None,
        links: 0,
    };
    follower.run(inbox, &stop).await;
    let Follower { machine, last_good, link, .. } = follower;
    drop(link);
    let closing = tokio::task::spawn_blocking(move || last_good.close(machine.holdings().snapshot()));
    if closing.await.is_err() {
        tracing::error!("Writing the last good table panicked");
    }
}

struct Follower {
    machine: Machine,
    controllers: Controllers,
    last_good: LastGood,
    clock: Clock,
    reporter: Reporter,
    started: Instant,
    /// When the last good table was last marked as current.
    marked_current: Option<Instant>,
    events: mpsc::Sender<Event>,
    link: Option<Link>,
    links: u64,
}

/// What a connection's task has to say; `link` tells connections apart, since one that was given up may still speak.
struct Event {
    link: u64,
    input: Input,
}

/// The connection in use. Ends when dropped.
struct Link {
    number: u64,
    outbox: mpsc::Sender<wire::EdgeMessage>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Event>, stop: &CancellationToken) {
        self.reporter.report(&self.machine, self.last_good.keeps_certificates());
        let mut pulse = tokio::time::interval(HEALTH_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake_at = self.machine.wake_at().map(|at| self.started + at);
            let report_at = self.reporter.due_at();
            let input = tokio::select! {
                Some(event) = inbox.recv() => {
                    if self.link.as_ref().is_none_or(|link| link.number != event.link) {
                        continue;
                    }
                    event.input
                }
                () = sleep_until(wake_at) => Input::Tick,
                () = sleep_until(report_at) => {
                    self.reporter.report(&self.machine, self.last_good.keeps_certificates());
                    continue;
                }
                _ = pulse.tick() => {
                    self.pulse();
                    continue;
                }
                () = stop.cancelled() => return,
            };
            self.step(input);
            if self.last_good.wants_snapshot() {
                self.last_good.rewrite(self.machine.holdings().snapshot());
            }
            self.reporter.changed();
        }
    }

    /// Once a second.
    fn pulse(&mut self) {
        if self.machine.is_connected() {
            self.step(Input::Health(self.machine.holdings().failing(self.clock.now())));
        }
        let is_due = self.marked_current.is_none_or(|at| at.elapsed() >= CURRENT_EVERY);
        if is_due && self.machine.holdings().is_in_step() {
            self.last_good.mark_current();
            self.marked_current = Some(Instant::now());
        }
    }

    fn step(&mut self, input: Input) {
        let is_loss = matches!(input, Input::Lost(_));
        for output in self.machine.handle(input, self.started.elapsed()) {
            match output {
                Output::Dial { controller, hello } => self.dial(controller, *hello),
                Output::Send(message) => self.send(message),
                Output::HangUp => self.link = None,
                Output::Journal(update) => self.last_good.append(update),
            }
        }
        if is_loss {
            self.link = None;
        }
    }

    fn dial(&mut self, controller: usize, hello: wire::EdgeMessage) {
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        outbox.try_send(hello).expect("a new outbox must have room");
        self.links += 1;
        let (number, events) = (self.links, self.events.clone());
        let endpoint = self.controllers.0[controller].clone();
        let task = tokio::spawn(async move {
            let reason = converse(number, &endpoint, messages, &events).await;
            let reason = format!("{}: {reason}", endpoint.uri());
            // The follower has ended if this fails.
            drop(events.send(Event { link: number, input: Input::Lost(reason) }).await);
        });
        self.link = Some(Link { number, outbox, task: task.abort_handle() });
    }

    fn send(&mut self, message: wire::EdgeMessage) {
        let Some(link) = &self.link else { return };
        if link.outbox.try_send(message).is_err() {
            let outputs = self
                .machine
                .handle(Input::Lost("the controller does not read what it is sent".to_owned()), self.started.elapsed());
            assert!(outputs.is_empty(), "a lost connection must ask for nothing before its wait is over");
            self.link = None;
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Carries messages until the connection ends; returns why it did.
async fn converse(
    link: u64,
    endpoint: &Endpoint,
    outbox: mpsc::Receiver<wire::EdgeMessage>,
    events: &mpsc::Sender<Event>,
) -> String {
    let opening = tokio::time::timeout(CONNECT_TIMEOUT, async {
        let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
        let mut client = EdgeConfigClient::new(channel).max_decoding_message_size(2 * MESSAGE_BYTES_MAX);
        client.subscribe(ReceiverStream::new(outbox)).await.map_err(|status| explain(&status))
    });
    let mut messages = match opening.await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(reason)) => return reason,
        Err(_) => return format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
    };
    let mut input = Input::Connected;
    loop {
        if events.send(Event { link, input }).await.is_err() {
            return "the edge is stopping".to_owned();
        }
        input = match messages.message().await {
            Ok(Some(message)) => Input::Received(message),
            Ok(None) => return "the controller ended the stream".to_owned(),
            Err(status) => return explain(&status),
        };
    }
}

fn explain(status: &tonic::Status) -> String {
    let text = format!("{:?}: {}", status.code(), status.message());
    std::error::Error::source(status).map_or(text.clone(), |source| format!("{text}: {}", chain(source)))
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Turns the machine's state into readiness, the status page and metrics. Not after every message: the status page
/// alone would cost more than applying a small Update.
struct Reporter {
    reports: Reports,
    /// Since when something is unreported.
    changed_at: Option<Instant>,
    counts: Counts,
}

impl Reporter {
    fn changed(&mut self) {
        self.changed_at.get_or_insert_with(Instant::now);
    }

    /// When the next report is due, if anything changed.
    fn due_at(&self) -> Option<Instant> {
        self.changed_at.map(|since| since + REPORT_EVERY)
    }

    fn report(&mut self, machine: &Machine, certificates_kept: bool) {
        self.changed_at = None;
        self.report_readiness(machine);
        self.report_metrics(machine);
        let holdings = machine.holdings();
        self.reports.status.set(Status {
            pool: self.reports.pool.clone(),
            edge: self.reports.edge.clone(),
            complete: holdings.is_complete(),
            connected: machine.is_connected(),
            synced: machine.is_synced(),
            problem: machine.problem().map(str::to_owned),
            world: holdings.world().map(ToString::to_string),
            positions: holdings.positions().clusters().map(|(id, at)| (id.to_owned(), at.to_string())).collect(),
            policy_rev: holdings.positions().policy_rev(),
            hosts: holdings.hosts(),
            backends: holdings.backends(),
            certificates: holdings.certificates(),
            certificates_kept,
            refused: holdings.refused().map(|(key, reason)| (key, reason.to_owned())).collect(),
        });
    }

    fn report_readiness(&self, machine: &Machine) {
        let state = if machine.holdings().is_complete() {
            Ok(())
        } else {
            let why = machine.problem().unwrap_or("waiting for a controller's first table");
            Err(format!("no table yet, neither from disk nor from a controller: {why}"))
        };
        self.reports.readiness.set("table", state);
    }

    fn report_metrics(&mut self, machine: &Machine) {
        let (metrics, holdings) = (&self.reports.metrics, machine.holdings());
        let (before, now) = (std::mem::replace(&mut self.counts, machine.counts()), machine.counts());
        metrics.updates_applied.inc_by(now.updates_applied - before.updates_applied);
        metrics.updates_rejected.inc_by(now.updates_rejected - before.updates_rejected);
        metrics.resources_applied.inc_by(now.resources_applied - before.resources_applied);
        metrics.resources_refused.inc_by(now.resources_refused - before.resources_refused);
        metrics.resources_guarded.inc_by(now.resources_guarded - before.resources_guarded);
        metrics.controller_reconnects.inc_by(now.dials - before.dials);
        metrics.controller_connected.set(i64::from(machine.is_connected()));
        metrics.table_hosts.set(gauge(holdings.hosts() as u64));
        metrics.table_backends.set(gauge(holdings.backends() as u64));
        if now.updates_applied != before.updates_applied {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            metrics.last_update_timestamp_seconds.set(gauge(since_epoch.as_secs()));
        }
        for (cluster, position) in holdings.positions().clusters() {
            let label = ClusterLabel { cluster: cluster.to_owned() };
            metrics.position_epoch.get_or_create(&label).set(gauge(position.epoch));
            metrics.position_seq.get_or_create(&label).set(gauge(position.seq));
        }
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
