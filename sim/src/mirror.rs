//! What one edge serves, worked out from the Updates that took effect, and from which versions of objects it was made.
//!
//! Effective Updates in → tables and violations out: something dangles, or the edge went back in time.

use std::collections::BTreeMap;
use std::fmt;

use roadstead_proto::resource::{ResourceKey, backend_from_wire, host_from_wire};
use roadstead_proto::wire;
use roadstead_proto::wire::resource_upsert::Resource;
use roadstead_routing::id::{BackendId, ClusterId, HostKey, ObjectName};
use roadstead_routing::table::{Backend, Host, RouteBackend, Target};

use crate::objects::{version_of_address, version_of_path};

/// Something whose version a table shows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Shown {
    Ingress(ClusterId, ObjectName),
    /// A Service port's slice of this number.
    Slice(BackendId, u8),
}

#[derive(Clone, Default)]
pub struct Mirror {
    pub hosts: BTreeMap<HostKey, Host>,
    pub backends: BTreeMap<BackendId, Backend>,
    /// The newest version seen so far.
    seen: BTreeMap<Shown, u64>,
    /// Ingresses that were seen to be deleted, in this version.
    ended: BTreeMap<Shown, u64>,
}

/// What is wrong with an Update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Something the edge should not have been sent, or should have refused.
    Unusable(String),
    Dangles(HostKey, BackendId),
    /// It was held in version `before`, or its deletion was seen in that version.
    Older {
        what: Shown,
        before: u64,
        now: u64,
    },
}

type Faults = Vec<Fault>;

impl Shown {
    pub fn cluster(&self) -> &ClusterId {
        match self {
            Shown::Ingress(cluster, _) => cluster,
            Shown::Slice(backend, _) => &backend.cluster,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unusable(why) => f.write_str(why),
            Fault::Dangles(host, backend) => write!(f, "host {host} refers to backend {backend}, which is not held"),
            Fault::Older { what, before, now } => write!(f, "{what:?} was in version {before} and is back in {now}"),
        }
    }
}

impl Mirror {
    /// `is_gone` says whether an Ingress is deleted for good in its cluster.
    pub fn apply(&mut self, update: &wire::Update, is_gone: impl Fn(&ClusterId, &ObjectName) -> bool) -> Faults {
        let before = self.ingresses();
        let (mut faults, mut shown) = (Faults::new(), BTreeMap::new());
        for upsert in &update.upserts {
            match upsert.resource.clone() {
                Some(Resource::Host(host)) => match host_from_wire(host) {
                    Ok(host) => self.put_host(host, &mut shown),
                    Err(error) => faults.push(Fault::Unusable(format!("took a host that cannot be read: {error}"))),
                },
                Some(Resource::Backend(backend)) => match backend_from_wire(backend) {
                    Ok(backend) => drop(self.backends.insert(backend.id.clone(), backend)),
                    Err(error) => faults.push(Fault::Unusable(format!("took a backend that cannot be read: {error}"))),
                },
                Some(Resource::Secret(_)) => {}
                None => faults.push(Fault::Unusable("took a resource of no kind".to_owned())),
            }
        }
        for (shown, version) in shown {
            self.show(shown, version, &mut faults);
        }
        for key in &update.removals {
            match ResourceKey::parse(key) {
                Some(ResourceKey::Host(host)) => drop(self.hosts.remove(&host)),
                Some(ResourceKey::Backend(id)) => drop(self.backends.remove(&id)),
                Some(ResourceKey::Secret(_)) => {}
                None => faults.push(Fault::Unusable(format!("removed {key}"))),
            }
        }
        let now = self.ingresses();
        let gone = before.keys().filter(|key| !now.contains_key(*key));
        for (cluster, ingress) in gone.filter(|(cluster, ingress)| is_gone(cluster, ingress)) {
            let shown = Shown::Ingress(cluster.clone(), ingress.clone());
            if let Some(version) = self.seen.get(&shown) {
                self.ended.insert(shown, *version);
            }
        }
        self.show_backends(&mut faults);
        faults.extend(self.dangling());
        faults
    }

    /// The newest version counts: an edge without a table gets hosts that are held in an older form beside others.
    fn put_host(&mut self, host: Host, shown: &mut BTreeMap<Shown, u64>) {
        for route in &host.routes {
            let Some(version) = version_of_path(&route.path) else { continue };
            for part in &route.backends {
                let of = shown.entry(Shown::Ingress(part.cluster.clone(), part.ingress.clone())).or_default();
                *of = version.max(*of);
            }
        }
        self.hosts.insert(host.name.clone(), host);
    }

    /// Only a backend that some host uses serves anything. One that waits for its host may be older: whoever sends it
    /// may have to send the host as well.
    fn show_backends(&mut self, faults: &mut Faults) {
        let endpoints: Vec<(BackendId, u8, u64)> = self
            .used()
            .filter_map(|id| self.backends.get(id))
            .flat_map(|backend| backend.endpoints.iter().map(|endpoint| (backend.id.clone(), endpoint.address.ip())))
            .filter_map(|(id, address)| version_of_address(address).map(|(slice, version)| (id, slice, version)))
            .collect();
        for (id, slice, version) in endpoints {
            self.show(Shown::Slice(id, slice), version, faults);
        }
    }

    fn used(&self) -> impl Iterator<Item = &BackendId> {
        self.hosts.values().flat_map(parts_of).flat_map(RouteBackend::backends)
    }

    fn show(&mut self, shown: Shown, version: u64, faults: &mut Faults) {
        let newest = self.seen.get(&shown).copied().unwrap_or_default();
        let ended = self.ended.get(&shown).copied().unwrap_or_default();
        if version < newest || (ended > 0 && version <= ended) {
            faults.push(Fault::Older { what: shown.clone(), before: newest.max(ended), now: version });
            self.ended.remove(&shown);
        }
        self.seen.insert(shown, version);
    }

    /// Every Ingress that has a part, with the version that it shows; 0: none.
    pub fn ingresses(&self) -> BTreeMap<(ClusterId, ObjectName), u64> {
        let mut ingresses = BTreeMap::new();
        for route in self.hosts.values().flat_map(|host| &host.routes) {
            let shown = version_of_path(&route.path).unwrap_or_default();
            for part in &route.backends {
                let version: &mut u64 = ingresses.entry((part.cluster.clone(), part.ingress.clone())).or_default();
                *version = shown.max(*version);
            }
        }
        ingresses
    }

    fn dangling(&self) -> Faults {
        let used = self.hosts.values().flat_map(|host| parts_of(host).map(move |part| (host, part)));
        let missing = used.filter_map(|(host, part)| match &part.target {
            Target::Backend(id) if !self.backends.contains_key(id) => {
                Some(Fault::Dangles(host.name.clone(), id.clone()))
            }
            Target::Backend(_) | Target::Resource | Target::Nothing => None,
        });
        missing.collect()
    }
}

pub fn parts_of(host: &Host) -> impl Iterator<Item = &RouteBackend> {
    host.routes.iter().flat_map(|route| &route.backends).chain(&host.default)
}
