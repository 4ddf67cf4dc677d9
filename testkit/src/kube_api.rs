//! A simulated Kubernetes API server: HTTP/1.1 on loopback, state in memory, one instance per cluster.
//!
//! In: what kubectl, kube-rs and tests write. Out: get, list, watch and all patch forms as kube-apiserver answers them, for
//! the kinds that ingress is about, with fault switches for everything that goes wrong in practice. It runs no controllers:
//! endpoints, statuses and Nodes are what a test writes. It must not be reachable from outside the machine.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

mod admit;
mod apply;
mod base64;
mod cluster;
mod columns;
pub mod command;
mod control;
mod decode;
mod discovery;
mod events;
mod failure;
mod faults;
mod fields;
mod http;
mod kind;
mod list;
mod managers;
mod names;
mod patch;
mod query;
mod render;
mod selector;
mod server;
mod store;
mod validate;
mod watch;
mod write;

pub use failure::{Cause, Failure};
pub use faults::{ALL, FailPage, FaultSettings, Throttle};
pub use http::BODY_BYTES_MAX;
pub use patch::JSON_PATCH_OPERATIONS_MAX;
pub use server::CONNECTIONS_MAX;
pub use store::{HISTORY_MAX, OBJECTS_MAX};

use cluster::Cluster;
use server::Listener;
use store::Key;
use write::{Checks, Effect, Part, Preconditions, WriteOptions, Writer};

/// `fieldManager` of objects written in-process.
pub const IN_PROCESS_MANAGER: &str = "testkit";

/// How to start a server.
#[derive(Clone, Debug)]
pub struct ApiServerOptions {
    /// Name of the cluster, in the kubeconfig and in the uid of kube-system.
    pub name: String,
    /// Loopback address to listen on; a free port of 127.0.0.1 if absent.
    pub listen: Option<SocketAddr>,
    /// uid of the namespace kube-system, by which a cluster is recognised; derived from the name if absent.
    pub kube_system_uid: Option<String>,
    /// Changes kept for watches; older ones are compacted away.
    pub history_max: usize,
    /// Time between bookmarks of a watch that wants them.
    pub bookmark_interval: Duration,
    /// Fault switches in force from the first request on.
    pub faults: FaultSettings,
}

/// What a server finds when it comes back after [`ApiServer::stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// All objects and the history.
    SameState,
    /// Only the system namespaces, with the same uids, as after a lost etcd.
    EmptyState,
}

/// A running (or stopped) simulated API server. Dropping it closes all connections.
#[derive(Debug)]
pub struct ApiServer {
    cluster: Arc<Cluster>,
    address: SocketAddr,
    listener: Option<Listener>,
}

/// The fault switches of one server.
#[derive(Clone, Debug)]
pub struct Faults {
    cluster: Arc<Cluster>,
}

impl ApiServerOptions {
    /// The defaults: a free port, bookmarks every five seconds.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: None,
            kube_system_uid: None,
            history_max: HISTORY_MAX,
            bookmark_interval: Duration::from_secs(5),
            faults: FaultSettings::default(),
        }
    }
}

impl ApiServer {
    /// Binds and serves.
    ///
    /// # Errors
    /// The address is taken or not loopback.
    pub async fn start(options: ApiServerOptions) -> io::Result<Self> {
        let ApiServerOptions { name, listen, kube_system_uid, history_max, bookmark_interval, faults } = options;
        let uid = kube_system_uid.unwrap_or_else(|| uid_of(&name));
        let cluster = Arc::new(Cluster::new(&name, uid, history_max, bookmark_interval));
        cluster.faults(|settings| *settings = faults);
        let wanted = listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listener = Listener::start(Arc::clone(&cluster), wanted).await?;
        Ok(Self { cluster, address: listener.address(), listener: Some(listener) })
    }

