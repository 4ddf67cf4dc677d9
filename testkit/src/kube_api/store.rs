//! The objects of one simulated cluster and a bounded history of their changes.
//!
//! In: put and remove of whole objects. Out: objects, snapshots at an older revision, changes after a revision.
//! The store stamps `metadata.resourceVersion` and knows nothing else about what is inside an object.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

/// Changes kept for watches and continued lists; older ones are compacted away.
pub const HISTORY_MAX: usize = 10_000;

/// Objects kept in one cluster; a write beyond it is refused.
pub const OBJECTS_MAX: usize = 500_000;

/// Namespace (empty for cluster-scoped objects) and name.
pub(crate) type Key = (String, String);

/// One table of objects, in list order.
pub(crate) type Table = BTreeMap<Key, Arc<Value>>;

/// One change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Revision that this change made.
    pub(crate) revision: u64,
    /// Plural name of the kind.
    pub(crate) resource: &'static str,
    /// Namespace and name.
    pub(crate) key: Key,
    /// State before; `None` for a creation.
    pub(crate) old: Option<Arc<Value>>,
    /// State after. For a deletion: the last state, stamped with the deletion's revision.
    pub(crate) new: Arc<Value>,
    /// What happened.
    pub(crate) kind: ChangeKind,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// The object was created or replaced.
    Put,
    /// The object was deleted.
    Remove,
}

/// The wanted revision is older than the history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Compacted;

/// The store is full.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// All objects of one cluster.
#[derive(Debug)]
pub(crate) struct Store {
    tables: BTreeMap<&'static str, Table>,
    history: VecDeque<Change>,
    history_max: usize,
    count: usize,
    revision: u64,
    /// Changes up to this revision are forgotten; a watch may start at it but not before.
    compacted: u64,
}

impl Store {
    /// An empty store that keeps at most `history_max` changes.
    pub(crate) fn new(history_max: usize) -> Self {
        Self { tables: BTreeMap::new(), history: VecDeque::new(), history_max, count: 0, revision: 1, compacted: 1 }
    }

    /// The revision of the last change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// One object.
    pub(crate) fn get(&self, resource: &str, key: &Key) -> Option<&Arc<Value>> {
        self.tables.get(resource)?.get(key)
    }

    /// All objects of one kind as they are now.
    pub(crate) fn table(&self, resource: &str) -> Option<&Table> {
        self.tables.get(resource)
    }

