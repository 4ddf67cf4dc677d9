//! The last known objects of all clusters. [`World::apply`] is the way in, for agent streams, for what peers say, for what
//! the store has and for the load at start alike; it ignores whatever is older than what it has, and tells a change that
//! does not follow on what it has. A new epoch begins with [`World::take_over`].
//!
//! Change (cluster, position, objects) → dirty names for compute. Holds no routes and decides nothing about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roadstead_proto::digest::{BucketHashes, Digest};
use roadstead_proto::wire;
use roadstead_routing::id::{BackendId, ClusterId, Kind, ObjectKey, ObjectName, Position};
use roadstead_routing::inputs::{Dirty, Inputs};
use roadstead_routing::limit::{HOSTS_PER_CLUSTER_MAX, OBJECTS_PER_CLUSTER_MAX};
use roadstead_routing::membership::Membership;
use roadstead_routing::object::Object;
use roadstead_routing::policy::Policy;

use crate::held::Held;
use crate::store::{Changes, ClusterNews, Loaded, StoredObject};
use crate::world::lineage::Lineage;
use crate::world::recent::Recent;

pub mod lineage;
mod recent;

/// Clusters that may ever have reported. The authority decides who may, so this only stops a runaway one.
pub const CLUSTERS_MAX: usize = 2_000;

/// One accepted change of one cluster.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    pub cluster: ClusterId,
    /// Where it leads to.
    pub lineage: Lineage,
    pub base: Base,
    pub upserts: Vec<(Object, Digest)>,
    pub removals: Vec<ObjectKey>,
}

/// What a change needs to be there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// Nothing: the change is everything the cluster has.
    Whole,
    /// Everything up to here: the change names every object that changed since.
    Since(Position),
    /// What a copy just here has: the change names what differs, and not what changed and changed back.
    Exactly(Position),
}

/// What became of a [`Change`].
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Applied(Applied),
    /// Not newer than what is here.
    Old,
    /// Something between what is here and the change's base is missing.
    Gap,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Applied {
    pub dirty: Dirty,
    /// Objects that would exceed a limit; an earlier version of them stays.
    pub refused: Vec<(ObjectKey, Limit)>,
}

/// What a new holder of a cluster has that is not stored: to be written as the first change of its epoch.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Unstored {
    pub upserts: Vec<(Object, Digest)>,
    pub removals: Vec<ObjectKey>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    Objects,
    Hosts,
}

/// Enforced per cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub objects: usize,
    pub hosts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { objects: OBJECTS_PER_CLUSTER_MAX, hosts: HOSTS_PER_CLUSTER_MAX }
    }
}

#[derive(Default)]
pub struct World {
    inputs: Inputs,
    clusters: BTreeMap<ClusterId, Known>,
    limits: Limits,
    /// The store passes over Secrets: only agents and replicas that heard them have them.
    forgets_secrets: bool,
    /// Clusters that were loaded without their Secrets, until an agent has said which there are.
    awaited: BTreeSet<ClusterId>,
    /// Who wrote the Ingresses last that went in this turn.
    departed: BTreeMap<(ClusterId, ObjectName), Arc<str>>,
}

#[derive(Default)]
struct Known {
    lineage: Lineage,
    recent: Recent,
    held: Held<ObjectKey>,
    counts: BTreeMap<Kind, usize>,
}

impl World {
    pub fn new(policy: Policy, limits: Limits) -> Self {
        Self { inputs: Inputs::new(policy), limits, ..Self::default() }
    }

    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    pub fn set_policy(&mut self, policy: Policy) -> Dirty {
        self.inputs.set_policy(policy)
    }

    pub fn set_now(&mut self, now: i64) -> Dirty {
        self.inputs.set_now(now)
    }

    pub fn set_kept(&mut self, kept: BTreeSet<BackendId>) -> Dirty {
        self.inputs.set_kept(kept)
    }

    pub fn set_membership(&mut self, cluster: &ClusterId, membership: Membership) -> Dirty {
        self.inputs.set_membership(cluster, membership)
    }

    /// Applies everything that was stored, each cluster in the order in which it happened.
    pub fn load(&mut self, loaded: Loaded) -> Dirty {
        self.forgets_secrets = loaded.forgets_secrets;
        if self.forgets_secrets {
            self.awaited = loaded.clusters.keys().cloned().collect();
        }
        let mut objects: BTreeMap<ClusterId, Vec<StoredObject>> = BTreeMap::new();
        for (cluster, stored) in loaded.objects {
            objects.entry(cluster).or_default().push(stored);
        }
        let mut dirty = Dirty::default();
        for (cluster, row) in loaded.clusters {
            dirty.merge(self.inputs.set_membership(&cluster, row.member.membership));
            let stored = objects.remove(&cluster).unwrap_or_default();
            let change = Change::whole(cluster.clone(), row.lineage, stored);
            if let Outcome::Applied(applied) = self.apply(change) {
                dirty.merge(applied.dirty);
            }
        }
        dirty
    }

