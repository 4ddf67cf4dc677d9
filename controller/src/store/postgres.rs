//! [`Store`] on Postgres. Queries are checked against the schema when this crate is compiled; `controller/.sqlx` holds
//! what the checker needs, so that building needs no database.
//!
//! Errors are sorted into three kinds by SQLSTATE: unavailable (retry), rejected data (find the culprit), corrupt.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use roadstead_proto::digest::Digest;
use roadstead_routing::id::{ClusterId, HostKey, PoolName};
use roadstead_runtime::seal::SealKey;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use self::secrets::Secrets;
use crate::guard::kept::Kept;
use crate::store::{
    ADOPTED_MAX, Batch, Beat, DIGEST_KEY_BYTES, DigestKey, HostBody, LifecycleAnswer, LifecycleChange, Loaded,
    NewPolicy, News, PolicyRow, REMOVED_SECONDS_MAX, RevisionRow, Store, StoreError, TOMBSTONE_AGE_SECONDS_MAX,
    TOMBSTONES_MAX, TakeOver, TakeOverAnswer, WorldId,
};

mod beat;
mod history;
mod holder;
mod kept;
mod load;
mod rows;
mod secrets;
mod write;

/// Embedded, so that a controller brings its schema along.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// One each for the writer, beats and policy imports; the others are for people.
const CONNECTIONS_MAX: u32 = 6;
/// How long one attempt waits for a connection before it counts as unavailable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Postgres {
    pool: PgPool,
    secrets: Secrets,
}

impl Postgres {
    /// Prepares a pool without connecting. Secrets are not stored; see [`Self::sealing`].
    ///
    /// # Errors
    /// If `url` is no database URL; the text says what is wrong with it.
    pub fn new(url: &str) -> Result<Self, String> {
        // sqlx takes any scheme and would go looking for a host.
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err("it does not begin with postgres://".to_owned());
        }
        let options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
        let options = options.application_name("roadstead-controller");
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_TIMEOUT)
            .connect_lazy_with(options);
        Ok(Self { pool, secrets: Secrets::default() })
    }

    /// Stores Secrets, sealed with `key`, if there is one.
    #[must_use]
    pub fn sealing(self, key: Option<SealKey>) -> Self {
        Self { secrets: Secrets::new(key), ..self }
    }

    pub fn stores_secrets(&self) -> bool {
        self.secrets.are_stored()
    }

    async fn connection(&self) -> Result<PoolConnection<sqlx::Postgres>, StoreError> {
        self.pool.acquire().await.map_err(|error| sort(&error))
    }

    /// Brings the schema up to date. Several controllers may start at once: an advisory lock lets one do it.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        MIGRATIONS.run(&self.pool).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => sort(&error),
            other => StoreError::Corrupt(format!("its migrations do not fit this version: {other}")),
        })
    }
}

impl Store for Postgres {
    async fn load(&self) -> Result<Loaded, StoreError> {
        load::load(&self.pool, &self.secrets).await
    }

    async fn load_kept(&self) -> Result<Kept, StoreError> {
        kept::load(&self.pool).await
    }

    async fn take_over(&self, request: &TakeOver) -> Result<TakeOverAnswer, StoreError> {
        let mut connection = self.connection().await?;
        holder::take_over(&mut connection, &self.secrets, request).await
    }