    /// All tables, for a dump of the state.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&'static str, &Table)> {
        self.tables.iter().map(|(resource, table)| (*resource, table))
    }

    /// Creates or replaces an object; returns it with its new resourceVersion.
    pub(crate) fn put(&mut self, resource: &'static str, key: Key, mut object: Value) -> Result<Arc<Value>, Full> {
        let old = self.get(resource, &key).cloned();
        if old.is_none() {
            if self.count >= OBJECTS_MAX {
                return Err(Full);
            }
            self.count += 1;
        }
        self.revision += 1;
        stamp(&mut object, self.revision);
        let new = Arc::new(object);
        self.tables.entry(resource).or_default().insert(key.clone(), Arc::clone(&new));
        self.record(Change {
            revision: self.revision,
            resource,
            key,
            old,
            new: Arc::clone(&new),
            kind: ChangeKind::Put,
        });
        Ok(new)
    }

    /// Deletes an object; returns its last state with the deletion's resourceVersion.
    pub(crate) fn remove(&mut self, resource: &'static str, key: &Key) -> Option<Arc<Value>> {
        let old = self.tables.get_mut(resource)?.remove(key)?;
        self.count -= 1;
        self.revision += 1;
        let mut last = Value::clone(&old);
        stamp(&mut last, self.revision);
        let new = Arc::new(last);
        self.record(Change {
            revision: self.revision,
            resource,
            key: key.clone(),
            old: Some(old),
            new: Arc::clone(&new),
            kind: ChangeKind::Remove,
        });
        Some(new)
    }

    /// All objects of one kind as they were at `revision` (not later than now).
    pub(crate) fn snapshot(&self, resource: &str, revision: u64) -> Result<Table, Compacted> {
        if revision < self.compacted {
            return Err(Compacted);
        }
        let mut table = self.tables.get(resource).cloned().unwrap_or_default();
        for change in self.history.iter().rev().take_while(|change| change.revision > revision) {
            if change.resource != resource {
                continue;
            }
            match &change.old {
                Some(old) => table.insert(change.key.clone(), Arc::clone(old)),
                None => table.remove(&change.key),
            };
        }
        Ok(table)
    }

    /// Up to `count` changes of one kind after `revision`, and the revision up to which they are complete.
    pub(crate) fn changes_after(
        &self,
        resource: &str,
        revision: u64,
        count: usize,
    ) -> Result<(Vec<Change>, u64), Compacted> {
        if revision < self.compacted {
            return Err(Compacted);
        }
        let start = self.history.partition_point(|change| change.revision <= revision);
        let mut found = Vec::new();
        for change in self.history.range(start..).filter(|change| change.resource == resource) {
            if found.len() == count {
                let last = found.last().map_or(revision, |last: &Change| last.revision);
                return Ok((found, last));
            }
            found.push(change.clone());
        }
        // A reader may be ahead: its revision is from before a restored backup.
        Ok((found, self.revision.max(revision)))
    }

    /// Forgets all objects. Revisions go on and the old ones expire, as when etcd is restored with `--bump-revision` and
    /// `--mark-compacted`: otherwise old clients would wait silently for revisions that are far away.
    pub(crate) fn clear(&mut self) {
        self.tables.clear();
        self.count = 0;
        self.compact();
    }

    /// Forgets all history. The revision moves on first, so that every revision handed out before is too old.
    pub(crate) fn compact(&mut self) {
        self.revision += 1;
        self.compacted = self.revision;
        self.history.clear();
    }

    fn record(&mut self, change: Change) {
        self.history.push_back(change);
        while self.history.len() > self.history_max {
            if let Some(oldest) = self.history.pop_front() {
                self.compacted = oldest.revision;
            }
        }
    }
}

/// Writes the revision into the object; an object whose metadata is no map (a planted malformed one) gets a fresh one.
fn stamp(object: &mut Value, revision: u64) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("default".to_owned(), name.to_owned())
    }

    #[test]
    fn snapshot_undoes_creation_change_and_deletion() {
        let mut store = Store::new(10);
        store.put("services", key("a"), json!({"n": 1})).expect("room");
        store.put("services", key("gone"), json!({"n": 2})).expect("room");
        let then = store.revision();
        store.put("services", key("a"), json!({"n": 3})).expect("room");
        store.put("services", key("b"), json!({"n": 4})).expect("room");
        store.remove("services", &key("gone")).expect("exists");
        let old = store.snapshot("services", then).expect("in history");
        assert_eq!(old.keys().map(|key| key.1.as_str()).collect::<Vec<_>>(), ["a", "gone"]);
        assert_eq!(old[&key("a")]["n"], 1);
    }

    #[test]
    fn history_is_bounded_and_says_so() {
        let mut store = Store::new(2);
        let start = store.revision();
        for n in 0..3 {
            store.put("services", key("a"), json!({"n": n})).expect("room");
        }
        assert_eq!(store.changes_after("services", start, 9).map(|_| ()), Err(Compacted));
        let (changes, upto) = store.changes_after("services", start + 1, 9).expect("kept");
        assert_eq!((changes.len(), upto), (2, store.revision()));
    }

    #[test]
    fn compaction_expires_every_revision_handed_out_before() {
        let mut store = Store::new(10);
        store.put("services", key("a"), json!({})).expect("room");
        let seen = store.revision();
        store.compact();
        assert_eq!(store.snapshot("services", seen).map(|_| ()), Err(Compacted));
        assert!(store.snapshot("services", store.revision()).is_ok());
    }

    #[test]
    fn a_limited_read_says_how_far_it_is_complete() {
        let mut store = Store::new(10);
        for n in 0..3 {
            store.put("services", key(&format!("s{n}")), json!({})).expect("room");
        }
        let (first, upto) = store.changes_after("services", 1, 2).expect("kept");
        let (rest, _) = store.changes_after("services", upto, 2).expect("kept");
        assert_eq!((first.len(), rest.len()), (2, 1));
    }
}
