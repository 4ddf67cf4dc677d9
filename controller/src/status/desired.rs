//! Which addresses each Ingress's status should show, and since when.
//!
//! An Ingress shows its pool's addresses once every connected edge of the pool has all its hosts, or
//! [`LAGGARDS_MS`] after the first edge had them, so that one stuck edge does not hold up everybody. What was shown
//! stays shown while the Ingress changes. Without any connected edge nothing new is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roadstead_proto::wire;
use roadstead_proto::wire::controller_message::Message as Say;
use roadstead_routing::id::{ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName, Position};
use roadstead_routing::policy::StatusPolicy;

use crate::core::turn::Turn;
use crate::ingest::Ingest;
use crate::publish::{News, Publish, Reached};

/// How long slower edges may hold up a status after the first edge serves the Ingress.
pub const LAGGARDS_MS: u64 = 10_000;
/// Statuses in one message; each is a name and a few addresses.
const STATUSES_PER_MESSAGE: usize = 1_000;

type IngressId = (ClusterId, ObjectName);

#[derive(Default)]
pub struct Desired {
    ingresses: BTreeMap<IngressId, Entry>,
    /// How many of them wait for edges.
    waiting: usize,
    /// Ingresses that wait for edges to have a host.
    by_host: BTreeMap<(PoolName, HostKey), BTreeSet<IngressId>>,
    /// When laggards are no longer waited for.
    deadlines: BTreeSet<(u64, IngressId)>,
    /// To be told as soon as the cluster's agent is live.
    outbox: BTreeMap<ClusterId, BTreeSet<ObjectName>>,
}

struct Entry {
    pool: PoolName,
    hosts: Vec<HostKey>,
    /// Where its cluster was when the Ingress changed last: edges must have everything up to there.
    at: Position,
    state: State,
}

enum State {
    /// For edges; the deadline is set once the first one has all hosts.
    Waiting {
        deadline_ms: Option<u64>,
    },
    Shown {
        addresses: Arc<[String]>,
    },
}

impl Desired {
    /// These Ingresses may have changed, come or gone.
    pub fn refresh(&mut self, changed: BTreeSet<IngressId>, publish: &Publish, turn: &Turn) {
        let mut shared: BTreeMap<PoolName, Arc<[String]>> = BTreeMap::new();
        for id in changed {
            let view = turn.world.inputs().view(&id.0, &id.1).filter(|view| view.status == StatusPolicy::Write);
            let Some(view) = view else {
                self.withdraw(&id, turn);
                continue;
            };
            let before = self.remove(&id);
            let kept = before.filter(|entry| entry.pool == view.pool).map(|entry| entry.state);
            let state = match kept {
                Some(State::Shown { addresses }) => {
                    let now = shared.entry(view.pool.clone()).or_insert_with(|| addresses_of(&view.pool, turn));
                    if *now != addresses {
                        self.tell(&id);
                    }
                    State::Shown { addresses: now.clone() }
                }
                Some(waiting) => waiting,
                None => State::Waiting { deadline_ms: None },
            };
            self.insert(
                id.clone(),
                Entry { pool: view.pool, hosts: view.hosts, at: turn.world.position(&id.0), state },
            );
            self.judge(&id, publish, turn);
        }
    }

    /// Edges acknowledged something, came or went, or time passed.
    pub fn reconsider(&mut self, news: &News, publish: &Publish, turn: &Turn) {
        let mut ids: BTreeSet<IngressId> = BTreeSet::new();
        for host in &news.settled {
            ids.extend(self.by_host.get(host).into_iter().flatten().cloned());
        }
        for pool in &news.pools {
            let of_pool = self
                .by_host
                .range((pool.clone(), HostKey::Exact("".into()))..)
                .take_while(|((name, _), _)| name == pool);
            ids.extend(of_pool.flat_map(|(_, waiting)| waiting).cloned());
        }
        ids.extend(self.deadlines.iter().take_while(|(at, _)| *at <= turn.now_ms).map(|(_, id)| id.clone()));
        for id in ids {
            self.judge(&id, publish, turn);
        }
    }

    /// The cluster's agent is new and knows nothing.
    pub fn tell_everything(&mut self, cluster: &ClusterId) {
        let first = (cluster.clone(), ObjectName::new("", ""));
        let own = self.ingresses.range(first..).take_while(|((id, _), _)| id == cluster);
        let shown =
            own.filter(|(_, entry)| matches!(entry.state, State::Shown { .. })).map(|((_, name), _)| name.clone());
        let shown: BTreeSet<ObjectName> = shown.collect();
        self.outbox.entry(cluster.clone()).or_default().extend(shown);
    }

