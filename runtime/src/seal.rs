//! Keeping secrets out of files and databases: bytes that rest somewhere are sealed with a key that rests elsewhere.
//!
//! Key file, name, bytes → sealed bytes, and back. AES-256-GCM with a random nonce; what is sealed under one name does not
//! open under another, so that rows and records cannot be exchanged. Nothing here logs, and no error holds content.
//!
//! ```text
//! sealed   1 byte: the form, 1 · 12 bytes: the nonce · ciphertext · 16 bytes: the tag
//! ```

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::private::{self, PrivateError};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a key file that are read: base64 and hexadecimal text with a line end fit.
const FILE_BYTES_MAX: u64 = 256;
const FORM: u8 = 1;

/// A key from a file. Never shown.
pub struct SealKey(RandomizedNonceKey);

#[derive(Debug, thiserror::Error)]
#[error("{flag} {path}: {problem}")]
pub struct KeyFileError {
    flag: &'static str,
    path: String,
    problem: String,
}

/// The system has no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("nothing can be sealed: the system gives no random bytes")]
pub struct SealError;

impl SealKey {
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM, key).expect("a key of 32 bytes must fit AES-256"))
    }

    /// Reads a file of 32 bytes, or of their base64 or hexadecimal text. `flag` is how it was given.
    ///
    /// # Errors
    /// If it cannot be read, if others may read it, or if it holds no key.
    pub fn from_file(flag: &'static str, path: &Path) -> Result<Self, KeyFileError> {
        let problem = |problem: String| KeyFileError { flag, path: path.display().to_string(), problem };
        let shown = path.display();
        let content = private::read(path, FILE_BYTES_MAX).map_err(|error| match error {
            PrivateError::Shared { .. } => problem(error.to_string()),
            PrivateError::Unreadable(_) => {
                let remedy = format!("make one with `(umask 077; head -c {KEY_BYTES} /dev/urandom > {shown})`");
                problem(format!("{error}; {remedy}"))
            }
        })?;
        let key = parse(&content).ok_or_else(|| {
            problem(format!("it must hold {KEY_BYTES} bytes, or their base64 or hexadecimal text, and nothing else"))
        })?;
        Ok(Self::new(&key))
    }

    /// # Errors
    /// If the system gives no random bytes.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut body = plain.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut body).map_err(|_| SealError)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(FORM);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// `None`: sealed with another key or under another name, or damaged.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.strip_prefix(&[FORM])?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let bytes = self.0.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body).ok()?.len();
        body.truncate(bytes);
        Some(body)
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(hidden)")
    }
}

fn parse(content: &[u8]) -> Option<[u8; KEY_BYTES]> {
    if let Ok(raw) = content.try_into() {
        return Some(raw);
    }
    let text = std::str::from_utf8(content).ok()?.trim();
    let bytes = from_hexadecimal(text).or_else(|| STANDARD.decode(text).ok())?;
    bytes.try_into().ok()
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..KEY_BYTES).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const KEY: [u8; KEY_BYTES] = *b"0123456789abcdef0123456789abcdef";

    fn file(name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = std::env::temp_dir().join(format!("roadstead-seal-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn what_is_sealed_opens_with_the_key_and_under_the_name_only() {
        let key = SealKey::new(&KEY);
        let sealed = key.seal("eu/shop/tls", b"a private key").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"private"));
        assert_eq!(key.open("eu/shop/tls", &sealed).unwrap(), b"a private key");
        assert_ne!(key.seal("eu/shop/tls", b"a private key").unwrap(), sealed, "the nonce is drawn anew");
        assert_eq!(key.open("eu/shop/other", &sealed), None);
        assert_eq!(SealKey::new(&[7; KEY_BYTES]).open("eu/shop/tls", &sealed), None);
        for damaged in [&sealed[..sealed.len() - 1], &sealed[1..], b"\x01", b""] {
            assert_eq!(key.open("eu/shop/tls", damaged), None);
        }
    }

    #[test]
    fn a_key_is_read_from_bytes_and_from_both_texts() {
        let hexadecimal: String = KEY.iter().map(|byte| format!("{byte:02X}")).collect();
        let texts = [KEY.to_vec(), format!("{}\n", STANDARD.encode(KEY)).into_bytes(), hexadecimal.into_bytes()];
        for (index, text) in texts.iter().enumerate() {
            let path = file(&format!("good-{index}"), text, 0o600);
            let key = SealKey::from_file("--secrets-key-file", &path).unwrap();
            let sealed = SealKey::new(&KEY).seal("n", b"x").unwrap();
            assert_eq!(key.open("n", &sealed).unwrap(), b"x");
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn files_of_everybody_and_files_without_a_key_are_refused() {
        let refused = |name: &str, content: &[u8], mode| {
            let path = file(name, content, mode);
            let error = SealKey::from_file("--secrets-key-file", &path).unwrap_err().to_string();
            std::fs::remove_file(path).unwrap();
            error
        };
        let error = refused("open", &KEY, 0o640);
        assert!(error.starts_with("--secrets-key-file") && error.contains("0640"), "{error}");
        let error = refused("short", b"c2hvcnQ=", 0o600);
        assert!(error.contains("32 bytes") && !error.contains("c2hvcnQ="), "{error}");
        let error = SealKey::from_file("--secrets-key-file", Path::new("/nowhere/key")).unwrap_err().to_string();
        assert!(error.contains("/dev/urandom"), "{error}");
    }
}
