//! Writing one batch inside one transaction: the fence first, then objects, then history.
//! Rows go as parallel arrays (`UNNEST`), so a batch costs a handful of round trips whatever its size.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::id::{ClusterId, ObjectKey, Position};
use serde_json::Value;
use sqlx::PgConnection;

use super::kept;
use super::secrets::Secrets;
use crate::store::document::document;
use crate::store::{Batch, ClusterBatch, Gap, HostRevision};

/// Returns the clusters whose part was dropped because another holder took over.
pub(super) async fn batch(
    connection: &mut PgConnection,
    secrets: &Secrets,
    batch: &Batch,
) -> Result<BTreeSet<ClusterId>, sqlx::Error> {
    let lost = fence(connection, &batch.clusters).await?;
    let held = || batch.clusters.iter().filter(|(cluster, _)| !lost.contains(*cluster));
    upserts(connection, secrets, held()).await?;
    removals(connection, held()).await?;
    kept::write(connection, batch.keeps.values()).await?;
    if has_lease(connection, batch).await? {
        revisions(connection, &batch.revisions).await?;
    }
    if let Some(gap) = batch.gap {
        write_gap(connection, gap).await?;
    }
    Ok(lost)
}

/// Locks the row of every cluster in the batch: from here to the commit nobody can take it over.
async fn fence(
    connection: &mut PgConnection,
    clusters: &BTreeMap<ClusterId, ClusterBatch>,
) -> Result<BTreeSet<ClusterId>, sqlx::Error> {
    let mut lost = BTreeSet::new();
    // One statement each, in the order of their ids: two writers can never wait for each other in a circle.
    for (cluster, part) in clusters {
        let held = sqlx::query_scalar!(
            "UPDATE clusters SET durable_seq = greatest(durable_seq, $3), settled = settled OR $4::bigint IS NOT NULL,
                                 settled_incarnation = greatest(settled_incarnation, $4)
             WHERE id = $1 AND epoch = $2 RETURNING durable_seq",
            cluster.as_str(),
            part.epoch as i64,
            part.durable_seq as i64,
            part.settled.map(|incarnation| incarnation as i64),
        )
        .fetch_optional(&mut *connection)
        .await?;
        if held.is_none() {
            lost.insert(cluster.clone());
        }
    }
    Ok(lost)
}

/// Only the clerk writes history. Its row is locked against a new holder until the commit.
async fn has_lease(connection: &mut PgConnection, batch: &Batch) -> Result<bool, sqlx::Error> {
    if batch.revisions.is_empty() {
        return Ok(false);
    }
    let held = sqlx::query_scalar!(
        "SELECT token FROM leases WHERE name = 'clerk' AND token = $1 FOR SHARE",
        batch.token as i64
    );
    Ok(held.fetch_optional(connection).await?.is_some())
}

/// The columns that identify an object and say where it was accepted.
#[derive(Default)]
struct Keys {
    cluster: Vec<String>,
    kind: Vec<i16>,
    namespace: Vec<String>,
    name: Vec<String>,
    epoch: Vec<i64>,
    seq: Vec<i64>,
}

impl Keys {
    fn push(&mut self, cluster: &ClusterId, key: &ObjectKey, position: Position) {
        self.cluster.push(cluster.to_string());
        self.kind.push(key.kind as i16);
        self.namespace.push(key.name.namespace.to_string());
        self.name.push(key.name.name.to_string());
        self.epoch.push(position.epoch as i64);
        self.seq.push(position.seq as i64);
    }
}

async fn upserts<'a>(
    connection: &mut PgConnection,
    secrets: &Secrets,
    clusters: impl Iterator<Item = (&'a ClusterId, &'a ClusterBatch)>,
) -> Result<(), sqlx::Error> {
    let (mut keys, mut unstored) = (Keys::default(), Keys::default());
    let (mut digests, mut packed, mut documents) = (Vec::new(), Vec::new(), Vec::<Option<Value>>::new());
    for (cluster, part) in clusters {
        for (key, stored) in &part.upserts {
            let Some(bytes) = secrets.seal(cluster, key, &stored.packed) else {
                unstored.push(cluster, key, stored.position);
                continue;
            };
            keys.push(cluster, key, stored.position);
            digests.push(stored.digest.to_vec());
            packed.push(bytes);
            documents.push(document(&stored.object));
        }
    }
    // What an earlier process could store of them is out of date.
    delete_objects(connection, &unstored).await?;
    delete_tombstones(connection, &unstored).await?;
    if keys.cluster.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO objects (cluster, kind, namespace, name, digest, epoch, seq, packed, document)
         SELECT * FROM UNNEST($1::text[], $2::smallint[], $3::text[], $4::text[], $5::bytea[], $6::bigint[],
                              $7::bigint[], $8::bytea[], $9::jsonb[])
         ON CONFLICT (cluster, kind, namespace, name) DO UPDATE
         SET digest = excluded.digest, epoch = excluded.epoch, seq = excluded.seq, packed = excluded.packed,
             document = excluded.document",
        &keys.cluster,
        &keys.kind,
        &keys.namespace,
        &keys.name,
        &digests,
        &keys.epoch,
        &keys.seq,
        &packed,
        &documents as &[Option<Value>],
    )
    .execute(&mut *connection)
    .await?;
    delete_tombstones(connection, &keys).await
}

