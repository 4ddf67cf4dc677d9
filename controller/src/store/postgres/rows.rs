//! Rows that several queries read: the world, clusters and where they stand, what is published.

use std::collections::BTreeMap;

use roadstead_proto::digest::Digest;
use roadstead_routing::id::{ClusterId, HostKey, PoolName, Position};
use roadstead_routing::membership::{Lifecycle, Liveness, Membership};
use sqlx::{PgConnection, PgExecutor};

use super::{digest, digest_key, sort};
use crate::store::{ClusterRow, Live, MemberRow, Ramp, StoreError, WorldId};
use crate::world::lineage::Lineage;

/// A cluster's row, and up to where its tombstones are forgotten.
pub(super) struct Stored {
    pub row: ClusterRow,
    pub compacted: Position,
}

pub(super) async fn world(connection: &mut PgConnection) -> Result<WorldId, StoreError> {
    let row = sqlx::query!("SELECT world_id, incarnation, adopted FROM world")
        .fetch_one(connection)
        .await
        .map_err(|error| sort(&error))?;
    Ok(WorldId { id: row.world_id, incarnation: row.incarnation as u64, adopted: row.adopted })
}

/// All clusters, or only one.
pub(super) async fn clusters(
    connection: &mut PgConnection,
    only: Option<&ClusterId>,
) -> Result<BTreeMap<ClusterId, Stored>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT id, cluster_uid, epoch, durable_seq, digest_key, compacted_epoch, compacted_seq, settled,
                  settled_incarnation, epoch_floor, epoch_ends, live_by, live_instance, live_agent,
                  (extract(epoch FROM lost_at) * 1000)::bigint AS lost_ms, lifecycle, percent, liveness, doubtful,
                  (extract(epoch FROM ramp_since) * 1000)::bigint AS ramp_since_ms, ramp_from, ramp_seconds,
                  (extract(epoch FROM lifecycle_at) * 1000)::bigint AS "changed_ms!", lifecycle_by, lifecycle_reason
           FROM clusters WHERE $1::text IS NULL OR id = $1"#,
        only.map(ClusterId::as_str),
    )
    .fetch_all(connection)
    .await
    .map_err(|error| sort(&error))?;
    let stored = rows.into_iter().map(|row| {
        let ramp = row.ramp_since_ms.zip(row.ramp_from).zip(row.ramp_seconds);
        let ramp = ramp.map(|((since, from), seconds)| Ramp {
            since_ms: since as u64,
            from: percent(from),
            seconds: seconds as u64,
        });
        let membership = Membership {
            lifecycle: Lifecycle::parse(&row.lifecycle).ok_or_else(|| unreadable("lifecycle", &row.lifecycle))?,
            percent: percent(row.percent),
            liveness: Liveness::parse(&row.liveness).ok_or_else(|| unreadable("liveness", &row.liveness))?,
            is_doubtful: row.doubtful,
        };
        let member = MemberRow {
            membership,
            ramp,
            lost_ms: row.lost_ms.map(|ms| ms as u64),
            changed_ms: row.changed_ms as u64,
            by: row.lifecycle_by,
            reason: row.lifecycle_reason,
        };
        let lineage = Lineage {
            position: position(row.epoch, row.durable_seq),
            settled: row.settled,
            floor: row.epoch_floor as u64,
            ends: Lineage::ends_from_numbers(&row.epoch_ends),
            incarnation: row.settled_incarnation as u64,
        };
        let live = row.live_by.zip(row.live_instance).zip(row.live_agent);
        let live = live.map(|((replica, instance), agent)| Live { replica, instance, agent });
        let digest_key = digest_key(row.digest_key)?;
        let compacted = position(row.compacted_epoch, row.compacted_seq);
        let row_ = ClusterRow { uid: row.cluster_uid, lineage, digest_key, live, member };
        Ok((ClusterId::new(row.id), Stored { row: row_, compacted }))
    });
    stored.collect()
}

pub(super) async fn published(
    executor: impl PgExecutor<'_>,
) -> Result<BTreeMap<(PoolName, HostKey), Digest>, StoreError> {
    let rows = sqlx::query!("SELECT pool, host, digest FROM published")
        .fetch_all(executor)
        .await
        .map_err(|error| sort(&error))?;
    rows.into_iter()
        .map(|row| {
            let host = HostKey::parse(&row.host)
                .ok_or_else(|| StoreError::Corrupt(format!("published host {:?}", row.host)))?;
            Ok(((PoolName::new(row.pool), host), digest(&row.digest)?))
        })
        .collect()
}

pub(super) fn position(epoch: i64, seq: i64) -> Position {
    Position { epoch: epoch as u64, seq: seq as u64 }
}

fn percent(stored: i16) -> u8 {
    u8::try_from(stored).unwrap_or(100)
}

fn unreadable(what: &str, text: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} {text:?}"))
}
