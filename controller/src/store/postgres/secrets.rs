//! Secrets at rest: never as they are. With a key they are stored sealed, each under its own name; without one, or when
//! nothing can be sealed, they are not stored at all, live in memory and come again from their agents.
//!
//! Packed bytes → what the database may have, and back. Other kinds pass unchanged.

use roadstead_routing::id::{ClusterId, Kind, ObjectKey};
use roadstead_runtime::seal::SealKey;

#[derive(Debug, Default)]
pub(super) struct Secrets(Option<SealKey>);

impl Secrets {
    pub(super) fn new(key: Option<SealKey>) -> Self {
        Self(key)
    }

    pub(super) fn are_stored(&self) -> bool {
        self.0.is_some()
    }

    /// What may be stored. `None`: nothing of it.
    pub(super) fn seal(&self, cluster: &ClusterId, object: &ObjectKey, packed: &[u8]) -> Option<Vec<u8>> {
        if object.kind != Kind::Secret {
            return Some(packed.to_vec());
        }
        let sealed = self.0.as_ref()?.seal(&sealed_as(cluster, object), packed);
        sealed
            .inspect_err(|error| tracing::error!(cluster.id = %cluster, %object, %error, "A Secret is not stored"))
            .ok()
    }

    /// What was stored. `None`: it counts as not stored.
    pub(super) fn open(&self, cluster: &ClusterId, object: &ObjectKey, stored: Vec<u8>) -> Option<Vec<u8>> {
        if object.kind != Kind::Secret {
            return Some(stored);
        }
        let opened = self.0.as_ref()?.open(&sealed_as(cluster, object), &stored);
        if opened.is_none() {
            tracing::warn!(
                cluster.id = %cluster,
                %object,
                "A stored Secret was sealed with another --secrets-key-file or is damaged; its agent will report it again"
            );
        }
        opened
    }
}

fn sealed_as(cluster: &ClusterId, object: &ObjectKey) -> String {
    format!("{cluster}/{}", object.name)
}
