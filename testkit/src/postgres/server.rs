//! One private server: initdb, start, stop, kill, start again.
//!
//! In: options. Out: a server that accepts connections. Dropping it ends the server and deletes its folder.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::system::{self, User};
use super::{
    CONNECTIONS_MAX, Durability, Listen, Owner, PostgresError, PostgresOptions, START_DEADLINE, USER, instance,
};
use crate::stack::ports;
use crate::stack::signal::{self, Signal};

/// Bytes of a log that go into an error.
const LOG_TAIL_BYTES: usize = 2000;

/// A private Postgres server.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    binaries: PathBuf,
    user: Option<User>,
    durability: Durability,
    port: Option<u16>,
    child: Option<Child>,
    ending: Ending,
}

/// What dropping means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Remove,
    LeaveToOwner,
}

impl Postgres {
    /// Creates a cluster, starts it and waits until it accepts connections. Removes what dead processes left behind.
    ///
    /// # Errors
    /// No binaries, no unprivileged user, or the server does not start; the text has the end of its log.
    pub async fn start(options: PostgresOptions) -> Result<Self, PostgresError> {
        let PostgresOptions { durability, listen, owner, folder: base } = options;
        let (binaries, user) = (system::binaries()?, system::unprivileged_user()?);
        let owner = match owner {
            Owner::ThisProcess => std::process::id(),
            Owner::Process(pid) => pid,
        };
        instance::sweep(&base);
        let folder = instance::create(&base, owner, user)?;
        let port = if listen == Listen::Loopback { ports::free(1).pop() } else { None };
        let mut server = Self { folder, binaries, user, durability, port, child: None, ending: Ending::Remove };
        instance::watch(&server.folder, owner)?;
        server.init().await?;
        server.start_again().await?;
        Ok(server)
    }

    /// URL of a database on this server.
    pub fn url(&self, database: &str) -> String {
        match self.port {
            Some(port) => format!("postgres://{USER}@127.0.0.1:{port}/{database}"),
            None => format!("postgres://{USER}@localhost/{database}?host={}", self.folder.display()),
        }
    }

    /// Where everything that it keeps is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Process id of the postmaster while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// The name is not one, or the server refuses.
    pub async fn create_database(&self, name: &str) -> Result<(), PostgresError> {
        self.create_from_template("template1", name).await
    }

    /// Creates a database as a copy of another one, which nobody may be connected to.
    ///
    /// # Errors
    /// A name is not one, or the server refuses.
    pub async fn create_from_template(&self, template: &str, name: &str) -> Result<(), PostgresError> {
        let (template, name) = (check_name(template)?, check_name(name)?);
        execute(&self.url("postgres"), &format!("CREATE DATABASE {name} TEMPLATE {template}")).await
    }

    /// Stops the server as an administrator would; open connections are ended. Data stays.
    pub async fn stop(&mut self) {
        self.end(Signal::Interrupt).await;
    }

    /// Kills the server; on the next start it recovers from its log.
    pub async fn kill(&mut self) {
        self.end(Signal::Kill).await;
    }

    /// Starts a stopped or killed server with its data, on the same address.
    ///
    /// # Errors
    /// It does not start; the text has the end of its log.
    pub async fn start_again(&mut self) -> Result<(), PostgresError> {
        let start = Instant::now();
        let url = self.url("postgres");
        loop {
            if self.has_exited()? {
                // After a kill, the orphaned backends hold the shared memory for a moment.
                if start.elapsed() > START_DEADLINE {
                    return Err(PostgresError::Failed { program: "postgres", log: self.log_tail() });
                }
                self.child = Some(self.spawn()?);
            }
            match PgConnection::connect(&url).await {
                Ok(connection) => {
                    // The probe has served its purpose, however it closes.
                    let _ = connection.close().await;
                    return Ok(());
                }
                Err(_) if start.elapsed() < START_DEADLINE => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => {
                    let log = format!("{error}: {}", self.log_tail());
                    return Err(PostgresError::Failed { program: "postgres", log });
                }
            }
        }
    }

    /// Lets the server outlive this value: it ends with the owner given at start.
    pub fn leave_to_owner(mut self) {
        self.ending = Ending::LeaveToOwner;
    }

    async fn init(&self) -> Result<(), PostgresError> {
        let mut command = self.command("initdb");
        command.args(["-U", USER, "--auth=trust", "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C", "-D"]);
        command.arg(self.data());
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| PostgresError::Io { what: "run initdb".to_owned(), source })?;
        if output.status.success() {
            Ok(())
        } else {
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(PostgresError::Failed { program: "initdb", log })
        }
    }

    fn spawn(&self) -> Result<Child, PostgresError> {
        let io = |what: &'static str| move |source| PostgresError::Io { what: what.to_owned(), source };
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("postgres.log"))
            .map_err(io("open the log of Postgres"))?;
        let mut settings = vec![
            format!("unix_socket_directories={}", self.folder.display()),
            format!("max_connections={CONNECTIONS_MAX}"),
        ];
        match self.port {
            Some(port) => settings.extend(["listen_addresses=127.0.0.1".to_owned(), format!("port={port}")]),
            None => settings.push("listen_addresses=".to_owned()),
        }
        if self.durability == Durability::Fast {
            settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"].map(str::to_owned));
        }
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        let output = log.try_clone().map_err(io("share the log of Postgres"))?;
        // Its own process group: Ctrl-C in a terminal reaches us, and we decide when the server ends.
        command.stdout(output).stderr(log).process_group(0);
        command.spawn().map_err(io("start postgres"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        // The caller's folder may be unreadable for the unprivileged user.
        command.current_dir("/").stdin(Stdio::null()).env_remove("PGDATA").env("LC_ALL", "C");
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn has_exited(&mut self) -> Result<bool, PostgresError> {
        match &mut self.child {
            None => Ok(true),
            Some(child) => child
                .try_wait()
                .map(|status| status.is_some())
                .map_err(|source| PostgresError::Io { what: "watch postgres".to_owned(), source }),
        }
    }

    async fn end(&mut self, how: Signal) {
        if let Some(mut child) = self.child.take() {
            signal::send(how, child.id());
            let waited = tokio::task::spawn_blocking(move || child.wait()).await;
            if !matches!(waited, Ok(Ok(_))) {
                tracing::warn!("cannot wait for the end of postgres");
            }
        }
    }

    fn log_tail(&self) -> String {
        tail(&self.folder.join("postgres.log"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.ending == Ending::LeaveToOwner {
            return;
        }
        if let Some(mut child) = self.child.take() {
            signal::send(Signal::Quit, child.id());
            // A zombie is the worst that can remain, and it ends with us.
            let _ = child.wait();
        }
        instance::remove(&self.folder);
    }
}

fn tail(path: &Path) -> String {
    let log = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
}

/// Runs one statement on a connection of its own.
pub(crate) async fn execute(url: &str, statement: &str) -> Result<(), PostgresError> {
    let sql = |source| PostgresError::Sql { what: statement.to_owned(), source };
    let mut connection = PgConnection::connect(url).await.map_err(sql)?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.map_err(sql)?;
    connection.close().await.map_err(sql)
}

/// Names go into statements unquoted, so only letters that need no quotes are names.
pub(crate) fn check_name(name: &str) -> Result<&str, PostgresError> {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let is_name = !name.is_empty()
        && name.len() < 64
        && name.chars().all(fits)
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_name { Ok(name) } else { Err(PostgresError::Name(name.to_owned())) }
}
