//! A model of one cluster's Kubernetes API: the truth, its history, and what a watch of one kind sees of it.
//!
//! Lists come in parts and can break half-way; watches show the history in order and late, can fall so far behind that
//! only a new list helps, and a kind can be forbidden. Different kinds are not ordered among each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roadstead_agent::reduce::{ListFailure, Observation, Sighting};
use roadstead_agent::status::{StatusSeen, StatusWrite};
use roadstead_manifests::Converted;
use roadstead_proto::digest::Digest;
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, ObjectName};
use roadstead_routing::object::Object;

use crate::agenda::Ms;
use crate::dice::Dice;
use crate::objects::digest_of;

pub struct Cluster {
    pub id: ClusterId,
    /// Of namespace kube-system.
    pub uid: String,
    truth: BTreeMap<ObjectKey, Object>,
    statuses: BTreeMap<ObjectName, StatusSeen>,
    version: u64,
    log: Vec<Logged>,
    /// Watches that stand before this version must list again.
    compacted: u64,
    /// Kinds that the agents may not read.
    pub forbidden: BTreeSet<Kind>,
    /// How many of the next lists of a kind break half-way.
    pub breaking_lists: BTreeMap<Kind, u32>,
    /// When an object was last absent or, of an Ingress, of no class that exists.
    absent_at: BTreeMap<ObjectKey, u64>,
    /// When some IngressClass was last absent, if ever since the history began.
    class_absent_at: Option<u64>,
    /// In which version an Ingress of this content was written.
    written_at: BTreeMap<(ObjectKey, Digest), u64>,
}

struct Logged {
    version: u64,
    key: ObjectKey,
    object: Option<Object>,
}

impl Cluster {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            uid: format!("uid-of-{id}"),
            truth: BTreeMap::new(),
            statuses: BTreeMap::new(),
            version: 1,
            log: Vec::new(),
            compacted: 0,
            forbidden: BTreeSet::new(),
            breaking_lists: BTreeMap::new(),
            absent_at: BTreeMap::new(),
            class_absent_at: None,
            written_at: BTreeMap::new(),
        }
    }

    pub fn truth(&self) -> &BTreeMap<ObjectKey, Object> {
        &self.truth
    }

    /// The version that the next write gets.
    pub fn next_version(&self) -> u64 {
        self.version + 1
    }

    pub fn put(&mut self, object: Object) {
        self.version += 1;
        let key = object.key();
        if key.kind == Kind::Ingress {
            self.written_at.insert((key.clone(), digest_of(&object)), self.version);
        }
        self.truth.insert(key.clone(), object.clone());
        if key.kind == Kind::Ingress && !self.is_served(&object) {
            self.absent_at.insert(key.clone(), self.version);
        }
        self.log.push(Logged { version: self.version, key, object: Some(object) });
    }

    /// Whether there was anything to delete.
    pub fn delete(&mut self, key: &ObjectKey) -> bool {
        if self.truth.remove(key).is_none() {
            return false;
        }
        self.version += 1;
        self.absent_at.insert(key.clone(), self.version);
        if key.kind == Kind::IngressClass {
            self.class_absent_at = Some(self.version);
        }
        self.statuses.remove(&key.name);
        self.log.push(Logged { version: self.version, key: key.clone(), object: None });
        true
    }

    /// Server-side apply on `ingresses/status`.
    pub fn write_status(&mut self, write: &StatusWrite) -> bool {
        let key = ObjectKey { kind: Kind::Ingress, name: write.ingress.clone() };
        let Some(object) = self.truth.get(&key).cloned() else { return false };
        let addresses = write.addresses.iter().cloned().map(Some).collect();
        let seen = StatusSeen { addresses, ours: !write.addresses.is_empty(), other_manager: None };
        self.statuses.insert(write.ingress.clone(), seen);
        self.version += 1;
        self.log.push(Logged { version: self.version, key, object: Some(object) });
        true
    }

    /// Watches that have not seen everything by now must list again.
    pub fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.log.clear();
    }

    /// Whether an Ingress of this content may be unknown to somebody who was told the truth: it, or a class, was absent
    /// after it was written.
    pub fn may_have_ended(&self, key: &ObjectKey, digest: Digest) -> bool {
        let Some(written) = self.written_at.get(&(key.clone(), digest)) else { return false };
        let absent = self.absent_at.get(key).is_some_and(|absent| absent >= written);
        absent || self.class_absent_at.is_some_and(|absent| absent > *written)
    }

    /// Whether an Ingress that vanished from a table did so because it was deleted, which nothing takes back.
    pub fn is_gone_for_good(&self, name: &ObjectName) -> bool {
        let key = ObjectKey { kind: Kind::Ingress, name: name.clone() };
        self.class_absent_at.is_none() && !self.truth.contains_key(&key)
    }

    /// Whether nobody ever wrote the Ingress again after this version: what takes that away is no change of it.
    pub fn is_last_version(&self, name: &ObjectName, version: u64) -> bool {
        let key = ObjectKey { kind: Kind::Ingress, name: name.clone() };
        let written = self.written_at.iter().filter(|((known, _), _)| *known == key).map(|(_, written)| *written);
        written.max().is_none_or(|last| last <= version)
    }

    /// Whether the Ingress has been there in this version ever since it was written, with its class.
    pub fn is_unchanged_since(&self, name: &ObjectName, version: u64) -> bool {
        let key = ObjectKey { kind: Kind::Ingress, name: name.clone() };
        let is_same = self
            .truth
            .get(&key)
            .is_some_and(|object| *object.meta().resource_version == *version.to_string() && self.is_served(object));
        let absent = self.absent_at.get(&key).is_some_and(|absent| *absent >= version);
        is_same && !absent && self.class_absent_at.is_none_or(|absent| absent < version)
    }

    fn is_served(&self, object: &Object) -> bool {
        let Object::Ingress(ingress) = object else { return false };
        let exists = |class: &str| self.truth.contains_key(&ObjectKey::new(Kind::IngressClass, "", class));
        ingress.class_name.as_deref().is_some_and(exists)
    }

    fn sighting(&self, object: &Object) -> Observation {
        let status = match object {
            Object::Ingress(ingress) => Some(self.statuses.get(&ingress.name).cloned().unwrap_or_default()),
            _ => None,
        };
        let converted = Converted { object: object.clone(), problems: Vec::new() };
        Observation::Seen(Box::new(Sighting { converted, status }))
    }
}

