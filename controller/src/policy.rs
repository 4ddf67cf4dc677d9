//! The policy file: read → parsed → validated → imported by compare-and-set → handed to the core.
//!
//! The file is where people write; the row in `policies` is what is in force. A bad or missing file means the last
//! accepted row, never none. Must not apply a policy that is not stored: replicas and a restart would not know it.

use std::path::Path;

use roadstead_proto::digest::Digest;
use roadstead_routing::policy::Policy;

use crate::store::{NewPolicy, PolicyRow, Store, StoreError};

pub mod file;
pub mod follow;

/// A policy in force.
#[derive(Clone, PartialEq, Debug)]
pub struct AcceptedPolicy {
    pub rev: u64,
    pub policy: Policy,
    /// Where its file was.
    pub source: String,
}

/// What `/status` says about the file when it is not what is in force.
pub type Problem = String;

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("--policy {0}; no policy was accepted before, so there is nothing to serve: correct the file")]
    NoneAccepted(Problem),
    #[error("the accepted policy of revision {rev} is not understood by this version: {problem}")]
    StoredUnreadable { rev: u64, problem: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The policy to start with: the file if it is good, else the last accepted row with the file's problem.
pub async fn at_start(store: &impl Store, path: &Path) -> Result<(AcceptedPolicy, Option<Problem>), PolicyError> {
    let stored = store.latest_policy().await?;
    match file::read(path) {
        Ok(read) => Ok((import(store, stored, read, path).await?, None)),
        Err(problem) => match stored {
            Some(row) => Ok((accepted(row)?, Some(problem))),
            None => Err(PolicyError::NoneAccepted(problem)),
        },
    }
}

/// Makes the file's policy the one in force, unless it already is.
async fn import(
    store: &impl Store,
    mut stored: Option<PolicyRow>,
    read: file::Read,
    path: &Path,
) -> Result<AcceptedPolicy, StoreError> {
    let source = path.display().to_string();
    let file::Read { policy, digest, body } = read;
    let new = NewPolicy { digest, body, source: source.clone() };
    loop {
        if let Some(row) = stored.as_ref().filter(|row| row.digest == digest) {
            return Ok(AcceptedPolicy { rev: row.rev, policy, source });
        }
        let after = stored.as_ref().map_or(0, |row| row.rev);
        if let Some(rev) = store.accept_policy(after, &new).await? {
            tracing::info!(policy.rev = rev, source, "A policy is accepted");
            return Ok(AcceptedPolicy { rev, policy, source });
        }
        // Another replica imported first: compare with what it wrote.
        stored = store.latest_policy().await?;
    }
}

/// # Errors
/// If this build does not understand it.
pub(crate) fn accepted(row: PolicyRow) -> Result<AcceptedPolicy, PolicyError> {
    let policy = file::parse(&row.body).map_err(|problem| PolicyError::StoredUnreadable { rev: row.rev, problem })?;
    Ok(AcceptedPolicy { rev: row.rev, policy, source: row.source })
}

/// Identifies a file's content.
pub(crate) fn content_digest(body: &str) -> Digest {
    Digest::of_bytes(body.as_bytes())
}
