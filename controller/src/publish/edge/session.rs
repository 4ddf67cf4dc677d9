//! One stream of an edge: which differences wait, why some must, and the next Update.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message;
use roadstead_proto::digest::{Digest, bucket_of};
use roadstead_proto::position::{position_from_wire, position_to_wire};
use roadstead_proto::resource::{ResourceKey, backend_to_wire, host_to_wire, secret};
use roadstead_proto::wire;
use roadstead_routing::id::{ClusterId, Position};
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

use super::{InFlight, Next, OVERHEAD_BYTES, Phase, Session};
use crate::compute::clusters_of;
use crate::core::message::StreamId;
use crate::core::turn::Turn;
use crate::held::Held;
use crate::publish::behind::{Behind, Standing};
use crate::publish::pending::{self, Pending};
use crate::publish::pool::Content;

impl Session {
    pub(super) fn new(stream: StreamId, listening_ms: u64) -> Self {
        Self {
            stream,
            last_heard_ms: listening_ms,
            phase: Phase::Greeting,
            pending: Pending::default(),
            withheld: Pending::default(),
            behind: Behind::default(),
            involved: BTreeMap::new(),
            in_flight: VecDeque::new(),
            unacknowledged: BTreeMap::new(),
            last_nonce: 0,
            told: BTreeMap::new(),
            context: None,
            guarded: BTreeSet::new(),
            offered_ms: 0,
            offers: 0,
            is_synced: false,
            is_new: false,
        }
    }

    pub(super) fn remember_positions(&mut self, standing: Standing, positions: &wire::Positions, turn: &Turn) {
        // What it still has of another line of history is not comparable.
        let ours = turn.world_id.incarnation;
        let is_of_ours = |entry: &&wire::ClusterPosition| {
            standing != Standing::Same || (!entry.foreign && (entry.incarnation == 0 || entry.incarnation == ours))
        };
        let entries = positions.clusters.iter().filter(is_of_ours);
        let at = |entry: &wire::ClusterPosition| (entry.cluster.as_str().into(), position_from_wire(entry.position));
        let entries: BTreeMap<ClusterId, Position> = entries.map(at).collect();
        self.behind.begin(standing, &entries, positions, turn);
        self.is_new = standing == Standing::New;
        if standing == Standing::Same {
            self.told = entries;
        }
    }

    /// The edge said everything it holds in the differing buckets: what is not equal becomes withheld, to be released
    /// by [`Self::sort_out`] as soon as nothing speaks against it. Changes since Hello are in `pending` already.
    pub(super) fn compare(&mut self, held: &Held<ResourceKey>, refused: &BTreeMap<ResourceKey, Digest>) {
        let Phase::Comparing { buckets, mut theirs } = std::mem::replace(&mut self.phase, Phase::Live) else { return };
        let differs = |bucket: u32| buckets.binary_search(&bucket).is_ok();
        self.pending.retain(|key| !differs(bucket_of(&key.to_string()) as u32));
        for (key, digest) in held.in_buckets(differs).into_values().flatten() {
            let edge = theirs.remove(key);
            if refused.get(key) != Some(&digest) {
                self.withheld.set(key, edge.into(), Some(digest));
            }
        }
        for (key, digest) in theirs {
            self.withheld.set(&key, pending::Edge::Holds(digest), None);
        }
    }

    /// Parts what may be sent from what must wait.
    pub(super) fn sort_out(&mut self, content: &Content<'_>) {
        let may_wait = !self.behind.is_nothing()
            || content.trial.is_some()
            || content.guarded.is_something()
            || !content.awaited.is_empty();
        if self.withheld.is_empty() && !may_wait {
            return;
        }
        let all = std::mem::take(&mut self.withheld).into_keys().chain(std::mem::take(&mut self.pending).into_keys());
        for (key, edge) in all.collect::<Vec<_>>() {
            let target = if self.must_wait(&key, content) { &mut self.withheld } else { &mut self.pending };
            target.set(&key, edge, content.held.get(&key));
        }
    }

    fn must_wait(&self, key: &ResourceKey, content: &Content<'_>) -> bool {
        // What is held is as it was stored last; an edge that has a table has what was really published last.
        if content.guarded.contains(key) && !self.is_new {
            return true;
        }
        if let ResourceKey::Secret(id) = key
            && content.held.get(key).is_none()
            && content.awaited.contains(&id.cluster)
        {
            return true;
        }
        let on_trial = match key {
            ResourceKey::Host(host) => !self.is_new && content.trial.is_some_and(|it| it.keeps(host, content.edge)),
            ResourceKey::Backend(_) | ResourceKey::Secret(_) => false,
        };
        if on_trial || self.behind.is_nothing() {
            return on_trial;
        }
        let clusters = self.clusters_of(key, content);
        // Whose a host was that only the edge has, it may not have said.
        clusters.is_empty() || clusters.iter().any(|cluster| self.behind.contains(cluster))
    }

