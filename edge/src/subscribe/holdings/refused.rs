//! Refusals: those of resources that cannot be used, remembered so that the same one is not looked at again, and their
//! form in answers. What the guard holds is not remembered here: the same may be taken later.

use std::collections::BTreeMap;

use roadstead_proto::digest::Digest;
use roadstead_proto::resource::ResourceKey;
use roadstead_proto::wire;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

use super::check::key_of;

/// Refused resources remembered. Further ones are refused just the same, with more work each time.
pub const REFUSED_MAX: usize = 10_000;
/// Bytes of all the reasons in the answer to one Update.
const REASONS_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Resources that were refused for what they are.
#[derive(Default)]
pub(super) struct Refused(BTreeMap<ResourceKey, Entry>);

struct Entry {
    digest: Digest,
    reason: String,
}

impl Refused {
    /// Why a resource with this content was refused.
    pub(super) fn reason(&self, key: &ResourceKey, digest: &Digest) -> Option<&str> {
        self.0.get(key).filter(|entry| entry.digest == *digest).map(|entry| &*entry.reason)
    }

    pub(super) fn remember(&mut self, key: &str, digest: &[u8], reason: &str) {
        if let (Some(key), Some(digest)) = (ResourceKey::parse(key), Digest::from_slice(digest))
            && (self.0.len() < REFUSED_MAX || self.0.contains_key(&key))
        {
            self.0.insert(key, Entry { digest, reason: reason.to_owned() });
        }
    }

    pub(super) fn forget(&mut self, key: &ResourceKey) {
        self.0.remove(key);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ResourceKey, &str)> {
        self.0.iter().map(|(key, entry)| (key, &*entry.reason))
    }
}

/// Keeps an answer below what a controller reads: beyond the limit, refusals have no reason.
pub(super) fn cut_reasons(refusals: &mut [wire::Refusal]) {
    let mut left = REASONS_BYTES_MAX;
    for refusal in refusals {
        match left.checked_sub(refusal.reason.len()) {
            Some(rest) => left = rest,
            None => refusal.reason.clear(),
        }
    }
}

/// An Update that is refused whole.
pub(super) fn refuse_all(update: wire::Update, reason: &str) -> Vec<wire::Refusal> {
    let upserts = update.upserts.into_iter().map(|upsert| (key_of(&upsert), upsert.digest));
    let removals = update.removals.into_iter().map(|key| (key, Vec::new()));
    upserts
        .chain(removals)
        .map(|(key, digest)| wire::Refusal { key, digest, reason: reason.to_owned(), guarded: false })
        .collect()
}
