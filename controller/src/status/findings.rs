//! All findings, by who made them and by what they are about.
//!
//! Each source replaces its own list whenever it looks again; what a subject shows is the union over all sources, so
//! two sources that find the same show it once. Must not decide anything: findings are for people.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_proto::resource::ResourceKey;
use roadstead_routing::finding::Finding;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName};
use roadstead_routing::limit::FINDINGS_PER_OBJECT_MAX;

use crate::core::message::EdgeId;

/// Who looks, and at what.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    Host(PoolName, HostKey),
    Backend(BackendId),
    Ingress(ClusterId, ObjectName),
    /// Admission of one object.
    Admission(ClusterId, ObjectKey),
    /// An object that the database refuses or cannot give back.
    Storage(ClusterId, ObjectKey),
    /// Withheld removals of a cluster.
    Prune(ClusterId),
    /// Another cluster under the same identity.
    Identity(ClusterId),
    /// What a cluster said last is old.
    Staleness(ClusterId),
    /// A whole cluster: objects without a readable name.
    Stream(ClusterId),
    /// What the agent itself found.
    Agent(ClusterId),
    Edge(EdgeId, ResourceKey),
    /// A Hold, by its id.
    Hold(String),
}

/// What a finding is about. `None`: the cluster as a whole.
pub type Subject = (ClusterId, Option<ObjectKey>);

#[derive(Default)]
pub struct Findings {
    subjects_of: BTreeMap<Source, BTreeSet<Subject>>,
    by_subject: BTreeMap<Subject, BTreeMap<Source, Vec<Finding>>>,
    changed: BTreeSet<Subject>,
    count: usize,
}

impl Findings {
    /// Replaces everything that `source` said before.
    pub fn set(&mut self, source: &Source, findings: Vec<Finding>) {
        if findings.is_empty() && !self.subjects_of.contains_key(source) {
            return;
        }
        let mut now: BTreeMap<Subject, Vec<Finding>> = BTreeMap::new();
        for finding in findings {
            let of_subject = now.entry((finding.cluster.clone(), finding.object.clone())).or_default();
            if of_subject.len() < FINDINGS_PER_OBJECT_MAX {
                of_subject.push(finding);
            }
        }
        let before = self.subjects_of.remove(source).unwrap_or_default();
        for subject in before.iter().filter(|subject| !now.contains_key(*subject)) {
            self.replace(subject, source, Vec::new());
        }
        if !now.is_empty() {
            self.subjects_of.insert(source.clone(), now.keys().cloned().collect());
        }
        for (subject, list) in now {
            self.replace(&subject, source, list);
        }
    }

    pub fn clear(&mut self, source: &Source) {
        self.set(source, Vec::new());
    }

    /// A new stream of the cluster reports every object that was not let in again, so what is left of the last stream
    /// would be about objects that are gone.
    pub fn clear_admission(&mut self, cluster: &ClusterId) {
        let first = Source::Admission(cluster.clone(), ObjectKey::new(Kind::IngressClass, "", ""));
        let of_cluster = |source: &&Source| matches!(source, Source::Admission(id, _) if id == cluster);
        let sources = self.subjects_of.range(first..).map(|(source, _)| source).take_while(of_cluster);
        for source in sources.cloned().collect::<Vec<_>>() {
            self.clear(&source);
        }
        self.clear(&Source::Stream(cluster.clone()));
    }

    /// What to show about a subject: sorted, without repetition, at most [`FINDINGS_PER_OBJECT_MAX`]. What the agent
    /// found itself is left out.
    pub fn for_agent(&self, subject: &Subject) -> Vec<Finding> {
        let sources = self.by_subject.get(subject).into_iter().flatten();
        let findings = sources.filter(|(source, _)| !matches!(source, Source::Agent(_))).flat_map(|(_, list)| list);
        let unique: BTreeSet<&Finding> = findings.collect();
        unique.into_iter().take(FINDINGS_PER_OBJECT_MAX).cloned().collect()
    }

    /// Subjects whose findings changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<Subject> {
        std::mem::take(&mut self.changed)
    }

    /// Subjects of one cluster that have findings.
    pub fn subjects(&self, cluster: &ClusterId) -> impl Iterator<Item = &Subject> {
        let from = (cluster.clone(), None);
        self.by_subject.range(from..).map(|(subject, _)| subject).take_while(move |(id, _)| id == cluster)
    }

    /// Everything, by subject, without repetition within a subject.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.by_subject.values().flat_map(|sources| sources.values().flatten().collect::<BTreeSet<_>>())
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn replace(&mut self, subject: &Subject, source: &Source, list: Vec<Finding>) {
        let sources = self.by_subject.entry(subject.clone()).or_default();
        let before = sources.remove(source).unwrap_or_default();
        self.count = self.count + list.len() - before.len();
        if before != list {
            self.changed.insert(subject.clone());
        }
        if !list.is_empty() {
            sources.insert(source.clone(), list);
        } else if sources.is_empty() {
            self.by_subject.remove(subject);
        }
    }
}
