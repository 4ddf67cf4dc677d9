//! One cluster's objects and the indexes over them.
//!
//! Keeps every Ingress read ([`Declared`]) together with its placement, so that a change of one object never reads
//! another again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::class::{self, NoPool};
use crate::declare::{Declared, declare};
use crate::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, ObjectName, PoolName, PortRef};
use crate::object::{EndpointSlice, Ingress, IngressClass, Node, Object, Secret, SecretContent, Service};
use crate::policy::Policy;

#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    classes: BTreeMap<Arc<str>, Arc<IngressClass>>,
    ingresses: BTreeMap<ObjectName, Held>,
    services: BTreeMap<ObjectName, Arc<Service>>,
    nodes: BTreeMap<Arc<str>, Arc<Node>>,
    slices: BTreeMap<ObjectName, Arc<EndpointSlice>>,
    secrets: BTreeMap<ObjectName, Arc<Secret>>,
    /// Ingresses by the class that decides about them, managed or not.
    by_class: BTreeSet<(Arc<str>, ObjectName)>,
    /// Slices of a Service, sorted.
    by_service: BTreeMap<ObjectName, Vec<ObjectName>>,
    /// Served Ingresses by the Service ports they refer to, sorted.
    references: BTreeMap<(ObjectName, PortRef), Vec<ObjectName>>,
    /// Served Ingresses by the Secrets that they name, sorted.
    secret_users: BTreeMap<ObjectName, Vec<ObjectName>>,
    /// Served Ingresses by the hosts they declare, sorted.
    hosts: BTreeMap<(PoolName, HostKey), Vec<ObjectName>>,
}

#[derive(Clone, Debug)]
struct Held {
    ingress: Arc<Ingress>,
    placement: Placement,
}

/// Whether and where an Ingress is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Placement {
    Unmanaged,
    Unplaced(NoPool),
    Served(Served),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Served {
    pub(crate) class: Arc<str>,
    pub(crate) pool: PoolName,
    pub(crate) declared: Arc<Declared>,
}

/// What a change of one cluster's objects touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Services whose ports may lead elsewhere.
    pub(super) services: Vec<ObjectName>,
    /// Whether node ports may lead elsewhere.
    pub(super) nodes: bool,
    pub(super) moves: Vec<Move>,
    /// Hosts that may show another certificate.
    pub(super) hosts: Vec<(PoolName, HostKey)>,
}

/// An Ingress whose content or placement changed; `None` where it is not served.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) ingress: ObjectName,
    pub(super) before: Option<Served>,
    pub(super) after: Option<Served>,
}

impl Served {
    /// Every host it declares, and the catch-all if it has a default. Sorted.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = HostKey> {
        let catch_all = self.declared.default.as_ref().map(|_| HostKey::CatchAll);
        self.declared.hosts.iter().cloned().chain(catch_all)
    }

    pub(crate) fn declares(&self, host: &HostKey) -> bool {
        match host {
            HostKey::CatchAll => self.declared.default.is_some(),
            HostKey::Exact(_) | HostKey::Wildcard(_) | HostKey::Any => self.declared.hosts.binary_search(host).is_ok(),
        }
    }

    /// Every backend it refers to. May repeat.
    pub(super) fn backends(&self, cluster: &ClusterId, ingress: &ObjectName) -> impl Iterator<Item = BackendId> {
        self.service_ports(ingress).map(|(service, port)| BackendId { cluster: cluster.clone(), service, port })
    }

    /// The Secrets that its `tls` and its authentication name. May repeat.
    fn secrets(&self, ingress: &ObjectName) -> impl Iterator<Item = ObjectName> {
        let named = self.declared.tls.iter().filter_map(|tls| tls.secret.clone());
        let shown = named.map(|secret| ObjectName::new(ingress.namespace.clone(), secret));
        shown.chain(self.declared.users().cloned())
    }

    fn service_ports(&self, ingress: &ObjectName) -> impl Iterator<Item = (ObjectName, PortRef)> {
        let namespace = &ingress.namespace;
        self.declared
            .service_ports()
            .map(|(name, port)| (ObjectName::new(namespace.clone(), name.clone()), port.clone()))
    }
}

impl Placement {
    fn served(&self) -> Option<&Served> {
        match self {
            Placement::Served(served) => Some(served),
            Placement::Unmanaged | Placement::Unplaced(_) => None,
        }
    }
}

