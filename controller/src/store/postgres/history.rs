//! Versions of one host, for people.

use roadstead_routing::id::{HostKey, PoolName};
use sqlx::PgPool;

use super::{digest, sort};
use crate::store::{HostBody, RevisionRow, StoreError};

pub(super) async fn revisions(
    database: &PgPool,
    pool: &PoolName,
    host: &HostKey,
    limit: u32,
) -> Result<Vec<RevisionRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT id, digest, cause, (extract(epoch FROM at) * 1000)::bigint AS "at_ms!" FROM host_revisions
           WHERE pool = $1 AND host = $2 ORDER BY id DESC LIMIT $3"#,
        pool.as_str(),
        host.to_string(),
        i64::from(limit),
    )
    .fetch_all(database)
    .await
    .map_err(|error| sort(&error))?;
    let row = |id, at_ms: i64, stored: Option<Vec<u8>>, cause| {
        let digest = stored.map(|bytes| digest(&bytes)).transpose()?;
        Ok(RevisionRow { id, at_ms: at_ms as u64, digest, cause })
    };
    rows.into_iter().map(|it| row(it.id, it.at_ms, it.digest, it.cause)).collect()
}

pub(super) async fn body(
    database: &PgPool,
    pool: &PoolName,
    host: &HostKey,
    id: i64,
) -> Result<Option<HostBody>, StoreError> {
    let row = sqlx::query!(
        "SELECT host_bodies.digest, body FROM host_revisions JOIN host_bodies USING (digest)
         WHERE pool = $1 AND host = $2 AND id = $3",
        pool.as_str(),
        host.to_string(),
        id,
    )
    .fetch_optional(database)
    .await
    .map_err(|error| sort(&error))?;
    row.map(|row| Ok(HostBody { digest: digest(&row.digest)?, encoded: row.body })).transpose()
}
