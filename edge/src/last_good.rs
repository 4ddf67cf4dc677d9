//! The last good table on disk: what lets a restarted edge serve before, or without, any controller.
//!
//! Applied Updates → a journal in `--state-dir` → at the next start the same Updates, through the same apply path.
//! [`journal`] is the file, [`sealing`] keeps private keys out of it, [`writer`] is the thread that keeps disks out of the way of everything else. Nothing here
//! knows what an Update means, and no failure here keeps the edge from serving.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

pub mod journal;
pub mod sealing;
pub mod writer;

const LOCK_FILE: &str = "lock";

#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("--state-dir {path}: {reason}; choose a directory that this process can write to with --state-dir")]
    Unusable { path: PathBuf, reason: io::Error },
    #[error("--state-dir {path}: another edge uses it; give each edge a directory of its own with --state-dir")]
    InUse { path: PathBuf },
}

/// The directory, held exclusively for as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the directory if needed and locks it. The lock ends with the process, however it ends.
    ///
    /// # Errors
    /// If the directory cannot be written to, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |reason| StateDirError::Unusable { path: path.to_owned(), reason };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK_FILE));
        let lock = lock.map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(reason)) => Err(unusable(reason)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let held = StateDir::open(&path).unwrap();
        let error = StateDir::open(&path).unwrap_err();
        assert!(matches!(error, StateDirError::InUse { .. }) && error.to_string().contains("--state-dir"), "{error}");
        drop(held);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn an_unusable_directory_names_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = StateDir::open(&file.join("x")).unwrap_err();
        assert!(error.to_string().starts_with("--state-dir "), "{error}");
    }
}
