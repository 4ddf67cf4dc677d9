//! Who holds a cluster: taking over, giving back, and what a new holder or a reader lacks.

use futures::TryStreamExt;
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, Position};
use sqlx::{Connection, PgConnection};

use super::secrets::Secrets;
use super::{digest, load, rows, sort};
use crate::store::beat::{Lack, lack, next_epoch};
use crate::store::{Changes, ClusterNews, PRESENCE_MS, Removed, StoreError, StoredObject, TakeOver, TakeOverAnswer};

/// One transaction: the row is locked first, so that nothing of an older epoch is written from here on, then everything
/// that the caller lacks is read.
pub(super) async fn take_over(
    connection: &mut PgConnection,
    secrets: &Secrets,
    request: &TakeOver,
) -> Result<TakeOverAnswer, StoreError> {
    let mut transaction = connection.begin().await.map_err(|error| sort(&error))?;
    let answer = in_transaction(&mut transaction, secrets, request).await?;
    transaction.commit().await.map_err(|error| sort(&error))?;
    Ok(answer)
}

async fn in_transaction(
    connection: &mut PgConnection,
    secrets: &Secrets,
    request: &TakeOver,
) -> Result<TakeOverAnswer, StoreError> {
    let TakeOver { cluster, uid, fresh_key, by, known, joins_as, at_ms } = request;
    sqlx::query!(
        "INSERT INTO clusters (id, cluster_uid, epoch, durable_seq, digest_key, lifecycle)
         VALUES ($1, $2, 0, 0, $3, $4) ON CONFLICT (id) DO NOTHING",
        cluster.as_str(),
        uid,
        &fresh_key[..],
        joins_as.as_str(),
    )
    .execute(&mut *connection)
    .await
    .map_err(|error| sort(&error))?;
    let locked = sqlx::query!(
        r#"SELECT cluster_uid, live_by, live_agent,
                  coalesce(replicas.heartbeat_at > now() - make_interval(secs => $2), false) AS "is_present!"
           FROM clusters LEFT JOIN replicas ON replicas.id = live_by AND replicas.instance = live_instance
           WHERE clusters.id = $1 FOR UPDATE OF clusters"#,
        cluster.as_str(),
        PRESENCE_MS as f64 / 1_000.0,
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(|error| sort(&error))?;
    if locked.cluster_uid != *uid {
        return Ok(TakeOverAnswer::OtherUid { pinned: locked.cluster_uid });
    }
    if let (Some(replica), Some(agent)) = (locked.live_by, locked.live_agent)
        && replica != by.replica
        && agent != by.agent
        && locked.is_present
    {
        return Ok(TakeOverAnswer::Held { replica });
    }
    let stored = rows::clusters(&mut *connection, Some(cluster)).await?;
    let rows::Stored { mut row, compacted } =
        stored.into_values().next().ok_or_else(|| StoreError::Corrupt(format!("cluster {cluster} has no row")))?;
    let changes = changes(&mut *connection, secrets, cluster, lack(&row, compacted, *known)).await?;
    let lineage = &mut row.lineage;
    lineage.begin(next_epoch(lineage.position.epoch, *at_ms));
    (row.live, row.member.lost_ms) = (Some(by.clone()), None);
    sqlx::query!(
        "UPDATE clusters SET epoch = $2, durable_seq = 0, settled = false, epoch_floor = $3, epoch_ends = $4,
                             live_by = $5, live_instance = $6, live_agent = $7, lost_at = NULL
         WHERE id = $1",
        cluster.as_str(),
        lineage.position.epoch as i64,
        lineage.floor as i64,
        &lineage.ends_to_numbers(),
        by.replica,
        by.instance,
        by.agent,
    )
    .execute(connection)
    .await
    .map_err(|error| sort(&error))?;
    Ok(TakeOverAnswer::Granted { digest_key: row.digest_key, stored: Box::new(ClusterNews { row, changes }) })
}

pub(super) async fn release(connection: &mut PgConnection, cluster: &ClusterId, epoch: u64) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE clusters SET live_by = NULL, live_instance = NULL, live_agent = NULL, lost_at = now() WHERE id = $1 AND epoch = $2",
        cluster.as_str(),
        epoch as i64,
    )
    .execute(connection)
    .await
    .map_err(|error| sort(&error))?;
    Ok(())
}

/// What is stored and lacking.
pub(super) async fn changes(
    connection: &mut PgConnection,
    secrets: &Secrets,
    cluster: &ClusterId,
    lack: Lack,
) -> Result<Option<Changes>, StoreError> {
    match lack {
        Lack::Nothing => Ok(None),
        Lack::Everything => {
            let objects = objects(connection, secrets, cluster, Position::default()).await?;
            Ok(Some(Changes::Whole { objects }))
        }
        Lack::Since(since) => {
            let objects = objects(connection, secrets, cluster, since).await?;
            let removals = removals(connection, cluster, since).await?;
            Ok(Some(Changes::Since { since, objects, removals }))
        }
    }
}

async fn objects(
    connection: &mut PgConnection,
    secrets: &Secrets,
    cluster: &ClusterId,
    since: Position,
) -> Result<Vec<StoredObject>, StoreError> {
    let mut rows = sqlx::query!(
        "SELECT kind, namespace, name, digest, epoch, seq, packed FROM objects
         WHERE cluster = $1 AND (epoch, seq) > ($2, $3)",
        cluster.as_str(),
        since.epoch as i64,
        since.seq as i64,
    )
    .fetch(connection);
    let mut objects = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(|error| sort(&error))? {
        // A kind that this build does not know is not in its world either.
        let Some(kind) = Kind::from_number(row.kind.into()) else { continue };
        let key = ObjectKey::new(kind, &row.namespace, &row.name);
        let Some(packed) = secrets.open(cluster, &key, row.packed) else { continue };
        match load::decode(&packed) {
            Ok(object) => objects.push(StoredObject {
                object,
                digest: digest(&row.digest)?,
                position: rows::position(row.epoch, row.seq),
                packed,
            }),
            // Its agent sends it again; a start reports it.
            Err(reason) => {
                tracing::warn!(cluster.id = %cluster, name = row.name, reason, "A stored object is unreadable");
            }
        }
    }
    Ok(objects)
}

async fn removals(
    connection: &mut PgConnection,
    cluster: &ClusterId,
    since: Position,
) -> Result<Vec<(ObjectKey, Removed)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT kind, namespace, name, epoch, seq, inferred FROM tombstones WHERE cluster = $1 AND (epoch, seq) > ($2, $3)",
        cluster.as_str(),
        since.epoch as i64,
        since.seq as i64,
    )
    .fetch_all(connection)
    .await
    .map_err(|error| sort(&error))?;
    // A kind that this build does not know is not in its world either.
    let removals = rows.into_iter().filter_map(|row| {
        let key = ObjectKey::new(Kind::from_number(row.kind.into())?, &row.namespace, &row.name);
        Some((key, Removed { position: rows::position(row.epoch, row.seq), inferred: row.inferred }))
    });
    Ok(removals.collect())
}
