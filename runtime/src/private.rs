//! Files that only their owner may use: keys and tokens. One that others may read is refused, whatever it holds.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Why a private file is not read. Callers say which it is.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    #[error("cannot read it: {0}")]
    Unreadable(#[from] io::Error),
    #[error("others may use it (mode {mode:04o}); run `chmod 0600 {path}`")]
    Shared { mode: u32, path: String },
}

/// The first `bytes_max` bytes.
///
/// # Errors
/// If it cannot be read, or anybody else may use it.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, PrivateError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PrivateError::Shared { mode, path: path.display().to_string() });
    }
    let mut content = Vec::new();
    file.take(bytes_max).read_to_end(&mut content)?;
    Ok(content)
}
