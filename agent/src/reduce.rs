//! From everything seen in the cluster to what the controller must know.
//!
//! [`Observation`]s of six watches in → [`Reported`] (the set of objects to report) and the [`Change`]s to it out.
//! Reported are: IngressClasses that are ours or named by the policy, the Ingresses they make ours (rule I-4), the
//! Services and Secrets those refer to, and the EndpointSlices of those Services; every Service of type LoadBalancer, of
//! which one may be the cluster's gateway, and every Node. Further Services only if the controller asks for them, because a
//! host that used them is held or pinned, and further Secrets, because the policy names them. Nothing else leaves the
//! cluster.
//!
//! Four rules keep a failing API from removing routes:
//! - an object is taken for gone only if a watch said so, or if a *complete* list does not have it;
//! - a kind is complete only if its last list succeeded, the kinds that decide about it ([`depends_on`]) were listed at
//!   least once, and those that declare its objects ([`vouched_by`]) were listed since its list began or heard from since
//!   it ended; until then nothing of it is pruned;
//! - an object that is there but cannot be read stays as it was last known;
//! - an Ingress that names a class nobody has seen stays until the classes were heard from: the watches of two kinds are
//!   not in order, and the class may be as new as the Ingress.
//!
//! Pure: no I/O, no clock.

mod list;
mod references;
mod reported;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use roadstead_manifests::{Converted, Problem};
use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, ObjectName};
use roadstead_routing::object::{Ingress, Object, ServiceType};

use crate::status::StatusSeen;
use list::List;
use references::References;
pub use reported::{Report, Reported};

/// Findings the agent reports at most, over all objects.
pub const FINDINGS_MAX: usize = 1_000;

/// What one kind's watch saw. Between [`ListStarted`](Observation::ListStarted) and
/// [`Listed`](Observation::Listed) every object that exists is `Seen` or `Unreadable` once.
#[derive(Clone, Debug)]
pub enum Observation {
    ListStarted,
    Seen(Box<Sighting>),
    /// There is an object, but it cannot be read.
    Unreadable(Unreadable),
    /// A live watch said that it is gone.
    Deleted(ObjectKey),
    /// The list is complete: what it did not mention is gone.
    Listed,
    /// A live watch has nothing new.
    Bookmark,
    /// The list failed; what it mentioned so far counts, what it did not mention means nothing.
    Failed(ListFailure),
}

/// One readable object.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub converted: Converted,
    /// Of Ingresses only.
    pub status: Option<StatusSeen>,
}

/// An object of which not more than the metadata can be read, if that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    pub problem: Problem,
    /// Empty if it cannot be read either.
    pub uid: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListFailure {
    pub message: String,
    pub remedy: String,
}

/// A difference in [`Reported`], to be sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Change {
    Upsert(ObjectKey),
    Removal(ObjectKey, Cause),
}

/// Why something is no longer reported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// A live watch said so, of the object or of what made it matter.
    Deleted,
    /// It, or what made it matter, is absent from a complete list.
    Inferred,
}

/// What one observation led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub changes: Vec<Change>,
    /// Ingresses that were seen, are gone, or became or ceased to be ours: whoever cares for them looks again.
    pub ingresses: BTreeSet<ObjectName>,
}

impl Outcome {
    /// Adds what came of it later.
    fn merge(&mut self, later: Self) {
        self.changes.extend(later.changes);
        self.ingresses.extend(later.ingresses);
    }
}

/// The kinds that decide whether what is missing of `kind` is gone. EndpointSlices are chosen by the name that
/// Ingresses refer to, but a Service without them is one without endpoints.
pub fn depends_on(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::IngressClass | Kind::Node => &[],
        Kind::Ingress => &[Kind::IngressClass],
        Kind::Service | Kind::Secret => &[Kind::IngressClass, Kind::Ingress],
        Kind::EndpointSlice => &[Kind::IngressClass, Kind::Ingress, Kind::Service],
    }
}

