//! Reading everything a start needs. Rows are streamed and decoded one by one, so a large world is never held twice.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use prost::Message;
use roadstead_proto::digest::Digest;
use roadstead_proto::{object, wire};
use roadstead_routing::id::{ClusterId, HostKey, Kind, ObjectKey, PoolName, Position};
use sqlx::PgPool;
use uuid::Uuid;

use super::{digest, digest_key, sort};
use crate::store::{ClusterRow, Loaded, StoreError, StoredObject, WorldId};

pub(super) async fn load(pool: &PgPool) -> Result<Loaded, StoreError> {
    let world = world(pool).await?;
    let clusters = clusters(pool).await?;
    let mut loaded =
        Loaded { world, clusters, objects: Vec::new(), unreadable: Vec::new(), published: published(pool).await? };
    objects(pool, &mut loaded).await?;
    Ok(loaded)
}

/// Two controllers that start on an empty database agree on whoever comes first.
async fn world(pool: &PgPool) -> Result<WorldId, StoreError> {
    sqlx::query!("INSERT INTO world (world_id, incarnation) VALUES ($1, 1) ON CONFLICT DO NOTHING", Uuid::new_v4())
        .execute(pool)
        .await
        .map_err(|error| sort(&error))?;
    let row =
        sqlx::query!("SELECT world_id, incarnation FROM world").fetch_one(pool).await.map_err(|error| sort(&error))?;
    Ok(WorldId { id: row.world_id, incarnation: row.incarnation as u64 })
}

async fn clusters(pool: &PgPool) -> Result<BTreeMap<ClusterId, ClusterRow>, StoreError> {
    let rows = sqlx::query!("SELECT id, cluster_uid, epoch, durable_seq, digest_key FROM clusters")
        .fetch_all(pool)
        .await
        .map_err(|error| sort(&error))?;
    rows.into_iter()
        .map(|row| {
            let cluster = ClusterRow {
                uid: row.cluster_uid,
                epoch: row.epoch as u64,
                durable_seq: row.durable_seq as u64,
                digest_key: digest_key(row.digest_key)?,
            };
            Ok((ClusterId::new(row.id), cluster))
        })
        .collect()
}

async fn published(pool: &PgPool) -> Result<BTreeMap<(PoolName, HostKey), Digest>, StoreError> {
    let rows =
        sqlx::query!("SELECT pool, host, digest FROM published").fetch_all(pool).await.map_err(|error| sort(&error))?;
    rows.into_iter()
        .map(|row| {
            let host = HostKey::parse(&row.host)
                .ok_or_else(|| StoreError::Corrupt(format!("published host {:?}", row.host)))?;
            Ok(((PoolName::new(row.pool), host), digest(&row.digest)?))
        })
        .collect()
}

async fn objects(pool: &PgPool, loaded: &mut Loaded) -> Result<(), StoreError> {
    let mut rows =
        sqlx::query!("SELECT cluster, kind, namespace, name, digest, epoch, seq, packed FROM objects").fetch(pool);
    while let Some(row) = rows.try_next().await.map_err(|error| sort(&error))? {
        let cluster = ClusterId::new(row.cluster);
        let kind = Kind::from_number(row.kind.into())
            .ok_or_else(|| StoreError::Corrupt(format!("an object of kind {}", row.kind)))?;
        let position = Position { epoch: row.epoch as u64, seq: row.seq as u64 };
        let digest = digest(&row.digest)?;
        match decode(&row.packed) {
            Ok(object) => {
                loaded.objects.push((cluster, StoredObject { object, digest, position, packed: row.packed }));
            }
            Err(reason) => {
                loaded.unreadable.push((cluster, ObjectKey::new(kind, &row.namespace, &row.name), reason));
            }
        }
    }
    Ok(())
}

fn decode(packed: &[u8]) -> Result<roadstead_routing::object::Object, String> {
    let decoded = wire::Object::decode(packed).map_err(|error| error.to_string())?;
    object::from_wire(decoded).map_err(|error| error.to_string())
}
