//! Where a copy of a cluster is in the cluster's history, and of which earlier positions it has everything.
//!
//! Sequence numbers order one epoch. Epochs follow each other from what was stored, so what an epoch accepted beyond
//! that is not in the next one until the cluster has reported everything again: until the epoch is *settled*. A newer
//! epoch alone therefore proves nothing; see ADR 3.

use roadstead_routing::id::Position;

/// Epochs that may follow each other without settling. Beyond, the oldest count as unknown until one settles.
pub const ENDS_MAX: usize = 64;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    pub position: Position,
    /// The first synchronisation of the position's epoch is complete.
    pub settled: bool,
    /// Every epoch below is superseded by one that settled.
    pub floor: u64,
    /// How far the epochs since `floor` were continued by the next one. Ascending.
    pub ends: Vec<Position>,
    /// Incarnation of the world in which an epoch settled last; 0: in none.
    pub incarnation: u64,
}

impl Lineage {
    /// Whether a copy here has everything that a copy of the same incarnation had at `other`, or something newer.
    pub fn covers(&self, other: Position) -> bool {
        if other.epoch >= self.position.epoch {
            return other <= self.position;
        }
        self.settled || other.epoch < self.floor || self.continues(other)
    }

    /// Whether what changed since `other` leads from a copy there to a copy here: nothing was lost in between.
    pub fn continues(&self, other: Position) -> bool {
        if other == Position::default() {
            return self.ends.is_empty() && self.floor == 0 && self.position.epoch == 0;
        }
        let reaches = |end: &Position| end.epoch == other.epoch && other.seq <= end.seq;
        reaches(&self.position) || self.ends.iter().any(reaches)
    }

    /// Where the epoch of a copy at `here` ended, if the copy is beyond that and nothing was stored or settled since: it
    /// has what is stored, and more. As index of `ends`.
    pub fn end_before(&self, here: Position) -> Option<usize> {
        let last = self.ends.iter().rposition(|end| end.seq > 0 || end.epoch == here.epoch)?;
        let is_ahead = self.ends[last].epoch == here.epoch && self.ends[last] < here;
        (is_ahead && self.position.seq == 0 && !self.settled).then_some(last)
    }

    /// Whether this epoch, or one after it, has settled.
    pub fn has_settled(&self, epoch: u64) -> bool {
        self.floor >= epoch || (self.settled && self.position.epoch >= epoch)
    }

    /// The next epoch begins with what is here.
    pub fn begin(&mut self, epoch: u64) {
        if std::mem::take(&mut self.settled) {
            self.floor = self.position.epoch;
            self.ends.clear();
        }
        if self.position.epoch > 0 {
            self.ends.push(self.position);
        }
        if self.ends.len() > ENDS_MAX {
            self.ends.remove(0);
        }
        self.position = Position { epoch, seq: 0 };
    }

    /// The epoch's first synchronisation is complete.
    pub fn settle(&mut self, incarnation: u64) {
        self.settled = true;
        self.incarnation = self.incarnation.max(incarnation);
    }

    /// `epoch, seq, epoch, seq …`, as it is stored.
    pub fn ends_to_numbers(&self) -> Vec<i64> {
        self.ends.iter().flat_map(|end| [end.epoch as i64, end.seq as i64]).collect()
    }

    pub fn ends_from_numbers(numbers: &[i64]) -> Vec<Position> {
        let pairs = numbers.chunks_exact(2);
        pairs.map(|pair| Position { epoch: pair[0] as u64, seq: pair[1] as u64 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn lineage(epoch: u64, seq: u64) -> Lineage {
        Lineage { position: at(epoch, seq), ..Lineage::default() }
    }

    #[test]
    fn within_an_epoch_numbers_decide() {
        let it = lineage(3, 5);
        assert!(it.covers(at(3, 5)) && it.covers(at(3, 0)) && !it.covers(at(3, 6)) && !it.covers(at(4, 0)));
        assert!(it.continues(at(3, 4)) && !it.continues(at(3, 6)));
    }

    #[test]
    fn a_new_epoch_covers_what_was_stored_of_the_last_one_and_no_more() {
        let mut it = lineage(3, 5);
        it.begin(4);
        assert!(it.covers(at(3, 5)) && !it.covers(at(3, 6)));
        it.position.seq = 9;
        assert!(!it.covers(at(3, 6)), "however much it has accepted");
        it.settle(1);
        assert!(it.covers(at(3, 6)) && it.covers(at(2, 99)));
        assert!(!it.continues(at(3, 6)), "a copy with something else than was stored must be compared as a whole");
        assert!(it.has_settled(4) && it.has_settled(3) && !it.has_settled(5));
        it.begin(5);
        assert!(it.covers(at(3, 6)) && it.covers(at(4, 9)) && !it.covers(at(4, 10)));
        assert!(it.has_settled(4) && !it.has_settled(5));
    }

    #[test]
    fn a_copy_beyond_what_was_stored_goes_on_while_nothing_else_was_stored() {
        let mut it = lineage(3, 5);
        it.begin(4);
        assert_eq!(it.end_before(at(3, 7)), Some(0));
        assert_eq!((it.end_before(at(3, 5)), it.end_before(at(2, 9))), (None, None));
        it.begin(5);
        assert_eq!(it.end_before(at(3, 7)), Some(0), "epoch 4 brought nothing");
        it.position.seq = 1;
        assert_eq!(it.end_before(at(3, 7)), None, "epoch 5 did");
        it.begin(6);
        assert_eq!((it.end_before(at(3, 7)), it.end_before(at(5, 2))), (None, Some(2)));
        it.settle(1);
        assert_eq!(it.end_before(at(5, 2)), None, "the cluster said that this is all");
    }

    #[test]
    fn epochs_that_never_settle_are_remembered_each() {
        let mut it = lineage(1, 5);
        it.settle(1);
        for epoch in 2..5 {
            it.begin(epoch);
            it.position.seq = epoch;
        }
        assert!(it.covers(at(1, 5)) && it.covers(at(2, 2)) && it.covers(at(3, 3)));
        assert!(!it.covers(at(1, 6)) && !it.covers(at(2, 3)) && !it.covers(at(3, 4)));
        assert!(it.covers(at(0, 7)), "before an epoch that settled");
    }

    #[test]
    fn the_memory_of_epochs_is_bounded() {
        let mut it = lineage(1, 5);
        (2..200).for_each(|epoch| it.begin(epoch));
        assert_eq!(it.ends.len(), ENDS_MAX);
        assert!(!it.covers(at(1, 5)), "unknown is not covered");
        assert_eq!(Lineage::ends_from_numbers(&it.ends_to_numbers()), it.ends);
    }
}
