//! The Secrets that published hosts need, as the world has them: certificates that they show, users who may enter.
//!
//! Hosts name certificates by their Secrets; here each Secret's newest usable form becomes a resource for the edges of the
//! pools that show it. What is gone from the world stays as it was last while a held host still shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use roadstead_proto::digest::Digest;
use roadstead_proto::resource::{ResourceKey, host_to_wire, secret};
use roadstead_routing::id::{Kind, ObjectKey};
use roadstead_routing::object::{Object, SecretContent};
use roadstead_routing::table::{Host, HostSecret, HostSecretContent, SecretId};

use super::Publish;
use crate::compute::Resource;
use crate::world::World;

pub type Secrets = BTreeMap<SecretId, Resource<HostSecret>>;

impl Publish {
    /// Brings a Secret that some host needs, or is about to need, up to date.
    pub(super) fn set_secret(&mut self, id: &SecretId, world: &World) {
        let Some(secret) = of(world, id) else { return };
        let digest = Digest::of(&secret::to_wire(&secret));
        if self.secrets.get(id).is_some_and(|known| known.digest == digest) {
            return;
        }
        let key = ResourceKey::Secret(id.clone());
        for pool in self.pools.values_mut() {
            pool.resource_changed(&key, Some(digest));
        }
        self.secrets.insert(id.clone(), Resource { value: Arc::new(secret), digest });
    }

    /// Forgets a Secret that no host needs any more. Other keys are ignored.
    pub(super) fn forget_secret(&mut self, key: &ResourceKey) {
        if let ResourceKey::Secret(id) = key
            && !self.is_used(key)
        {
            self.secrets.remove(id);
        }
    }
}

/// While nobody knows which Secrets a cluster has, a host goes on showing what it showed.
pub(super) fn still_showing(
    before: Option<&Resource<Host>>,
    computed: Option<Resource<Host>>,
    world: &World,
) -> Option<Resource<Host>> {
    let computed = computed?;
    let shown = before.and_then(|it| it.value.certificate.as_ref()).filter(|id| world.awaited().contains(&id.cluster));
    let Some(id) = shown.filter(|_| computed.value.certificate.is_none()) else { return Some(computed) };
    let host = Host { certificate: Some(id.clone()), ..Host::clone(&computed.value) };
    let digest = Digest::of(&host_to_wire(&host));
    Some(Resource { value: Arc::new(host), digest })
}

fn of(world: &World, id: &SecretId) -> Option<HostSecret> {
    let key = ObjectKey { kind: Kind::Secret, name: id.secret.clone() };
    let Some(Object::Secret(secret)) = world.inputs().object(&id.cluster, &key) else { return None };
    let content = match &secret.content {
        SecretContent::Certificate(it) => {
            HostSecretContent::Certificate { chain: it.chain.clone(), key: it.key.clone() }
        }
        SecretContent::Values(values) => HostSecretContent::Users(values.clone()),
        SecretContent::Unusable(_) => return None,
    };
    Some(HostSecret { id: id.clone(), content })
}
