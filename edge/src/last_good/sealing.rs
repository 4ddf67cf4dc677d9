//! Secrets in the journal: sealed, or left out.
//!
//! Updates → the same without a private key in the clear, and back. With `--last-good-key-file` the keys are sealed, each
//! under its resource's name; without it certificates are not written, and a restarted edge shows the default one until a
//! controller sends them again.

use std::sync::Arc;

use roadstead_proto::wire;
use roadstead_proto::wire::resource_upsert::Resource;
use roadstead_runtime::seal::SealKey;

use super::writer::Snapshot;

#[derive(Clone, Default)]
pub struct Sealing(Option<Arc<SealKey>>);

impl Sealing {
    pub fn new(key: Option<SealKey>) -> Self {
        Self(key.map(Arc::new))
    }

    pub fn keeps_certificates(&self) -> bool {
        self.0.is_some()
    }

    /// What may be written of an Update.
    pub fn seal(&self, update: wire::Update) -> wire::Update {
        self.change(update, |key, name, secret| key.seal(name, secret).ok())
    }

    pub fn seal_all(&self, snapshot: Snapshot) -> Snapshot {
        let sealing = self.clone();
        Box::new(snapshot.map(move |update| sealing.seal(update)))
    }

    /// What was written. Certificates that do not open are left out.
    pub fn open(&self, update: wire::Update) -> wire::Update {
        let before = update.upserts.len();
        let opened = self.change(update, SealKey::open);
        if opened.upserts.len() < before {
            let lost = before - opened.upserts.len();
            tracing::warn!(lost, "Certificates of the last good table do not open with this --last-good-key-file");
        }
        opened
    }

    fn change(
        &self,
        mut update: wire::Update,
        change: impl Fn(&SealKey, &str, &[u8]) -> Option<Vec<u8>>,
    ) -> wire::Update {
        let changed = |secret: &mut wire::HostSecret| {
            let id = secret.id.clone().unwrap_or_default();
            let name = format!("secret/{}/{}/{}", id.cluster, id.namespace, id.name);
            let key = self.0.as_ref()?;
            if !secret.chain.is_empty() {
                secret.key = change(key, &name, &secret.key)?;
            }
            for user in &mut secret.users {
                user.value = change(key, &format!("{name}/{}", user.key), &user.value)?;
            }
            Some(())
        };
        update.upserts.retain_mut(|upsert| match &mut upsert.resource {
            Some(Resource::Secret(secret)) => changed(secret).is_some(),
            Some(Resource::Host(_) | Resource::Backend(_)) | None => true,
        });
        update
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscribe::holdings::backend;

    fn update() -> wire::Update {
        let id = wire::SecretRef { cluster: "eu".to_owned(), namespace: "shop".to_owned(), name: "tls".to_owned() };
        let key = b"the key".to_vec();
        let user = wire::SecretValue { key: "auth".to_owned(), value: key.clone() };
        let certificate = wire::HostSecret { id: Some(id.clone()), chain: b"chain".to_vec(), key, users: vec![] };
        let users = wire::HostSecret { id: Some(id), users: vec![user], ..wire::HostSecret::default() };
        let secrets = [certificate, users]
            .map(|secret| wire::ResourceUpsert { digest: vec![1; 16], resource: Some(Resource::Secret(secret)) });
        let upserts = [backend("web", 1)].into_iter().chain(secrets).collect();
        wire::Update { upserts, ..wire::Update::default() }
    }

    #[test]
    fn certificates_are_written_sealed_and_only_their_key_opens_them() {
        let sealing = Sealing::new(Some(SealKey::new(&[7; 32])));
        let sealed = sealing.seal(update());
        let encoded = prost::Message::encode_to_vec(&sealed);
        assert!(!encoded.windows(7).any(|part| part == b"the key"));
        assert_eq!(sealing.open(sealed.clone()), update());
        let other = Sealing::new(Some(SealKey::new(&[8; 32])));
        assert_eq!(other.open(sealed.clone()).upserts, [backend("web", 1)]);
        assert_eq!(Sealing::default().open(sealed).upserts, [backend("web", 1)]);
    }

    #[test]
    fn without_a_key_certificates_are_left_out() {
        let sealing = Sealing::default();
        assert_eq!(sealing.seal(update()).upserts, [backend("web", 1)]);
        let mut all = sealing.seal_all(Box::new(std::iter::once(update())));
        assert_eq!(all.next().unwrap().upserts.len(), 1);
    }
}
