//! The open loop: changes at fixed moments, whether or not earlier ones have arrived.
//!
//! A rate and a count → changes of a [`World`], sent through a cluster's stream or written to a Kubernetes API, and
//! registered with the [`Tracker`] under the moment for which they were *scheduled*: whatever delays the sender counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use roadstead_routing::object::Object;
use roadstead_testkit::kube_api::ApiServer;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::confirm::{self, Echo};
use crate::manifest;
use crate::tracker::{Change, Series, Tracker};
use crate::world::{Addresses, World};

/// One change in so many is confirmed by requests.
const CONFIRM_EVERY: u64 = 100;
/// How soon to look again when every key has a change under way.
const BUSY: Duration = Duration::from_millis(1);

/// Where a world's changes go.
pub enum Sink {
    /// By cluster, in the order of [`World::clusters`].
    Streams(Vec<mpsc::Sender<Object>>),
    Api(Arc<ApiServer>),
}

/// A world and the way into it.
pub struct Source {
    pub world: Mutex<World>,
    pub sink: Sink,
}

/// What all loops share.
pub struct Bench {
    pub clock: Clock,
    pub tracker: Arc<Mutex<Tracker>>,
    pub addresses: Mutex<Addresses>,
    /// Where the edges take requests, in their order.
    pub edges: Vec<SocketAddr>,
    /// The port of every endpoint.
    pub port: u16,
    pub confirmed: AtomicU64,
    pub unconfirmed: AtomicU64,
}

/// What one loop changes, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub series: Series,
    pub per_second: f64,
    pub duration: Duration,
    pub seed: u64,
}

impl Pace {
    pub fn count(&self) -> u64 {
        (self.per_second * self.duration.as_secs_f64()).ceil() as u64
    }

    /// When change number `number` is due, after the start.
    fn due(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.per_second)
    }
}

/// Makes all changes of one loop, from `start` on, and waits for the confirmations of those that are sampled.
///
/// # Errors
/// If a change cannot be sent: its cluster's stream is gone, or the API refuses it.
pub async fn run(bench: Arc<Bench>, source: Arc<Source>, pace: Pace, start: Instant) -> anyhow::Result<()> {
    let mut ring = Ring::new(keys(&source, pace.series), pace.seed);
    let mut confirmations = JoinSet::new();
    for number in 0..pace.count() {
        let at = start + pace.due(number);
        tokio::time::sleep_until(at.into()).await;
        let (index, round) = ring.next(|index| bench.is_free(&source.key(pace.series, index))).await;
        let made = source.change(&bench, pace.series, index, round);
        let echo = match made.address.filter(|_| number.is_multiple_of(CONFIRM_EVERY)) {
            Some(address) => Some(Echo::bind(address).await.with_context(|| format!("listen on {address}"))?),
            None => None,
        };
        let change = Change {
            key: made.key.clone(),
            series: pace.series,
            scheduled_nanos: bench.clock.nanos_at(at),
            done: None,
        };
        if number.is_multiple_of(CONFIRM_EVERY) {
            let (done, complete) = oneshot::channel();
            bench.tracker().begin(Change { done: Some(done), ..change });
            let edge = bench.edges[(number / CONFIRM_EVERY) as usize % bench.edges.len()];
            confirmations.spawn(confirmation(Arc::clone(&bench), made.expectation(echo), edge, complete));
        } else {
            bench.tracker().begin(change);
        }
        source.send(made.cluster, made.object).await?;
    }
    confirmations.join_all().await;
    Ok(())
}

/// A change that is made in the world but not sent yet.
struct Made {
    object: Object,
    cluster: usize,
    key: String,
    host: String,
    /// Endpoints of the host, over all clusters.
    endpoints: usize,
    /// The new endpoint, if one was replaced.
    address: Option<SocketAddr>,
    /// The new path, if one was edited.
    path: Option<String>,
}

/// What requests must show once a change is complete.
struct Expectation {
    key: String,
    host: String,
    proof: Proof,
}

enum Proof {
    Reaches { echo: Echo, endpoints: usize },
    Routes { path: String },
}

impl Made {
    fn expectation(&self, echo: Option<Echo>) -> Expectation {
        let proof = match echo {
            Some(echo) => Proof::Reaches { echo, endpoints: self.endpoints },
            None => Proof::Routes { path: self.path.clone().unwrap_or_default() },
        };
        Expectation { key: self.key.clone(), host: self.host.clone(), proof }
    }
}

