//! The set of objects the controller must know, each with its digest, and what is wrong with them.

use std::collections::BTreeMap;

use roadstead_manifests::{Converted, Problem};
use roadstead_proto::digest::Digest;
use roadstead_proto::object::to_wire;
use roadstead_proto::wire;
use roadstead_routing::finding::{Code, Severity};
use roadstead_routing::id::{Kind, ObjectKey};
use roadstead_routing::limit::{OBJECT_BYTES_MAX, OBJECTS_PER_CLUSTER_MAX};
use roadstead_routing::object::Object;

use super::Unreadable;

/// One object to report.
#[derive(Clone, Debug)]
pub struct Report {
    pub object: Object,
    /// Over the encoded object without what changes at every write: see [`digest_of`].
    pub digest: Digest,
}

/// See the module's head. Changed by the reducer alone.
#[derive(Default)]
pub struct Reported {
    objects: BTreeMap<ObjectKey, Report>,
    counts: BTreeMap<Kind, usize>,
    /// There, but not decodable.
    unreadable: BTreeMap<ObjectKey, Unreadable>,
    /// There and wanted, but over a limit.
    refused: BTreeMap<ObjectKey, Problem>,
    /// Problems within reported objects.
    flawed: BTreeMap<ObjectKey, Vec<Problem>>,
    findings_revision: u64,
}

impl Reported {
    pub fn get(&self, key: &ObjectKey) -> Option<&Report> {
        self.objects.get(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Report)> {
        self.objects.iter()
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// Whether the object exists but has no form that could be reported: whoever holds an older form keeps it.
    pub fn retains(&self, key: &ObjectKey) -> bool {
        self.is_unreadable(key) || self.refused.contains_key(key)
    }

    pub(super) fn is_unreadable(&self, key: &ObjectKey) -> bool {
        self.unreadable.contains_key(key)
    }

    pub(super) fn unreadable_uid(&self, key: &ObjectKey) -> Option<&str> {
        self.unreadable.get(key).map(|unreadable| unreadable.uid.as_str())
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        let unreadable = self.unreadable.values().map(|unreadable| &unreadable.problem);
        unreadable.chain(self.refused.values()).chain(self.flawed.values().flatten())
    }

    pub(super) fn findings_revision(&self) -> u64 {
        self.findings_revision
    }

    pub(super) fn bump_findings(&mut self) {
        self.findings_revision += 1;
    }

    pub(super) fn unreadable_of(&self, kind: Kind) -> impl Iterator<Item = ObjectKey> {
        self.unreadable.keys().filter(move |key| key.kind == kind).cloned()
    }

    /// Returns whether it was unreadable before.
    pub(super) fn set_unreadable(&mut self, key: &ObjectKey, unreadable: Option<Unreadable>) -> bool {
        let same = self.unreadable.get(key) == unreadable.as_ref();
        let before = match unreadable {
            Some(unreadable) => self.unreadable.insert(key.clone(), unreadable),
            None => self.unreadable.remove(key),
        };
        if !same {
            self.bump_findings();
        }
        before.is_some()
    }

    /// Reports the object's current form. Returns whether that is news.
    pub(super) fn put(&mut self, key: &ObjectKey, converted: &Converted) -> bool {
        let encoded = to_wire(&converted.object);
        let bytes = prost::Message::encoded_len(&encoded);
        let refusal = if bytes > OBJECT_BYTES_MAX {
            Some(too_large(key, bytes))
        } else if self.objects.len() >= OBJECTS_PER_CLUSTER_MAX && !self.objects.contains_key(key) {
            Some(too_many(key))
        } else {
            None
        };
        if let Some(problem) = refusal {
            if self.refused.insert(key.clone(), problem.clone()).as_ref() != Some(&problem) {
                self.bump_findings();
            }
            return false;
        }
        if self.refused.remove(key).is_some() {
            self.bump_findings();
        }
        self.set_flaws(key, &converted.problems);
        let digest = digest_of(encoded);
        if self.objects.get(key).is_some_and(|report| report.digest == digest) {
            return false;
        }
        let report = Report { object: converted.object.clone(), digest };
        if self.objects.insert(key.clone(), report).is_none() {
            *self.counts.entry(key.kind).or_insert(0) += 1;
        }
        true
    }

    /// Ceases to report `key`. Returns whether somebody may hold it: it was reported, or stood for an older form.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> bool {
        self.set_flaws(key, &[]);
        let refused = self.refused.remove(key).is_some();
        if refused {
            self.bump_findings();
        }
        let reported = self.objects.remove(key).is_some();
        if reported && let Some(count) = self.counts.get_mut(&key.kind) {
            *count -= 1;
        }
        reported || refused
    }

    fn set_flaws(&mut self, key: &ObjectKey, problems: &[Problem]) {
        let before = if problems.is_empty() {
            self.flawed.remove(key).unwrap_or_default()
        } else {
            self.flawed.insert(key.clone(), problems.to_vec()).unwrap_or_default()
        };
        if before != problems {
            self.bump_findings();
        }
    }
}

/// The digest of an object without its resourceVersion, generation and last manager. Every write of a status, our own
/// included, changes those: with them, each would cost a Delta, and a restarted agent would send everything again.
fn digest_of(mut object: wire::Object) -> Digest {
    if let Some(meta) = &mut object.meta {
        meta.resource_version.clear();
        meta.generation = 0;
        meta.last_manager.clear();
    }
    Digest::of(&object)
}

fn too_large(key: &ObjectKey, bytes: usize) -> Problem {
    Problem {
        object: Some(key.clone()),
        code: Code::ObjectTooLarge,
        severity: Severity::Error,
        message: format!("{key} has {bytes} bytes, {OBJECT_BYTES_MAX} are allowed; it is left as it was last known"),
        remedy: "Split the object into several.".to_owned(),
    }
}

fn too_many(key: &ObjectKey) -> Problem {
    Problem {
        object: Some(key.clone()),
        code: Code::TooManyObjects,
        severity: Severity::Error,
        message: format!(
            "{key} is not reported: the cluster has more than {OBJECTS_PER_CLUSTER_MAX} objects that matter"
        ),
        remedy: "Remove Ingresses or Services, or split the cluster.".to_owned(),
    }
}
