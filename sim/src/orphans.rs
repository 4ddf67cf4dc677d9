//! Transactions whose client died while they were on their way: they reach the database later, or never. The reason
//! why epochs are checked by the database itself.

use std::collections::BTreeMap;

use roadstead_controller::store::Batch;

use crate::agenda::Event;
use crate::database::Committed;
use crate::simulation::Simulation;

#[derive(Default)]
pub struct Orphans {
    waiting: BTreeMap<u64, Orphan>,
    count: u64,
}

struct Orphan {
    batch: Batch,
    /// A controller has loaded since its own died.
    is_late: bool,
}

impl Orphans {
    /// A controller has loaded what the database has.
    pub fn loaded(&mut self) {
        self.waiting.values_mut().for_each(|orphan| orphan.is_late = true);
    }

    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl Simulation {
    pub fn orphaned(&mut self, batch: Batch) {
        if self.dice.percent(40) {
            return;
        }
        self.fault("orphaned transaction", format_args!(""));
        self.orphans.count += 1;
        let number = self.orphans.count;
        self.orphans.waiting.insert(number, Orphan { batch, is_late: false });
        let delay = self.dice.between(0, 6_000);
        self.plan(delay, Event::Orphan(number));
    }

    /// It reaches the database, if that can be now.
    pub fn orphan(&mut self, number: u64) {
        let Some(orphan) = self.orphans.waiting.get(&number) else { return };
        let taken_over = orphan.batch.clusters.iter().all(|(cluster, part)| self.database.epoch(cluster) > part.epoch);
        let is_decided = !orphan.is_late || taken_over;
        let is_tame = self.avoids_known();
        if self.database_away || (!is_decided && is_tame) {
            return self.plan(400, Event::Orphan(number));
        }
        let Some(mut orphan) = self.orphans.waiting.remove(&number) else { return };
        if is_tame && orphan.is_late {
            orphan.batch.revisions.clear();
        }
        let committed = self.database.commit(&orphan.batch, self.fence());
        self.note(format_args!("the database commits an orphaned transaction, fenced: {:?}", committed.fenced));
        self.active_at = self.now;
        self.check_committed(&committed);
    }

    /// The epoch decides, always.
    pub fn check_committed(&mut self, committed: &Committed) {
        if let Some(cluster) = committed.stale.first() {
            self.fail("a stale epoch never commits", format!("{cluster} was written by a former holder"));
        }
    }
}