    pub fn apply(&mut self, change: Change) -> Outcome {
        let Change { cluster, lineage, base, .. } = &change;
        let known = self.clusters.entry(cluster.clone()).or_default();
        let (here, there) = (known.lineage.position, lineage.position);
        if there <= here {
            if there.epoch == here.epoch && lineage.settled {
                known.lineage.settle(lineage.incarnation);
            }
            let fills_in = self.forgets_secrets && there == here && *base == Base::Exactly(here);
            return if fills_in { self.fill_in(change) } else { Outcome::Old };
        }
        match *base {
            Base::Since(since) | Base::Exactly(since) if since == here => {}
            Base::Since(since) if since < here && since.epoch == here.epoch && here.epoch == there.epoch => {}
            Base::Since(_) | Base::Exactly(_) => return Outcome::Gap,
            // An epoch that brought nothing so far takes nothing away.
            Base::Whole if lineage.end_before(here).is_some() => return Outcome::Old,
            Base::Whole => {}
        }
        let (cluster, is_whole) = (cluster.clone(), *base == Base::Whole);
        let applied = self.advance(change);
        if is_whole {
            self.is_stored(&cluster);
        }
        Outcome::Applied(applied)
    }

    /// At one position everybody has the same, but for Secrets that came here by way of the store.
    fn fill_in(&mut self, change: Change) -> Outcome {
        let is_secret = |key: &ObjectKey| key.kind == Kind::Secret;
        let upserts: Vec<_> = change.upserts.into_iter().filter(|(object, _)| is_secret(&object.key())).collect();
        let removals: Vec<_> = change.removals.into_iter().filter(is_secret).collect();
        if upserts.is_empty() && removals.is_empty() {
            return Outcome::Old;
        }
        Outcome::Applied(self.replace(&change.cluster, upserts, removals))
    }

    /// Takes over a change that fits.
    fn advance(&mut self, change: Change) -> Applied {
        let Change { cluster, lineage, base, upserts, removals } = change;
        let known = self.clusters.entry(cluster.clone()).or_default();
        let mut removals = if base == Base::Whole { known.all_but(&upserts) } else { removals };
        if base == Base::Whole && self.forgets_secrets {
            // It is all that is stored, which says nothing of these.
            removals.retain(|key| key.kind != Kind::Secret);
        }
        known.arrive(lineage);
        self.replace(&cluster, upserts, removals)
    }

