//! The private Postgres: starts also as root, survives outages, leaves nothing behind.

use std::process::{Command, Stdio};

use roadstead_testkit::postgres::{Durability, Listen, Postgres, PostgresOptions, TestDatabase, shared};
use sqlx::{Connection as _, PgConnection};

use crate::client::eventually;

async fn options(folder: &tempfile::TempDir) -> PostgresOptions {
    PostgresOptions { folder: folder.path().to_owned(), ..PostgresOptions::default() }
}

/// Short, because the path of a unix socket may have only 107 bytes, and reachable for an unprivileged user.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("rs-pg-").tempdir_in("/tmp").expect("folder");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).expect("opened to others");
    folder
}

async fn number(url: &str, query: &'static str) -> Result<i64, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query_scalar(query).fetch_one(&mut connection).await
}

async fn run(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.expect("connects");
    sqlx::raw_sql(statement).execute(&mut connection).await.expect("runs");
}

#[tokio::test]
async fn data_survives_a_stop_and_a_kill_and_is_gone_after_the_drop() {
    let folder = folder();
    let options = PostgresOptions { durability: Durability::Safe, listen: Listen::Loopback, ..options(&folder).await };
    let mut server = Postgres::start(options).await.expect("starts");
    server.create_database("app").await.expect("created");
    let url = server.url("app");
    assert!(url.contains("127.0.0.1"), "{url}");
    run(&url, "CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (1)").await;

    server.stop().await;
    assert!(number(&url, "SELECT 1::bigint").await.is_err(), "a stopped server must not answer");
    server.start_again().await.expect("starts again");
    run(&url, "INSERT INTO t VALUES (2)").await;
    server.kill().await;
    server.start_again().await.expect("recovers");
    assert_eq!(number(&url, "SELECT sum(n)::bigint FROM t").await.expect("answers"), 3);

    assert!(
        matches!(server.create_database("x; DROP").await, Err(error) if error.to_string().contains("not a database name"))
    );
    drop(server);
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("readable").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn each_test_has_its_own_copy_of_one_template() {
    let folder = folder();
    let server = Postgres::start(options(&folder).await).await.expect("starts");
    let admin = server.url("postgres");
    let migrate = async |url: String| -> Result<(), sqlx::Error> {
        run(&url, "CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (7)").await;
        Ok(())
    };
    let first = TestDatabase::create_on(&admin, "abc", migrate).await.expect("created");
    run(&first.url(), "INSERT INTO t VALUES (1)").await;
    let unused = async |_: String| -> Result<(), sqlx::Error> { panic!("the template exists") };
    let second = TestDatabase::create_on(&admin, "abc", unused).await.expect("created");
    assert_eq!(number(&first.url(), "SELECT sum(n)::bigint FROM t").await.expect("answers"), 8);
    assert_eq!(number(&second.url(), "SELECT sum(n)::bigint FROM t").await.expect("answers"), 7);

    let broken = async |_: String| Err("no such column");
    let error = TestDatabase::create_on(&admin, "broken", broken).await.expect_err("refused");
    assert!(error.to_string().contains("no such column"), "{error}");
    let (first, second) = (first.name().to_owned(), {
        drop(first);
        second.name().to_owned()
    });
    let names = number(&admin, "SELECT count(*) FROM pg_database WHERE datname LIKE 'test_%'").await;
    assert_eq!(names.expect("answers"), 1, "only {second} is left, {first} was dropped");
}

#[tokio::test]
async fn a_test_without_a_server_of_its_own_shares_one() {
    let url = shared().await.expect("there or started");
    assert_eq!(shared().await.expect("the same"), url);
    let folder = tempfile::tempdir().expect("folder");
    let sql = format!("CREATE TABLE t (n BIGINT); INSERT INTO t VALUES ({});", std::process::id());
    std::fs::write(folder.path().join("0001_first.sql"), sql).expect("written");
    let migrator = sqlx::migrate::Migrator::new(folder.path().to_owned()).await.expect("migrations");
    let (one, two) = (TestDatabase::migrated(&migrator).await, TestDatabase::migrated(&migrator).await);
    let (one, two) = (one.expect("created"), two.expect("created"));
    assert_ne!(one.name(), two.name());
    for database in [&one, &two] {
        assert_eq!(number(&database.url(), "SELECT n FROM t").await.expect("answers"), i64::from(std::process::id()));
    }
}

#[tokio::test]
async fn a_server_ends_with_its_owner() {
    let mut owner = Command::new("sleep").arg("1000").spawn().expect("starts");
    let output = Command::new(env!("CARGO_BIN_EXE_roadstead-test-postgres"))
        .args(["--until-exit-of", &owner.id().to_string()])
        .env_remove("NEXTEST_ENV")
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    let url = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    assert_eq!(number(&url, "SELECT 1::bigint").await.expect("runs on after the command ended"), 1);
    owner.kill().expect("killed");
    owner.wait().expect("ended");
    eventually("the end of the server", async || number(&url, "SELECT 1::bigint").await.is_err().then_some(())).await;
}
