//! What this edge holds, and the one way in which it changes.
//!
//! An Update, from a controller or from the journal → checked → the table, the set of held digests, and the Update as
//! it took effect, for the journal. Resources that cannot be used are refused alone; an Update of another world, or
//! one that would go back in time, is refused whole. Digests are stored and echoed, never recomputed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use roadstead_proto::digest::{BucketHashes, Digest, bucket_of};
use roadstead_proto::resource::{self, ResourceKey};
use roadstead_proto::wire;
use roadstead_routing::id::{BackendId, PoolName};
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

use crate::last_good::journal::Replayed;
use crate::last_good::writer::Snapshot;
use crate::table::{CompiledHost, HostChange, TableWriter};

mod positions;
mod snapshot;

pub use positions::{Positions, World, WorldError};

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use samples::{backend, host, position_of, world};

/// Hosts and backends together. More are refused.
pub const RESOURCES_MAX: usize = 1_000_000;
/// Refused resources remembered. Further ones are refused just the same, with more work each time.
pub const REFUSED_MAX: usize = 10_000;

/// Everything held, and the right to change the table.
pub struct Holdings {
    pool: PoolName,
    table: TableWriter,
    world: Option<World>,
    positions: Positions,
    held: BTreeMap<ResourceKey, HeldResource>,
    hashes: BucketHashes,
    refused: BTreeMap<ResourceKey, Refused>,
    /// Backends whose removal waits until no host names them.
    deferred: BTreeSet<BackendId>,
    /// Whether a whole first set was ever applied.
    complete: bool,
}

/// What came of an Update.
#[derive(Debug, Default, PartialEq)]
pub struct Applied {
    pub refusals: Vec<wire::Refusal>,
    /// What took effect; `None` if nothing did.
    pub effective: Option<wire::Update>,
}

struct HeldResource {
    digest: Digest,
    /// As a wire::ResourceUpsert: the smallest form, and the one that the journal needs.
    encoded: Bytes,
}

struct Refused {
    digest: Digest,
    reason: String,
}

/// A resource that passed every check.
enum Checked {
    Host(Box<CompiledHost>),
    Backend(roadstead_routing::table::Backend),
}

impl Holdings {
    pub fn new(pool: PoolName, table: TableWriter) -> Self {
        Self {
            pool,
            table,
            world: None,
            positions: Positions::default(),
            held: BTreeMap::new(),
            hashes: BucketHashes::default(),
            refused: BTreeMap::new(),
            deferred: BTreeSet::new(),
            complete: false,
        }
    }

    /// Applies what the journal held. Of what another build wrote, the content is used but its digests are forgotten:
    /// that build may have dropped fields which it did not know, so the controller must send it again.
    pub fn replay(&mut self, replayed: Replayed) {
        for mut update in replayed.updates {
            if !replayed.same_build {
                update.upserts.iter_mut().for_each(|upsert| upsert.digest = Digest::default().to_vec());
            }
            match self.apply(update) {
                Ok(applied) => {
                    for refusal in applied.refusals {
                        tracing::warn!(
                            key = refusal.key,
                            reason = refusal.reason,
                            "Part of the last good table is refused"
                        );
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "The last good table contradicts itself; what came before is used");
                    return;
                }
            }
        }
    }

    /// Applies an Update.
    ///
    /// # Errors
    /// If it belongs to another world than what is held: nothing is changed, and nothing more may be taken from
    /// whoever sent it.
    pub fn apply(&mut self, update: wire::Update) -> Result<Applied, WorldError> {
        let world = World::accept(self.world.as_ref(), update.world.as_ref())?;
        let offered = update.positions.clone().unwrap_or_default();
        let restored = self.world.as_ref().is_some_and(|held| *held != world);
        if !restored && let Err(older) = self.positions.check(&offered) {
            return Ok(Applied { refusals: refuse_all(update, &older.to_string()), effective: None });
        }
        if restored {
            // A restored backup counts anew; what is held is compared and corrected by digests.
            self.positions = Positions::default();
        }
        self.positions.advance(&offered);
        self.world = Some(world);

        let mut effective = wire::Update { upserts: Vec::new(), removals: Vec::new(), ..update };
        let mut refusals = Vec::new();
        self.upsert(update.upserts, &mut effective, &mut refusals);
        self.remove(update.removals, &mut effective, &mut refusals);
        trace_applied(&effective.upserts);
        if update.synced {
            self.complete = true;
            self.table.mark_complete();
        }
        Ok(Applied { refusals, effective: Some(effective) })
    }

    pub fn world(&self) -> Option<&World> {
        self.world.as_ref()
    }

    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Hashes over the keys and digests of everything held, for a Hello.
    pub fn hashes(&self) -> &BucketHashes {
        &self.hashes
    }

