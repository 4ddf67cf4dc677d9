//! Whether a resource can be used: an upsert and what is held → its key, and the parsed and compiled resource if it
//! changes anything. Nothing is changed here.

use std::sync::Arc;

use roadstead_proto::digest::Digest;
use roadstead_proto::resource::{self, ResourceKey};
use roadstead_proto::wire;
use roadstead_routing::table::HostSecretContent;
use rustls::sign::CertifiedKey;

use super::{Holdings, RESOURCES_MAX};
use crate::table::CompiledHost;
use crate::{certificates, users};

/// A resource that passed every check.
pub(super) enum Checked {
    Host(Box<CompiledHost>),
    Backend(roadstead_routing::table::Backend),
    Certificate(Arc<CertifiedKey>),
    Users(users::Secret),
}

impl Holdings {
    /// What an upsert changes, fully checked; `None`: nothing, it is held already. `proposed`: hosts that may be added.
    pub(super) fn check(
        &self,
        key: &str,
        upsert: &wire::ResourceUpsert,
        proposed: usize,
    ) -> Result<(ResourceKey, Digest, Option<Checked>), String> {
        let parsed = ResourceKey::parse(key).ok_or_else(|| format!("`{key}` is not a resource key"))?;
        let digest = Digest::from_slice(&upsert.digest).ok_or("its digest is not 16 bytes long")?;
        if let Some(reason) = self.refused.reason(&parsed, &digest) {
            return Err(reason.to_owned());
        }
        let held = self.held.get(&parsed);
        if held.is_some_and(|held| held.digest == digest && digest != Digest::default()) {
            return Ok((parsed, digest, None));
        }
        if held.is_none() && self.held.len() + proposed >= RESOURCES_MAX {
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
            Some(wire::resource_upsert::Resource::Secret(secret)) => check_secret(&parsed, secret)?,
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
}

fn check_secret(key: &ResourceKey, secret: wire::HostSecret) -> Result<Checked, String> {
    let secret = resource::secret::from_wire(secret).map_err(|error| error.to_string())?;
    if *key != ResourceKey::Secret(secret.id) {
        return Err("its key can be read in two ways".to_owned());
    }
    match secret.content {
        HostSecretContent::Certificate { chain, key } => {
            let ready = certificates::ready(&chain, &key).map_err(|error| error.to_string())?;
            Ok(Checked::Certificate(ready))
        }
        HostSecretContent::Users(users) => {
            let users = users.into_iter().map(|(key, value)| (key.to_string(), value.0.to_vec()));
            Ok(Checked::Users(users.collect()))
        }
    }
}

/// The text form of an upsert's key, also if its resource cannot be used.
pub(super) fn key_of(upsert: &wire::ResourceUpsert) -> String {
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
        Some(wire::resource_upsert::Resource::Secret(secret)) => {
            let id = secret.id.clone().unwrap_or_default();
            format!("secret/{}/{}/{}", id.cluster, id.namespace, id.name)
        }
        None => String::new(),
    }
}
