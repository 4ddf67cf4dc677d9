//! Transactions whose client died while they were on their way: they reach the database later, or never. The reason
//! why epochs are checked by the database itself.

use std::collections::BTreeMap;

use roadstead_controller::store::Batch;
use roadstead_controller::store::model::Committed;

use crate::agenda::Event;
use crate::simulation::Simulation;

#[derive(Default)]
pub struct Orphans {
    waiting: BTreeMap<u64, Batch>,
    count: u64,
}

impl Orphans {
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
        self.orphans.waiting.insert(number, batch);
        let delay = self.dice.between(0, 6_000);
        self.plan(delay, Event::Orphan(number));
    }

    /// It reaches the database, if that can be now.
    pub fn orphan(&mut self, number: u64) {
        if self.database_away {
            return self.plan(400, Event::Orphan(number));
        }
        let Some(batch) = self.orphans.waiting.remove(&number) else { return };
        let Ok(committed) = self.database.model.commit(&batch, self.unix_ms()) else { return };
        self.note(format_args!("the database commits an orphaned transaction, fenced: {:?}", committed.lost));
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