/// One agent's list and watch of one kind.
#[derive(Default)]
pub struct Watch {
    phase: Phase,
}

#[derive(Default)]
enum Phase {
    /// Nothing is listed.
    #[default]
    Apart,
    Listing {
        at: u64,
        left: VecDeque<Object>,
        breaks_after: Option<usize>,
    },
    Watching {
        position: u64,
    },
}

/// How much a watch sees at once.
const AT_ONCE: usize = 2;

impl Watch {
    /// What the watch sees next, and when to look again without being woken.
    pub fn step(&mut self, kind: Kind, cluster: &mut Cluster, dice: &mut Dice) -> (Vec<Observation>, Option<Ms>) {
        if cluster.forbidden.contains(&kind) {
            return self.refused(dice);
        }
        match &mut self.phase {
            Phase::Apart => self.begin(kind, cluster, dice),
            Phase::Listing { at, left, breaks_after } => {
                if *breaks_after == Some(0) {
                    self.phase = Phase::Apart;
                    return (vec![failed("500: the list broke half-way")], Some(dice.between(300, 2_000)));
                }
                let count = breaks_after.unwrap_or(AT_ONCE).min(AT_ONCE);
                let seen: Vec<Object> = left.drain(..count.min(left.len())).collect();
                *breaks_after = breaks_after.map(|left| left - count);
                let mut seen: Vec<Observation> = seen.iter().map(|object| cluster.sighting(object)).collect();
                if left.is_empty() && breaks_after.is_none() {
                    seen.push(Observation::Listed);
                    self.phase = Phase::Watching { position: *at };
                }
                (seen, Some(dice.between(0, 40)))
            }
            Phase::Watching { position } if *position < cluster.compacted => {
                self.phase = Phase::Apart;
                (Vec::new(), Some(dice.between(0, 500)))
            }
            Phase::Watching { position } => {
                let news = cluster.log.iter().filter(|logged| logged.version > *position && logged.key.kind == kind);
                let news: Vec<&Logged> = news.take(AT_ONCE).collect();
                let Some(last) = news.last() else {
                    *position = (*position).max(cluster.version);
                    return (Vec::new(), None);
                };
                *position = last.version;
                let seen = news.iter().map(|logged| match &logged.object {
                    Some(object) => cluster.sighting(object),
                    None => Observation::Deleted(logged.key.clone()),
                });
                (seen.collect(), Some(dice.between(0, 60)))
            }
        }
    }

    /// Whether a live watch has seen everything, so that it may say so.
    pub fn is_current(&self, kind: Kind, cluster: &Cluster) -> bool {
        let Phase::Watching { position } = self.phase else { return false };
        let has_news = cluster.log.iter().any(|logged| logged.version > position && logged.key.kind == kind);
        position >= cluster.compacted && !has_news && !cluster.forbidden.contains(&kind)
    }

    pub fn is_watching(&self) -> bool {
        matches!(self.phase, Phase::Watching { .. })
    }

    fn begin(&mut self, kind: Kind, cluster: &mut Cluster, dice: &mut Dice) -> (Vec<Observation>, Option<Ms>) {
        let left: VecDeque<Object> =
            cluster.truth.iter().filter(|(key, _)| key.kind == kind).map(|(_, object)| object.clone()).collect();
        let breaks = cluster.breaking_lists.get_mut(&kind).filter(|left| **left > 0);
        let breaks_after = breaks.map(|breaks| {
            *breaks -= 1;
            dice.between(0, left.len() as u64) as usize
        });
        self.phase = Phase::Listing { at: cluster.version, left, breaks_after };
        (vec![Observation::ListStarted], Some(dice.between(0, 80)))
    }

    fn refused(&mut self, dice: &mut Dice) -> (Vec<Observation>, Option<Ms>) {
        let begun = matches!(self.phase, Phase::Apart).then_some(Observation::ListStarted);
        self.phase = Phase::Apart;
        let seen = begun.into_iter().chain([failed("403: forbidden")]).collect();
        (seen, Some(dice.between(500, 3_000)))
    }
}

fn failed(message: &str) -> Observation {
    Observation::Failed(ListFailure { message: message.to_owned(), remedy: "Wait.".to_owned() })
}
