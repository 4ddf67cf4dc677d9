//! Create, update, patch, apply and delete.
//!
//! In: the store, a kind, what the client sent and how. Out: the object as stored, or a refusal. Every write ends in
//! [`Writer::store`], which defaults, validates, counts generations and settles ownership, in this order.

use serde_json::{Value, json};
use uuid::Uuid;

use super::apply::{Apply, OnConflict};
use super::failure::Failure;
use super::kind::{self, Kind};
use super::managers::{self, Author, Owner};
use super::store::{Key, Store};
use super::{admit, decode, events, patch, validate};

/// How a write is done.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    /// `fieldManager`.
    pub(crate) manager: String,
    /// Which part is written.
    pub(crate) part: Part,
    /// Whether the result is kept.
    pub(crate) effect: Effect,
    /// Whether objects are judged.
    pub(crate) checks: Checks,
    /// What apply does on conflicts.
    pub(crate) on_conflict: OnConflict,
}

/// The part of an object that a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but `status`.
    Main,
    /// Only `status`.
    Status,
}

/// `dryRun`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The object is stored.
    Keep,
    /// The answer is computed and forgotten.
    DryRun,
}

/// Whether objects are decoded and validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    /// As a real API server does.
    Full,
    /// Anything is stored, as if an older server had accepted it.
    None,
}

/// A patch and its format.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' own merge patch.
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

/// What DELETE asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// An object after a write, and whether the write created it.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) object: Value,
    pub(crate) is_new: bool,
}

/// One write: the store, the kind and the options.
pub(crate) struct Writer<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) kind: &'static Kind,
    pub(crate) options: &'a WriteOptions,
}

