//! Gaps that the simulation has found and that are not closed yet. Histories get around them, so that whatever else
//! breaks is seen; a test says when one of them is gone, and its part of this file with it.
//!
//! - An edge gets an older version of an object after a controller lost the newer one, if the object is gone from its
//!   cluster and the removal is withheld until a person decides.
//! - So it does if the newer one was lost and the next agent's stream ended, or went on for half a minute, without ever
//!   having listed every kind: its epoch counts as newer all the same.
//! - A transaction of a dead controller that reaches the database late writes host versions, which no epoch guards.
//! - One that reaches it after the next controller has loaded and before that one took over leaves rows that the
//!   next controller does not know.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::id::{ClusterId, Kind};

use crate::agenda::Ms;
use crate::network::{End, LinkId};
use crate::oracle::withholds;
use crate::simulation::Simulation;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Known {
    #[default]
    Avoided,
    /// They are violations like any other.
    Reported,
}

/// A stream that said this little for this long counts as having said everything.
const FIRST_SYNC_MAX: Ms = 30_000;

/// How far the newest stream of each cluster came with its first synchronisation.
#[derive(Default)]
pub struct Syncs {
    clusters: BTreeMap<ClusterId, Sync>,
}

struct Sync {
    link: LinkId,
    since: Ms,
    complete: BTreeSet<i32>,
}

impl Syncs {
    pub fn welcomed(&mut self, cluster: &ClusterId, link: LinkId, now: Ms) {
        self.clusters.insert(cluster.clone(), Sync { link, since: now, complete: BTreeSet::new() });
    }

    pub fn completed(&mut self, link: LinkId, kind: i32) {
        for sync in self.clusters.values_mut().filter(|sync| sync.link == link) {
            sync.complete.insert(kind);
        }
    }
}

impl Simulation {
    /// Whether the newest epoch of the cluster counts although not every kind was listed in it.
    fn is_half_synced(&self, cluster: &ClusterId) -> bool {
        let Some(sync) = self.syncs.clusters.get(cluster) else { return false };
        let is_live = self.network.is_open(sync.link, End::Replica);
        let lasted = self.now.saturating_sub(sync.since);
        sync.complete.len() < Kind::ALL.len() && (!is_live || lasted > FIRST_SYNC_MAX)
    }

    pub fn avoids_known(&self) -> bool {
        self.options.known == Known::Avoided
    }

    /// Whether one of the known reasons why edges may get older versions is there for this cluster.
    pub fn is_known(&self, cluster: &ClusterId) -> bool {
        let cores = self.replicas.iter().filter_map(|replica| replica.core());
        self.is_half_synced(cluster) || cores.into_iter().any(|core| withholds(core, cluster))
    }
}
