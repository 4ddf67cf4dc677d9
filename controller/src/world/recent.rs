//! In what a copy of a cluster differs from what is stored of it: what a new holder has to write.
//!
//! A copy is ahead of the store by what peers said. Of what changed step by step the keys are remembered until they are
//! stored, also into the next epoch. After a comparison it is not known what was stored in between: then the store is
//! asked for what it got since the two were the same ([`Recent::base`]).

use std::collections::BTreeMap;

use roadstead_routing::id::{ObjectKey, Position};

/// Keys that are remembered. More wait only if the database is away for long; what a copy has beyond is given up for
/// what is stored, and reported by the agent again.
pub const RECENT_MAX: usize = 500_000;

#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// By key, the last sequence number of the present epoch at which it changed.
    keys: BTreeMap<ObjectKey, u64>,
    /// Where store and copy differed in nothing but `keys`.
    base: Position,
    /// What is stored says nothing about that before it is here.
    blind_until: Position,
    is_overfull: bool,
}

impl Recent {
    /// The copy is what is stored.
    pub fn is_stored(&mut self, at: Position) {
        *self = Self { base: at, ..Self::default() };
    }

    /// The copy goes from one position to another, by what a peer or the agent says.
    pub fn moves(&mut self, from: Position, to: Position) {
        if from.epoch != to.epoch {
            // What was not stored is not in the next epoch either before its holder has written something.
            self.keys.values_mut().for_each(|at| *at = to.seq.max(1));
        }
        let is_step = from.epoch == to.epoch && to.seq == from.seq + 1;
        if !is_step {
            self.blind_until = Position { seq: to.seq.max(1), ..to };
        }
    }

    pub fn note(&mut self, key: &ObjectKey, seq: u64) {
        if self.keys.len() >= RECENT_MAX && !self.keys.contains_key(key) {
            self.is_overfull = true;
        } else {
            self.keys.insert(key.clone(), seq.max(1));
        }
    }

    /// Everything up to `position`, of the present epoch, is stored.
    pub fn durable(&mut self, position: Position) {
        if position >= self.blind_until {
            self.base = self.base.max(position);
        }
        self.keys.retain(|_, at| *at > position.seq);
    }

    /// Since when the store's changes matter.
    pub fn base(&self) -> Position {
        if self.is_overfull { Position::default() } else { self.base }
    }

    /// What changed and is not stored, as far as it is known.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.keys.keys()
    }

    /// More changed than is remembered.
    pub fn is_overfull(&self) -> bool {
        self.is_overfull
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_routing::id::Kind;

    fn at(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::Service, "shop", name)
    }

    fn names(recent: &Recent) -> Vec<String> {
        recent.keys().map(|key| key.name.name.to_string()).collect()
    }

    #[test]
    fn what_changed_step_by_step_is_known_until_it_is_stored() {
        let mut it = Recent::default();
        it.is_stored(at(3, 4));
        it.moves(at(3, 4), at(3, 5));
        it.note(&key("a"), 5);
        it.moves(at(3, 5), at(3, 6));
        it.note(&key("b"), 6);
        assert_eq!((names(&it), it.base()), (vec!["a".to_owned(), "b".to_owned()], at(3, 4)));
        it.durable(at(3, 5));
        assert_eq!((names(&it), it.base()), (vec!["b".to_owned()], at(3, 5)));
    }

    #[test]
    fn after_a_comparison_the_store_is_asked_from_before_it_until_it_has_come_so_far() {
        let mut it = Recent::default();
        it.is_stored(at(3, 0));
        it.moves(at(3, 0), at(3, 8));
        it.durable(at(3, 7));
        assert_eq!(it.base(), at(3, 0));
        it.durable(at(3, 8));
        assert_eq!(it.base(), at(3, 8));
    }

    #[test]
    fn what_an_epoch_did_not_store_outlives_it() {
        let mut it = Recent::default();
        it.is_stored(at(3, 4));
        it.moves(at(3, 4), at(3, 5));
        it.note(&key("a"), 5);
        it.moves(at(3, 5), at(4, 0));
        it.durable(at(4, 0));
        assert_eq!((names(&it), it.base()), (vec!["a".to_owned()], at(3, 4)));
        it.durable(at(4, 1));
        assert_eq!((names(&it), it.base()), (vec![], at(4, 1)));
    }
}