impl Cluster {
    pub(super) fn apply(&mut self, key: &ObjectKey, object: Option<Object>, policy: &Policy) -> Touched {
        match object {
            Some(Object::IngressClass(class)) => self.set_class(&class.name.clone(), Some(class), policy),
            Some(Object::Ingress(ingress)) => self.set_ingress(&ingress.name.clone(), Some(ingress), policy),
            Some(Object::Service(service)) => self.set_service(&service.name.clone(), Some(service)),
            Some(Object::Node(node)) => self.set_node(&node.name.clone(), Some(node)),
            Some(Object::EndpointSlice(slice)) => self.set_slice(&slice.name.clone(), Some(slice)),
            Some(Object::Secret(secret)) => self.set_secret(&secret.name.clone(), Some(secret)),
            None => match key.kind {
                Kind::IngressClass => self.set_class(&key.name.name, None, policy),
                Kind::Ingress => self.set_ingress(&key.name, None, policy),
                Kind::Service => self.set_service(&key.name, None),
                Kind::Node => self.set_node(&key.name.name, None),
                Kind::EndpointSlice => self.set_slice(&key.name, None),
                Kind::Secret => self.set_secret(&key.name, None),
            },
        }
    }

    /// Places every Ingress anew.
    pub(super) fn place_all(&mut self, policy: &Policy) -> Touched {
        let names: Vec<_> = self.ingresses.keys().cloned().collect();
        self.place(names, policy)
    }

