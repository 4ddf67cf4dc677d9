//! A controller's writer, step by step: the real queue with its coalescing, and around it what `store::writer` does
//! with a real database, in virtual time.
//!
//! What a controller asks of the store → commits and takeovers that land in the database some time later, and events
//! for the controller after that. One thing at a time, in order; while the database is away the same thing is tried
//! again.

use std::collections::{BTreeSet, VecDeque};

use roadstead_controller::store::queue::{Pending, Request};
use roadstead_controller::store::writer::Event;
use roadstead_controller::store::{Batch, TakeOver, TakeOverAnswer};
use roadstead_routing::id::{ClusterId, Position};

#[derive(Default)]
pub struct Writer {
    pending: Pending,
    batches: VecDeque<Batch>,
    releases: VecDeque<(ClusterId, u64)>,
    take_overs: VecDeque<Asked>,
    doing: Doing,
    is_away: bool,
}

#[derive(Clone)]
pub struct Asked {
    pub ticket: u64,
    pub request: TakeOver,
}

/// What is under way.
#[derive(Default)]
enum Doing {
    #[default]
    Nothing,
    /// On its way to the database.
    Asking(Ask),
    /// Done there; the answer is on its way back.
    Answered(Vec<Event>),
}

#[derive(Clone)]
pub enum Ask {
    Commit(Batch),
    Release(ClusterId, u64),
    TakeOver(Asked),
}

/// What the next step of the writer needs from outside.
pub enum Stage {
    /// This is at the database now.
    Lands(Ask),
    /// The controller hears this now.
    Hears(Vec<Event>),
    Nothing,
}

impl Writer {
    pub fn push(&mut self, request: Request) {
        self.pending.push(request);
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.doing, Doing::Nothing) && self.pending.is_empty()
    }

    /// Begins with what waits, if nothing is under way. Returns whether it did.
    pub fn begin(&mut self) -> bool {
        if !matches!(self.doing, Doing::Nothing) {
            return false;
        }
        if self.batches.is_empty() && self.releases.is_empty() && self.take_overs.is_empty() {
            let mut pending = std::mem::take(&mut self.pending);
            self.batches = pending.batches();
            self.releases = pending.releases.drain(..).collect();
            self.take_overs = pending.take_overs.drain(..).map(asked).collect();
        }
        let release = |it: &mut VecDeque<_>| it.pop_front().map(|(cluster, epoch)| Ask::Release(cluster, epoch));
        let next = self.batches.pop_front().map(Ask::Commit).or_else(|| release(&mut self.releases));
        let next = next.or_else(|| self.take_overs.pop_front().map(Ask::TakeOver));
        let Some(ask) = next else { return false };
        self.doing = Doing::Asking(ask);
        true
    }

    /// The batch that is on its way to the database.
    pub fn committing(&self) -> Option<&Batch> {
        match &self.doing {
            Doing::Asking(Ask::Commit(batch)) => Some(batch),
            Doing::Asking(Ask::TakeOver(_) | Ask::Release(..)) | Doing::Answered(_) | Doing::Nothing => None,
        }
    }

    /// A standby agent's cluster is asked for, or still held elsewhere: that goes on for as long as it stands by.
    pub fn is_asking_again(&self) -> bool {
        let is_held = |event: &Event| matches!(event, Event::TakenOver { answer: Ok(TakeOverAnswer::Held { .. }), .. });
        match &self.doing {
            Doing::Asking(Ask::TakeOver(_)) => true,
            Doing::Answered(events) => events.iter().all(is_held),
            Doing::Asking(_) | Doing::Nothing => false,
        }
    }

    pub fn stage(&mut self) -> Stage {
        match std::mem::take(&mut self.doing) {
            Doing::Asking(ask) => Stage::Lands(ask),
            Doing::Answered(events) => Stage::Hears(events),
            Doing::Nothing => Stage::Nothing,
        }
    }

    /// The database did it.
    pub fn landed(&mut self, events: Vec<Event>) {
        let back = std::mem::replace(&mut self.is_away, false).then_some(Event::Back);
        self.doing = Doing::Answered(back.into_iter().chain(events).collect());
    }

    /// The database did not answer, whether or not it did what was asked: the same again later. Returns what the
    /// controller hears.
    pub fn failed(&mut self, ask: Ask) -> Option<Event> {
        self.doing = Doing::Asking(ask);
        let was_away = std::mem::replace(&mut self.is_away, true);
        (!was_away).then(|| Event::Away("the database is away".to_owned()))
    }
}

/// What a committed batch means to the controller.
pub fn news_of(batch: &Batch, lost: &BTreeSet<ClusterId>) -> Vec<Event> {
    let news = batch.clusters.iter().filter_map(|(cluster, part)| {
        let (cluster, epoch) = (cluster.clone(), part.epoch);
        if lost.contains(&cluster) {
            Some(Event::Fenced { cluster, epoch })
        } else {
            let position = Position { epoch, seq: part.durable_seq };
            (part.durable_seq > 0).then_some(Event::Durable { cluster, position })
        }
    });
    news.collect()
}

pub fn taken_over(asked: &Asked, answer: TakeOverAnswer) -> Event {
    Event::TakenOver { ticket: asked.ticket, answer: Ok(answer) }
}

fn asked((ticket, request): (u64, TakeOver)) -> Asked {
    Asked { ticket, request: TakeOver { fresh_key: [7; 32], ..request } }
}