    /// A new epoch of the cluster begins here. `stored` is what was stored since [`Self::stored_position`], as of that
    /// epoch. It is applied, unless the copy has it and more. What is here and not stored is returned.
    pub fn take_over(&mut self, cluster: &ClusterId, stored: ClusterNews) -> (Applied, Unstored) {
        let ClusterNews { mut row, changes } = stored;
        let known = self.clusters.entry(cluster.clone()).or_default();
        let here = known.lineage.position;
        let end = row.lineage.end_before(here).filter(|_| !known.recent.is_overfull());
        let keys = known.unstored(&changes, end.is_some());
        if let Some(end) = end {
            // A peer said it before it was stored: nothing of it is lost.
            row.lineage.ends[end] = here;
        }
        let lineage = row.lineage.clone();
        let news = ClusterNews { row, changes: changes.filter(|_| end.is_none()) };
        let applied = match Change::stored(cluster.clone(), news) {
            Some(change) => self.advance(change),
            None => {
                known.arrive(lineage);
                Applied::default()
            }
        };
        self.is_stored(cluster);
        let held = |key: &ObjectKey| self.clusters.get(cluster)?.held.get(key);
        let (present, removals): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| held(key).is_some());
        let object = |key| Some((self.inputs.object(cluster, &key)?, held(&key)?));
        (applied, Unstored { upserts: present.into_iter().filter_map(object).collect(), removals })
    }

    /// The copy is what is stored.
    fn is_stored(&mut self, cluster: &ClusterId) {
        if let Some(known) = self.clusters.get_mut(cluster) {
            known.recent.is_stored(known.lineage.position);
        }
    }

    /// Up to where it is known what is stored.
    pub fn stored_position(&self, cluster: &ClusterId) -> Position {
        self.clusters.get(cluster).map(|known| known.recent.base()).unwrap_or_default()
    }

    /// Everything up to `position` is stored.
    pub fn durable(&mut self, cluster: &ClusterId, position: Position) {
        if let Some(known) = self.clusters.get_mut(cluster)
            && known.lineage.position.epoch == position.epoch
        {
            known.recent.durable(position);
        }
    }

    /// The first synchronisation of the cluster's epoch is complete.
    pub fn settle(&mut self, cluster: &ClusterId, incarnation: u64) {
        if let Some(known) = self.clusters.get_mut(cluster) {
            known.lineage.settle(incarnation);
        }
    }

    pub fn forgets_secrets(&self) -> bool {
        self.forgets_secrets
    }

    /// Clusters of which nobody knows which Secrets they have.
    pub fn awaited(&self) -> &BTreeSet<ClusterId> {
        &self.awaited
    }

    /// An agent has said which Secrets the cluster has. Dirty is what waited for that.
    pub fn secrets_known(&mut self, cluster: &ClusterId) -> Dirty {
        if !self.awaited.remove(cluster) {
            return Dirty::default();
        }
        let own = self.inputs.ingresses().filter(|(of, _)| *of == cluster);
        let views = own.filter_map(|(of, ingress)| self.inputs.view(of, ingress));
        let hosts = views.flat_map(|view| view.hosts.into_iter().map(move |host| (view.pool.clone(), host)));
        Dirty { hosts: hosts.collect(), ..Dirty::default() }
    }

    pub fn lineage(&self, cluster: &ClusterId) -> Option<&Lineage> {
        self.clusters.get(cluster).map(|known| &known.lineage)
    }

    fn replace(&mut self, cluster: &ClusterId, upserts: Vec<(Object, Digest)>, removals: Vec<ObjectKey>) -> Applied {
        let known = self.clusters.entry(cluster.clone()).or_default();
        let mut applied = Applied::default();
        for key in removals {
            known.set(&key, None);
            if let Some(Object::Ingress(gone)) = self.inputs.object(cluster, &key) {
                self.departed.insert((cluster.clone(), gone.name.clone()), gone.meta.last_manager.clone());
            }
            applied.dirty.merge(self.inputs.apply(cluster, &key, None));
        }
        for (object, digest) in upserts {
            let key = object.key();
            if known.held.get(&key) == Some(digest) {
                known.recent.note(&key, known.lineage.position.seq);
                continue;
            }
            if known.held.get(&key).is_none() && known.held.len() >= self.limits.objects {
                applied.refused.push((key, Limit::Objects));
                continue;
            }
            let (before, hosts) = (self.inputs.object(cluster, &key), self.inputs.cluster_hosts(cluster));
            let dirty = self.inputs.apply(cluster, &key, Some(object));
            let hosts_now = self.inputs.cluster_hosts(cluster);
            if hosts_now > self.limits.hosts && hosts_now > hosts {
                self.inputs.apply(cluster, &key, before);
                applied.refused.push((key, Limit::Hosts));
                continue;
            }
            known.set(&key, Some(digest));
            applied.dirty.merge(dirty);
        }
        applied
    }

    /// Where in the cluster's history the world is. Zero: it never reported.
    pub fn position(&self, cluster: &ClusterId) -> Position {
        self.clusters.get(cluster).map(|known| known.lineage.position).unwrap_or_default()
    }

    pub fn positions(&self) -> impl Iterator<Item = (&ClusterId, Position)> {
        self.clusters.iter().map(|(cluster, known)| (cluster, known.lineage.position))
    }

    /// Who wrote an Ingress last, also if it went in this turn.
    pub fn last_manager(&self, cluster: &ClusterId, ingress: &ObjectName) -> Option<Arc<str>> {
        let key = ObjectKey { kind: Kind::Ingress, name: ingress.clone() };
        match self.inputs.object(cluster, &key) {
            Some(Object::Ingress(it)) => Some(it.meta.last_manager.clone()),
            _ => self.departed.get(&(cluster.clone(), ingress.clone())).cloned(),
        }
    }

    /// The turn is over.
    pub fn forget_departed(&mut self) {
        self.departed.clear();
    }

    pub fn digest(&self, cluster: &ClusterId, key: &ObjectKey) -> Option<Digest> {
        self.clusters.get(cluster)?.held.get(key)
    }

    /// How many objects of a kind the cluster has.
    pub fn count(&self, cluster: &ClusterId, kind: Kind) -> usize {
        self.clusters.get(cluster).and_then(|known| known.counts.get(&kind)).copied().unwrap_or(0)
    }

    /// `Welcome.known` of a cluster.
    pub fn known(&self, cluster: &ClusterId) -> Vec<u8> {
        self.clusters.get(cluster).map_or_else(|| BucketHashes::default().to_bytes(), |it| it.held.hashes().to_bytes())
    }

    /// Keys and digests of a cluster's objects in these buckets, ascending, in messages of a bounded size.
    pub fn contents(&self, cluster: &ClusterId, request: &wire::BucketRequest) -> Vec<wire::BucketContents> {
        match self.held(cluster) {
            Some(held) => held.contents(request),
            None => Held::<ObjectKey>::default().contents(request),
        }
    }

    pub fn held(&self, cluster: &ClusterId) -> Option<&Held<ObjectKey>> {
        self.clusters.get(cluster).map(|known| &known.held)
    }

    pub fn is_full_for(&self, cluster: &ClusterId) -> bool {
        self.clusters.len() >= CLUSTERS_MAX && !self.clusters.contains_key(cluster)
    }
}

