//! The thread that writes the journal.
//!
//! Applied Updates → the journal, in order; durable within about a second. When a write fails or the disk cannot keep
//! up, the journal on disk stays a consistent older table and nothing more is added to it, until a snapshot of
//! everything held (asked for through [`LastGood::wants_snapshot`]) makes it complete again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use roadstead_proto::wire;

use super::journal::{Journal, JournalError};
use super::sealing::Sealing;
use crate::observe::Metrics;

/// Updates waiting to be written. More means that the disk does not keep up: a snapshot follows then.
const QUEUE_MAX: usize = 1_024;

#[cfg(test)]
mod tests;

/// How often the disk is bothered.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two syncs, at least.
    pub sync_every: Duration,
    /// After a failed write, before the next try.
    pub retry_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { sync_every: Duration::from_secs(1), retry_after: Duration::from_secs(5) }
    }
}

/// Everything held, as Updates in an order in which they can be applied.
pub type Snapshot = Box<dyn Iterator<Item = wire::Update> + Send>;

/// The handle of the writing thread.
pub struct LastGood {
    jobs: Option<SyncSender<Job>>,
    sealing: Sealing,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    wants_snapshot: AtomicBool,
    /// Updates are missing from the journal: nothing may be added to it before a snapshot.
    incomplete: AtomicBool,
}

enum Job {
    Append(Box<wire::Update>),
    Rewrite(Snapshot),
    MarkCurrent,
}

impl LastGood {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the process cannot have another thread.
    pub fn start(journal: Journal, metrics: Arc<Metrics>, pace: Pace) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let state = Arc::new(State::default());
        let writer = Writer { journal, metrics, pace, state: state.clone(), unsynced_since: None, retry_at: None };
        writer.report();
        let thread = std::thread::Builder::new().name("last-good".to_owned()).spawn(move || writer.run(&queue))?;
        Ok(Self { jobs: Some(jobs), sealing: Sealing::default(), state, thread: Some(thread) })
    }

    /// Writes certificates too, if `sealing` has a key.
    #[must_use]
    pub fn sealing(self, sealing: Sealing) -> Self {
        Self { sealing, ..self }
    }

    pub fn keeps_certificates(&self) -> bool {
        self.sealing.keeps_certificates()
    }

    /// Adds an applied Update. Never blocks.
    pub fn append(&self, update: wire::Update) {
        if self.state.incomplete.load(Ordering::Acquire) {
            return;
        }
        if !self.queue(Job::Append(Box::new(self.sealing.seal(update)))) {
            tracing::error!("The disk does not keep up with updates; the last good table stays as it is for now");
            self.state.incomplete.store(true, Ordering::Release);
            self.state.wants_snapshot.store(true, Ordering::Release);
        }
    }

    /// Notes on disk that the table is current although it does not change. Never blocks; may be left out.
    pub fn mark_current(&self) {
        self.queue(Job::MarkCurrent);
    }

    /// Whether the journal should be rewritten: it is overgrown, or Updates are missing from it.
    pub fn wants_snapshot(&self) -> bool {
        self.state.wants_snapshot.load(Ordering::Acquire)
    }

    /// Replaces the journal by everything held. Never blocks; if the queue is full the wish stays.
    pub fn rewrite(&self, snapshot: Snapshot) {
        // Cleared before the job is queued: whatever fails later asks anew. Updates appended from now on come after
        // the snapshot in the queue, so they may be written again.
        self.state.wants_snapshot.store(false, Ordering::Release);
        let queued = self.queue(Job::Rewrite(self.sealing.seal_all(snapshot)));
        let flag = if queued { &self.state.incomplete } else { &self.state.wants_snapshot };
        flag.store(!queued, Ordering::Release);
    }

    /// Writes a last snapshot and waits until it is on disk. For a clean shutdown; blocks.
    pub fn close(mut self, snapshot: Snapshot) {
        if let Some(jobs) = self.jobs.take() {
            // The thread has ended if this fails; it has said why.
            drop(jobs.send(Job::Rewrite(self.sealing.seal_all(snapshot))));
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("The thread that writes the last good table panicked");
        }
    }

    /// False if the queue is full or the thread has ended.
    fn queue(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }
}

struct Writer {
    journal: Journal,
    metrics: Arc<Metrics>,
    pace: Pace,
    state: Arc<State>,
    unsynced_since: Option<Instant>,
    /// Set while the journal is incomplete because of a failure.
    retry_at: Option<Instant>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            match queue.recv_timeout(self.pace.sync_every) {
                Ok(Job::Append(update)) => self.append(&update),
                Ok(Job::Rewrite(snapshot)) => self.rewrite(snapshot),
                Ok(Job::MarkCurrent) => self.mark_current(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.unsynced_since.is_some_and(|since| since.elapsed() >= self.pace.sync_every) {
                self.sync();
            }
            if self.retry_at.is_some_and(|at| Instant::now() >= at) {
                self.retry_at = None;
                self.state.wants_snapshot.store(true, Ordering::Release);
            }
            self.report();
        }
        self.sync();
    }

    fn append(&mut self, update: &wire::Update) {
        if self.retry_at.is_some() {
            return;
        }
        if let Err(error) = self.journal.append(update) {
            self.fail(&error);
            return;
        }
        self.unsynced_since.get_or_insert_with(Instant::now);
        if self.journal.is_overgrown() {
            self.state.wants_snapshot.store(true, Ordering::Release);
        }
    }

    fn rewrite(&mut self, mut snapshot: Snapshot) {
        match self.journal.rewrite(&mut snapshot) {
            Ok(()) => {
                self.unsynced_since = None;
                self.retry_at = None;
                // A write failed after this snapshot was queued, so what came later may have been left out.
                if self.state.incomplete.load(Ordering::Acquire) {
                    self.state.wants_snapshot.store(true, Ordering::Release);
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn mark_current(&self) {
        // One that misses something is not current.
        if !self.state.incomplete.load(Ordering::Acquire)
            && let Err(error) = self.journal.mark_current(SystemTime::now())
        {
            tracing::debug!(error = &error as &dyn std::error::Error, "Cannot mark the last good table as current");
        }
    }

    fn sync(&mut self) {
        if self.unsynced_since.take().is_some()
            && let Err(error) = self.journal.sync()
        {
            self.fail(&error);
        }
    }

    /// From now on the journal misses something.
    fn fail(&mut self, error: &JournalError) {
        let error = error as &dyn std::error::Error;
        tracing::error!(error, "Cannot write the last good table; serving goes on, a restart would find an older one");
        self.metrics.last_good_failures.inc();
        self.state.incomplete.store(true, Ordering::Release);
        self.retry_at = Some(Instant::now() + self.pace.retry_after);
    }

    fn report(&self) {
        self.metrics.last_good_bytes.set(i64::try_from(self.journal.bytes()).unwrap_or(i64::MAX));
    }
}