    async fn release(&self, cluster: &ClusterId, epoch: u64) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        holder::release(&mut connection, cluster, epoch).await
    }

    async fn beat(&self, beat: &Beat) -> Result<News, StoreError> {
        let mut connection = self.connection().await?;
        beat::beat(&mut connection, &self.secrets, beat).await
    }

    async fn leave(&self, replica: &str) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        beat::leave(&mut connection, replica).await
    }

    async fn change_lifecycle(&self, change: &LifecycleChange) -> Result<LifecycleAnswer, StoreError> {
        let mut connection = self.connection().await?;
        beat::change_lifecycle(&mut connection, change).await
    }

    async fn readopt(&self, cluster: &ClusterId, uid: &str) -> Result<bool, StoreError> {
        let done = sqlx::query!("UPDATE clusters SET cluster_uid = $2 WHERE id = $1", cluster.as_str(), uid)
            .execute(&self.pool)
            .await
            .map_err(|error| sort(&error))?;
        Ok(done.rows_affected() > 0)
    }

    async fn adopt_world(&self, other: Option<Uuid>) -> Result<WorldId, StoreError> {
        let done = match other {
            None => sqlx::query!("UPDATE world SET incarnation = incarnation + 1").execute(&self.pool).await,
            // The newest are kept.
            Some(other) => {
                sqlx::query!(
                    "UPDATE world SET adopted = (array_append(adopted, $1))[greatest(1, cardinality(adopted) + 2 - $2::int):]
                     WHERE NOT $1 = ANY(adopted)",
                    other,
                    ADOPTED_MAX as i32,
                )
                .execute(&self.pool)
                .await
            }
        };
        done.map_err(|error| sort(&error))?;
        let mut connection = self.connection().await?;
        rows::world(&mut connection).await
    }

    async fn host_revisions(
        &self,
        pool: &PoolName,
        host: &HostKey,
        limit: u32,
    ) -> Result<Vec<RevisionRow>, StoreError> {
        history::revisions(&self.pool, pool, host, limit).await
    }

    async fn revision_body(&self, pool: &PoolName, host: &HostKey, id: i64) -> Result<Option<HostBody>, StoreError> {
        history::body(&self.pool, pool, host, id).await
    }

    async fn commit(&self, batch: &Batch) -> Result<BTreeSet<ClusterId>, StoreError> {
        let mut transaction = self.pool.begin().await.map_err(|error| sort(&error))?;
        let connection: &mut PgConnection = &mut transaction;
        let lost = write::batch(connection, &self.secrets, batch).await.map_err(|error| sort(&error))?;
        transaction.commit().await.map_err(|error| sort(&error))?;
        Ok(lost)
    }

    async fn compact(&self) -> Result<u64, StoreError> {
        let removed = sqlx::query_scalar!(
            r#"WITH old AS (
                 DELETE FROM tombstones WHERE removed_at < now() - make_interval(secs => $1)
                    OR removed_at < (SELECT removed_at FROM tombstones ORDER BY removed_at DESC OFFSET $2 LIMIT 1)
                 RETURNING cluster, epoch, seq
               ), last AS (
                 SELECT DISTINCT ON (cluster) cluster, epoch, seq FROM old ORDER BY cluster, epoch DESC, seq DESC
               ), marked AS (
                 UPDATE clusters SET compacted_epoch = last.epoch, compacted_seq = last.seq FROM last
                 WHERE id = last.cluster AND (compacted_epoch, compacted_seq) < (last.epoch, last.seq)
               )
               SELECT count(*) AS "count!" FROM old"#,
            TOMBSTONE_AGE_SECONDS_MAX as f64,
            TOMBSTONES_MAX - 1,
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| sort(&error))?;
        sqlx::query!(
            "DELETE FROM objects USING clusters WHERE clusters.id = objects.cluster AND lifecycle = 'removed'
                AND lifecycle_at < now() - make_interval(secs => $1)",
            REMOVED_SECONDS_MAX as f64,
        )
        .execute(&self.pool)
        .await
        .map_err(|error| sort(&error))?;
        Ok(removed as u64)
    }

    async fn latest_policy(&self) -> Result<Option<PolicyRow>, StoreError> {
        let row = sqlx::query!("SELECT rev, digest, body, source FROM policies ORDER BY rev DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| sort(&error))?;
        row.map(|row| {
            Ok(PolicyRow { rev: row.rev as u64, digest: digest(&row.digest)?, body: row.body, source: row.source })
        })
        .transpose()
    }

    async fn accept_policy(&self, after: u64, policy: &NewPolicy) -> Result<Option<u64>, StoreError> {
        let rev = sqlx::query_scalar!(
            "INSERT INTO policies (rev, digest, body, source)
             SELECT $1 + 1, $2, $3, $4 WHERE (SELECT coalesce(max(rev), 0) FROM policies) = $1
             ON CONFLICT (rev) DO NOTHING
             RETURNING rev",
            after as i64,
            policy.digest.to_vec(),
            policy.body,
            policy.source,
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| sort(&error))?;
        Ok(rev.map(|rev| rev as u64))
    }
}

/// Class 22 is bad data, 23 a broken constraint, 54 too large: the same data will always be refused. Everything else
/// is worth another attempt, also what only a person can repair, because routing goes on meanwhile.
fn sort(error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(database) => {
            let rejected =
                database.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)));
            if rejected {
                StoreError::Rejected(database.message().to_owned())
            } else {
                StoreError::Unavailable(database.message().to_owned())
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt(error.to_string()),
        sqlx::Error::Encode(_) => StoreError::Rejected(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn digest(bytes: &[u8]) -> Result<Digest, StoreError> {
    Digest::from_slice(bytes).ok_or_else(|| StoreError::Corrupt(format!("a digest of {} bytes", bytes.len())))
}

fn digest_key(bytes: Vec<u8>) -> Result<DigestKey, StoreError> {
    let length = bytes.len();
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("a key of {length} bytes, not {DIGEST_KEY_BYTES}")))
}
