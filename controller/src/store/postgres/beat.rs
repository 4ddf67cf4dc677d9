//! What a replica does once a second, in two transactions: say that it is there and be the clerk if it can; then read what
//! others wrote, as of one moment.

use std::collections::BTreeMap;

use roadstead_routing::id::ClusterId;
use sqlx::{Connection, PgConnection};

use super::secrets::Secrets;
use super::{digest, holder, kept, rows, sort};
use crate::clerk;
use crate::store::beat::{Lack, is_present, lack};
use crate::store::{
    Beat, Clerk, ClusterNews, LEASE_MS, LifecycleAnswer, LifecycleChange, MemberRow, News, PRESENCE_MS, PolicyRow,
    ReplicaRow, StoreError,
};

pub(super) async fn beat(connection: &mut PgConnection, secrets: &Secrets, beat: &Beat) -> Result<News, StoreError> {
    let clerk = say(connection, beat).await?;
    let mut reading = connection.begin().await.map_err(|error| sort(&error))?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *reading)
        .await
        .map_err(|error| sort(&error))?;
    let news = read(&mut reading, secrets, beat, clerk).await?;
    reading.commit().await.map_err(|error| sort(&error))?;
    Ok(news)
}

pub(super) async fn leave(connection: &mut PgConnection, replica: &str) -> Result<(), StoreError> {
    let gone = sqlx::query!("DELETE FROM replicas WHERE id = $1", replica).execute(&mut *connection).await;
    gone.map_err(|error| sort(&error))?;
    let ended = sqlx::query!("UPDATE leases SET expires_at = '-infinity' WHERE holder = $1", replica);
    ended.execute(connection).await.map_err(|error| sort(&error))?;
    Ok(())
}

pub(super) async fn change_lifecycle(
    connection: &mut PgConnection,
    change: &LifecycleChange,
) -> Result<LifecycleAnswer, StoreError> {
    let mut transaction = connection.begin().await.map_err(|error| sort(&error))?;
    lock(&mut transaction).await?;
    let stored = rows::clusters(&mut transaction, Some(&change.cluster)).await?;
    let Some(stored) = stored.get(&change.cluster) else { return Ok(LifecycleAnswer::NoCluster) };
    let answer = clerk::change(&stored.row.member, change, now_ms(&mut transaction).await?);
    if let LifecycleAnswer::Changed(next) = &answer {
        write(&mut transaction, &change.cluster, next).await?;
        stamp(&mut transaction).await?;
    }
    transaction.commit().await.map_err(|error| sort(&error))?;
    Ok(answer)
}

async fn say(connection: &mut PgConnection, beat: &Beat) -> Result<Clerk, StoreError> {
    let mut transaction = connection.begin().await.map_err(|error| sort(&error))?;
    let ReplicaRow { id, address, version, instance } = &beat.replica;
    sqlx::query!(
        "INSERT INTO replicas (id, address, version, instance, heartbeat_at) VALUES ($1, $2, $3, $4, now())
         ON CONFLICT (id) DO UPDATE
         SET address = excluded.address, version = excluded.version, instance = excluded.instance, heartbeat_at = now()",
        id,
        address,
        version,
        instance,
    )
    .execute(&mut *transaction)
    .await
    .map_err(|error| sort(&error))?;
    let clerk = be_clerk(&mut transaction, beat).await?;
    if !matches!(clerk, Clerk::Other(_)) {
        step(&mut transaction, &beat.terms).await?;
    }
    transaction.commit().await.map_err(|error| sort(&error))?;
    Ok(clerk)
}

