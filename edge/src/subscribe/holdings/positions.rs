//! Which world a table belongs to and how much of it the edge has seen: what keeps an edge from going back in time.

use std::collections::BTreeMap;
use std::fmt;

use roadstead_proto::position::{position_from_wire, position_to_wire};
use roadstead_proto::wire;
use roadstead_routing::id::Position;

/// Clusters whose positions are remembered. An Update that names more is refused.
pub const CLUSTERS_MAX: usize = 10_000;

/// One database's history. Never empty: an edge without a world has none yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct World {
    id: [u8; 16],
    incarnation: u64,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    #[error("the controller does not say which world it belongs to")]
    Missing,
    #[error(
        "the controller belongs to world {offered}, this edge's table to world {held}; a person must decide which one is \
         right: if it is the controller's, declare with `roadstead adopt-world` that it continues the edge's"
    )]
    Other { held: World, offered: World },
}

/// How far the edge is in every cluster's history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Positions {
    clusters: BTreeMap<String, Told>,
    policy_rev: u64,
    clerk_rev: u64,
}

/// What a controller said of one cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Told {
    position: Position,
    /// By a controller of which world: positions of two lines of history cannot be compared.
    line: Line,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Foreign,
    Incarnation(u64),
}

/// Why an Update is refused whole.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Older {
    #[error("older than held: cluster {cluster} at {offered}, held {held}")]
    Cluster { cluster: String, held: Position, offered: Position },
    #[error("older than held: {what} {offered}, held {held}")]
    Revision { what: &'static str, held: u64, offered: u64 },
    #[error("positions of more than {CLUSTERS_MAX} clusters")]
    TooMany,
}

impl World {
    /// The world to hold after an Update that offers `offered`. Without one the edge adopts what is offered. A higher
    /// incarnation of its own is a restored backup that a person adopted, and is followed; so is another world of which
    /// a person declared that it continues the edge's.
    pub(super) fn accept(held: Option<&World>, offered: Option<&wire::World>) -> Result<World, WorldError> {
        let world = World::offered(offered)?;
        let adopted = offered.map(|offered| &*offered.adopted).unwrap_or_default();
        match held {
            Some(held) if !world.continues(held, adopted) => {
                Err(WorldError::Other { held: held.clone(), offered: world })
            }
            _ => Ok(world),
        }
    }

    /// The world that a controller says it belongs to, whatever is held.
    pub(super) fn offered(offered: Option<&wire::World>) -> Result<World, WorldError> {
        let offered = offered.ok_or(WorldError::Missing)?;
        let id = offered.id.as_slice().try_into().map_err(|_| WorldError::Missing)?;
        Ok(World { id, incarnation: offered.incarnation })
    }

    /// Whatever the incarnation.
    pub(super) fn is_same_world(&self, other: &World) -> bool {
        self.id == other.id
    }

    fn continues(&self, held: &World, adopted: &[Vec<u8>]) -> bool {
        if self.id == held.id {
            return self.incarnation >= held.incarnation;
        }
        adopted.iter().any(|id| *id == held.id)
    }

    pub fn to_wire(&self) -> wire::World {
        wire::World { id: self.id.to_vec(), incarnation: self.incarnation, adopted: Vec::new() }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, " incarnation {}", self.incarnation)
    }
}

impl Positions {
    /// By cluster.
    pub fn clusters(&self) -> impl Iterator<Item = (&str, Position)> {
        self.clusters.iter().map(|(cluster, told)| (cluster.as_str(), told.position))
    }

    pub fn policy_rev(&self) -> u64 {
        self.policy_rev
    }

    pub fn to_wire(&self) -> wire::Positions {
        let clusters = self.clusters.iter().map(|(cluster, told)| wire::ClusterPosition {
            cluster: cluster.clone(),
            position: Some(position_to_wire(told.position)),
            incarnation: if let Line::Incarnation(incarnation) = told.line { incarnation } else { 0 },
            foreign: told.line == Line::Foreign,
        });
        wire::Positions { clusters: clusters.collect(), policy_rev: self.policy_rev, clerk_rev: self.clerk_rev }
    }

    /// Whether nothing of `offered` is older than what is held. A revision of 0 means "not changed".
    pub(super) fn check(&self, offered: &wire::Positions, world: &World) -> Result<(), Older> {
        for (cluster, offered) in entries(offered, world) {
            let held = self.clusters.get(cluster).filter(|held| held.line == offered.line);
            if let Some(held) = held.filter(|held| held.position > offered.position) {
                let (held, offered) = (held.position, offered.position);
                return Err(Older::Cluster { cluster: cluster.to_owned(), held, offered });
            }
        }
        let revisions = [
            ("policy revision", self.policy_rev, offered.policy_rev),
            ("clerk revision", self.clerk_rev, offered.clerk_rev),
        ];
        if let Some((what, held, offered)) = revisions.into_iter().find(|(_, held, new)| *new != 0 && new < held) {
            return Err(Older::Revision { what, held, offered });
        }
        let added = entries(offered, world).filter(|(cluster, _)| !self.clusters.contains_key(*cluster)).count();
        if self.clusters.len() + added > CLUSTERS_MAX { Err(Older::TooMany) } else { Ok(()) }
    }

