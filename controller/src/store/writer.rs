//! The one task that writes: takes all that waits, commits it in groups, tells the core what is durable.
//!
//! A refused batch is halved until the culprit is alone; everything else is written. While the database is away the
//! current transaction is tried again and newer changes coalesce in the queue; routing goes on meanwhile. Takeovers
//! happen here too, after everything that was queued before them, so that no write of an old epoch is cut off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use roadstead_routing::id::{ClusterId, ObjectKey, Position};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::observe::metrics::StoreMetrics;
use crate::store::queue::{Pending, Queue};
use crate::store::{Batch, ClusterBatch, Gap, Store, StoreError, TakeOver, TakeOverAnswer};

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
const COMPACT_EVERY: Duration = Duration::from_secs(600);

/// What the writer tells the core.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// Everything of the cluster up to `position` is stored.
    Durable {
        cluster: ClusterId,
        position: Position,
    },
    /// Another holder has the cluster: writes of `epoch` are dropped.
    Fenced {
        cluster: ClusterId,
        epoch: u64,
    },
    /// The database refuses this object. The rest of its batch is stored.
    Unstorable {
        cluster: ClusterId,
        key: ObjectKey,
        reason: String,
    },
    TakenOver {
        ticket: u64,
        answer: Result<TakeOverAnswer, StoreError>,
    },
    /// Nothing can be stored at present, and why.
    Away(String),
    Back,
}

pub struct Writer<S> {
    store: Arc<S>,
    queue: Arc<Queue>,
    events: mpsc::Sender<Event>,
    metrics: StoreMetrics,
    away_since: Option<Instant>,
    /// Waits for the next transaction that succeeds.
    gap: Option<Gap>,
}

impl<S: Store> Writer<S> {
    pub fn new(store: Arc<S>, queue: Arc<Queue>, events: mpsc::Sender<Event>, metrics: StoreMetrics) -> Self {
        Self { store, queue, events, metrics, away_since: None, gap: None }
    }

    /// Runs until nobody listens to the events. May be cancelled at any await: what was not reported durable is sent
    /// again by the agents.
    pub async fn run(mut self) {
        let mut compact_at = Instant::now() + COMPACT_EVERY;
        while !self.events.is_closed() {
            tokio::select! {
                pending = self.queue.take() => self.write(pending).await,
                () = tokio::time::sleep_until(compact_at) => {
                    compact_at = Instant::now() + COMPACT_EVERY;
                    match self.store.compact().await {
                        Ok(forgotten) => tracing::debug!(forgotten, "Old tombstones are forgotten"),
                        Err(error) => tracing::warn!(%error, "Old tombstones stay for now"),
                    }
                }
            }
        }
    }

    async fn write(&mut self, mut pending: Pending) {
        if pending.dropped > 0 {
            self.gap.get_or_insert_default().dropped += pending.dropped;
        }
        let mut batches = pending.batches();
        while let Some(batch) = batches.pop_front() {
            self.commit(batch, &mut batches).await;
        }
        for (cluster, epoch) in pending.releases {
            self.release(&cluster, epoch).await;
        }
        for (ticket, request) in pending.take_overs {
            let fresh_key = rand::rng().random();
            self.take_over(ticket, TakeOver { fresh_key, ..request }).await;
        }
    }

    /// Commits one batch. If its data is refused, its halves go to the front of `batches` instead.
    async fn commit(&mut self, mut batch: Batch, batches: &mut VecDeque<Batch>) {
        let mut attempt = 0;
        loop {
            batch.gap = self.gap.filter(|_| self.away_since.is_none());
            let started = Instant::now();
            match self.store.commit(&batch).await {
                Ok(lost) => {
                    self.metrics.committed(batch.items(), started.elapsed());
                    self.gap = self.gap.filter(|_| batch.gap.is_none());
                    self.is_back().await;
                    for (cluster, part) in &batch.clusters {
                        self.report(cluster, part, lost.contains(cluster)).await;
                    }
                    return;
                }
                Err(StoreError::Rejected(reason)) => {
                    self.is_back().await;
                    return self.halve(batch, &reason, batches).await;
                }
                Err(error) => self.is_away(&error, &mut attempt).await,
            }
        }
    }

    async fn report(&self, cluster: &ClusterId, part: &ClusterBatch, lost: bool) {
        let (cluster, epoch) = (cluster.clone(), part.epoch);
        if lost {
            self.tell(Event::Fenced { cluster, epoch }).await;
        } else if part.durable_seq > 0 {
            self.tell(Event::Durable { cluster, position: Position { epoch, seq: part.durable_seq } }).await;
        }
    }

    async fn halve(&self, mut batch: Batch, reason: &str, batches: &mut VecDeque<Batch>) {
        let culprits = batch.items();
        if culprits > 1 {
            let (first, second) = batch.halves();
            batches.push_front(second);
            batches.push_front(first);
            return;
        }
        self.metrics.rejected();
        for (cluster, part) in &mut batch.clusters {
            let (upserts, removals) = (std::mem::take(&mut part.upserts), std::mem::take(&mut part.removals));
            for key in upserts.into_keys().chain(removals.into_keys()) {
                let (cluster, reason) = (cluster.clone(), reason.to_owned());
                self.tell(Event::Unstorable { cluster, key, reason }).await;
            }
        }
        for revision in batch.revisions.drain(..) {
            tracing::error!(route.host = %revision.host, pool = %revision.pool, reason, "A host version cannot be stored");
        }
        for key in std::mem::take(&mut batch.keeps).into_keys() {
            tracing::error!(?key, reason, "What the guard keeps cannot be stored; a restart will not know it");
        }
        // Without the culprit only the durable marks are left, if they were not what is refused.
        if culprits == 1 {
            batches.push_front(batch);
        } else {
            tracing::error!(reason, "The database refuses even an empty batch");
        }
    }

    async fn take_over(&mut self, ticket: u64, request: TakeOver) {
        let mut attempt = 0;
        let answer = loop {
            match self.store.take_over(&request).await {
                Err(error @ StoreError::Unavailable(_)) => self.is_away(&error, &mut attempt).await,
                answer => break answer,
            }
        };
        self.is_back().await;
        self.tell(Event::TakenOver { ticket, answer }).await;
    }

    async fn release(&mut self, cluster: &ClusterId, epoch: u64) {
        let mut attempt = 0;
        while let Err(error) = self.store.release(cluster, epoch).await {
            self.is_away(&error, &mut attempt).await;
        }
        self.is_back().await;
    }

    /// Says so once per outage, then waits: full-jitter exponential backoff.
    async fn is_away(&mut self, error: &StoreError, attempt: &mut u32) {
        self.metrics.failed();
        if self.away_since.is_none() {
            self.away_since = Some(Instant::now());
            tracing::error!(%error, "Nothing can be stored; routing goes on, changes are not acknowledged");
            self.tell(Event::Away(error.to_string())).await;
        }
        let ceiling = RETRY_MAX.min(RETRY_MIN * 2u32.saturating_pow(*attempt));
        *attempt = (*attempt + 1).min(16);
        let pause = rand::rng().random_range(RETRY_MIN / 2..=ceiling);
        tokio::time::sleep(pause).await;
    }

    async fn is_back(&mut self) {
        if let Some(since) = self.away_since.take() {
            let seconds = since.elapsed().as_secs();
            self.gap.get_or_insert_default().seconds += seconds;
            tracing::info!(seconds, "The database is back; everything that waited is being stored");
            self.tell(Event::Back).await;
        }
    }

    async fn tell(&self, event: Event) {
        // Nobody listens only while the process ends.
        let _ = self.events.send(event).await;
    }
}