/// The kinds whose objects need those of `kind`. An API server that comes back empty ends every watch, each at its own
/// time: what such a kind said before is no evidence that somebody still declares what a later list does not have.
fn vouched_by(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::IngressClass | Kind::Node | Kind::Ingress => &[],
        Kind::Service | Kind::Secret => &[Kind::Ingress],
        Kind::EndpointSlice => &[Kind::Ingress, Kind::Service],
    }
}

/// All that is known of the cluster. See the module's head.
#[derive(Default)]
pub struct Reducer {
    seen: BTreeMap<ObjectKey, Sighting>,
    lists: BTreeMap<Kind, List>,
    references: References,
    reported: Reported,
    /// Of Ingresses that are ours: what they have become, with a class that was not seen.
    postponed: BTreeMap<ObjectKey, Sighting>,
    /// Observations so far: the order in which lists and watches said something.
    turn: u64,
}

impl Reducer {
    pub fn apply(&mut self, kind: Kind, observation: Observation) -> Outcome {
        self.turn += 1;
        let is_live = !matches!(observation, Observation::ListStarted | Observation::Failed(_));
        let mut outcome = match observation {
            Observation::ListStarted => self.start(kind),
            Observation::Seen(sighting) => self.see(kind, *sighting),
            Observation::Unreadable(unreadable) => self.note_unreadable(kind, unreadable),
            Observation::Deleted(key) => self.delete(&key),
            Observation::Listed => self.finish(kind),
            Observation::Bookmark => Outcome::default(),
            Observation::Failed(failure) => self.fail(kind, failure),
        };
        if is_live {
            outcome.merge(self.hear(kind));
        }
        outcome
    }

    /// Sets the IngressClass names that are managed whatever their controller.
    pub fn set_classes(&mut self, classes: &[String]) -> Outcome {
        if !self.references.set_named(classes) {
            return Outcome::default();
        }
        let ingresses = self.ingress_names();
        let mut touched = self.keys_of(Kind::IngressClass);
        touched.extend(self.reconsider(ingresses.iter()));
        Outcome { changes: self.settle(touched, Cause::Deleted), ingresses }
    }

    /// Sets the Services and Secrets (`NAMESPACE/NAME`) that are reported although no Ingress may refer to them.
    pub fn set_wanted(&mut self, services: &[String], secrets: &[String]) -> Outcome {
        let key =
            |kind, text: &String| text.split_once('/').map(|(namespace, name)| ObjectKey::new(kind, namespace, name));
        let services = services.iter().filter_map(|text| key(Kind::Service, text));
        let secrets = secrets.iter().filter_map(|text| key(Kind::Secret, text));
        let touched = self.references.set_wanted(services.chain(secrets).collect());
        Outcome { changes: self.settle(touched, Cause::Deleted), ..Outcome::default() }
    }

    pub fn reported(&self) -> &Reported {
        &self.reported
    }

    /// Whether everything of `kind` that should be reported is, so that what is not reported does not exist.
    pub fn complete(&self, kind: Kind) -> bool {
        self.listed(kind)
            && self.is_current(kind)
            && depends_on(kind).iter().all(|kind| self.listed(*kind))
            && self.is_vouched_for(kind)
    }

    /// Whether the last list of `kind` succeeded and its watch goes on.
    pub fn is_current(&self, kind: Kind) -> bool {
        self.lists.get(&kind).is_some_and(List::is_current)
    }

    /// Whether what is reported of an object may be outdated: it was seen before its kind's watch ended, or cannot be
    /// read, or became an Ingress of a class that was not seen.
    pub fn is_outdated(&self, key: &ObjectKey) -> bool {
        let is_named = self.lists.get(&key.kind).is_some_and(|list| list.names(key));
        self.postponed.contains_key(key) || self.is_unreadable(key) || !(is_named || self.is_current(key.kind))
    }

