//! Reading everything a start needs. Rows are streamed and decoded one by one, so a large world is never held twice.

use futures::TryStreamExt;
use prost::Message;
use roadstead_proto::{object, wire};
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, Position};
use sqlx::PgPool;
use uuid::Uuid;

use super::secrets::Secrets;
use super::{digest, rows, sort};
use crate::store::{Loaded, StoreError, StoredObject, WorldId};

pub(super) async fn load(pool: &PgPool, secrets: &Secrets) -> Result<Loaded, StoreError> {
    let world = world(pool).await?;
    let mut connection = pool.acquire().await.map_err(|error| sort(&error))?;
    let clusters = rows::clusters(&mut connection, None).await?;
    drop(connection);
    let clusters = clusters.into_iter().map(|(id, stored)| (id, stored.row)).collect();
    let mut loaded = Loaded {
        world,
        clusters,
        objects: Vec::new(),
        unreadable: Vec::new(),
        published: rows::published(pool).await?,
        forgets_secrets: !secrets.are_stored(),
    };
    objects(pool, secrets, &mut loaded).await?;
    Ok(loaded)
}

/// Two controllers that start on an empty database agree on whoever comes first.
async fn world(pool: &PgPool) -> Result<WorldId, StoreError> {
    sqlx::query!("INSERT INTO world (world_id, incarnation) VALUES ($1, 1) ON CONFLICT DO NOTHING", Uuid::new_v4())
        .execute(pool)
        .await
        .map_err(|error| sort(&error))?;
    let mut connection = pool.acquire().await.map_err(|error| sort(&error))?;
    rows::world(&mut connection).await
}

async fn objects(pool: &PgPool, secrets: &Secrets, loaded: &mut Loaded) -> Result<(), StoreError> {
    let mut rows =
        sqlx::query!("SELECT cluster, kind, namespace, name, digest, epoch, seq, packed FROM objects").fetch(pool);
    while let Some(row) = rows.try_next().await.map_err(|error| sort(&error))? {
        let cluster = ClusterId::new(row.cluster);
        let kind = Kind::from_number(row.kind.into())
            .ok_or_else(|| StoreError::Corrupt(format!("an object of kind {}", row.kind)))?;
        let position = Position { epoch: row.epoch as u64, seq: row.seq as u64 };
        let (digest, key) = (digest(&row.digest)?, ObjectKey::new(kind, &row.namespace, &row.name));
        let Some(packed) = secrets.open(&cluster, &key, row.packed) else { continue };
        match decode(&packed) {
            Ok(object) => loaded.objects.push((cluster, StoredObject { object, digest, position, packed })),
            Err(reason) => loaded.unreadable.push((cluster, key, reason)),
        }
    }
    Ok(())
}

pub(super) fn decode(packed: &[u8]) -> Result<roadstead_routing::object::Object, String> {
    let decoded = wire::Object::decode(packed).map_err(|error| error.to_string())?;
    object::from_wire(decoded).map_err(|error| error.to_string())
}