async fn confirmation(bench: Arc<Bench>, expectation: Expectation, edge: SocketAddr, complete: oneshot::Receiver<()>) {
    let Expectation { key, host, proof } = expectation;
    if complete.await.is_err() {
        // Lost, and counted as that.
        return;
    }
    let holds = match proof {
        Proof::Reaches { echo, endpoints } => confirm::reaches(edge, &host, &echo, endpoints).await,
        Proof::Routes { path } => confirm::routes(edge, &host, &path).await,
    };
    let counter = if holds { &bench.confirmed } else { &bench.unconfirmed };
    counter.fetch_add(1, Ordering::Relaxed);
    bench.tracker().release(&key);
}

impl Bench {
    pub fn tracker(&self) -> std::sync::MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_free(&self, key: &str) -> bool {
        self.tracker().is_free(key)
    }
}

impl Source {
    pub fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes are chosen by service for endpoints, by host for Ingresses: that is what edges report.
    fn key(&self, series: Series, index: usize) -> String {
        if series.is_ingress() { self.world().host_key(index) } else { self.world().backend_key(index) }
    }

    fn change(&self, bench: &Bench, series: Series, index: usize, round: usize) -> Made {
        let key = self.key(series, index);
        let mut world = self.world();
        let (service, object, path, address) = if series.is_ingress() {
            let service = world.service_of(index, round);
            let (object, path) = world.change_path(service);
            (service, object, Some(path), None)
        } else {
            let address = bench.addresses.lock().unwrap_or_else(PoisonError::into_inner).next();
            let address = address.expect("must suffice: the arguments were checked");
            let object = world.replace_endpoint(index, address);
            (index, object, None, Some(SocketAddr::from((address, bench.port))))
        };
        let host = world.host_of(service);
        Made {
            object,
            cluster: world.cluster_of(service),
            key,
            host: world.host_name(host),
            endpoints: world.endpoints_of(host),
            address,
            path,
        }
    }

    async fn send(&self, cluster: usize, object: Object) -> anyhow::Result<()> {
        match &self.sink {
            Sink::Streams(streams) => {
                streams[cluster].send(object).await.map_err(|_| anyhow!("the stream of cluster number {cluster} ended"))
            }
            Sink::Api(api) => {
                api.apply(manifest::of(&object)).map_err(|failure| anyhow!("write to the API: {failure:?}"))?;
                Ok(())
            }
        }
    }
}

fn keys(source: &Source, series: Series) -> usize {
    if series.is_ingress() { source.world().hosts() } else { source.world().services() }
}

/// All keys in a fixed random order, again and again.
struct Ring {
    order: Vec<usize>,
    turn: usize,
}

impl Ring {
    fn new(keys: usize, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..keys).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed));
        Self { order, turn: 0 }
    }

    /// The next key that is free, and how often the ring has gone round. Waits while all are occupied.
    async fn next(&mut self, is_free: impl Fn(usize) -> bool) -> (usize, usize) {
        loop {
            for _ in 0..self.order.len() {
                let turn = self.turn;
                self.turn += 1;
                let index = self.order[turn % self.order.len()];
                if is_free(index) {
                    return (index, turn / self.order.len());
                }
            }
            tokio::time::sleep(BUSY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn changes_are_due_at_equal_distances_however_late_the_last_was() {
        let pace = Pace { series: Series::Endpoint, per_second: 200.0, duration: Duration::from_millis(51), seed: 1 };
        assert_eq!(pace.count(), 11);
        assert_eq!(pace.due(0), Duration::ZERO);
        assert_eq!(pace.due(10), Duration::from_millis(50));
    }

    #[tokio::test]
    async fn every_key_has_its_turn_before_any_has_a_second_one() {
        let mut ring = Ring::new(10, 7);
        let mut first = BTreeSet::new();
        for _ in 0..10 {
            let (index, round) = ring.next(|_| true).await;
            assert_eq!(round, 0);
            first.insert(index);
        }
        assert_eq!(first.len(), 10);
        assert_eq!(ring.next(|_| true).await.1, 1);
    }

    #[tokio::test]
    async fn occupied_keys_are_passed_over() {
        let mut ring = Ring::new(3, 1);
        let occupied = RefCell::new(BTreeSet::new());
        for _ in 0..3 {
            let (index, _) = ring.next(|index| !occupied.borrow().contains(&index)).await;
            assert!(occupied.borrow_mut().insert(index));
        }
    }

    #[test]
    fn the_order_is_random_but_the_same_for_a_seed() {
        assert_eq!(Ring::new(50, 3).order, Ring::new(50, 3).order);
        assert_ne!(Ring::new(50, 3).order, Ring::new(50, 4).order);
    }
}