    /// Whether a whole first set was ever applied, by this process or by the one that wrote the journal.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub fn hosts(&self) -> usize {
        self.table.hosts()
    }

    pub fn backends(&self) -> usize {
        self.table.backends()
    }

    /// Refused resources and why.
    pub fn refused(&self) -> impl Iterator<Item = (&ResourceKey, &str)> {
        self.refused.iter().map(|(key, refused)| (key, &*refused.reason))
    }

    /// Keys and digests of everything in these buckets, in messages of a bounded size.
    pub fn contents(&self, buckets: &[u32]) -> Vec<wire::HeldContents> {
        let mut wanted: BTreeMap<u32, Vec<wire::Held>> = buckets.iter().map(|index| (*index, Vec::new())).collect();
        for (key, held) in &self.held {
            let key = key.to_string();
            let bucket = u32::try_from(bucket_of(&key)).expect("a bucket's index must fit");
            if let Some(entries) = wanted.get_mut(&bucket) {
                entries.push(wire::Held { key, digest: held.digest.to_vec() });
            }
        }
        chunked(wanted)
    }

    /// Everything held, for a new journal.
    pub fn snapshot(&self) -> Snapshot {
        let encoded: Vec<Bytes> = self.held.values().map(|held| held.encoded.clone()).collect();
        let last = wire::Update {
            world: self.world.as_ref().map(World::to_wire),
            positions: Some(self.positions.to_wire()),
            synced: self.complete,
            ..wire::Update::default()
        };
        Box::new(snapshot::Updates::new(encoded, last))
    }

    fn upsert(
        &mut self,
        upserts: Vec<wire::ResourceUpsert>,
        effective: &mut wire::Update,
        refusals: &mut Vec<wire::Refusal>,
    ) {
        let mut hosts = Vec::new();
        for upsert in upserts {
            let (key, digest) = (key_of(&upsert), upsert.digest.clone());
            match self.check(&key, &upsert) {
                Ok((parsed, digest, checked)) => {
                    self.refused.remove(&parsed);
                    if let ResourceKey::Backend(id) = &parsed {
                        self.deferred.remove(id);
                    }
                    match checked {
                        None => continue,
                        Some(Checked::Host(host)) => hosts.push(HostChange::Put(host)),
                        Some(Checked::Backend(backend)) => self.table.put_backend(&backend),
                    }
                    self.hold(parsed, digest, &upsert);
                    effective.upserts.push(upsert);
                }
                Err(reason) => {
                    self.remember_refused(&key, &digest, &reason);
                    refusals.push(wire::Refusal { key, digest, reason });
                }
            }
        }
        self.table.change_hosts(hosts);
    }

    /// What an upsert changes, fully checked; `None`: nothing, it is held already.
    fn check(
        &self,
        key: &str,
        upsert: &wire::ResourceUpsert,
    ) -> Result<(ResourceKey, Digest, Option<Checked>), String> {
        let parsed = ResourceKey::parse(key).ok_or_else(|| format!("`{key}` is not a resource key"))?;
        let digest = Digest::from_slice(&upsert.digest).ok_or("its digest is not 16 bytes long")?;
        if let Some(refused) = self.refused.get(&parsed).filter(|refused| refused.digest == digest) {
            return Err(refused.reason.clone());
        }
        let held = self.held.get(&parsed);
        if held.is_some_and(|held| held.digest == digest && digest != Digest::default()) {
            return Ok((parsed, digest, None));
        }
        if held.is_none() && self.held.len() >= RESOURCES_MAX {
            return Err(format!("an edge holds at most {RESOURCES_MAX} resources"));
        }
        let checked = match upsert.resource.clone() {
            Some(wire::resource_upsert::Resource::Host(host)) => self.check_host(host)?,
            Some(wire::resource_upsert::Resource::Backend(backend)) => {
                let backend = resource::backend_from_wire(backend).map_err(|error| error.to_string())?;
                if parsed != ResourceKey::Backend(backend.id.clone()) {
                    return Err("its key can be read in two ways".to_owned());
                }
                Checked::Backend(backend)
            }
            None => return Err("it is of a kind that this edge does not know".to_owned()),
        };
        Ok((parsed, digest, Some(checked)))
    }

    fn check_host(&self, host: wire::Host) -> Result<Checked, String> {
        let host = resource::host_from_wire(host).map_err(|error| error.to_string())?;
        if host.pool != self.pool {
            return Err(format!("it belongs to the pool {}, this edge to {}", host.pool, self.pool));
        }
        let compiled = CompiledHost::new(host).map_err(|error| error.to_string())?;
        Ok(Checked::Host(Box::new(compiled)))
    }

    fn remove(&mut self, removals: Vec<String>, effective: &mut wire::Update, refusals: &mut Vec<wire::Refusal>) {
        let mut hosts = Vec::new();
        for key in removals {
            match ResourceKey::parse(&key) {
                Some(ResourceKey::Backend(id)) => {
                    self.refused.remove(&ResourceKey::Backend(id.clone()));
                    if self.held.contains_key(&ResourceKey::Backend(id.clone())) {
                        self.deferred.insert(id);
                    }
                }
                Some(parsed @ ResourceKey::Host(_)) => {
                    self.refused.remove(&parsed);
                    if self.release(&parsed)
                        && let ResourceKey::Host(name) = parsed
                    {
                        hosts.push(HostChange::Remove(name));
                        effective.removals.push(key);
                    }
                }
                None => {
                    let reason = format!("`{key}` is not a resource key");
                    refusals.push(wire::Refusal { key, digest: Vec::new(), reason });
                }
            }
        }
        self.table.change_hosts(hosts);
        self.settle(effective);
    }

    /// Removes the backends that are to be removed and that no host names any more.
    fn settle(&mut self, effective: &mut wire::Update) {
        let deferred = std::mem::take(&mut self.deferred);
        for id in deferred {
            if self.table.remove_backend(&id).is_err() {
                self.deferred.insert(id);
                continue;
            }
            let key = ResourceKey::Backend(id);
            self.release(&key);
            effective.removals.push(key.to_string());
        }
    }

    fn hold(&mut self, key: ResourceKey, digest: Digest, upsert: &wire::ResourceUpsert) {
        let text = key.to_string();
        let encoded = Bytes::from(upsert.encode_to_vec());
        let before = self.held.insert(key, HeldResource { digest, encoded });
        self.hashes.replace(&text, before.map(|held| held.digest).as_ref(), Some(&digest));
    }

    /// Forgets a resource; false if it was not held.
    fn release(&mut self, key: &ResourceKey) -> bool {
        let Some(held) = self.held.remove(key) else { return false };
        self.hashes.replace(&key.to_string(), Some(&held.digest), None);
        true
    }

    fn remember_refused(&mut self, key: &str, digest: &[u8], reason: &str) {
        if let (Some(key), Some(digest)) = (ResourceKey::parse(key), Digest::from_slice(digest))
            && (self.refused.len() < REFUSED_MAX || self.refused.contains_key(&key))
        {
            self.refused.insert(key, Refused { digest, reason: reason.to_owned() });
        }
    }
}