    /// What removing the whole cluster touches.
    pub(super) fn into_touched(self) -> Touched {
        let moved = |(ingress, held): (ObjectName, Held)| Move {
            ingress,
            before: held.placement.served().cloned(),
            after: None,
        };
        Touched { moves: self.ingresses.into_iter().map(moved).collect(), ..Touched::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty()
            && self.ingresses.is_empty()
            && self.services.is_empty()
            && self.nodes.is_empty()
            && self.slices.is_empty()
            && self.secrets.is_empty()
    }

    pub(super) fn object(&self, key: &ObjectKey) -> Option<Object> {
        match key.kind {
            Kind::IngressClass => self.classes.get(&key.name.name).cloned().map(Object::IngressClass),
            Kind::Ingress => self.ingresses.get(&key.name).map(|held| Object::Ingress(held.ingress.clone())),
            Kind::Service => self.services.get(&key.name).cloned().map(Object::Service),
            Kind::Node => self.nodes.get(&key.name.name).cloned().map(Object::Node),
            Kind::EndpointSlice => self.slices.get(&key.name).cloned().map(Object::EndpointSlice),
            Kind::Secret => self.secrets.get(&key.name).cloned().map(Object::Secret),
        }
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = Object> {
        let classes = self.classes.values().cloned().map(Object::IngressClass);
        let ingresses = self.ingresses.values().map(|held| Object::Ingress(held.ingress.clone()));
        let services = self.services.values().cloned().map(Object::Service);
        let slices = self.slices.values().cloned().map(Object::EndpointSlice);
        let secrets = self.secrets.values().cloned().map(Object::Secret);
        let nodes = self.nodes.values().cloned().map(Object::Node);
        classes.chain(ingresses).chain(services).chain(slices).chain(secrets).chain(nodes)
    }

    pub(super) fn ingress_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.ingresses.keys()
    }

    pub(crate) fn placement(&self, ingress: &ObjectName) -> Option<&Placement> {
        self.ingresses.get(ingress).map(|held| &held.placement)
    }

    pub(crate) fn served(&self, ingress: &ObjectName) -> Option<&Served> {
        self.placement(ingress)?.served()
    }

    pub(crate) fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name).map(|service| &**service)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|node| &**node)
    }

    pub(crate) fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        let names = self.by_service.get(service).into_iter().flatten();
        names.filter_map(|name| self.slices.get(name).map(|slice| &**slice))
    }

    /// The served Ingresses that declare a host, by name.
    pub(crate) fn declaring(&self, pool: &PoolName, host: &HostKey) -> impl Iterator<Item = (&Ingress, &Served)> {
        let names = self.hosts.get(&(pool.clone(), host.clone())).into_iter().flatten();
        names.filter_map(|name| {
            let held = self.ingresses.get(name)?;
            Some((&*held.ingress, held.placement.served()?))
        })
    }

    /// The served Ingresses that refer to a Service port, sorted.
    pub(crate) fn referring(&self, service: &ObjectName, port: &PortRef) -> &[ObjectName] {
        self.references.get(&(service.clone(), port.clone())).map_or(&[], Vec::as_slice)
    }

    pub(super) fn backends(&self, id: &ClusterId) -> impl Iterator<Item = BackendId> {
        self.references.keys().map(|(service, port)| BackendId {
            cluster: id.clone(),
            service: service.clone(),
            port: port.clone(),
        })
    }

    /// The backends of one Service.
    pub(super) fn backends_of(&self, id: &ClusterId, service: &ObjectName) -> impl Iterator<Item = BackendId> {
        let first = (service.clone(), PortRef::Number(0));
        let of_service = self.references.range(first..).take_while(move |((name, _), _)| name == service);
        of_service.map(|((service, port), _)| BackendId {
            cluster: id.clone(),
            service: service.clone(),
            port: port.clone(),
        })
    }

    pub(super) fn declares(&self, key: &(PoolName, HostKey)) -> bool {
        self.hosts.contains_key(key)
    }

    pub(super) fn declared(&self) -> impl Iterator<Item = &(PoolName, HostKey)> {
        self.hosts.keys()
    }

    pub(super) fn host_count(&self) -> usize {
        self.hosts.len()
    }

    fn set_class(&mut self, name: &Arc<str>, class: Option<Arc<IngressClass>>, policy: &Policy) -> Touched {
        if self.classes.get(name) == class.as_ref() {
            return Touched::default();
        }
        replace(&mut self.classes, name, class);
        let first = (name.clone(), ObjectName::new("", ""));
        let of_class = self.by_class.range(first..).take_while(|(class, _)| class == name);
        let ingresses = of_class.map(|(_, ingress)| ingress.clone()).collect();
        self.place(ingresses, policy)
    }

    fn set_ingress(&mut self, name: &ObjectName, ingress: Option<Arc<Ingress>>, policy: &Policy) -> Touched {
        if self.ingresses.get(name).map(|held| &held.ingress) == ingress.as_ref() {
            return Touched::default();
        }
        let before = self.ingresses.remove(name).and_then(|held| {
            if let Some(choice) = class::choice(&held.ingress) {
                self.by_class.remove(&(choice.class.clone(), name.clone()));
            }
            held.placement.served().cloned()
        });
        let held = ingress.map(|ingress| {
            let unplaced = Held { ingress, placement: Placement::Unmanaged };
            let placement = place(&unplaced, |class| self.classes.get(class).map(|class| &**class), policy);
            Held { placement, ..unplaced }
        });
        let after = held.as_ref().and_then(|held| held.placement.served().cloned());
        if let Some(held) = held {
            if let Some(choice) = class::choice(&held.ingress) {
                self.by_class.insert((choice.class.clone(), name.clone()));
            }
            self.ingresses.insert(name.clone(), held);
        }
        let moved = Move { ingress: name.clone(), before, after };
        self.index(&moved);
        Touched { moves: vec![moved], ..Touched::default() }
    }

    fn set_service(&mut self, name: &ObjectName, service: Option<Arc<Service>>) -> Touched {
        if self.services.get(name) == service.as_ref() {
            return Touched::default();
        }
        replace(&mut self.services, name, service);
        Touched { services: vec![name.clone()], ..Touched::default() }
    }

    fn set_node(&mut self, name: &Arc<str>, node: Option<Arc<Node>>) -> Touched {
        if self.nodes.get(name) == node.as_ref() {
            return Touched::default();
        }
        replace(&mut self.nodes, name, node);
        Touched { nodes: true, ..Touched::default() }
    }

    fn set_slice(&mut self, name: &ObjectName, slice: Option<Arc<EndpointSlice>>) -> Touched {
        if self.slices.get(name) == slice.as_ref() {
            return Touched::default();
        }
        let service_of = |slice: &Arc<EndpointSlice>| ObjectName::new(name.namespace.clone(), slice.service.clone());
        let before = self.slices.get(name).map(service_of);
        let after = slice.as_ref().map(service_of);
        if let Some(service) = &before {
            remove_sorted(&mut self.by_service, service, name);
        }
        if let Some(service) = &after {
            insert_sorted(self.by_service.entry(service.clone()).or_default(), name.clone());
        }
        replace(&mut self.slices, name, slice);
        Touched { services: before.into_iter().chain(after).collect(), ..Touched::default() }
    }

    fn set_secret(&mut self, name: &ObjectName, secret: Option<Arc<Secret>>) -> Touched {
        if self.secrets.get(name) == secret.as_ref() {
            return Touched::default();
        }
        replace(&mut self.secrets, name, secret);
        Touched { hosts: self.hosts_showing(name), ..Touched::default() }
    }

    /// The hosts of Ingresses that name the Secret.
    fn hosts_showing(&self, secret: &ObjectName) -> Vec<(PoolName, HostKey)> {
        let ingresses = self.secret_users.get(secret).into_iter().flatten();
        let served = ingresses.filter_map(|ingress| self.served(ingress));
        served.flat_map(|served| served.hosts().map(|host| (served.pool.clone(), host))).collect()
    }

    pub(crate) fn secret(&self, name: &ObjectName) -> Option<&Secret> {
        self.secrets.get(name).map(|secret| &**secret)
    }

    /// The hosts whose certificates begin or end within `(from, to]`.
    pub(super) fn hosts_between(&self, from: i64, to: i64) -> Vec<(PoolName, HostKey)> {
        let is_within = |time: i64| from < time && time <= to;
        let turns = |secret: &&Arc<Secret>| match &secret.content {
            SecretContent::Certificate(it) => is_within(it.not_before) || is_within(it.not_after.saturating_add(1)),
            SecretContent::Values(_) | SecretContent::Unusable(_) => false,
        };
        self.secrets.values().filter(turns).flat_map(|secret| self.hosts_showing(&secret.name)).collect()
    }

    /// Places some Ingresses anew after a class or the policy changed.
    fn place(&mut self, ingresses: Vec<ObjectName>, policy: &Policy) -> Touched {
        let mut touched = Touched::default();
        for ingress in ingresses {
            let Some(held) = self.ingresses.get(&ingress) else { continue };
            let placement = place(held, |class| self.classes.get(class).map(|class| &**class), policy);
            if placement == held.placement {
                continue;
            }
            let before = held.placement.served().cloned();
            let moved = Move { before, after: placement.served().cloned(), ingress };
            self.index(&moved);
            if let Some(held) = self.ingresses.get_mut(&moved.ingress) {
                held.placement = placement;
            }
            touched.moves.push(moved);
        }
        touched
    }

    fn index(&mut self, moved: &Move) {
        if let Some(before) = &moved.before {
            for host in before.hosts() {
                remove_sorted(&mut self.hosts, &(before.pool.clone(), host), &moved.ingress);
            }
            for reference in before.service_ports(&moved.ingress) {
                remove_sorted(&mut self.references, &reference, &moved.ingress);
            }
            for secret in before.secrets(&moved.ingress) {
                remove_sorted(&mut self.secret_users, &secret, &moved.ingress);
            }
        }
        if let Some(after) = &moved.after {
            for host in after.hosts() {
                insert_sorted(self.hosts.entry((after.pool.clone(), host)).or_default(), moved.ingress.clone());
            }
            for reference in after.service_ports(&moved.ingress) {
                insert_sorted(self.references.entry(reference).or_default(), moved.ingress.clone());
            }
            for secret in after.secrets(&moved.ingress) {
                insert_sorted(self.secret_users.entry(secret).or_default(), moved.ingress.clone());
            }
        }
    }
}