impl Writer<'_> {
    /// POST.
    pub(crate) fn create(&mut self, namespace: &str, object: Value) -> Result<Value, Failure> {
        let mut object = self.incoming(namespace, object)?;
        self.generate_name(&mut object);
        let key = (namespace.to_owned(), name_of(&object).to_owned());
        if self.store.get(self.kind.resource, &key).is_some() {
            return Err(Failure::already_exists(self.kind, &key.1));
        }
        if !object["metadata"]["resourceVersion"].is_null() {
            return Err(Failure::bad_request("resourceVersion should not be set on objects to be created"));
        }
        self.store(&key, None, object, None)
    }

    /// PUT.
    pub(crate) fn replace(&mut self, key: &Key, object: Value) -> Result<Value, Failure> {
        let object = self.incoming(&key.0, object)?;
        if name_of(&object) != key.1 {
            let (sent, url) = (name_of(&object), &key.1);
            let message = format!("the name of the object ({sent}) does not match the name on the URL ({url})");
            return Err(Failure::bad_request(message));
        }
        let old = self.live(key)?;
        self.store(key, Some(&old), object, None)
    }

    /// PATCH.
    pub(crate) fn patch(&mut self, key: &Key, patch: Patch) -> Result<Written, Failure> {
        if let Patch::Apply(config) = patch {
            return self.apply(key, config);
        }
        let old = self.live(key)?;
        let mut object = events::from_stored(self.kind, old.clone());
        match &patch {
            Patch::Json(operations) => patch::json_patch(&mut object, operations)
                .map_err(|error| Failure::new(422, "Invalid", error.to_string()))?,
            Patch::Merge(fields) | Patch::Apply(fields) => patch::merge(&mut object, fields),
            Patch::Strategic(fields) => patch::strategic(&mut object, fields),
        }
        let object = self.incoming(&key.0, object)?;
        if name_of(&object) != key.1 {
            return Err(Failure::bad_request("metadata.name cannot be patched"));
        }
        Ok(Written { object: self.store(key, Some(&old), object, None)?, is_new: false })
    }

    /// DELETE of one object. With finalizers it is only marked.
    pub(crate) fn delete(&mut self, key: &Key, wanted: &Preconditions) -> Result<Value, Failure> {
        let mut old = self.live(key)?;
        self.check_precondition(key, "UID", wanted.uid.as_ref(), &old["metadata"]["uid"])?;
        let version = &old["metadata"]["resourceVersion"];
        self.check_precondition(key, "ResourceVersion", wanted.resource_version.as_ref(), version)?;
        if self.options.effect == Effect::DryRun {
            return Ok(old);
        }
        if old["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty()) {
            if old["metadata"]["deletionTimestamp"].is_null() {
                old["metadata"]["deletionTimestamp"] = json!(now());
                old["metadata"]["deletionGracePeriodSeconds"] = json!(0);
                old = self.put(key, old)?;
            }
            return Ok(old);
        }
        if self.kind.resource == "namespaces" {
            self.empty_namespace(&key.1);
        }
        let last = self.store.remove(self.kind.resource, key);
        Ok(last.map_or(old, |last| Value::clone(&last)))
    }

    fn apply(&mut self, key: &Key, config: Value) -> Result<Written, Failure> {
        if self.options.manager.is_empty() {
            return Err(Failure::bad_request(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ));
        }
        if config["metadata"]["managedFields"].as_array().is_some_and(|list| !list.is_empty()) {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        let config = self.incoming_config(key, config)?;
        let live = self.store.get(self.kind.resource, key).map(|live| Value::clone(live));
        if live.is_none() && self.options.part == Part::Status {
            return Err(Failure::not_found(self.kind, &key.1));
        }
        let base = live.clone().unwrap_or_else(|| json!({"metadata": {}}));
        let author = self.author();
        let request = Apply {
            resource: self.kind.resource,
            config: &config,
            author: &author,
            time: &now(),
            on_conflict: self.options.on_conflict,
        };
        let (mut merged, owners) = request
            .run(&base, managers::read(&base))
            .map_err(|causes| Failure::apply_conflict(self.kind, &key.1, causes))?;
        for field in ["apiVersion", "kind"] {
            merged[field] = if field == "kind" { json!(self.kind.kind) } else { json!(self.stored_version()) };
        }
        merged["metadata"]["name"] = json!(key.1);
        if self.kind.is_namespaced() {
            merged["metadata"]["namespace"] = json!(key.0);
        }
        merged["metadata"]["resourceVersion"] = config["metadata"]["resourceVersion"].clone();
        let merged = if self.options.checks == Checks::Full { decode::canonical(self.kind, merged)? } else { merged };
        let is_new = live.is_none();
        Ok(Written { object: self.store(key, live.as_ref(), merged, Some(owners))?, is_new })
    }

    /// The common end of all writes; `owners` is given by apply, which settles them itself.
    fn store(
        &mut self,
        key: &Key,
        old: Option<&Value>,
        mut new: Value,
        owners: Option<Vec<Owner>>,
    ) -> Result<Value, Failure> {
        let sent = std::mem::take(&mut new["metadata"]["managedFields"]);
        if let Some(old) = old {
            self.check_versions(key, old, &new)?;
            self.keep_other_part(old, &mut new);
            keep_identity(old, &mut new);
        } else {
            if self.kind.has_status()
                && let Value::Object(map) = &mut new
            {
                map.remove("status");
            }
            admit::admit_creation(self.kind, self.store, &mut new)?;
            new["metadata"]["uid"] = json!(Uuid::new_v4().to_string());
            new["metadata"]["creationTimestamp"] = json!(now());
        }
        admit::set_defaults(self.kind, self.store, &mut new);
        if self.options.checks == Checks::Full {
            let causes = validate::validate(self.kind, &new, old);
            if !causes.is_empty() {
                return Err(Failure::invalid(self.kind, &key.1, causes));
            }
        }
        if let Some(generation) = admit::generation(self.kind, old, &new) {
            new["metadata"]["generation"] = json!(generation);
        }
        let owners = owners.unwrap_or_else(|| self.owners_after_update(old, &new, &sent));
        managers::write(&mut new, &owners);
        if old.is_some_and(|old| is_same(old, &new)) {
            return Ok(old.cloned().unwrap_or(new));
        }
        if self.options.effect == Effect::DryRun {
            return Ok(new);
        }
        let stored = self.put(key, new)?;
        if is_finalized(&stored) {
            self.store.remove(self.kind.resource, key);
        }
        Ok(stored)
    }

    fn put(&mut self, key: &Key, object: Value) -> Result<Value, Failure> {
        let stored = self.store.put(self.kind.resource, key.clone(), object);
        stored
            .map(|stored| Value::clone(&stored))
            .map_err(|_| Failure::new(500, "InternalError", "etcdserver: mvcc: database space exceeded"))
    }

    /// Checks shape and identity of an object from a client and brings it into its stored, canonical form.
    fn incoming(&self, namespace: &str, object: Value) -> Result<Value, Failure> {
        let mut object = self.incoming_config(&(namespace.to_owned(), String::new()), object)?;
        if self.kind.is_namespaced() {
            object["metadata"]["namespace"] = json!(namespace);
        } else if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        if self.options.checks == Checks::Full { decode::canonical(self.kind, object) } else { Ok(object) }
    }

    /// The same for an apply configuration, which stays partial; `key.1` is checked unless empty.
    fn incoming_config(&self, key: &Key, object: Value) -> Result<Value, Failure> {
        let mut object = object;
        if !object.is_object() || !matches!(object["metadata"], Value::Null | Value::Object(_)) {
            return Err(Failure::bad_request("the object provided is unrecognized (must be of type object)"));
        }
        for (field, wanted) in [("apiVersion", self.kind.api_version()), ("kind", self.kind.kind.to_owned())] {
            match object[field].as_str() {
                Some(sent) if sent != wanted => {
                    let message =
                        format!("the {field} in the data ({sent}) does not match the expected {field} ({wanted})");
                    return Err(Failure::bad_request(message));
                }
                Some(_) => {}
                None => object[field] = json!(wanted),
            }
        }
        if object["metadata"].is_null() {
            object["metadata"] = json!({});
        }
        let metadata = &object["metadata"];
        if metadata["namespace"].as_str().is_some_and(|sent| self.kind.is_namespaced() && sent != key.0) {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if !key.1.is_empty() && metadata["name"].as_str().is_some_and(|sent| sent != key.1) {
            return Err(Failure::bad_request("the name of the object does not match the name on the URL"));
        }
        let mut object = events::to_stored(self.kind, object);
        if key.1.is_empty() {
            return Ok(object);
        }
        if self.options.checks == Checks::Full {
            decode::canonical(self.kind, object.clone())?;
        }
        self.cut_to_part(&mut object);
        Ok(object)
    }

    /// Leaves in an apply configuration only what the request may write.
    fn cut_to_part(&self, config: &mut Value) {
        let Value::Object(map) = config else { return };
        match self.options.part {
            Part::Main if self.kind.has_status() => {
                map.remove("status");
            }
            Part::Main => {}
            Part::Status => {
                let version = map["metadata"]["resourceVersion"].clone();
                map.retain(|field, _| matches!(field.as_str(), "apiVersion" | "kind" | "status"));
                map.insert("metadata".to_owned(), json!({"resourceVersion": version}));
            }
        }
    }

    fn keep_other_part(&self, old: &Value, new: &mut Value) {
        match self.options.part {
            Part::Main if self.kind.has_status() => copy_field(old, new, "status"),
            Part::Main => {}
            Part::Status => {
                let status = new.get("status").cloned();
                *new = old.clone();
                if let Value::Object(map) = new {
                    map.remove("status");
                    map.extend(status.map(|status| ("status".to_owned(), status)));
                }
            }
        }
    }

    fn owners_after_update(&self, old: Option<&Value>, new: &Value, sent: &Value) -> Vec<Owner> {
        let none = json!({});
        let old = old.unwrap_or(&none);
        // Who writes one part owns nothing of the other, defaults of the server least of all.
        let (before, after) = (self.written_part(old), self.written_part(new));
        // A client may rewrite the list itself (kubectl does, when it moves from client-side to server-side apply).
        let sent = json!({"metadata": {"managedFields": sent}});
        let is_given = sent["metadata"]["managedFields"].as_array().is_some_and(|list| !list.is_empty());
        let owners = managers::read(if is_given { &sent } else { old });
        managers::after_update(self.kind.resource, (&before, &after), owners, (&self.author(), &now()))
    }

    fn written_part(&self, object: &Value) -> Value {
        let mut part = object.clone();
        if let Value::Object(map) = &mut part
            && self.kind.has_status()
        {
            map.retain(|field, _| (field == "status") == (self.options.part == Part::Status));
        }
        part
    }

    fn check_versions(&self, key: &Key, old: &Value, new: &Value) -> Result<(), Failure> {
        let (sent, current) = (&new["metadata"]["resourceVersion"], &old["metadata"]["resourceVersion"]);
        if sent.as_str().is_some_and(|sent| !sent.is_empty() && current != sent) {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Failure::conflict(self.kind, &key.1, why));
        }
        let uid = new["metadata"]["uid"].as_str().map(str::to_owned);
        self.check_precondition(key, "UID", uid.as_ref(), &old["metadata"]["uid"])
    }

    fn check_precondition(&self, key: &Key, field: &str, wanted: Option<&String>, is: &Value) -> Result<(), Failure> {
        match wanted {
            Some(wanted) if !wanted.is_empty() && is != wanted => {
                let is = is.as_str().unwrap_or_default();
                let why =
                    format!("Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {is}");
                Err(Failure::conflict(self.kind, &key.1, &why))
            }
            _ => Ok(()),
        }
    }

    fn live(&self, key: &Key) -> Result<Value, Failure> {
        let found = self.store.get(self.kind.resource, key);
        found.map(|live| Value::clone(live)).ok_or_else(|| Failure::not_found(self.kind, &key.1))
    }

    fn generate_name(&self, object: &mut Value) {
        if name_of(object).is_empty()
            && let Some(prefix) = object["metadata"]["generateName"].as_str()
        {
            let random = Uuid::new_v4().simple().to_string();
            object["metadata"]["name"] = json!(format!("{prefix}{}", &random[..5]));
        }
    }

    fn empty_namespace(&mut self, namespace: &str) {
        for kind in kind::KINDS.iter().filter(|kind| kind.is_namespaced()) {
            let table = self.store.table(kind.resource).into_iter().flat_map(|table| table.keys());
            let keys: Vec<Key> = table.filter(|key| key.0 == namespace).cloned().collect();
            for key in keys {
                self.store.remove(kind.resource, &key);
            }
        }
    }

    fn author(&self) -> Author {
        let subresource = if self.options.part == Part::Status { "status" } else { "" };
        let manager = self.options.manager.clone();
        Author { manager, api_version: self.kind.api_version(), subresource }
    }

    fn stored_version(&self) -> String {
        kind::of_resource(self.kind.resource).unwrap_or(self.kind).api_version()
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Fields of metadata that no client can change.
fn keep_identity(old: &Value, new: &mut Value) {
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        copy_field(&old["metadata"], &mut new["metadata"], field);
    }
}

fn copy_field(from: &Value, to: &mut Value, field: &str) {
    let Value::Object(map) = to else { return };
    match from.get(field) {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

/// Whether a write changes nothing worth a new revision: neither fields nor owners, times of ownership aside.
fn is_same(old: &Value, new: &Value) -> bool {
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        for owner in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            owner.as_object_mut().map(|owner| owner.remove("time"));
        }
        object
    };
    strip(old) == strip(new)
}

fn is_finalized(object: &Value) -> bool {
    let metadata = &object["metadata"];
    !metadata["deletionTimestamp"].is_null() && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
}

/// The current time as Kubernetes writes it: RFC 3339 in whole seconds.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