async fn removals<'a>(
    connection: &mut PgConnection,
    clusters: impl Iterator<Item = (&'a ClusterId, &'a ClusterBatch)>,
) -> Result<(), sqlx::Error> {
    let (mut keys, mut inferred) = (Keys::default(), Vec::new());
    for (cluster, part) in clusters {
        for (key, removed) in &part.removals {
            keys.push(cluster, key, removed.position);
            inferred.push(removed.inferred);
        }
    }
    if keys.cluster.is_empty() {
        return Ok(());
    }
    delete_objects(connection, &keys).await?;
    sqlx::query!(
        "INSERT INTO tombstones (cluster, kind, namespace, name, epoch, seq, inferred)
         SELECT * FROM UNNEST($1::text[], $2::smallint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                              $7::boolean[])
         ON CONFLICT (cluster, kind, namespace, name) DO UPDATE
         SET epoch = excluded.epoch, seq = excluded.seq, inferred = excluded.inferred, removed_at = now()",
        &keys.cluster,
        &keys.kind,
        &keys.namespace,
        &keys.name,
        &keys.epoch,
        &keys.seq,
        &inferred,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn delete_objects(connection: &mut PgConnection, keys: &Keys) -> Result<(), sqlx::Error> {
    if keys.cluster.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "DELETE FROM objects USING UNNEST($1::text[], $2::smallint[], $3::text[], $4::text[])
                                   AS gone (cluster, kind, namespace, name)
         WHERE objects.cluster = gone.cluster AND objects.kind = gone.kind
           AND objects.namespace = gone.namespace AND objects.name = gone.name",
        &keys.cluster,
        &keys.kind,
        &keys.namespace,
        &keys.name,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn delete_tombstones(connection: &mut PgConnection, keys: &Keys) -> Result<(), sqlx::Error> {
    if keys.cluster.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "DELETE FROM tombstones USING UNNEST($1::text[], $2::smallint[], $3::text[], $4::text[])
                                      AS gone (cluster, kind, namespace, name)
         WHERE tombstones.cluster = gone.cluster AND tombstones.kind = gone.kind
           AND tombstones.namespace = gone.namespace AND tombstones.name = gone.name",
        &keys.cluster,
        &keys.kind,
        &keys.namespace,
        &keys.name,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes only what differs from `published`, so a batch that is tried again after a lost answer adds nothing.
async fn revisions(connection: &mut PgConnection, revisions: &[HostRevision]) -> Result<(), sqlx::Error> {
    if revisions.is_empty() {
        return Ok(());
    }
    let bodies: BTreeMap<_, _> = revisions.iter().filter_map(|it| it.body.as_ref()).map(|it| (it.digest, it)).collect();
    let digests: Vec<Vec<u8>> = bodies.keys().map(|digest| digest.to_vec()).collect();
    let encoded: Vec<Vec<u8>> = bodies.values().map(|body| body.encoded.clone()).collect();
    sqlx::query!(
        "INSERT INTO host_bodies (digest, body) SELECT * FROM UNNEST($1::bytea[], $2::bytea[])
         ON CONFLICT (digest) DO NOTHING",
        &digests,
        &encoded,
    )
    .execute(&mut *connection)
    .await?;
    let pools: Vec<String> = revisions.iter().map(|it| it.pool.to_string()).collect();
    let hosts: Vec<String> = revisions.iter().map(|it| it.host.to_string()).collect();
    let digests: Vec<Option<Vec<u8>>> =
        revisions.iter().map(|it| it.body.as_ref().map(|body| body.digest.to_vec())).collect();
    let positions: Vec<Value> = revisions.iter().map(positions).collect();
    let causes: Vec<String> = revisions.iter().map(|it| it.cause.as_str().to_owned()).collect();
    sqlx::query!(
        "INSERT INTO host_revisions (pool, host, digest, positions, cause)
         SELECT new.pool, new.host, new.digest, new.positions, new.cause
         FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::jsonb[], $5::text[])
              AS new (pool, host, digest, positions, cause)
         LEFT JOIN published ON published.pool = new.pool AND published.host = new.host
         WHERE published.digest IS DISTINCT FROM new.digest",
        &pools,
        &hosts,
        &digests as &[Option<Vec<u8>>],
        &positions,
        &causes,
    )
    .execute(&mut *connection)
    .await?;
    publish(connection, revisions).await
}

async fn publish(connection: &mut PgConnection, revisions: &[HostRevision]) -> Result<(), sqlx::Error> {
    let (mut pools, mut hosts, mut digests) = (Vec::new(), Vec::new(), Vec::new());
    let (mut gone_pools, mut gone_hosts) = (Vec::new(), Vec::new());
    for revision in revisions {
        match &revision.body {
            Some(body) => {
                pools.push(revision.pool.to_string());
                hosts.push(revision.host.to_string());
                digests.push(body.digest.to_vec());
            }
            None => {
                gone_pools.push(revision.pool.to_string());
                gone_hosts.push(revision.host.to_string());
            }
        }
    }
    sqlx::query!(
        "INSERT INTO published (pool, host, digest) SELECT * FROM UNNEST($1::text[], $2::text[], $3::bytea[])
         ON CONFLICT (pool, host) DO UPDATE SET digest = excluded.digest",
        &pools,
        &hosts,
        &digests,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE FROM published USING UNNEST($1::text[], $2::text[]) AS gone (pool, host)
         WHERE published.pool = gone.pool AND published.host = gone.host",
        &gone_pools,
        &gone_hosts,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_gap(connection: &mut PgConnection, gap: Gap) -> Result<(), sqlx::Error> {
    sqlx::query!("INSERT INTO host_revisions (positions, cause) VALUES ('{}', $1)", gap.describe())
        .execute(connection)
        .await?;
    Ok(())
}

fn positions(revision: &HostRevision) -> Value {
    revision
        .positions
        .iter()
        .map(|(cluster, position)| (cluster.to_string(), Value::from(position.to_string())))
        .collect()
}
