//! Who refers to what: which Ingresses are ours, which Services those name, which EndpointSlices those have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roadstead_routing::class;
use roadstead_routing::id::{Kind, ObjectKey, ObjectName};
use roadstead_routing::object::{EndpointSlice, Ingress, IngressClass, Object};
use roadstead_routing::policy::CONTROLLER_NAME;

/// Kept up to date one object at a time; each answer is a look-up.
#[derive(Default)]
pub(super) struct References {
    /// Class names that the policy lists.
    named: BTreeSet<String>,
    /// Our Ingresses, and the Services each names.
    managed: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    /// How many of our Ingresses name each Service. Never zero.
    referrers: BTreeMap<ObjectName, usize>,
    /// The EndpointSlices of each Service, referred to or not.
    slices: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    /// The Service of each EndpointSlice.
    service_of_slice: BTreeMap<ObjectName, ObjectName>,
}

impl References {
    /// Returns whether anything changed.
    pub(super) fn set_named(&mut self, classes: &[String]) -> bool {
        let named: BTreeSet<String> = classes.iter().cloned().collect();
        let changed = named != self.named;
        self.named = named;
        changed
    }

    pub(super) fn ours(&self, class: &IngressClass) -> bool {
        &*class.controller == CONTROLLER_NAME || self.named.contains(&*class.name)
    }

    pub(super) fn manages(&self, ingress: &ObjectName) -> bool {
        self.managed.contains_key(ingress)
    }

    pub(super) fn refers_to(&self, service: &ObjectName) -> bool {
        self.referrers.contains_key(service)
    }

    pub(super) fn service_of(slice: &EndpointSlice) -> ObjectName {
        ObjectName { namespace: slice.name.namespace.clone(), name: slice.service.clone() }
    }

    /// Decides anew about one Ingress (`None`: it is gone). Returns the keys of Services and EndpointSlices that it
    /// refers to or referred to.
    pub(super) fn replace_ingress<'a>(
        &mut self,
        name: &ObjectName,
        ingress: Option<&Ingress>,
        class: impl Fn(&str) -> Option<&'a IngressClass>,
    ) -> BTreeSet<ObjectKey> {
        let before = self.managed.remove(name).unwrap_or_default();
        let ours =
            ingress.filter(|ingress| class::managed(ingress, class, |class| self.named.contains(class)).is_some());
        let after = ours.map(services_of);
        for service in after.iter().flatten() {
            *self.referrers.entry(service.clone()).or_insert(0) += 1;
        }
        for service in &before {
            self.release(service);
        }
        let changed: BTreeSet<ObjectName> = match &after {
            Some(after) => before.symmetric_difference(after).cloned().collect(),
            None => before,
        };
        if let Some(after) = after {
            self.managed.insert(name.clone(), after);
        }
        changed.iter().flat_map(|service| self.keys_behind(service)).collect()
    }

    /// Records which Service an EndpointSlice belongs to. Other kinds are ignored.
    pub(super) fn replace_slice(&mut self, key: &ObjectKey, object: Option<&Object>) {
        if key.kind != Kind::EndpointSlice {
            return;
        }
        let after = match object {
            Some(Object::EndpointSlice(slice)) => Some(Self::service_of(slice)),
            _ => None,
        };
        let before = match &after {
            Some(service) => self.service_of_slice.insert(key.name.clone(), service.clone()),
            None => self.service_of_slice.remove(&key.name),
        };
        if before == after {
            return;
        }
        if let Some(service) = before
            && let Some(slices) = self.slices.get_mut(&service)
        {
            slices.remove(&key.name);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        if let Some(service) = after {
            self.slices.entry(service).or_default().insert(key.name.clone());
        }
    }

    fn release(&mut self, service: &ObjectName) {
        if let Some(count) = self.referrers.get_mut(service) {
            *count -= 1;
            if *count == 0 {
                self.referrers.remove(service);
            }
        }
    }

    /// The Service and its EndpointSlices.
    fn keys_behind(&self, service: &ObjectName) -> Vec<ObjectKey> {
        let slices = self.slices.get(service).into_iter().flatten();
        let slices = slices.map(|slice| ObjectKey { kind: Kind::EndpointSlice, name: slice.clone() });
        slices.chain([ObjectKey { kind: Kind::Service, name: service.clone() }]).collect()
    }
}

/// The Services an Ingress names, all in its own namespace (rule I-3).
fn services_of(ingress: &Ingress) -> BTreeSet<ObjectName> {
    let named = |name: &Arc<str>| ObjectName { namespace: ingress.name.namespace.clone(), name: name.clone() };
    ingress.service_names().map(named).collect()
}

/// The Ingresses of `all` that choose `class`.
pub(super) fn choosing<'a>(class: &str, all: impl Iterator<Item = &'a Ingress>) -> BTreeSet<ObjectName> {
    let chooses = |ingress: &&Ingress| class::choice(ingress).is_some_and(|choice| &**choice.class == class);
    all.filter(chooses).map(|ingress| ingress.name.clone()).collect()
}