/// The text form of an upsert's key, also if its resource cannot be used.
fn key_of(upsert: &wire::ResourceUpsert) -> String {
    match &upsert.resource {
        Some(wire::resource_upsert::Resource::Host(host)) => format!("host/{}", host.name),
        Some(wire::resource_upsert::Resource::Backend(backend)) => {
            let id = backend.id.clone().unwrap_or_default();
            let port = match id.port.and_then(|port| port.port) {
                Some(wire::port_ref::Port::Number(number)) => number.to_string(),
                Some(wire::port_ref::Port::Name(name)) => name,
                None => String::new(),
            };
            format!("backend/{}/{}/{}:{port}", id.cluster, id.namespace, id.service)
        }
        None => String::new(),
    }
}

/// Tells observers of single changes (the propagation benchmark) what requests see from now on. Free unless enabled.
fn trace_applied(upserts: &[wire::ResourceUpsert]) {
    if tracing::enabled!(target: "roadstead_edge::applied", tracing::Level::TRACE) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_nanos = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        for upsert in upserts {
            tracing::trace!(target: "roadstead_edge::applied", key = key_of(upsert), unix_nanos, "Applied");
        }
    }
}

fn refuse_all(update: wire::Update, reason: &str) -> Vec<wire::Refusal> {
    let upserts = update.upserts.into_iter().map(|upsert| (key_of(&upsert), upsert.digest));
    let removals = update.removals.into_iter().map(|key| (key, Vec::new()));
    upserts.chain(removals).map(|(key, digest)| wire::Refusal { key, digest, reason: reason.to_owned() }).collect()
}

fn chunked(buckets: BTreeMap<u32, Vec<wire::Held>>) -> Vec<wire::HeldContents> {
    let mut messages = vec![wire::HeldContents::default()];
    let mut bytes = 0;
    for (index, held) in buckets {
        let bucket = wire::Bucket { index, held };
        let size = bucket.encoded_len() + 8;
        if bytes > 0 && bytes + size > MESSAGE_BYTES_MAX {
            messages.push(wire::HeldContents::default());
            bytes = 0;
        }
        bytes += size;
        messages.last_mut().expect("there must be a message to fill").buckets.push(bucket);
    }
    messages.last_mut().expect("there must be a last message").last = true;
    messages
}