    /// Another line of history begins, in the same world or in one that continues it: what is held of a cluster is of
    /// the old one until the new one speaks about it. Revisions count anew.
    pub(super) fn begin_anew(&mut self, is_same_world: bool) {
        (self.policy_rev, self.clerk_rev) = (0, 0);
        if !is_same_world {
            self.clusters.values_mut().for_each(|told| told.line = Line::Foreign);
        }
    }

    /// Takes over what `offered` names. Only after [`Positions::check`].
    pub(super) fn advance(&mut self, offered: &wire::Positions, world: &World) {
        for (cluster, offered) in entries(offered, world).take(CLUSTERS_MAX) {
            let held = self.clusters.entry(cluster.to_owned()).or_insert(offered);
            if held.line != offered.line || held.position < offered.position {
                *held = offered;
            }
        }
        self.policy_rev = self.policy_rev.max(offered.policy_rev);
        self.clerk_rev = self.clerk_rev.max(offered.clerk_rev);
    }
}

/// What was said by a controller of `world`, or earlier by others and kept.
fn entries<'a>(positions: &'a wire::Positions, world: &World) -> impl Iterator<Item = (&'a str, Told)> + use<'a> {
    let present = world.incarnation;
    positions.clusters.iter().map(move |entry| {
        let line = match entry.incarnation {
            _ if entry.foreign => Line::Foreign,
            0 => Line::Incarnation(present),
            incarnation => Line::Incarnation(incarnation),
        };
        (entry.cluster.as_str(), Told { position: position_from_wire(entry.position), line })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: World = World { id: [1; 16], incarnation: 1 };

    fn offered(clusters: std::ops::Range<usize>) -> wire::Positions {
        let entry = |number| wire::ClusterPosition {
            cluster: format!("c{number}"),
            position: Some(wire::Position { epoch: 1, seq: 1 }),
            incarnation: 1,
            foreign: false,
        };
        wire::Positions { clusters: clusters.map(entry).collect(), policy_rev: 0, clerk_rev: 0 }
    }

    #[test]
    fn positions_have_a_limit() {
        let mut positions = Positions::default();
        assert_eq!(positions.check(&offered(0..CLUSTERS_MAX + 1), &WORLD), Err(Older::TooMany));
        positions.advance(&offered(0..CLUSTERS_MAX), &WORLD);
        assert_eq!(positions.check(&offered(0..CLUSTERS_MAX), &WORLD), Ok(()));
        assert_eq!(positions.check(&offered(CLUSTERS_MAX..CLUSTERS_MAX + 1), &WORLD), Err(Older::TooMany));
    }

    #[test]
    fn every_part_of_a_position_counts() {
        let mut positions = Positions::default();
        positions.advance(&wire::Positions { policy_rev: 3, clerk_rev: 4, ..offered(0..1) }, &WORLD);
        let revisions = |policy_rev, clerk_rev| wire::Positions { policy_rev, clerk_rev, ..wire::Positions::default() };
        let check = |policy_rev, clerk_rev| positions.check(&revisions(policy_rev, clerk_rev), &WORLD);
        assert!(check(2, 0).is_err() && check(0, 3).is_err() && check(0, 0).is_ok() && check(3, 4).is_ok());
        positions.advance(&revisions(0, 0), &WORLD);
        assert_eq!(positions.to_wire(), wire::Positions { policy_rev: 3, clerk_rev: 4, ..offered(0..1) });
    }

    /// An edge that forgot what it holds of the old line would be sent something older by whoever starts next.
    #[test]
    fn what_is_held_of_an_older_incarnation_stays_known() {
        let mut positions = Positions::default();
        positions.advance(&offered(0..2), &WORLD);
        positions.begin_anew(true);
        let restored = World { incarnation: 2, ..WORLD };
        let present = wire::Positions {
            clusters: vec![wire::ClusterPosition { incarnation: 0, ..offered(0..1).clusters[0].clone() }],
            ..wire::Positions::default()
        };
        positions.advance(&present, &restored);
        let lines: Vec<u64> = positions.to_wire().clusters.iter().map(|entry| entry.incarnation).collect();
        assert_eq!(lines, [2, 1]);
        let mut replayed = Positions::default();
        replayed.advance(&positions.to_wire(), &restored);
        assert_eq!(replayed, positions);
        positions.begin_anew(false);
        assert!(positions.to_wire().clusters.iter().all(|entry| entry.foreign));
    }
}
