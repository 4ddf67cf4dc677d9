//! What one edge has seen and this controller not.
//!
//! The edge's positions at Hello, and what it was told since + where this controller's copies are → clusters about which
//! the controller must be silent toward this edge. Looked at again before anything is sent.

use std::collections::BTreeMap;

use roadstead_proto::wire;
use roadstead_routing::id::{ClusterId, Position};

use crate::core::turn::Turn;

#[derive(Default)]
pub(super) struct Behind {
    clusters: BTreeMap<ClusterId, Ahead>,
    policy_rev: u64,
    clerk_rev: u64,
    since_ms: u64,
}

/// What an edge has of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ahead {
    /// Everything up to here.
    At(Position),
    /// It was told everything up to here before this epoch began. This controller went on with what it had meanwhile
    /// lost, perhaps for long, so that epochs in between prove nothing.
    Told { position: Position, epoch: u64 },
    /// Something of another line of history, which is superseded once the cluster has reported everything in this one.
    Before { incarnation: u64 },
}

/// How an edge's table relates to this controller's world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It has none.
    New,
    Same,
    /// Of an earlier incarnation.
    Restored,
    /// Of a world that a person told this one to continue.
    Adopted,
    /// Of another world, or of an incarnation that this controller has not heard of.
    Foreign,
}

impl Standing {
    pub fn of(theirs: Option<&wire::World>, turn: &Turn) -> Self {
        let Some(theirs) = theirs else { return Standing::New };
        let ours = turn.world_to_wire();
        if theirs.id != ours.id {
            return if ours.adopted.contains(&theirs.id) { Standing::Adopted } else { Standing::Foreign };
        }
        match theirs.incarnation.cmp(&ours.incarnation) {
            std::cmp::Ordering::Less => Standing::Restored,
            std::cmp::Ordering::Equal => Standing::Same,
            std::cmp::Ordering::Greater => Standing::Foreign,
        }
    }
}

impl Behind {
    /// What the edge said at Hello.
    pub fn begin(
        &mut self,
        standing: Standing,
        at: &BTreeMap<ClusterId, Position>,
        positions: &wire::Positions,
        turn: &Turn,
    ) {
        self.since_ms = turn.now_ms;
        match standing {
            Standing::New | Standing::Foreign => {}
            Standing::Same => {
                (self.policy_rev, self.clerk_rev) = (positions.policy_rev, positions.clerk_rev);
                self.clusters = at.iter().map(|(id, position)| (id.clone(), Ahead::At(*position))).collect();
                self.clusters.extend(of_another_line(positions, turn));
            }
            Standing::Restored | Standing::Adopted => {
                let incarnation = if standing == Standing::Adopted { 1 } else { turn.world_id.incarnation };
                let before = Ahead::Before { incarnation };
                self.clusters = at.keys().map(|id| (id.clone(), before)).collect();
            }
        }
    }

    /// Forgets what this controller knows by now, and notices where it went back: `told` is what the edge was told.
    pub fn look(&mut self, told: &BTreeMap<ClusterId, Position>, turn: &Turn) {
        for cluster in &turn.began {
            if let Some(position) = told.get(cluster) {
                let epoch = turn.world.position(cluster).epoch;
                self.clusters.entry(cluster.clone()).or_insert(Ahead::Told { position: *position, epoch });
            }
        }
        self.clusters.retain(|cluster, ahead| !knows(cluster, *ahead, turn));
        self.policy_rev = if self.policy_rev > turn.policy.rev { self.policy_rev } else { 0 };
        self.clerk_rev = if self.clerk_rev > turn.clerk_rev { self.clerk_rev } else { 0 };
    }

    /// The edge's whole table was computed from something that this controller does not know.
    pub fn is_everything(&self) -> bool {
        self.policy_rev > 0 || self.clerk_rev > 0
    }

    /// Since when, if that is the case.
    pub fn everything_since_ms(&self) -> Option<u64> {
        self.is_everything().then_some(self.since_ms)
    }

    pub fn is_nothing(&self) -> bool {
        self.clusters.is_empty()
    }

    pub fn contains(&self, cluster: &ClusterId) -> bool {
        self.clusters.contains_key(cluster)
    }

    /// What the edge has of those clusters, where positions can be compared.
    pub fn positions(&self) -> impl Iterator<Item = (&ClusterId, Position)> {
        let at = |(cluster, ahead): (_, &Ahead)| match ahead {
            Ahead::At(position) | Ahead::Told { position, .. } => Some((cluster, *position)),
            Ahead::Before { .. } => None,
        };
        self.clusters.iter().filter_map(at)
    }
}

/// What an edge of this world still has of an earlier incarnation, or of a world that this one continues.
fn of_another_line<'a>(
    positions: &'a wire::Positions,
    turn: &Turn,
) -> impl Iterator<Item = (ClusterId, Ahead)> + use<'a> {
    let ours = turn.world_id.incarnation;
    positions.clusters.iter().filter_map(move |entry| {
        let incarnation = match entry.incarnation {
            _ if entry.foreign => 1,
            0 => return None,
            theirs if theirs < ours => ours,
            _ => return None,
        };
        Some((entry.cluster.as_str().into(), Ahead::Before { incarnation }))
    })
}

fn knows(cluster: &ClusterId, ahead: Ahead, turn: &Turn) -> bool {
    let lineage = turn.world.lineage(cluster);
    match ahead {
        Ahead::At(position) => position == Position::default() || lineage.is_some_and(|it| it.covers(position)),
        Ahead::Told { position, epoch } => lineage.is_some_and(|it| it.continues(position) || it.has_settled(epoch)),
        Ahead::Before { incarnation } => lineage.is_some_and(|it| it.incarnation >= incarnation),
    }
}
