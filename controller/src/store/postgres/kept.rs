//! What the guard keeps: reading all of it at a start, writing the rows of a batch. There are few of them.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use roadstead_routing::guard::{WINDOW_LOSSES_MAX, WINDOW_MS};
use roadstead_routing::id::{ClusterId, HostKey, PoolName};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::sort;
use crate::guard::kept::{Keep, Kept, Loss};
use crate::store::{KeepsNews, StoreError};

pub(super) async fn load(pool: &PgPool) -> Result<Kept, StoreError> {
    let mut connection = pool.acquire().await.map_err(|error| sort(&error))?;
    let KeepsNews { holds, overrides, .. } = news(&mut connection, 0).await?;
    let backends = sqlx::query_scalar!("SELECT body FROM kept_backends ORDER BY id").fetch_all(pool).await;
    Ok(Kept {
        holds,
        overrides,
        backends: backends.map_err(|error| sort(&error))?,
        published: published(pool).await?,
        losses: losses(pool).await?,
        inferred: inferred(pool).await?,
    })
}

pub(super) async fn write(
    connection: &mut PgConnection,
    keeps: impl Iterator<Item = &Keep>,
) -> Result<(), sqlx::Error> {
    let mut changed = false;
    for keep in keeps {
        changed = true;
        let statement = match keep {
            Keep::Hold { hold, is_live } => sqlx::query!(
                "INSERT INTO holds (id, live, document) VALUES ($1, $2, $3)
                 ON CONFLICT (id) DO UPDATE SET live = excluded.live, document = excluded.document, changed_at = now()
                 -- A decision is final: a replica that has not heard of it does not open the Hold again.
                 WHERE holds.document ->> 'state' = 'open' OR excluded.document ->> 'state' <> 'open'",
                hold.id,
                is_live,
                encoded(hold)?,
            ),
            Keep::Override(it) => sqlx::query!(
                "INSERT INTO overrides (id, document) VALUES ($1, $2)
                 ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                it.id,
                encoded(it)?,
            ),
            Keep::Lift(id) => sqlx::query!("DELETE FROM overrides WHERE id = $1", id),
            Keep::Backend(id, Some(body)) => sqlx::query!(
                "INSERT INTO kept_backends (id, body) VALUES ($1, $2)
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                id.to_string(),
                body,
            ),
            Keep::Backend(id, None) => sqlx::query!("DELETE FROM kept_backends WHERE id = $1", id.to_string()),
        };
        statement.execute(&mut *connection).await?;
    }
    if changed {
        // Locked until the commit, so stamps become visible in their order.
        sqlx::query!("UPDATE stamps SET keeps = keeps + 1").execute(connection).await?;
    }
    Ok(())
}

/// All Holds that have an effect, and all overrides.
pub(super) async fn news(connection: &mut PgConnection, stamp: u64) -> Result<KeepsNews, StoreError> {
    let holds =
        sqlx::query_scalar!("SELECT document FROM holds WHERE live ORDER BY id").fetch_all(&mut *connection).await;
    let overrides = sqlx::query_scalar!("SELECT document FROM overrides ORDER BY id").fetch_all(connection).await;
    Ok(KeepsNews {
        stamp,
        holds: readable("Hold", holds.map_err(|error| sort(&error))?),
        overrides: readable("override", overrides.map_err(|error| sort(&error))?),
    })
}

async fn published(pool: &PgPool) -> Result<BTreeMap<(PoolName, HostKey), Vec<u8>>, StoreError> {
    let mut rows = sqlx::query!("SELECT pool, host, body FROM published JOIN host_bodies USING (digest)").fetch(pool);
    let mut published = BTreeMap::new();
    while let Some(row) = rows.try_next().await.map_err(|error| sort(&error))? {
        published.insert((PoolName::new(row.pool), host(&row.host)?), row.body);
    }
    Ok(published)
}

/// Every version that another one replaced within the window, in the order of time.
async fn losses(pool: &PgPool) -> Result<Vec<Loss>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT new.pool AS "pool!", new.host AS "host!", body,
                  (extract(epoch FROM new.at) * 1000)::bigint AS "at_ms!"
           FROM host_revisions AS new
           CROSS JOIN LATERAL (
             SELECT digest FROM host_revisions AS old
             WHERE old.pool = new.pool AND old.host = new.host AND old.id < new.id ORDER BY id DESC LIMIT 1
           ) AS old
           JOIN host_bodies ON host_bodies.digest = old.digest
           WHERE new.at > now() - make_interval(secs => $1)
           ORDER BY new.at, new.id LIMIT $2"#,
        (WINDOW_MS / 1_000) as f64,
        WINDOW_LOSSES_MAX as i64,
    )
    .fetch_all(pool)
    .await
    .map_err(|error| sort(&error))?;
    let loss = |at_ms: i64, pool: String, text: &str, before| {
        Ok(Loss { at_ms: at_ms as u64, pool: PoolName::new(pool), host: host(text)?, before })
    };
    rows.into_iter().map(|row| loss(row.at_ms, row.pool, &row.host, row.body)).collect()
}

async fn inferred(pool: &PgPool) -> Result<BTreeMap<ClusterId, u64>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT cluster, (extract(epoch FROM max(removed_at)) * 1000)::bigint AS "at_ms!" FROM tombstones
           WHERE inferred AND removed_at > now() - make_interval(secs => $1) GROUP BY cluster"#,
        (WINDOW_MS / 1_000) as f64,
    )
    .fetch_all(pool)
    .await
    .map_err(|error| sort(&error))?;
    Ok(rows.into_iter().map(|row| (row.cluster.as_str().into(), row.at_ms as u64)).collect())
}

fn host(text: &str) -> Result<HostKey, StoreError> {
    HostKey::parse(text).ok_or_else(|| StoreError::Corrupt(format!("published host {text:?}")))
}

fn encoded(it: &impl serde::Serialize) -> Result<Value, sqlx::Error> {
    serde_json::to_value(it).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A row that cannot be read is left out: the guard then judges anew, which is the safe side for a Hold.
fn readable<T: DeserializeOwned>(what: &str, documents: Vec<Value>) -> Vec<T> {
    let read = |document: Value| match serde_json::from_value(document) {
        Ok(it) => Some(it),
        Err(error) => {
            tracing::error!(%error, "A stored {what} cannot be read and is ignored");
            None
        }
    };
    documents.into_iter().filter_map(read).collect()
}