    /// Whether the object is there, but cannot be read.
    pub fn is_unreadable(&self, key: &ObjectKey) -> bool {
        self.reported.is_unreadable(key)
    }

    /// Whether every kind was listed or has failed to be: waiting longer may take for ever.
    pub fn settled(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.lists.get(kind).is_some_and(|list| list.complete || list.failure.is_some()))
    }

    /// An Ingress that exists, its status, and whether it is ours.
    pub fn ingress(&self, name: &ObjectName) -> Option<(&Ingress, &StatusSeen, bool)> {
        let sighting = self.seen.get(&ObjectKey { kind: Kind::Ingress, name: name.clone() })?;
        match (&sighting.converted.object, &sighting.status) {
            (Object::Ingress(ingress), Some(status)) => Some((ingress, status, self.references.manages(name))),
            _ => None,
        }
    }

    /// The uid of an object that exists.
    pub fn uid(&self, key: &ObjectKey) -> Option<&str> {
        let seen = self.seen.get(key).map(|sighting| &*sighting.converted.object.meta().uid);
        seen.or_else(|| self.reported.unreadable_uid(key)).filter(|uid| !uid.is_empty())
    }

    /// Changes whenever [`Reducer::findings`] does.
    pub fn findings_revision(&self) -> u64 {
        self.reported.findings_revision()
    }

    /// Everything that is wrong with what was seen, at most [`FINDINGS_MAX`].
    pub fn findings(&self, cluster: &ClusterId) -> Vec<Finding> {
        let failures = self.lists.iter().filter_map(|(kind, list)| {
            let failure = list.failure.as_ref()?;
            Some(Problem {
                object: None,
                code: Code::IncompleteSync,
                severity: Severity::Warning,
                message: format!("{kind} cannot be listed, nothing of it is pruned: {}", failure.message),
                remedy: failure.remedy.clone(),
            })
        });
        let unnamed = self.lists.values().filter_map(|list| list.unnamed.clone());
        let all = failures.chain(unnamed).chain(self.reported.problems().cloned());
        all.take(FINDINGS_MAX).map(|problem| problem.into_finding(cluster)).collect()
    }

    fn start(&mut self, kind: Kind) -> Outcome {
        let list = self.lists.entry(kind).or_default();
        list.start(self.turn);
        if list.unnamed.take().is_some() {
            self.reported.bump_findings();
        }
        Outcome::default()
    }

    /// The watch of `kind` is live. A list that is running is not: what it has not named yet may be gone.
    fn hear(&mut self, kind: Kind) -> Outcome {
        let waiting: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| !self.is_vouched_for(*kind)).collect();
        let list = self.lists.entry(kind).or_default();
        if !list.is_running() {
            list.heard = self.turn;
        }
        let mut outcome = Outcome::default();
        if kind == Kind::IngressClass && !list.is_running() {
            for sighting in std::mem::take(&mut self.postponed).into_values() {
                outcome.merge(self.take(sighting));
            }
        }
        if waiting.into_iter().any(|kind| self.is_vouched_for(kind)) {
            outcome.changes.extend(self.settle_left());
        }
        outcome
    }

    fn see(&mut self, kind: Kind, sighting: Sighting) -> Outcome {
        let key = sighting.converted.object.key();
        self.mark(kind, &key);
        self.postponed.remove(&key);
        if self.is_of_unseen_class(&sighting) && self.references.manages(&key.name) {
            self.postponed.insert(key, sighting);
            return Outcome::default();
        }
        self.take(sighting)
    }

    fn take(&mut self, sighting: Sighting) -> Outcome {
        let key = sighting.converted.object.key();
        let kind = key.kind;
        let was_unreadable = self.reported.set_unreadable(&key, None);
        self.references.replace_slice(&key, Some(&sighting.converted.object));
        self.seen.insert(key.clone(), sighting);
        let ingresses = self.affected(&key);
        let mut touched = self.reconsider(ingresses.iter());
        touched.insert(key);
        let mut changes = self.settle(touched, Cause::Deleted);
        if was_unreadable && kind == Kind::IngressClass {
            changes.extend(self.settle_left());
        }
        Outcome { changes, ingresses }
    }

    fn is_of_unseen_class(&self, sighting: &Sighting) -> bool {
        let Object::Ingress(ingress) = &sighting.converted.object else { return false };
        let is_seen = |name: &str| self.seen.contains_key(&ObjectKey::new(Kind::IngressClass, "", name));
        ingress.class_name.as_deref().is_some_and(|name| !is_seen(name))
    }

    fn note_unreadable(&mut self, kind: Kind, unreadable: Unreadable) -> Outcome {
        match unreadable.problem.object.clone() {
            Some(key) => {
                self.mark(kind, &key);
                self.postponed.remove(&key);
                self.reported.set_unreadable(&key, Some(unreadable));
            }
            None => {
                self.lists.entry(kind).or_default().unnamed = Some(unreadable.problem);
                self.reported.bump_findings();
            }
        }
        Outcome::default()
    }

    fn delete(&mut self, key: &ObjectKey) -> Outcome {
        self.lists.entry(key.kind).or_default().unmark(key);
        self.remove(BTreeSet::from([key.clone()]), Cause::Deleted)
    }

    fn finish(&mut self, kind: Kind) -> Outcome {
        let list = self.lists.entry(kind).or_default();
        let had_failed = list.failure.is_some();
        let Some(present) = list.finish(self.turn) else { return Outcome::default() };
        if had_failed {
            self.reported.bump_findings();
        }
        let known = self.keys_of(kind).into_iter().chain(self.reported.unreadable_of(kind));
        let gone: BTreeSet<ObjectKey> = known.filter(|key| !present.contains(key)).collect();
        let mut outcome = self.remove(gone, Cause::Inferred);
        outcome.changes.extend(self.settle_left());
        outcome
    }

    /// Settles what had to be left until now because its kind was not complete.
    fn settle_left(&mut self) -> Vec<Change> {
        let left: BTreeSet<ObjectKey> = self.reported.keys().filter(|key| !self.wanted(key)).cloned().collect();
        self.settle(left, Cause::Inferred)
    }

    fn fail(&mut self, kind: Kind, failure: ListFailure) -> Outcome {
        if self.lists.entry(kind).or_default().fail(failure) {
            self.reported.bump_findings();
        }
        Outcome::default()
    }

    fn remove(&mut self, gone: BTreeSet<ObjectKey>, cause: Cause) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut touched, mut unread) = (BTreeSet::new(), Vec::new());
        for key in gone {
            if self.reported.set_unreadable(&key, None) {
                unread.push(key.clone());
            }
            self.references.replace_slice(&key, None);
            self.seen.remove(&key);
            self.postponed.remove(&key);
            let ingresses = self.affected(&key);
            touched.extend(self.reconsider(ingresses.iter()));
            outcome.ingresses.extend(ingresses);
            if cause == Cause::Deleted && self.reported.remove(&key) {
                outcome.changes.push(Change::Removal(key.clone(), cause));
            }
            touched.insert(key);
        }
        outcome.changes.extend(self.settle(touched, cause));
        // Nothing was reported for an object that could never be read, but an older form may be held.
        let certain = unread.into_iter().filter(|key| cause == Cause::Deleted || self.complete(key.kind));
        outcome.changes.extend(certain.map(|key| Change::Removal(key, cause)));
        outcome
    }

    fn mark(&mut self, kind: Kind, key: &ObjectKey) {
        self.lists.entry(kind).or_default().mark(key);
    }

    /// Whether `kind` was listed completely. A class that cannot be read may be anybody's, so it counts as missing.
    fn listed(&self, kind: Kind) -> bool {
        let complete = self.lists.get(&kind).is_some_and(|list| list.complete);
        complete && (kind != Kind::IngressClass || self.reported.unreadable_of(kind).next().is_none())
    }

    fn is_vouched_for(&self, kind: Kind) -> bool {
        let Some(list) = self.lists.get(&kind) else { return true };
        let is_heard = |kind: &Kind| self.lists.get(kind).is_some_and(|other| other.is_news_to(list));
        vouched_by(kind).iter().all(|kind| is_heard(kind) && self.is_vouched_for(*kind))
    }

    /// The Ingresses about which a change of `key` may decide anew.
    fn affected(&self, key: &ObjectKey) -> BTreeSet<ObjectName> {
        match key.kind {
            Kind::IngressClass => references::choosing(&key.name.name, self.ingresses()),
            Kind::Ingress => BTreeSet::from([key.name.clone()]),
            Kind::Service | Kind::Node | Kind::EndpointSlice | Kind::Secret => BTreeSet::new(),
        }
    }

    /// Decides anew whether Ingresses are ours. Returns every key that this may touch.
    fn reconsider<'a>(&mut self, names: impl Iterator<Item = &'a ObjectName>) -> BTreeSet<ObjectKey> {
        let mut touched = BTreeSet::new();
        for name in names {
            let key = ObjectKey { kind: Kind::Ingress, name: name.clone() };
            let ingress = self.seen.get(&key).and_then(|sighting| match &sighting.converted.object {
                Object::Ingress(ingress) => Some(ingress.clone()),
                _ => None,
            });
            let seen = &self.seen;
            let class = |name: &str| match &seen.get(&ObjectKey::new(Kind::IngressClass, "", name))?.converted.object {
                Object::IngressClass(class) => Some(&**class),
                _ => None,
            };
            touched.extend(self.references.replace_ingress(name, ingress.as_deref(), class));
            touched.insert(key);
        }
        touched
    }

    /// Brings [`Reported`] into line with what was seen, for `keys` only.
    fn settle(&mut self, keys: BTreeSet<ObjectKey>, cause: Cause) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in keys {
            let wanted = self.wanted(&key);
            match self.seen.get(&key) {
                Some(sighting) if wanted => {
                    if self.reported.put(&key, &sighting.converted) {
                        changes.push(Change::Upsert(key));
                    }
                }
                None if self.reported.is_unreadable(&key) => {}
                _ => {
                    if self.complete(key.kind) && self.reported.remove(&key) {
                        changes.push(Change::Removal(key, cause));
                    }
                }
            }
        }
        changes
    }

    /// Whether `key` exists and is to be reported.
    fn wanted(&self, key: &ObjectKey) -> bool {
        self.seen.get(key).is_some_and(|sighting| match &sighting.converted.object {
            Object::IngressClass(class) => self.references.ours(class),
            Object::Ingress(ingress) => self.references.manages(&ingress.name),
            Object::Node(_) => true,
            // The policy may name any as the cluster's gateway, and there are few.
            Object::Service(service) if service.service_type == ServiceType::LoadBalancer => true,
            Object::Service(_) | Object::Secret(_) => self.references.refers_to(key),
            Object::EndpointSlice(slice) => self.references.refers_to(&References::service_of(slice)),
        })
    }

    fn keys_of(&self, kind: Kind) -> BTreeSet<ObjectKey> {
        let first = ObjectKey::new(kind, "", "");
        self.seen.range(first..).map(|(key, _)| key).take_while(|key| key.kind == kind).cloned().collect()
    }

    fn ingresses(&self) -> impl Iterator<Item = &Ingress> {
        let first = ObjectKey::new(Kind::Ingress, "", "");
        let all = self.seen.range(first..).take_while(|(key, _)| key.kind == Kind::Ingress);
        all.filter_map(|(_, sighting)| match &sighting.converted.object {
            Object::Ingress(ingress) => Some(&**ingress),
            _ => None,
        })
    }

    fn ingress_names(&self) -> BTreeSet<ObjectName> {
        self.ingresses().map(|ingress| ingress.name.clone()).collect()
    }
}
