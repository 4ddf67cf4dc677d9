//! Who refers to what: which Ingresses are ours, which Services and Secrets those name, which EndpointSlices those have.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::class;
use roadstead_routing::id::{Kind, ObjectKey, ObjectName};
use roadstead_routing::object::{EndpointSlice, Ingress, IngressClass, Object};
use roadstead_routing::policy::CONTROLLER_NAME;

/// Annotations that name a Secret which says who may enter: `NAME`, or `NAMESPACE/NAME` of the Ingress's own namespace.
const USERS: [&str; 4] = [
    "nginx.ingress.kubernetes.io/auth-secret",
    "nginx.ingress.kubernetes.io/auth-tls-secret",
    "roadstead.dev/auth-secret",
    "roadstead.dev/auth-tls-secret",
];

/// Annotations that name one more Service of the Ingress's own namespace.
const FALLBACK: [&str; 2] = ["nginx.ingress.kubernetes.io/default-backend", "roadstead.dev/default-backend"];

/// Kept up to date one object at a time; each answer is a look-up.
#[derive(Default)]
pub(super) struct References {
    /// Class names that the policy lists.
    named: BTreeSet<String>,
    /// Our Ingresses, and the Services and Secrets each names.
    managed: BTreeMap<ObjectName, BTreeSet<ObjectKey>>,
    /// Services and Secrets that are wanted whatever the Ingresses say.
    wanted: BTreeSet<ObjectKey>,
    /// How many of our Ingresses name each Service and Secret. Never zero.
    referrers: BTreeMap<ObjectKey, usize>,
    /// The EndpointSlices of each Service, referred to or not.
    slices: BTreeMap<ObjectKey, BTreeSet<ObjectName>>,
    /// The Service of each EndpointSlice.
    service_of_slice: BTreeMap<ObjectName, ObjectKey>,
}

impl References {
    /// Returns whether anything changed.
    pub(super) fn set_named(&mut self, classes: &[String]) -> bool {
        let named: BTreeSet<String> = classes.iter().cloned().collect();
        let changed = named != self.named;
        self.named = named;
        changed
    }

    /// Takes Services and Secrets. Returns the keys of these and of EndpointSlices about which this decides anew.
    pub(super) fn set_wanted(&mut self, wanted: BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
        let before = std::mem::replace(&mut self.wanted, wanted);
        before.symmetric_difference(&self.wanted).flat_map(|key| self.keys_behind(key)).collect()
    }

    pub(super) fn ours(&self, class: &IngressClass) -> bool {
        &*class.controller == CONTROLLER_NAME || self.named.contains(&*class.name)
    }

    pub(super) fn manages(&self, ingress: &ObjectName) -> bool {
        self.managed.contains_key(ingress)
    }

    /// Of a Service or Secret.
    pub(super) fn refers_to(&self, key: &ObjectKey) -> bool {
        self.referrers.contains_key(key) || self.wanted.contains(key)
    }

    pub(super) fn service_of(slice: &EndpointSlice) -> ObjectKey {
        let name = ObjectName { namespace: slice.name.namespace.clone(), name: slice.service.clone() };
        ObjectKey { kind: Kind::Service, name }
    }

    /// Decides anew about one Ingress (`None`: it is gone). Returns the keys of Services, their EndpointSlices and
    /// Secrets that it refers to or referred to.
    pub(super) fn replace_ingress<'a>(
        &mut self,
        name: &ObjectName,
        ingress: Option<&Ingress>,
        class: impl Fn(&str) -> Option<&'a IngressClass>,
    ) -> BTreeSet<ObjectKey> {
        let before = self.managed.remove(name).unwrap_or_default();
        let ours =
            ingress.filter(|ingress| class::managed(ingress, class, |class| self.named.contains(class)).is_some());
        let after = ours.map(needs_of);
        for key in after.iter().flatten() {
            *self.referrers.entry(key.clone()).or_insert(0) += 1;
        }
        for key in &before {
            self.release(key);
        }
        let changed: BTreeSet<ObjectKey> = match &after {
            Some(after) => before.symmetric_difference(after).cloned().collect(),
            None => before,
        };
        if let Some(after) = after {
            self.managed.insert(name.clone(), after);
        }
        changed.iter().flat_map(|key| self.keys_behind(key)).collect()
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

    fn release(&mut self, key: &ObjectKey) {
        if let Some(count) = self.referrers.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.referrers.remove(key);
            }
        }
    }

    /// The object itself and, of a Service, its EndpointSlices.
    fn keys_behind(&self, key: &ObjectKey) -> Vec<ObjectKey> {
        let slices = self.slices.get(key).into_iter().flatten();
        let slices = slices.map(|slice| ObjectKey { kind: Kind::EndpointSlice, name: slice.clone() });
        slices.chain([key.clone()]).collect()
    }
}

/// The Services and Secrets an Ingress names, all in its own namespace (rules I-3 and N-3).
fn needs_of(ingress: &Ingress) -> BTreeSet<ObjectKey> {
    let own = |kind: Kind, name: &str| ObjectKey::new(kind, &ingress.name.namespace, name);
    let fallback = FALLBACK.iter().filter_map(|annotation| ingress.annotations.get(*annotation));
    let services = ingress.service_names().chain(fallback).map(|name| own(Kind::Service, name));
    let certificates = ingress.tls.iter().map(|tls| &*tls.secret_name).filter(|name| !name.is_empty());
    let users = USERS.iter().filter_map(|annotation| ingress.annotations.get(*annotation));
    let users = users.filter_map(|text| match text.split_once('/') {
        Some((namespace, name)) => (*namespace == *ingress.name.namespace).then_some(name),
        None => Some(text),
    });
    services.chain(certificates.chain(users).map(|name| own(Kind::Secret, name))).collect()
}

/// The Ingresses of `all` that choose `class`.
pub(super) fn choosing<'a>(class: &str, all: impl Iterator<Item = &'a Ingress>) -> BTreeSet<ObjectName> {
    let chooses = |ingress: &&Ingress| class::choice(ingress).is_some_and(|choice| &**choice.class == class);
    all.filter(chooses).map(|ingress| ingress.name.clone()).collect()
}