impl Change {
    /// Everything that is stored of a cluster.
    pub fn whole(cluster: ClusterId, lineage: Lineage, stored: Vec<StoredObject>) -> Self {
        Self { cluster, lineage, base: Base::Whole, upserts: in_order(stored), removals: Vec::new() }
    }

    /// What the store has of a cluster that is not here, see [`Changes::is_inferred`]. `None`: nothing.
    pub fn stored(cluster: ClusterId, news: ClusterNews) -> Option<Self> {
        let ClusterNews { row, changes } = news;
        Some(match changes? {
            Changes::Whole { objects } => Self::whole(cluster, row.lineage, objects),
            Changes::Since { since, objects, removals } => {
                let (base, upserts) = (Base::Since(since), in_order(objects));
                let removals = removals.into_iter().map(|(key, _)| key).collect();
                Self { cluster, lineage: row.lineage, base, upserts, removals }
            }
        })
    }
}

/// As they were accepted: where a limit is reached, the older ones are in.
fn in_order(mut stored: Vec<StoredObject>) -> Vec<(Object, Digest)> {
    stored.sort_by_key(|it| it.position);
    stored.into_iter().map(|it| (it.object, it.digest)).collect()
}

impl Known {
    fn arrive(&mut self, lineage: Lineage) {
        self.recent.moves(self.lineage.position, lineage.position);
        // What the incarnation says of an earlier epoch stays true.
        let incarnation = self.lineage.incarnation.max(lineage.incarnation);
        let settled =
            lineage.settled || (self.lineage.settled && self.lineage.position.epoch == lineage.position.epoch);
        self.lineage = Lineage { incarnation, settled, ..lineage };
    }

    /// In which objects the copy differs from the store, which got `changes` since [`Recent::base`]: of all of them if
    /// the copy is ahead, and else of those that the changes do not name and that therefore stay as they are here.
    fn unstored(&self, changes: &Option<Changes>, is_ahead: bool) -> BTreeSet<ObjectKey> {
        let mut stored: BTreeMap<ObjectKey, Option<Digest>> = BTreeMap::new();
        let objects = match changes {
            None => &[][..],
            Some(Changes::Whole { objects }) => {
                stored.extend(self.held.iter().map(|(key, _)| (key.clone(), None)));
                stored.extend(self.recent.keys().map(|key| (key.clone(), None)));
                objects
            }
            Some(Changes::Since { objects, removals, .. }) => {
                stored.extend(removals.iter().map(|(key, _)| (key.clone(), None)));
                objects
            }
        };
        stored.extend(objects.iter().map(|it| (it.object.key(), Some(it.digest))));
        let mut keys: BTreeSet<ObjectKey> =
            self.recent.keys().filter(|key| !stored.contains_key(*key)).cloned().collect();
        if is_ahead {
            let differs = stored.into_iter().filter(|(key, digest)| *digest != self.held.get(key));
            keys.extend(differs.map(|(key, _)| key));
        }
        keys
    }

    /// What is here and not among `objects`.
    fn all_but(&self, objects: &[(Object, Digest)]) -> Vec<ObjectKey> {
        let keys: BTreeSet<ObjectKey> = objects.iter().map(|(object, _)| object.key()).collect();
        self.held.iter().map(|(key, _)| key).filter(|key| !keys.contains(*key)).cloned().collect()
    }

    fn set(&mut self, key: &ObjectKey, digest: Option<Digest>) {
        self.recent.note(key, self.lineage.position.seq);
        let count = self.counts.entry(key.kind).or_default();
        match (self.held.set(key, digest), digest) {
            (None, Some(_)) => *count += 1,
            (Some(_), None) => *count -= 1,
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}
