//! Which world a table belongs to and how much of it the edge has seen: what keeps an edge from going back in time.

use std::collections::BTreeMap;
use std::fmt;

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
        "the controller belongs to world {offered}, this edge's table to world {held}; a person must decide which one is right"
    )]
    Other { held: World, offered: World },
}

/// How far the edge is in every cluster's history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Positions {
    clusters: BTreeMap<String, Position>,
    policy_rev: u64,
    clerk_rev: u64,
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
    /// The world to hold after an Update that offers `offered`. Without one the edge adopts what is offered; a higher
    /// incarnation of its own is a restored backup that a person adopted, and is followed.
    pub(super) fn accept(held: Option<&World>, offered: Option<&wire::World>) -> Result<World, WorldError> {
        let offered = offered.ok_or(WorldError::Missing)?;
        let id = offered.id.as_slice().try_into().map_err(|_| WorldError::Missing)?;
        let offered = World { id, incarnation: offered.incarnation };
        match held {
            Some(held) if held.id != offered.id || held.incarnation > offered.incarnation => {
                Err(WorldError::Other { held: held.clone(), offered })
            }
            _ => Ok(offered),
        }
    }

    pub fn to_wire(&self) -> wire::World {
        wire::World { id: self.id.to_vec(), incarnation: self.incarnation }
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
        self.clusters.iter().map(|(cluster, position)| (cluster.as_str(), *position))
    }

    pub fn policy_rev(&self) -> u64 {
        self.policy_rev
    }

    pub fn to_wire(&self) -> wire::Positions {
        let clusters = self.clusters.iter().map(|(cluster, position)| wire::ClusterPosition {
            cluster: cluster.clone(),
            position: Some(wire::Position { epoch: position.epoch, seq: position.seq }),
        });
        wire::Positions { clusters: clusters.collect(), policy_rev: self.policy_rev, clerk_rev: self.clerk_rev }
    }

    /// Whether nothing of `offered` is older than what is held. A revision of 0 means "not changed".
    pub(super) fn check(&self, offered: &wire::Positions) -> Result<(), Older> {
        for (cluster, offered) in entries(offered) {
            if let Some(held) = self.clusters.get(cluster).copied().filter(|held| *held > offered) {
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
        let added = entries(offered).filter(|(cluster, _)| !self.clusters.contains_key(*cluster)).count();
        if self.clusters.len() + added > CLUSTERS_MAX { Err(Older::TooMany) } else { Ok(()) }
    }

    /// Takes over what `offered` names. Only after [`Positions::check`].
    pub(super) fn advance(&mut self, offered: &wire::Positions) {
        for (cluster, position) in entries(offered).take(CLUSTERS_MAX) {
            let held = self.clusters.entry(cluster.to_owned()).or_default();
            *held = position.max(*held);
        }
        self.policy_rev = self.policy_rev.max(offered.policy_rev);
        self.clerk_rev = self.clerk_rev.max(offered.clerk_rev);
    }
}

fn entries(positions: &wire::Positions) -> impl Iterator<Item = (&str, Position)> {
    positions.clusters.iter().map(|entry| {
        let position = entry.position.unwrap_or_default();
        (entry.cluster.as_str(), Position { epoch: position.epoch, seq: position.seq })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(clusters: std::ops::Range<usize>) -> wire::Positions {
        let entry = |number| wire::ClusterPosition {
            cluster: format!("c{number}"),
            position: Some(wire::Position { epoch: 1, seq: 1 }),
        };
        wire::Positions { clusters: clusters.map(entry).collect(), policy_rev: 0, clerk_rev: 0 }
    }

    #[test]
    fn positions_have_a_limit() {
        let mut positions = Positions::default();
        assert_eq!(positions.check(&offered(0..CLUSTERS_MAX + 1)), Err(Older::TooMany));
        positions.advance(&offered(0..CLUSTERS_MAX));
        assert_eq!(positions.check(&offered(0..CLUSTERS_MAX)), Ok(()));
        assert_eq!(positions.check(&offered(CLUSTERS_MAX..CLUSTERS_MAX + 1)), Err(Older::TooMany));
    }

    #[test]
    fn every_part_of_a_position_counts() {
        let mut positions = Positions::default();
        positions.advance(&wire::Positions { policy_rev: 3, clerk_rev: 4, ..offered(0..1) });
        let revisions = |policy_rev, clerk_rev| wire::Positions { policy_rev, clerk_rev, ..wire::Positions::default() };
        assert!(positions.check(&revisions(2, 0)).is_err() && positions.check(&revisions(0, 3)).is_err());
        assert!(positions.check(&revisions(0, 0)).is_ok() && positions.check(&revisions(3, 4)).is_ok());
        positions.advance(&revisions(0, 0));
        assert_eq!(positions.to_wire(), wire::Positions { policy_rev: 3, clerk_rev: 4, ..offered(0..1) });
    }
}