    pub fn send(&mut self, ingest: &Ingest, turn: &mut Turn) {
        let live: Vec<_> = self.outbox.keys().filter_map(|id| Some((id.clone(), ingest.live(id)?))).collect();
        for (cluster, stream) in live {
            let names: Vec<ObjectName> = self.outbox.remove(&cluster).unwrap_or_default().into_iter().collect();
            for chunk in names.chunks(STATUSES_PER_MESSAGE) {
                let statuses = chunk.iter().map(|name| self.status(&cluster, name)).collect();
                turn.to_agent(stream, Say::DesiredStatuses(wire::DesiredStatuses { statuses }));
            }
        }
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn status(&self, cluster: &ClusterId, name: &ObjectName) -> wire::DesiredStatus {
        let addresses = match self.ingresses.get(&(cluster.clone(), name.clone())).map(|entry| &entry.state) {
            Some(State::Shown { addresses }) => addresses.to_vec(),
            Some(State::Waiting { .. }) | None => Vec::new(),
        };
        wire::DesiredStatus { namespace: name.namespace.to_string(), name: name.name.to_string(), addresses }
    }

    /// Shows the Ingress if its edges are there, or sets the deadline if the first one is.
    fn judge(&mut self, id: &IngressId, publish: &Publish, turn: &Turn) {
        let Some(entry) = self.ingresses.get_mut(id) else { return };
        let State::Waiting { deadline_ms } = &mut entry.state else { return };
        let due = match (publish.reached(&entry.pool, &entry.hosts, &id.0, entry.at), *deadline_ms) {
            (Reached::All, _) => true,
            (Reached::Some | Reached::None, Some(at)) => at <= turn.now_ms,
            (Reached::None, None) => false,
            (Reached::Some, None) => {
                let at = turn.now_ms + LAGGARDS_MS;
                *deadline_ms = Some(at);
                self.deadlines.insert((at, id.clone()));
                false
            }
        };
        if due {
            let Some(mut entry) = self.remove(id) else { return };
            entry.state = State::Shown { addresses: addresses_of(&entry.pool, turn) };
            self.insert(id.clone(), entry);
            self.tell(id);
        }
    }

    /// The Ingress is no longer ours to write. What was shown is cleared if it still exists.
    fn withdraw(&mut self, id: &IngressId, turn: &Turn) {
        let was_shown = self.remove(id).is_some_and(|entry| matches!(entry.state, State::Shown { .. }));
        let key = ObjectKey { kind: Kind::Ingress, name: id.1.clone() };
        if was_shown && turn.world.digest(&id.0, &key).is_some() {
            self.tell(id);
        }
    }

    fn tell(&mut self, id: &IngressId) {
        self.outbox.entry(id.0.clone()).or_default().insert(id.1.clone());
    }

    fn insert(&mut self, id: IngressId, entry: Entry) {
        if let State::Waiting { deadline_ms } = entry.state {
            self.waiting += 1;
            for host in &entry.hosts {
                self.by_host.entry((entry.pool.clone(), host.clone())).or_default().insert(id.clone());
            }
            self.deadlines.extend(deadline_ms.map(|at| (at, id.clone())));
        }
        self.ingresses.insert(id, entry);
    }

    fn remove(&mut self, id: &IngressId) -> Option<Entry> {
        let entry = self.ingresses.remove(id)?;
        if let State::Waiting { deadline_ms } = entry.state {
            self.waiting -= 1;
            for host in &entry.hosts {
                let key = (entry.pool.clone(), host.clone());
                if let Some(waiting) = self.by_host.get_mut(&key) {
                    waiting.remove(id);
                    if waiting.is_empty() {
                        self.by_host.remove(&key);
                    }
                }
            }
            if let Some(at) = deadline_ms {
                self.deadlines.remove(&(at, id.clone()));
            }
        }
        Some(entry)
    }
}

fn addresses_of(pool: &PoolName, turn: &Turn) -> Arc<[String]> {
    let addresses = turn.policy.policy.pools.get(pool).map(|pool| pool.addresses.clone());
    addresses.unwrap_or_default().into()
}
