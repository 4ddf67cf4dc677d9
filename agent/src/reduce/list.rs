//! How far one kind's lists and watch are: whether what they do not mention is gone, and what they mentioned counts.

use std::collections::BTreeSet;

use roadstead_manifests::Problem;
use roadstead_routing::id::ObjectKey;

use super::ListFailure;

/// Turns are the reducer's.
#[derive(Default)]
pub(super) struct List {
    /// Succeeded at least once.
    pub complete: bool,
    /// In which turn the last complete list began.
    pub began: u64,
    /// In which turn it was complete.
    pub ended: u64,
    /// In which turn the watch after it said something last.
    pub heard: u64,
    /// The list that is running, or that failed last.
    partial: Option<Partial>,
    /// An object without a readable name was listed: what seems absent may be that one.
    pub unnamed: Option<Problem>,
    pub failure: Option<ListFailure>,
}

#[derive(Default)]
struct Partial {
    is_running: bool,
    began: u64,
    /// Named so far.
    named: BTreeSet<ObjectKey>,
}

impl List {
    pub fn start(&mut self, turn: u64) {
        self.partial = Some(Partial { is_running: true, began: turn, named: BTreeSet::new() });
    }

    /// Whether what the last list of `other` lacks counts for what is declared here: a list was complete since that one
    /// began, or the watch went on after it was complete. What a watch says in between may be the last of a watch that
    /// ends for the same reason as the one that `other` was listed for.
    pub fn is_news_to(&self, other: &Self) -> bool {
        self.ended >= other.began || self.heard >= other.ended
    }

    pub fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// The last list succeeded and its watch goes on.
    pub fn is_current(&self) -> bool {
        !self.is_running() && self.failure.is_none()
    }

    /// Whether a list that is not complete has seen the object.
    pub fn names(&self, key: &ObjectKey) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.named.contains(key))
    }

    pub fn mark(&mut self, key: &ObjectKey) {
        if let Some(partial) = self.partial.as_mut().filter(|partial| partial.is_running) {
            partial.named.insert(key.clone());
        }
    }

    pub fn unmark(&mut self, key: &ObjectKey) {
        if let Some(partial) = &mut self.partial {
            partial.named.remove(key);
        }
    }

    /// The list is complete. Returns what it named, unless it does not tell what is gone.
    pub fn finish(&mut self, turn: u64) -> Option<BTreeSet<ObjectKey>> {
        let running = self.partial.take_if(|partial| partial.is_running)?;
        if self.unnamed.is_some() {
            return None;
        }
        (self.complete, self.began, self.ended) = (true, running.began, turn);
        self.failure = None;
        Some(running.named)
    }

    /// Returns whether that is news.
    pub fn fail(&mut self, failure: ListFailure) -> bool {
        self.partial.get_or_insert_default().is_running = false;
        let is_news = self.failure.as_ref() != Some(&failure);
        self.failure = Some(failure);
        is_news
    }

    fn running(&self) -> Option<&Partial> {
        self.partial.as_ref().filter(|partial| partial.is_running)
    }
}
