//! Secrets that hosts need, on the wire. Never shown.

use std::fmt;
use std::sync::Arc;

use roadstead_routing::limit;
use roadstead_routing::object::Hidden;
use roadstead_routing::table::{HostSecret, HostSecretContent};

use super::ResourceError;
use crate::settings::{secret_ref_from_wire, secret_ref_to_wire};
use crate::wire;

pub fn to_wire(secret: &HostSecret) -> wire::HostSecret {
    let id = Some(secret_ref_to_wire(&secret.id));
    match &secret.content {
        HostSecretContent::Certificate { chain, key } => {
            wire::HostSecret { id, chain: chain.to_vec(), key: key.0.to_vec(), users: Vec::new() }
        }
        HostSecretContent::Users(users) => {
            let user = |(key, value): (&Arc<str>, &Hidden)| wire::SecretValue {
                key: key.to_string(),
                value: value.0.to_vec(),
            };
            wire::HostSecret { id, users: users.iter().map(user).collect(), ..wire::HostSecret::default() }
        }
    }
}

/// # Errors
/// If it does not say whose it is, or has too many users. Whether chain and key can be used is not looked at.
pub fn from_wire(secret: wire::HostSecret) -> Result<HostSecret, ResourceError> {
    let id = secret_ref_from_wire(secret.id.ok_or(ResourceError::Missing("secret id"))?)?;
    if secret.users.len() > limit::SECRET_VALUES_MAX {
        return Err(ResourceError::Missing("a number of users within its limit"));
    }
    let content = if secret.chain.is_empty() {
        let users = secret.users.into_iter().map(|user| (user.key.into(), Hidden(user.value.into())));
        HostSecretContent::Users(users.collect())
    } else {
        HostSecretContent::Certificate { chain: secret.chain.into(), key: Hidden(secret.key.into()) }
    };
    Ok(HostSecret { id, content })
}

impl fmt::Debug for wire::HostSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use roadstead_routing::id::ObjectName;
    use roadstead_routing::table::SecretId;

    use super::*;

    #[test]
    fn secrets_survive_the_wire_and_never_show_what_they_hold() {
        let id = SecretId { cluster: "eu".into(), secret: ObjectName::new("shop", "web-tls") };
        let hidden = || Hidden(b"a key".as_slice().into());
        let certificate = HostSecretContent::Certificate { chain: b"a chain".as_slice().into(), key: hidden() };
        let users = HostSecretContent::Users(BTreeMap::from([("auth".into(), hidden())]));
        for content in [certificate, users, HostSecretContent::Users(BTreeMap::new())] {
            let secret = HostSecret { id: id.clone(), content };
            let sent = to_wire(&secret);
            assert_eq!(from_wire(sent.clone()), Ok(secret));
            let bytes = format!("{:?}", b"a key".as_slice());
            let shown = format!("{:?}", wire::resource_upsert::Resource::Secret(sent));
            assert!(shown.contains("web-tls") && !shown.contains(&bytes), "{shown}");
        }
        assert_eq!(from_wire(wire::HostSecret::default()), Err(ResourceError::Missing("secret id")));
    }
}
