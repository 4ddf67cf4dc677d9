//! The shared state of one simulated cluster: objects, fault switches, and the wake-up of its watches.
//!
//! In: closures over the store, fault settings. Out: their results, and a wake-up for every watch after every write.
//! It does no I/O and never holds a lock across an await.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::faults::{ALL, FaultSettings};
use super::kind::Kind;
use super::store::Store;
use super::write::now;

/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// One simulated cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    name: String,
    kube_system_uid: String,
    bookmark_interval: Duration,
    store: Mutex<Store>,
    faults: Mutex<FaultSettings>,
    /// How often the watches of a resource (or of [`ALL`]) were told to break off.
    drops: Mutex<BTreeMap<String, u64>>,
    wake: watch::Sender<u64>,
}

impl Cluster {
    /// A cluster with nothing but its system namespaces.
    pub(crate) fn new(name: &str, kube_system_uid: String, history_max: usize, bookmark_interval: Duration) -> Self {
        let mut store = Store::new(history_max);
        add_system_namespaces(&mut store, &kube_system_uid);
        Self {
            store: Mutex::new(store),
            name: name.to_owned(),
            kube_system_uid,
            bookmark_interval,
            faults: Mutex::default(),
            drops: Mutex::default(),
            wake: watch::Sender::new(0),
        }
    }

    /// Name given at start.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Time between bookmarks of a watch.
    pub(crate) fn bookmark_interval(&self) -> Duration {
        self.bookmark_interval
    }

    /// Reads the store.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&lock(&self.store))
    }

    /// Changes the store and wakes the watches.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let result = change(&mut lock(&self.store));
        self.wake_watches();
        result
    }

    /// Forgets all objects and all history. Watches break off, as with a server that was replaced.
    pub(crate) fn reset(&self) {
        let mut store = lock(&self.store);
        store.clear();
        add_system_namespaces(&mut store, &self.kube_system_uid);
        drop(store);
        self.drop_watches(ALL);
    }

    /// Reads or changes the fault switches.
    pub(crate) fn faults<T>(&self, change: impl FnOnce(&mut FaultSettings) -> T) -> T {
        change(&mut lock(&self.faults))
    }

    /// Breaks off the watches of a resource, or all.
    pub(crate) fn drop_watches(&self, resource: &str) {
        *lock(&self.drops).entry(resource.to_owned()).or_default() += 1;
        self.wake_watches();
    }

    /// A number that grows whenever the watches of this kind are to break off.
    pub(crate) fn drop_count(&self, kind: &Kind) -> u64 {
        let drops = lock(&self.drops);
        [kind.resource, ALL].iter().filter_map(|key| drops.get(*key)).sum()
    }

    /// Wakes up after every write.
    pub(crate) fn wake(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    fn wake_watches(&self) {
        self.wake.send_modify(|count| *count += 1);
    }
}

fn add_system_namespaces(store: &mut Store, kube_system_uid: &str) {
    for name in NAMESPACES {
        let uid = if name == "kube-system" { kube_system_uid.to_owned() } else { uuid::Uuid::new_v4().to_string() };
        let object = namespace(name, &uid);
        store.put("namespaces", (String::new(), name.to_owned()), object).expect("must fit: the store is empty");
    }
}

/// A namespace as the server itself creates it.
pub(crate) fn namespace(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": name, "uid": uid, "creationTimestamp": now(),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}

/// A poisoned lock only means that a test panicked elsewhere; the state itself is always consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
