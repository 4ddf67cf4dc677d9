//! What one side holds: keys with their digests, and the bucket hashes by which two sides find their differences.
//! Used for a cluster's objects (agent stream) and for a pool's resources (edge stream).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use prost::Message;
use roadstead_proto::digest::{BucketHashes, Digest, bucket_of};
use roadstead_proto::resource::ResourceKey;
use roadstead_proto::{object, wire};
use roadstead_routing::id::ObjectKey;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

/// The text form by which both ends hash and name a key.
pub trait KeyText: Ord + Clone {
    fn text(&self) -> String;
}

impl KeyText for ObjectKey {
    fn text(&self) -> String {
        object::key_text(self)
    }
}

impl KeyText for ResourceKey {
    fn text(&self) -> String {
        self.to_string()
    }
}

#[derive(Clone, Debug)]
pub struct Held<K> {
    entries: BTreeMap<K, Digest>,
    hashes: BucketHashes,
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), hashes: BucketHashes::default() }
    }
}

impl<K: KeyText> Held<K> {
    /// Records what `key` is now (`None`: gone). Returns what it was.
    pub fn set(&mut self, key: &K, digest: Option<Digest>) -> Option<Digest> {
        let before = match (self.entries.entry(key.clone()), digest) {
            (Entry::Occupied(mut entry), Some(digest)) => Some(entry.insert(digest)),
            (Entry::Occupied(entry), None) => Some(entry.remove()),
            (Entry::Vacant(entry), Some(digest)) => {
                entry.insert(digest);
                None
            }
            (Entry::Vacant(_), None) => None,
        };
        if before != digest {
            self.hashes.replace(&key.text(), before.as_ref(), digest.as_ref());
        }
        before
    }

    pub fn get(&self, key: &K) -> Option<Digest> {
        self.entries.get(key).copied()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &Digest)> {
        self.entries.iter()
    }

    /// Those from `first` on, in order.
    pub fn from(&self, first: &K) -> impl Iterator<Item = (&K, &Digest)> {
        self.entries.range(first..)
    }

    pub fn hashes(&self) -> &BucketHashes {
        &self.hashes
    }

    /// Everything in the buckets for which `wanted` says so. Hashes every key once.
    pub fn in_buckets(&self, wanted: impl Fn(u32) -> bool) -> BTreeMap<u32, Vec<(&K, Digest)>> {
        let mut buckets: BTreeMap<u32, Vec<(&K, Digest)>> = BTreeMap::new();
        for (key, digest) in &self.entries {
            let bucket = bucket_of(&key.text()) as u32;
            if wanted(bucket) {
                buckets.entry(bucket).or_default().push((key, *digest));
            }
        }
        buckets
    }

    /// The answer to a BucketRequest, in chunks of at most [`MESSAGE_BYTES_MAX`]. Never empty: the last is marked.
    pub fn contents(&self, request: &wire::BucketRequest) -> Vec<wire::BucketContents> {
        let chunk = || wire::BucketContents { number: request.number, ..wire::BucketContents::default() };
        let mut requested = request.buckets.clone();
        requested.sort_unstable();
        let mut chunks = vec![chunk()];
        let mut bytes = 0;
        for (index, held) in self.in_buckets(|bucket| requested.binary_search(&bucket).is_ok()) {
            let held = held.into_iter().map(|(key, digest)| wire::Held {
                key: key.text(),
                digest: digest.to_vec(),
                clusters: Vec::new(),
            });
            let bucket = wire::Bucket { index, held: held.collect() };
            bytes += bucket.encoded_len();
            if bytes > MESSAGE_BYTES_MAX / 2 {
                chunks.push(chunk());
                bytes = bucket.encoded_len();
            }
            chunks.last_mut().expect("at least one chunk").buckets.push(bucket);
        }
        chunks.last_mut().expect("at least one chunk").last = true;
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_proto::digest::BUCKETS;
    use roadstead_routing::id::Kind;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::Ingress, "default", name)
    }

    #[test]
    fn hashes_follow_every_change() {
        let mut held = Held::default();
        let (one, two) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
        assert_eq!(held.set(&key("a"), Some(one)), None);
        assert_eq!(held.set(&key("a"), Some(two)), Some(one));
        assert_eq!(held.get(&key("a")), Some(two));
        assert_eq!(held.set(&key("a"), None), Some(two));
        assert_eq!(held.set(&key("a"), None), None);
        assert_eq!(held.hashes(), &BucketHashes::default());
        assert!(held.is_empty());
    }

    #[test]
    fn contents_are_chunked_and_complete() {
        let mut held = Held::default();
        let long = "n".repeat(200);
        for index in 0..6_000 {
            held.set(&key(&format!("{long}{index}")), Some(Digest::of_bytes(&[1])));
        }
        let all = wire::BucketRequest { buckets: (0..BUCKETS as u32).collect(), number: 7 };
        let chunks = held.contents(&all);
        assert!(chunks.iter().all(|chunk| chunk.number == 7));
        assert!(chunks.len() > 1);
        assert!(chunks.iter().all(|chunk| chunk.encoded_len() <= MESSAGE_BYTES_MAX));
        assert_eq!(
            chunks.iter().flat_map(|chunk| &chunk.buckets).map(|bucket| bucket.held.len()).sum::<usize>(),
            6_000
        );
        let last: Vec<bool> = chunks.iter().map(|chunk| chunk.last).collect();
        assert!(last[last.len() - 1] && !last[..last.len() - 1].contains(&true));
        let nothing = wire::BucketContents { last: true, ..wire::BucketContents::default() };
        assert_eq!(held.contents(&wire::BucketRequest::default()), [nothing]);
    }
}
