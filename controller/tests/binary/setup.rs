//! Everything one controller process needs: database, authority, certificates, policy, free ports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use roadstead_controller::store::postgres::MIGRATIONS;
use roadstead_proto::tls::{TlsFiles, TlsMaterial};
use roadstead_testkit::postgres::TestDatabase;
use roadstead_testkit::stack::{Process, Ready, Spec, ports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const POLICY: &str = "
pools:
  public: {kind: edge, addresses: [203.0.113.10], default: true}
classes:
  roadstead: {pool: public}
";

const DEADLINE: Duration = Duration::from_secs(60);

pub struct Setup {
    pub directory: tempfile::TempDir,
    pub database: TestDatabase,
    pub grpc: SocketAddr,
    pub observe: SocketAddr,
    pub api: SocketAddr,
}

impl Setup {
    pub async fn new() -> Self {
        let database = TestDatabase::migrated(&MIGRATIONS).await.unwrap();
        let ports = ports::free(3);
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let directory = tempfile::tempdir().unwrap();
        let [grpc, observe, api] = [0, 1, 2].map(|index| address(ports[index]));
        let setup = Self { directory, database, grpc, observe, api };
        setup.write_policy(POLICY);
        setup.ca(&["init"]);
        setup.issue("controller/c1");
        setup
    }

    pub async fn start(&self) -> Process {
        let spec = Spec::new("controller", env!("CARGO_BIN_EXE_roadstead-controller"))
            .args(self.args())
            .ready(Ready::Readyz(self.observe));
        Process::spawn(spec).await.unwrap()
    }

    /// A second controller on the same database, with addresses of its own. Returns where its API is.
    pub async fn start_another(&self, id: &str) -> (Process, SocketAddr) {
        let mut args = self.args();
        let ports = ports::free(3);
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let [grpc, observe, api] = [0, 1, 2].map(|index| address(ports[index]));
        for (flag, value) in [("--grpc-listen", grpc), ("--observe-listen", observe), ("--api-listen", api)] {
            let at = args.iter().position(|arg| arg == flag).expect("a flag of a good start");
            args[at + 1] = value.to_string();
        }
        args.extend(["--replica-id".to_owned(), id.to_owned()]);
        let spec = Spec::new(id, env!("CARGO_BIN_EXE_roadstead-controller")).args(args).ready(Ready::Readyz(observe));
        (Process::spawn(spec).await.unwrap(), api)
    }

    /// The arguments of a good start.
    pub fn args(&self) -> Vec<String> {
        let own = self.certificate_directory("controller/c1");
        let file = |name: &str| own.join(name).display().to_string();
        let flags = [
            ("--database-url", self.database.url()),
            ("--policy", self.path("policy.yaml").display().to_string()),
            ("--policy-poll-seconds", "1".to_owned()),
            ("--grpc-listen", self.grpc.to_string()),
            ("--observe-listen", self.observe.to_string()),
            ("--api-listen", self.api.to_string()),
            ("--api-token-file", self.path("api.token").display().to_string()),
            ("--tls-cert", file("tls.crt")),
            ("--tls-key", file("tls.key")),
            ("--tls-ca", file("ca.crt")),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        std::iter::once("serve".to_owned()).chain(flags).collect()
    }

    /// Runs it to its end with one argument replaced; for starts that must fail.
    pub fn run_with(&self, flag: &str, value: &str) -> Output {
        let mut args = self.args();
        let at = args.iter().position(|arg| arg == flag).expect("a flag of a good start");
        args[at + 1] = value.to_owned();
        args.extend(["--database-wait-seconds".to_owned(), "0".to_owned(), "--log".to_owned(), "off".to_owned()]);
        Command::new(env!("CARGO_BIN_EXE_roadstead-controller")).args(args).output().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write_policy(&self, body: &str) {
        // Renamed into place, so that no half-written file is ever read.
        std::fs::write(self.path("policy.new"), body).unwrap();
        std::fs::rename(self.path("policy.new"), self.path("policy.yaml")).unwrap();
    }

    /// A certificate from this setup's authority, loaded.
    pub fn tls(&self, identity: &str) -> TlsMaterial {
        let directory = self.certificate_directory(identity);
        if !directory.exists() {
            self.issue(identity);
        }
        let file = |name: &str| directory.join(name);
        TlsFiles { certificate: file("tls.crt"), key: file("tls.key"), authority: file("ca.crt") }.load().unwrap()
    }

    pub fn issue(&self, identity: &str) {
        let out = self.certificate_directory(identity).display().to_string();
        self.ca(&["issue", "--identity", identity, "--ip", "127.0.0.1", "--out", &out]);
    }

    pub fn certificate_directory(&self, identity: &str) -> PathBuf {
        self.path(&identity.replace('/', "-"))
    }

    pub async fn status(&self) -> serde_json::Value {
        let answer = self.get("/status").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    pub async fn until_status(&self, what: &str, is: impl Fn(&serde_json::Value) -> bool) {
        let start = Instant::now();
        loop {
            let status = self.status().await;
            if is(&status) {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "no {what}: {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn metrics(&self) -> String {
        self.get("/metrics").await
    }

    /// The store is written behind, so rows follow.
    pub async fn until_count(&self, sql: &'static str, expected: i64) {
        let start = Instant::now();
        while self.count(sql).await != expected {
            assert!(start.elapsed() < DEADLINE, "not {expected}: {sql}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        let pool = sqlx::PgPool::connect(&self.database.url()).await.unwrap();
        let count = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        pool.close().await;
        count
    }

    /// Cuts every connection and lets nobody in.
    pub async fn lock_database(&self) {
        self.administer("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").await;
        self.administer("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'").await;
    }

    pub async fn unlock_database(&self) {
        self.administer("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").await;
    }

    /// Runs a statement about this database, whose name replaces `{}`, from another one.
    async fn administer(&self, statement: &str) {
        let name = self.database.name();
        let admin = sqlx::PgPool::connect(&self.database.url().replace(name, "postgres")).await.unwrap();
        let statement = sqlx::AssertSqlSafe(statement.replace("{}", name));
        sqlx::raw_sql(statement).execute(&admin).await.unwrap();
        admin.close().await;
    }

    pub async fn get(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.observe).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn ca(&self, args: &[&str]) {
        let (command, rest) = args.split_first().unwrap();
        let directory = self.path("authority");
        let output = Command::new(env!("CARGO_BIN_EXE_roadstead-controller"))
            .args(["ca", command, "--dir"])
            .arg(directory)
            .args(rest)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
