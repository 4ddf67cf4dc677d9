//! One database per test, copied from a migrated template.
//!
//! In: a server, a digest of the migrations and how to run them. Out: a fresh database that is dropped with its value. The
//! template is made once per server and digest, by whoever comes first.

use std::fmt::Display;
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::server::{check_name, execute};
use super::{PostgresError, START_DEADLINE, shared};

/// Key of the advisory lock under which templates are made ("roadstead" in letters of a phone keypad).
const TEMPLATE_LOCK: i64 = 762_378_323;
/// SQLSTATE: the template has open connections.
const OBJECT_IN_USE: &str = "55006";

/// A database of one test on the shared server. Dropping it drops the database, open connections or not.
#[derive(Debug)]
pub struct TestDatabase {
    admin_url: String,
    name: String,
}

impl TestDatabase {
    /// A database with these migrations applied.
    ///
    /// # Errors
    /// No server, or a migration fails.
    pub async fn migrated(migrator: &Migrator) -> Result<Self, PostgresError> {
        let checksums = migrator.iter().flat_map(|migration| migration.checksum.iter().copied());
        let digest = format!("{:016x}", fnv(checksums));
        Self::create(&digest, async |url: String| -> Result<(), sqlx::Error> {
            let mut connection = PgConnection::connect(&url).await?;
            migrator.run(&mut connection).await?;
            connection.close().await
        })
        .await
    }

    /// A database copied from the template of this digest; `migrate` fills the template, given its URL, if there is none.
    /// It must close its connections.
    ///
    /// # Errors
    /// No server, the digest is not usable in a name (a-z, 0-9, `_`), or `migrate` fails.
    pub async fn create<E: Display>(
        digest: &str,
        migrate: impl AsyncFnOnce(String) -> Result<(), E>,
    ) -> Result<Self, PostgresError> {
        Self::create_on(&shared().await?, digest, migrate).await
    }

    /// The same on a given server, by the URL of its database `postgres`.
    ///
    /// # Errors
    /// As [`TestDatabase::create`].
    pub async fn create_on<E: Display>(
        admin_url: &str,
        digest: &str,
        migrate: impl AsyncFnOnce(String) -> Result<(), E>,
    ) -> Result<Self, PostgresError> {
        let template = format!("template_{digest}");
        check_name(&template)?;
        let sql = |source| PostgresError::Sql { what: format!("prepare {template}"), source };
        let mut admin = PgConnection::connect(admin_url).await.map_err(sql)?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut admin).await.map_err(sql)?;
        let made = make_template(&mut admin, admin_url, &template, migrate).await;
        // Closing the connection releases the lock, also after an error.
        admin.close().await.map_err(sql)?;
        made?;

        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let database = Self { admin_url: admin_url.to_owned(), name };
        let statement = format!("CREATE DATABASE {} TEMPLATE {template}", database.name);
        retry_in_use(async || execute(admin_url, &statement).await).await?;
        Ok(database)
    }

    /// URL of this database.
    pub fn url(&self) -> String {
        url_of(&self.admin_url, &self.name)
    }

    /// Name of this database.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (url, statement) = (self.admin_url.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        // A runtime cannot be entered from within another one, so the statement gets a thread of its own.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(execute(&url, &statement)).map_err(std::io::Error::other)
        });
        if let Ok(Err(error)) = thread.join() {
            tracing::warn!(database = self.name, %error, "cannot drop the test database");
        }
    }
}

/// Fills the template under another name and renames it when it is complete, so that a crash leaves nothing half-made.
async fn make_template<E: Display>(
    admin: &mut PgConnection,
    admin_url: &str,
    template: &str,
    migrate: impl AsyncFnOnce(String) -> Result<(), E>,
) -> Result<(), PostgresError> {
    let sql = |source| PostgresError::Sql { what: format!("make {template}"), source };
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(template)
        .fetch_one(&mut *admin)
        .await
        .map_err(sql)?;
    if exists {
        return Ok(());
    }
    let unfinished = format!("{template}_new");
    for statement in
        [format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)"), format!("CREATE DATABASE {unfinished}")]
    {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *admin).await.map_err(sql)?;
    }
    migrate(url_of(admin_url, &unfinished)).await.map_err(|error| PostgresError::Migration(error.to_string()))?;
    let rename = format!("ALTER DATABASE {unfinished} RENAME TO {template}");
    retry_in_use(async || execute(admin_url, &rename).await).await
}

/// A closed connection takes the server a moment to forget; until then its database counts as in use.
async fn retry_in_use(run: impl AsyncFn() -> Result<(), PostgresError>) -> Result<(), PostgresError> {
    let start = Instant::now();
    loop {
        match run().await {
            Err(PostgresError::Sql { source: sqlx::Error::Database(error), .. })
                if error.code().as_deref() == Some(OBJECT_IN_USE) && start.elapsed() < START_DEADLINE =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

fn url_of(admin_url: &str, database: &str) -> String {
    match admin_url.parse::<PgConnectOptions>() {
        Ok(options) => options.database(database).to_url_lossy().to_string(),
        Err(_) => admin_url.to_owned(),
    }
}

/// FNV-1a, 64 bits: it only tells one set of migrations from another, and fits into a database name.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