    /// Clusters that have a part in a resource, or had one in some version since what the edge holds.
    fn clusters_of(&self, key: &ResourceKey, content: &Content<'_>) -> BTreeSet<ClusterId> {
        match key {
            ResourceKey::Backend(id) => [id.cluster.clone()].into(),
            ResourceKey::Secret(id) => [id.cluster.clone()].into(),
            ResourceKey::Host(host) => {
                let mut clusters = content.hosts.get(host).map(|it| clusters_of(&it.value)).unwrap_or_default();
                clusters.extend(self.involved.get(host).into_iter().flatten().cloned());
                clusters
            }
        }
    }

    /// What to send next: upserts first, then removals. While anything is withheld the edge retains hosts of which
    /// this controller does not know what they refer to, so no backend or certificate is removed.
    pub(super) fn next(&self) -> Option<Next<'_>> {
        let may_go = |key: &&ResourceKey| self.withheld.is_empty() || matches!(key, ResourceKey::Host(_));
        let removal = || self.pending.next_removal().filter(may_go);
        self.pending.next_upsert().map(Next::Upsert).or_else(|| removal().map(Next::Removal))
    }

    /// Takes as much as fits into one message.
    pub(super) fn next_update(&mut self, content: &Content<'_>, turn: &Turn) -> wire::Update {
        let mut bytes = OVERHEAD_BYTES;
        let mut update = wire::Update { world: Some(turn.world_to_wire()), ..wire::Update::default() };
        let mut sent = Vec::new();
        while let Some(next) = self.next() {
            let (key, upsert) = match next {
                // Only what the pool holds is ever pending as an upsert.
                Next::Upsert(key) => (key.clone(), upsert(key, content)),
                Next::Removal(key) => (key.clone(), None),
            };
            bytes += upsert.as_ref().map_or_else(|| key.to_string().len() + 8, Message::encoded_len);
            if bytes > MESSAGE_BYTES_MAX && !sent.is_empty() {
                break;
            }
            self.pending.remove(&key);
            self.guarded.remove(&key);
            if let ResourceKey::Host(host) = &key {
                self.involved.remove(host);
            }
            sent.push((key.clone(), upsert.as_ref().and_then(|upsert| Digest::from_slice(&upsert.digest))));
            match upsert {
                Some(upsert) => update.upserts.push(upsert),
                None => update.removals.push(key.to_string()),
            }
        }
        for (key, _) in &sent {
            *self.unacknowledged.entry(key.clone()).or_default() += 1;
        }
        update.synced = self.next().is_none() && !self.is_synced;
        self.is_synced |= update.synced;
        self.is_new &= !self.is_synced;
        update.positions = Some(self.news_of_positions(turn));
        if self.context.as_ref() != Some(content.context) {
            self.context = Some(content.context.clone());
            update.guard = self.context.clone();
        }
        self.last_nonce += 1;
        update.nonce = self.last_nonce;
        self.in_flight.push_back(InFlight { nonce: update.nonce, offers: self.offers, sent });
        update
    }

    /// Positions that differ from what the edge was told.
    fn news_of_positions(&mut self, turn: &Turn) -> wire::Positions {
        let mut clusters = Vec::new();
        for (cluster, position) in turn.world.positions() {
            // An edge that is ahead of us keeps what it has, also while a newer epoch has brought nothing yet. Until then
            // it must not hear of that epoch either: on its next stream it would no longer count as ahead.
            let is_ahead = self.behind.contains(cluster);
            if is_ahead || self.told.get(cluster).is_some_and(|told| *told >= position) {
                continue;
            }
            self.told.insert(cluster.clone(), position);
            clusters.push(wire::ClusterPosition {
                cluster: cluster.to_string(),
                position: Some(position_to_wire(position)),
                ..Default::default()
            });
        }
        wire::Positions { clusters, policy_rev: turn.policy.rev, clerk_rev: turn.clerk_rev }
    }

    pub(super) fn acknowledge(&mut self, key: &ResourceKey) {
        if let Some(count) = self.unacknowledged.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.unacknowledged.remove(key);
            }
        }
    }
}

fn upsert(key: &ResourceKey, content: &Content<'_>) -> Option<wire::ResourceUpsert> {
    let (digest, resource) = match key {
        ResourceKey::Host(host) => {
            let it = content.hosts.get(host)?;
            (it.digest, wire::resource_upsert::Resource::Host(host_to_wire(&it.value)))
        }
        ResourceKey::Backend(id) => {
            let it = content.backends.get(id)?;
            (it.digest, wire::resource_upsert::Resource::Backend(backend_to_wire(&it.value)))
        }
        ResourceKey::Secret(id) => {
            let it = content.secrets.get(id)?;
            (it.digest, wire::resource_upsert::Resource::Secret(secret::to_wire(&it.value)))
        }
    };
    Some(wire::ResourceUpsert { digest: digest.to_vec(), resource: Some(resource) })
}