    /// Address it listens on, also while stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig for kubectl and kube-rs, as YAML.
    pub fn kubeconfig(&self) -> String {
        let (name, url) = (self.cluster.name(), self.url());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
             clusters:\n- name: {name}\n  cluster:\n    server: {url}\n\
             contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n    namespace: default\n\
             users:\n- name: {name}\n  user: {{}}\n"
        )
    }

    /// Writes the kubeconfig to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.kubeconfig())
    }

    /// The fault switches.
    pub fn faults(&self) -> Faults {
        Faults { cluster: Arc::clone(&self.cluster) }
    }

    /// Creates or replaces an object, its `status` included; its namespace is created if it is missing. Returns what is stored.
    ///
    /// # Errors
    /// As the HTTP API: unknown kind, invalid fields, a resourceVersion that is not the current one.
    pub fn apply(&self, object: Value) -> Result<Value, Failure> {
        let kind = kind::of_object(&object).ok_or_else(|| Failure::bad_request("unknown apiVersion or kind"))?;
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let namespace = match text("namespace") {
            _ if !kind.is_namespaced() => String::new(),
            empty if empty.is_empty() => "default".to_owned(),
            namespace => namespace,
        };
        let key: Key = (namespace, text("name"));
        let accepts_invalid = self.cluster.faults(|faults| faults.accept_invalid);
        let options = |part| WriteOptions {
            checks: if accepts_invalid { Checks::None } else { Checks::Full },
            ..in_process(part)
        };
        let has_status = kind.has_status() && !object["status"].is_null();
        self.cluster.write(|store| {
            let namespace_key = (String::new(), key.0.clone());
            if kind.is_namespaced() && store.get("namespaces", &namespace_key).is_none() {
                let object = cluster::namespace(&key.0, &uuid::Uuid::new_v4().to_string());
                store
                    .put("namespaces", namespace_key, object)
                    .map_err(|_| Failure::new(507, "InternalError", "the store is full"))?;
            }
            let exists = store.get(kind.resource, &key).is_some();
            let main = options(Part::Main);
            let mut writer = Writer { store, kind, options: &main };
            let mut written = object.clone();
            let stored = if exists { writer.replace(&key, written)? } else { writer.create(&key.0, written)? };
            if !has_status {
                return Ok(stored);
            }
            written = object;
            written["metadata"]["resourceVersion"] = Value::Null;
            written["metadata"]["name"] = stored["metadata"]["name"].clone();
            let key = (key.0, stored["metadata"]["name"].as_str().unwrap_or_default().to_owned());
            Writer { store, kind, options: &options(Part::Status) }.replace(&key, written)
        })
    }

    /// Stores an object exactly as given: malformed, with any creationTimestamp or uid. Namespaced objects must name theirs.
    ///
    /// # Errors
    /// Kind or name are missing.
    pub fn insert_raw(&self, object: Value) -> Result<Value, Failure> {
        control::insert_raw(&self.cluster, object)
    }

    /// Deletes an object; `namespace` is empty for cluster-scoped kinds. Returns its last state.
    ///
    /// # Errors
    /// The resource is unknown or the object does not exist.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<Value, Failure> {
        let kind = kind::of_resource(resource).ok_or_else(Failure::unknown_path)?;
        let options = in_process(Part::Main);
        let key = (namespace.to_owned(), name.to_owned());
        self.cluster.write(|store| Writer { store, kind, options: &options }.delete(&key, &Preconditions::default()))
    }

    /// One object as it is stored (events in their core/v1 form).
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (namespace.to_owned(), name.to_owned());
        self.cluster.read(|store| store.get(resource, &key).map(|object| Value::clone(object)))
    }

    /// All objects of a kind in all namespaces, in list order.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        let objects = |store: &store::Store| {
            store.table(resource).into_iter().flatten().map(|(_, object)| Value::clone(object)).collect()
        };
        self.cluster.read(objects)
    }

    /// The current resourceVersion.
    pub fn revision(&self) -> u64 {
        self.cluster.read(store::Store::revision)
    }

    /// Closes the listener and all connections at once, as when the API goes down. Objects stay.
    pub async fn stop(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.stop().await;
        }
    }

    /// Listens again on the same address.
    ///
    /// # Errors
    /// The address was taken meanwhile.
    pub async fn start_again(&mut self, restart: Restart) -> io::Result<()> {
        self.stop().await;
        if restart == Restart::EmptyState {
            self.cluster.reset();
        }
        self.listener = Some(Listener::start(Arc::clone(&self.cluster), self.address).await?);
        Ok(())
    }
}

impl Faults {
    /// The switches as they are now.
    pub fn settings(&self) -> FaultSettings {
        self.cluster.faults(|faults| faults.clone())
    }

    /// Changes the switches in place.
    pub fn change(&self, change: impl FnOnce(&mut FaultSettings)) {
        let mut settings = self.settings();
        change(&mut settings);
        control::set_faults(&self.cluster, settings);
    }

    /// Switches everything off.
    pub fn clear(&self) {
        self.change(|faults| *faults = FaultSettings::default());
    }

    /// Breaks off all watches of a resource, or of [`ALL`], now. New ones work.
    pub fn drop_watches(&self, resource: &str) {
        self.cluster.drop_watches(resource);
    }

    /// Forgets the history: the next watch or continued list from an older revision gets 410.
    pub fn compact(&self) {
        self.cluster.write(store::Store::compact);
    }

    /// Answers the next requests for a resource, or for [`ALL`], with 429.
    pub fn throttle(&self, resource: &str, throttle: Throttle) {
        self.change(|faults| {
            faults.throttle.insert(resource.to_owned(), throttle);
        });
    }

    /// Fails one page of every list of a resource, or of [`ALL`].
    pub fn fail_list_page(&self, resource: &str, page: FailPage) {
        self.change(|faults| {
            faults.fail_list_page.insert(resource.to_owned(), page);
        });
    }

    /// Breaks streaming lists off after so many objects.
    pub fn cut_initial_events(&self, resource: &str, objects: usize) {
        self.change(|faults| {
            faults.cut_initial_events.insert(resource.to_owned(), objects);
        });
    }

    /// Answers every request for a resource, or for [`ALL`], with 403.
    pub fn forbid(&self, resource: &str) {
        self.change(|faults| {
            faults.forbidden = BTreeSet::from_iter(faults.forbidden.iter().cloned().chain([resource.to_owned()]));
        });
    }

    /// Delays every answer for a resource, or for [`ALL`].
    pub fn slow(&self, resource: &str, delay: Duration) {
        self.change(|faults| {
            faults.slow_ms.insert(resource.to_owned(), u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        });
    }

    /// Lists of a resource, or of [`ALL`], succeed with nothing in them.
    pub fn empty_lists(&self, resource: &str) {
        self.change(|faults| {
            faults.empty_lists.insert(resource.to_owned());
        });
    }
}

fn in_process(part: Part) -> WriteOptions {
    WriteOptions {
        manager: IN_PROCESS_MANAGER.to_owned(),
        part,
        effect: Effect::Keep,
        checks: Checks::Full,
        on_conflict: apply::OnConflict::Refuse,
    }
}

/// The same name always gives the same uid (FNV-1a, 128 bits), so that a restarted cluster is recognised.
fn uid_of(name: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = name.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    uuid::Builder::from_random_bytes(hash.to_be_bytes()).into_uuid().to_string()
}
