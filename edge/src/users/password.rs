//! Whether a password has a hash, in the forms that `htpasswd` writes: `{SHA}`, `$apr1$` and bcrypt.
//!
//! Any other form, plain text too, is nobody's hash.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use sha1::Sha1;

/// The greatest cost of a bcrypt hash, 2^14 rounds or about a second: whoever writes a hash decides how long the edge
/// computes.
const BCRYPT_COST_MAX: u32 = 14;

/// Whether verifying takes long enough to be kept off the threads that serve requests.
pub(super) fn is_slow(hash: &str) -> bool {
    hash.starts_with("$2")
}

pub(super) fn verify(hash: &str, password: &[u8]) -> bool {
    if let Some(encoded) = hash.strip_prefix("{SHA}") {
        return is_equal(encoded, &STANDARD.encode(Sha1::digest(password)));
    }
    if let Some(rest) = hash.strip_prefix("$apr1$") {
        let Some((salt, encoded)) = rest.split_once('$') else { return false };
        return is_equal(encoded, &apr1(salt, password));
    }
    let cost = bcrypt_cost(hash).filter(|cost| *cost <= BCRYPT_COST_MAX);
    cost.is_some() && bcrypt::verify(password, hash).unwrap_or(false)
}

/// Of `$2y$COST$...`.
fn bcrypt_cost(hash: &str) -> Option<u32> {
    let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| hash.strip_prefix(prefix))?;
    rest.split('$').next()?.parse().ok()
}

/// Takes equally long wherever the two differ.
fn is_equal(one: &str, other: &str) -> bool {
    blake3::hash(one.as_bytes()) == blake3::hash(other.as_bytes())
}

/// Apache's variant of MD5-crypt: a thousand rounds, as fixed in 1994.
fn apr1(salt: &str, password: &[u8]) -> String {
    let salt = &salt.as_bytes()[..salt.len().min(8)];
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(b"$apr1$").chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        first.update(&inner[..left.min(inner.len())]);
        left = left.saturating_sub(inner.len());
    }
    let mut length = password.len();
    while length > 0 {
        let zero_or_first = if length & 1 == 1 { &[0][..] } else { password.get(..1).unwrap_or_default() };
        first.update(zero_or_first);
        length >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1_000 {
        let mut next = Md5::new();
        next.update(if round % 2 == 1 { password } else { &digest });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round % 2 == 1 { &digest } else { password });
        digest = next.finalize();
    }
    encode(&digest)
}

/// Crypt's own base 64, over the bytes in crypt's own order.
fn encode(digest: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let triples = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let words = triples.map(|[high, middle, low]| {
        (u32::from(digest[high]) << 16 | u32::from(digest[middle]) << 8 | u32::from(digest[low]), 4)
    });
    let last = (u32::from(digest[11]), 2);
    let letters = words.into_iter().chain([last]).flat_map(|(word, count)| {
        (0..count).map(move |index| char::from(ALPHABET[(word >> (6 * index)) as usize & 63]))
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "a long password of more than thirty-two bytes, so that it wraps";

    /// Made by openssl (`{SHA}`, `$apr1$`) and libxcrypt (bcrypt).
    const HASHES: [(&str, &str); 7] = [
        ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret"),
        ("$apr1$r31abcde$SZEN.U5sWGGNcv9YsUrqI.", "secret"),
        ("$apr1$r31abcde$TQvwpj0ayQKth6GtVaf2T1", ""),
        ("$apr1$r31abcde$uqVRy5ndzU9YvRmIPuZvH/", LONG),
        ("$apr1$r31abcde$hwWngHFrhQ37JrgIkcOY81", "x"),
        ("$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "secret"),
        ("$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a", "secret"),
    ];

    #[test]
    fn hashes_of_other_programs_are_verified() {
        for (hash, password) in HASHES {
            assert!(verify(hash, password.as_bytes()), "{hash}");
            assert!(!verify(hash, format!("{password} ").as_bytes()), "{hash}");
        }
    }

    #[test]
    fn what_is_no_hash_is_nobodys() {
        for hash in ["", "secret", "{PLAIN}secret", "{SHA}", "$apr1$", "$apr1$salt", "$1$salt$x", "$2y$", "$2y$05$x"] {
            for password in ["secret", "", hash] {
                assert!(!verify(hash, password.as_bytes()), "{hash}");
            }
        }
        let costly = HASHES[6].0.replace("$05$", "$31$");
        assert!(!verify(&costly, b"secret"), "refused at once");
    }
}
