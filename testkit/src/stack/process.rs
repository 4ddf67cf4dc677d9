//! One real process: started, watched until it is ready, signalled, restarted, cleaned up.
//!
//! In: a [`Spec`]. Out: a process in its own process group, whose standard output and error go to one log file. Dropping it
//! kills the group, so that nothing it started outlives it.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::guard;
use super::signal::{Signal, send_to_group};
use super::{LOG_TAIL_BYTES, Spec, StackError, TERMINATE_DEADLINE};

/// How often a starting or ending process is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A process, running or ended.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    log_path: PathBuf,
    /// Keeps a temporary log folder alive.
    _log_folder: Option<tempfile::TempDir>,
    child: Option<Child>,
}

impl Process {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends early, or is not ready in time; the text has the end of its log.
    pub async fn spawn(spec: Spec) -> Result<Self, StackError> {
        let io = |what| {
            let name = spec.name.clone();
            move |source| StackError::Io { name, what, source }
        };
        let (temporary, folder) = match &spec.log_folder {
            Some(folder) => (None, folder.clone()),
            None => {
                let temporary = tempfile::tempdir().map_err(io("create a folder for the log"))?;
                let folder = temporary.path().to_owned();
                (Some(temporary), folder)
            }
        };
        fs::create_dir_all(&folder).map_err(io("create the log folder"))?;
        let log_path = folder.join(format!("{}.log", spec.name));
        let mut process = Self { spec, log_path, _log_folder: temporary, child: None };
        process.start_again().await?;
        Ok(process)
    }

    /// Name given at start.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// File with its standard output and error, of all its lives.
    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log_path)
    }

    /// Sets an environment variable of its further starts.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.spec.env.retain(|(known, _)| known != name);
        self.spec.env.push((name.to_owned(), value.to_owned()));
    }

    /// Whether it runs. A process that ended by itself is noticed here.
    pub fn is_running(&mut self) -> bool {
        let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        if status.is_some()
            && let Some(child) = self.child.take()
        {
            // What it may have started ends with it.
            send_to_group(Signal::Kill, child.id());
        }
        self.child.is_some()
    }

    /// Kills it with its whole group (SIGKILL) and waits for its end.
    pub async fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            send_to_group(Signal::Kill, child.id());
            wait(child).await;
        }
    }

    /// Asks it to end (SIGTERM) and waits; after [`TERMINATE_DEADLINE`] it is killed. Gives its exit status if it ended by itself.
    pub async fn terminate(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        send_to_group(Signal::Terminate, child.id());
        let start = Instant::now();
        while start.elapsed() < TERMINATE_DEADLINE {
            if let Ok(Some(status)) = child.try_wait() {
                // What it may have started ends with it.
                send_to_group(Signal::Kill, child.id());
                return Some(status);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        send_to_group(Signal::Kill, child.id());
        wait(child).await;
        None
    }

    /// Stops it in its tracks (SIGSTOP); connections stay open and get no answer.
    pub fn pause(&self) {
        if let Some(id) = self.id() {
            send_to_group(Signal::Stop, id);
        }
    }

    /// Lets it go on after [`Process::pause`].
    pub fn resume(&self) {
        if let Some(id) = self.id() {
            send_to_group(Signal::Continue, id);
        }
    }

    /// Kills it if it runs, starts it with the same arguments and waits until it is ready.
    ///
    /// # Errors
    /// As [`Process::spawn`].
    pub async fn restart(&mut self) -> Result<(), StackError> {
        self.kill().await;
        self.start_again().await
    }

    /// Starts it after it ended.
    ///
    /// # Errors
    /// As [`Process::spawn`].
    pub async fn start_again(&mut self) -> Result<(), StackError> {
        self.kill().await;
        let log =
            File::options().create(true).append(true).open(&self.log_path).map_err(|e| self.io("open the log", e))?;
        let errors = log.try_clone().map_err(|error| self.io("share the log", error))?;
        let mut command = Command::new(&self.spec.program);
        command.args(&self.spec.args).envs(self.spec.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let child = self.child.insert(command.spawn().map_err(|source| StackError::Io {
            name: self.spec.name.clone(),
            what: "start it",
            source,
        })?);
        let guard = guard::kill_group_after(std::process::id(), child.id());
        guard.map_err(|error| self.io("start the guard over it", error))?;
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> Result<(), StackError> {
        let start = Instant::now();
        loop {
            let status =
                self.child.as_mut().map(Child::try_wait).transpose().map_err(|error| self.io("watch it", error))?;
            if let Some(Some(status)) = status {
                self.child = None;
                let (name, log) = (self.spec.name.clone(), self.log_tail());
                return Err(StackError::Ended { name, status: status.to_string(), log });
            }
            let Err(why) = self.spec.ready.check().await else { return Ok(()) };
            if start.elapsed() > self.spec.ready_deadline {
                let (name, after, log) = (self.spec.name.clone(), start.elapsed(), self.log_tail());
                return Err(StackError::NotReady { name, after, why, log });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn io(&self, what: &'static str, source: std::io::Error) -> StackError {
        StackError::Io { name: self.spec.name.clone(), what, source }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            send_to_group(Signal::Kill, child.id());
            // A zombie is the worst that can remain, and it ends with us.
            let _ = child.wait();
        }
    }
}

async fn wait(mut child: Child) {
    // After SIGKILL the only outcome is its end.
    let _ = tokio::task::spawn_blocking(move || child.wait()).await;
}

fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(no log: {error})"))
}
