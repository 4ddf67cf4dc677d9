//! The backends that published hosts refer to: those that are computed, and those that are not any more while held and
//! pinned hosts keep them.

use std::sync::Arc;

use prost::Message;
use roadstead_proto::digest::Digest;
use roadstead_proto::resource::{ResourceKey, backend_from_wire, backend_to_wire};
use roadstead_proto::wire;
use roadstead_routing::id::BackendId;
use roadstead_routing::table::{Backend, Host};

use super::Publish;
use crate::compute::{Resource, backends_of};
use crate::core::message::Output;
use crate::core::turn::Turn;
use crate::guard::kept::Keep;
use crate::store::queue::Request;

impl Publish {
    /// A version of old may use backends that are gone: they are there again, without endpoints.
    pub(super) fn complete(&mut self, host: Option<&Resource<Host>>) {
        let Some(host) = host else { return };
        for id in backends_of(&host.value) {
            if !self.backends.contains_key(id) {
                let backend = Backend::empty(id.clone());
                let digest = Digest::of(&backend_to_wire(&backend));
                self.backends.insert(id.clone(), Resource { value: Arc::new(backend), digest });
                self.orphans.insert(id.clone());
            }
        }
    }

    /// After hosts changed: backends that the world no longer describes stay as long as a host refers to them.
    pub(super) fn keep_backends(&mut self, turn: &mut Turn) {
        let (before, orphans) = (std::mem::take(&mut self.kept), std::mem::take(&mut self.orphans));
        for id in before.union(&orphans) {
            let key = ResourceKey::Backend(id.clone());
            let is_used = self.is_used(&key);
            if is_used {
                self.kept.insert(id.clone());
            }
            let last = if is_used { self.backends.get(id).cloned() } else { self.backends.remove(id) };
            if is_used != before.contains(id) && turn.token.is_some() {
                let encoded = last.filter(|_| is_used).map(|it| backend_to_wire(&it.value).encode_to_vec());
                turn.out.push(Output::Store(Request::Keep(Keep::Backend(id.clone(), encoded))));
            }
        }
    }

    /// Backends that an earlier process kept and that are not computed now.
    pub(super) fn recall_backends(&mut self, encoded: Vec<Vec<u8>>) {
        for encoded in encoded {
            let decoded = wire::Backend::decode(&*encoded).ok().and_then(|it| backend_from_wire(it).ok());
            let Some(backend) = decoded.filter(|it| !self.backends.contains_key(&it.id)) else { continue };
            let (id, digest) = (backend.id.clone(), Digest::of(&backend_to_wire(&backend)));
            self.kept.insert(id.clone());
            self.backends.insert(id, Resource { value: Arc::new(backend), digest });
        }
    }

    pub(super) fn set_backend(&mut self, id: BackendId, resource: Option<Resource<Backend>>, turn: &mut Turn) {
        let key = ResourceKey::Backend(id.clone());
        if resource.is_none() && self.is_used(&key) {
            self.orphans.insert(id);
            return;
        }
        if self.kept.remove(&id) && turn.token.is_some() {
            turn.out.push(Output::Store(Request::Keep(Keep::Backend(id.clone(), None))));
        }
        let digest = resource.as_ref().map(|resource| resource.digest);
        for pool in self.pools.values_mut() {
            pool.resource_changed(&key, digest);
        }
        match resource {
            Some(resource) => self.backends.insert(id, resource),
            None => self.backends.remove(&id),
        };
    }
}