/// Where an Ingress is served (rules I-4, I-6). Reads it only if it has not been read.
fn place<'a>(held: &Held, class: impl Fn(&str) -> Option<&'a IngressClass> + Copy, policy: &Policy) -> Placement {
    let named = |name: &str| policy.classes.contains_key(name);
    let Some(name) = class::managed(&held.ingress, class, named) else { return Placement::Unmanaged };
    match class::pool_of(&name, class(&name), policy) {
        Err(why) => Placement::Unplaced(why),
        Ok(pool) => {
            let read = held.placement.served().map(|served| served.declared.clone());
            let declared = read.unwrap_or_else(|| Arc::new(declare(&held.ingress)));
            Placement::Served(Served { class: name, pool, declared })
        }
    }
}

fn replace<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
}

/// Adds `item` to a sorted list of distinct items. Lists of one are the common case and take no spare room.
pub(super) fn insert_sorted<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(at) = list.binary_search(&item) {
        if list.is_empty() {
            list.reserve_exact(1);
        }
        list.insert(at, item);
    }
}

/// Takes `item` out of the sorted list at `key`, and the list away once it is empty.
pub(super) fn remove_sorted<K: Ord, T: Ord>(map: &mut BTreeMap<K, Vec<T>>, key: &K, item: &T) {
    let Some(list) = map.get_mut(key) else { return };
    if let Ok(at) = list.binary_search(item) {
        list.remove(at);
    }
    if list.is_empty() {
        map.remove(key);
    }
}