/// Takes the lease if it is free or its own; the token rises unless the caller holds the present one.
async fn be_clerk(connection: &mut PgConnection, beat: &Beat) -> Result<Clerk, StoreError> {
    let token = sqlx::query_scalar!(
        "INSERT INTO leases AS held (name, holder, token, expires_at)
         VALUES ('clerk', $1, 1, now() + make_interval(secs => $2))
         ON CONFLICT (name) DO UPDATE
         SET holder = $1, expires_at = now() + make_interval(secs => $2),
             token = CASE WHEN held.holder = $1 AND held.token = $3 AND held.expires_at > '-infinity'
                          THEN held.token ELSE held.token + 1 END
         WHERE held.holder = $1 OR held.expires_at <= now()
         RETURNING token",
        beat.replica.id,
        LEASE_MS as f64 / 1_000.0,
        beat.token as i64,
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(|error| sort(&error))?;
    match token {
        Some(token) if token as u64 == beat.token => Ok(Clerk::Same),
        Some(token) => Ok(Clerk::New { token: token as u64, published: rows::published(connection).await? }),
        None => {
            let holder = sqlx::query_scalar!("SELECT holder FROM leases WHERE name = 'clerk'").fetch_one(connection);
            Ok(Clerk::Other(holder.await.map_err(|error| sort(&error))?))
        }
    }
}

/// The clerk's work: see [`clerk::step`]. Only rows that change are written.
async fn step(connection: &mut PgConnection, terms: &clerk::Terms) -> Result<(), StoreError> {
    lock(connection).await?;
    let beats = sqlx::query!(
        r#"SELECT id, instance, (extract(epoch FROM heartbeat_at) * 1000)::bigint AS "at_ms!" FROM replicas"#
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(|error| sort(&error))?;
    let beats: BTreeMap<(String, String), u64> =
        beats.into_iter().map(|row| ((row.id, row.instance), row.at_ms as u64)).collect();
    let (clusters, now_ms) = (rows::clusters(&mut *connection, None).await?, now_ms(connection).await?);
    let mut moved = false;
    for (cluster, rows::Stored { row, .. }) in clusters {
        let beat_ms = row.live.as_ref().map(|live| beats.get(&(live.replica.clone(), live.instance.clone())).copied());
        let is_live = beat_ms.flatten().is_some_and(|at| is_present(at, now_ms));
        let mut member = row.member.clone();
        if row.live.is_some() && !is_live {
            member.lost_ms = Some(beat_ms.flatten().unwrap_or(now_ms));
        }
        let next = clerk::step(&cluster, &member, is_live, terms, now_ms);
        if let Some(live) = row.live.as_ref().filter(|_| !is_live) {
            lost(connection, &cluster, &live.replica, &next).await?;
        }
        if next != member {
            moved |= next.membership != member.membership;
            write(connection, &cluster, &next).await?;
        }
    }
    if moved {
        stamp(connection).await?;
    }
    Ok(())
}

async fn read(connection: &mut PgConnection, secrets: &Secrets, beat: &Beat, clerk: Clerk) -> Result<News, StoreError> {
    let world = rows::world(connection).await?;
    let stamps = sqlx::query!("SELECT keeps, clerk FROM stamps").fetch_one(&mut *connection).await;
    let stamps = stamps.map_err(|error| sort(&error))?;
    let mut clusters = BTreeMap::new();
    for (cluster, rows::Stored { row, compacted }) in rows::clusters(&mut *connection, None).await? {
        let known = beat.known.get(&cluster).copied().unwrap_or_default();
        let lack = if beat.held.contains(&cluster) { Lack::Nothing } else { lack(&row, compacted, known) };
        let changes = holder::changes(&mut *connection, secrets, &cluster, lack).await?;
        clusters.insert(cluster, ClusterNews { row, changes });
    }
    let keeps = match stamps.keeps as u64 {
        stamp if stamp == beat.keeps_stamp => None,
        stamp => Some(kept::news(&mut *connection, stamp).await?),
    };
    let policy = sqlx::query!(
        "SELECT rev, digest, body, source FROM policies WHERE rev > $1 ORDER BY rev DESC LIMIT 1",
        beat.policy_rev as i64
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(|error| sort(&error))?;
    let policy = policy.map(|row| {
        Ok(PolicyRow { rev: row.rev as u64, digest: digest(&row.digest)?, body: row.body, source: row.source })
    });
    let replicas = sqlx::query_as!(
        ReplicaRow,
        "SELECT id, address, version, instance FROM replicas
         WHERE id <> $1 AND heartbeat_at > now() - make_interval(secs => $2) ORDER BY id",
        beat.replica.id,
        PRESENCE_MS as f64 / 1_000.0,
    )
    .fetch_all(connection)
    .await
    .map_err(|error| sort(&error))?;
    let (policy, clerk_rev) = (policy.transpose()?, stamps.clerk as u64);
    Ok(News { world, clusters, clerk_rev, keeps, policy, replicas, clerk })
}

async fn write(connection: &mut PgConnection, cluster: &ClusterId, member: &MemberRow) -> Result<(), StoreError> {
    let ramp = member.ramp;
    sqlx::query!(
        "UPDATE clusters SET lifecycle = $2, percent = $3, liveness = $4,
                             ramp_since = to_timestamp($5::bigint / 1000.0), ramp_from = $6, ramp_seconds = $7,
                             lifecycle_at = to_timestamp($8::bigint / 1000.0), lifecycle_by = $9, lifecycle_reason = $10,
                             doubtful = $11
         WHERE id = $1",
        cluster.as_str(),
        member.membership.lifecycle.as_str(),
        i16::from(member.membership.percent),
        member.membership.liveness.as_str(),
        ramp.map(|ramp| ramp.since_ms as i64),
        ramp.map(|ramp| i16::from(ramp.from)),
        ramp.map(|ramp| ramp.seconds as i64),
        member.changed_ms as i64,
        member.by,
        member.reason,
        member.membership.is_doubtful,
    )
    .execute(connection)
    .await
    .map_err(|error| sort(&error))?;
    Ok(())
}

/// The replica that held the cluster is gone.
async fn lost(
    connection: &mut PgConnection,
    cluster: &ClusterId,
    replica: &str,
    member: &MemberRow,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE clusters SET live_by = NULL, live_instance = NULL, live_agent = NULL, lost_at = to_timestamp($2::bigint / 1000.0)
         WHERE id = $1 AND live_by = $3",
        cluster.as_str(),
        member.lost_ms.unwrap_or_default() as i64,
        replica,
    )
    .execute(connection)
    .await
    .map_err(|error| sort(&error))?;
    Ok(())
}

async fn stamp(connection: &mut PgConnection) -> Result<(), StoreError> {
    let stamped = sqlx::query!("UPDATE stamps SET clerk = clerk + 1").execute(connection).await;
    stamped.map_err(|error| sort(&error)).map(drop)
}

/// Lets one transaction at a time decide where clusters stand.
async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    let locked = sqlx::query!("SELECT clerk FROM stamps FOR UPDATE").fetch_one(connection).await;
    locked.map_err(|error| sort(&error)).map(drop)
}

async fn now_ms(connection: &mut PgConnection) -> Result<u64, StoreError> {
    let now =
        sqlx::query_scalar!(r#"SELECT (extract(epoch FROM now()) * 1000)::bigint AS "now!""#).fetch_one(connection);
    Ok(now.await.map_err(|error| sort(&error))? as u64)
}
