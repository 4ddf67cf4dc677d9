//! Content digests and the bucket hashes by which two ends find out what differs without sending what is equal.

use std::fmt;

use prost::Message;

/// First 16 bytes of BLAKE3 over the canonical encoding: protobuf in tag order, no map fields, sorted lists.
/// Made once by whoever encodes first; everybody else stores and echoes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest([u8; 16]);

impl Digest {
    pub fn of(message: &impl Message) -> Self {
        Self::of_bytes(&message.encode_to_vec())
    }

    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(first_16(blake3::hash(bytes)))
    }

    /// `None` unless `bytes` is 16 long.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Buckets of one key space.
pub const BUCKETS: usize = 1024;
const HASH_BYTES: usize = 16;

/// The bucket that `key` belongs to, below [`BUCKETS`].
pub fn bucket_of(key: &str) -> usize {
    let hash = blake3::hash(key.as_bytes());
    let [low, high, ..] = *hash.as_bytes();
    usize::from(u16::from_le_bytes([low, high])) % BUCKETS
}

/// One hash per bucket over the `(key, digest)` pairs in it. Independent of the order of changes, and a change costs
/// the same whatever the number of keys: pairs are combined by XOR, so adding and removing are one operation.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketHashes(Vec<[u8; HASH_BYTES]>);

impl Default for BucketHashes {
    fn default() -> Self {
        Self(vec![[0; HASH_BYTES]; BUCKETS])
    }
}

impl BucketHashes {
    /// Adds the pair if it is absent, removes it if it is present. The caller knows which.
    pub fn toggle(&mut self, key: &str, digest: &Digest) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(key.as_bytes()).update(&[0]).update(digest.as_bytes());
        let pair = first_16(hasher.finalize());
        for (byte, other) in self.0[bucket_of(key)].iter_mut().zip(pair) {
            *byte ^= other;
        }
    }

    /// Records that `key` went from `before` to `after` (`None`: not held).
    pub fn replace(&mut self, key: &str, before: Option<&Digest>, after: Option<&Digest>) {
        if before == after {
            return;
        }
        for digest in [before, after].into_iter().flatten() {
            self.toggle(key, digest);
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// `None` unless `bytes` is exactly [`BUCKETS`] hashes long. Empty means: holds nothing.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        if bytes.len() != BUCKETS * HASH_BYTES {
            return None;
        }
        Some(Self(bytes.chunks_exact(HASH_BYTES).map(|chunk| chunk.try_into().expect("16-byte chunks")).collect()))
    }

    /// Indexes of the buckets in which the two differ, ascending.
    pub fn differing(&self, other: &Self) -> Vec<u32> {
        let pairs = self.0.iter().zip(&other.0).enumerate();
        pairs.filter(|(_, (mine, theirs))| mine != theirs).map(|(index, _)| index as u32).collect()
    }
}

impl fmt::Debug for BucketHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().filter(|hash| **hash != [0; HASH_BYTES]).count();
        write!(f, "BucketHashes({used} of {BUCKETS} used)")
    }
}

fn first_16(hash: blake3::Hash) -> [u8; 16] {
    let (first, _) = hash.as_bytes().split_at(16);
    first.try_into().expect("a BLAKE3 hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_hashes_do_not_depend_on_the_order_of_changes() {
        let (a, b) = (Digest::of_bytes(b"a"), Digest::of_bytes(b"b"));
        let mut one = BucketHashes::default();
        one.replace("x", None, Some(&a));
        one.replace("y", None, Some(&b));
        one.replace("x", Some(&a), Some(&b));
        let mut two = BucketHashes::default();
        two.replace("x", None, Some(&b));
        two.replace("y", None, Some(&b));
        assert_eq!(one, two);
        two.replace("y", Some(&b), Some(&a));
        assert_eq!(one.differing(&two), [bucket_of("y") as u32]);
    }

    #[test]
    fn bucket_hashes_survive_the_wire_and_reject_other_lengths() {
        let mut hashes = BucketHashes::default();
        hashes.replace("host/a.example.com", None, Some(&Digest::of_bytes(b"a")));
        assert_eq!(BucketHashes::from_bytes(&hashes.to_bytes()), Some(hashes));
        assert_eq!(BucketHashes::from_bytes(&[]), Some(BucketHashes::default()));
        assert_eq!(BucketHashes::from_bytes(&[0; 17]), None);
    }

    /// Recorded once: a change here would make every agent and edge of an older build send everything again.
    #[test]
    fn digests_are_stable_across_builds() {
        assert_eq!(Digest::of_bytes(b"roadstead").to_string(), "15d3ac7ae5afcae2e0f41ab1fb7008f2");
        assert_eq!(bucket_of("host/a.example.com"), 610);
    }
}
