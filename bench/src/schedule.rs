//! The open loop: changes at fixed moments, whether or not earlier ones have arrived.
//!
//! A rate and a count → changes of a [`World`], sent through a cluster's stream or written to a Kubernetes API, and
//! registered with the [`Tracker`] under the moment for which they were *scheduled*: whatever delays the sender counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
        let scheduled_nanos = bench.clock.nanos_at(at);
        let mut change = Change { key: made.key.clone(), series: pace.series, scheduled_nanos, done: None };
        if number.is_multiple_of(CONFIRM_EVERY) {
            let (done, complete) = oneshot::channel();
            change.done = Some(done);
            let edge = bench.edges[(number / CONFIRM_EVERY) as usize % bench.edges.len()];
            let sample = Sample { key: made.key, host: made.host, edge, proof: made.effect.proof().await? };
            confirmations.spawn(sample.confirm(Arc::clone(&bench), complete));
        }
        bench.tracker().begin(change);
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
    effect: Effect,
}

/// What a change brings.
enum Effect {
    /// A new endpoint of a host that has so many, over all its clusters.
    Endpoint {
        address: SocketAddr,
        endpoints: usize,
    },
    Path(String),
}

/// How requests can show an effect.
enum Proof {
    Reaches { echo: Echo, endpoints: usize },
    Routes(String),
}

/// A change that is to be confirmed.
struct Sample {
    key: String,
    host: String,
    edge: SocketAddr,
    proof: Proof,
}

impl Effect {
    /// Sets up what the requests will need: a new endpoint must listen before any edge hears of it.
    async fn proof(self) -> anyhow::Result<Proof> {
        match self {
            Effect::Endpoint { address, endpoints } => {
                let echo = Echo::bind(address).await.with_context(|| format!("listen on {address}"))?;
                Ok(Proof::Reaches { echo, endpoints })
            }
            Effect::Path(path) => Ok(Proof::Routes(path)),
        }
    }
}

impl Sample {
    /// Once the change is complete, asks for it. A change that is lost is counted as that and not asked for.
    async fn confirm(self, bench: Arc<Bench>, complete: oneshot::Receiver<()>) {
        if complete.await.is_err() {
            return;
        }
        let holds = match &self.proof {
            Proof::Reaches { echo, endpoints } => confirm::reaches(self.edge, &self.host, echo, *endpoints).await,
            Proof::Routes(path) => confirm::routes(self.edge, &self.host, path).await,
        };
        let counter = if holds { &bench.confirmed } else { &bench.unconfirmed };
        counter.fetch_add(1, Ordering::Relaxed);
        bench.tracker().release(&self.key);
    }
}

impl Bench {
    pub fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_free(&self, key: &str) -> bool {
        self.tracker().is_free(key)
    }

    fn next_address(&self) -> Ipv4Addr {
        let next = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).next();
        next.expect("must have an address left: the arguments were checked")
    }
}

impl Source {
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes are chosen by service for endpoints, by host for Ingresses: that is what edges report.
    fn key(&self, series: Series, index: usize) -> String {
        if series.is_ingress() { self.world().host_key(index) } else { self.world().backend_key(index) }
    }

    fn change(&self, bench: &Bench, series: Series, index: usize, round: usize) -> Made {
        let key = self.key(series, index);
        let mut world = self.world();
        let (service, object, effect) = if series.is_ingress() {
            let service = world.service_of(index, round);
            let (object, path) = world.change_path(service);
            (service, object, Effect::Path(path))
        } else {
            let address = bench.next_address();
            let object = world.replace_endpoint(index, address);
            let endpoints = world.endpoints_of(world.host_of(index));
            (index, object, Effect::Endpoint { address: SocketAddr::from((address, bench.port)), endpoints })
        };
        let host = world.host_name(world.host_of(service));
        Made { object, cluster: world.cluster_of(service), key, host, effect }
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
