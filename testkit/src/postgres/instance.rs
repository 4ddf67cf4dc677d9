//! The folder of one server: created, found again, removed.
//!
//! In: the folder of all instances and an owner. Out: one instance folder. Its name carries the id and start time of the
//! owner, so that anybody can tell, at any later time, whether the owner still lives.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::system::{self, User};
use super::{PostgresError, START_DEADLINE};
use crate::stack::guard;
use crate::stack::signal::{self, Signal};

/// How often an orphaned server is looked for.
const WATCH_INTERVAL_S: u32 = 1;

/// Creates the folder for a server of this owner.
pub(crate) fn create(base: &Path, owner: u32, user: Option<User>) -> Result<PathBuf, PostgresError> {
    let io = |what: String| move |source| PostgresError::Io { what, source };
    fs::create_dir_all(base).map_err(io(format!("create {}", base.display())))?;
    // Everybody may have instances here, and none may remove those of others.
    let _ = fs::set_permissions(base, fs::Permissions::from_mode(0o1777));
    let started = system::start_time(owner).unwrap_or(0);
    let random = uuid::Uuid::new_v4().simple().to_string();
    let folder = base.join(format!("{owner}-{started}-{}", &random[..6]));
    fs::create_dir(&folder).map_err(io(format!("create {}", folder.display())))?;
    if let Some(user) = user {
        std::os::unix::fs::chown(&folder, Some(user.uid), Some(user.gid))
            .map_err(io(format!("hand {} over", folder.display())))?;
    }
    Ok(folder)
}

/// Ends and removes the servers whose owners are gone.
pub(crate) fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        if name.to_str().and_then(parse_owner).is_some_and(|(pid, started)| system::start_time(pid) != Some(started)) {
            remove(&entry.path());
        }
    }
}

fn parse_owner(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Ends the server of an instance, if one runs, and deletes the folder.
pub(crate) fn remove(folder: &Path) {
    let data = folder.join("data");
    if let Some(pid) = system::postmaster(&data) {
        signal::send(Signal::Quit, pid);
        let start = Instant::now();
        while system::postmaster(&data).is_some() && start.elapsed() < START_DEADLINE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    if let Err(error) = fs::remove_dir_all(folder)
        && folder.exists()
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove the Postgres instance");
    }
}

/// Starts a small shell process that ends the server and deletes the folder when the owner is gone, however it went.
pub(crate) fn watch(folder: &Path, owner: u32) -> Result<(), PostgresError> {
    const SCRIPT: &str = r#"
        while [ -d "$0" ] && [ -d "/proc/$1" ]; do sleep "$2"; done
        [ -d "$0" ] || exit 0
        pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
        while [ -n "$pid" ] && [ -d "/proc/$pid" ]; do sleep 0.1; done
        rm -rf "$0""#;
    let arguments = [&*folder.to_string_lossy(), &owner.to_string(), &WATCH_INTERVAL_S.to_string()];
    guard::run(SCRIPT, &arguments)
        .map_err(|source| PostgresError::Io { what: "start the guard over the server".to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_removes_instances_of_dead_owners_only() {
        let base = tempfile::tempdir().expect("folder");
        let mine = create(base.path(), std::process::id(), None).expect("created");
        let dead = base.path().join(format!("{}-1-abcdef", std::process::id()));
        let other = base.path().join("not-an-instance");
        for folder in [&dead, &other] {
            fs::create_dir(folder).expect("created");
        }
        sweep(base.path());
        assert!(mine.exists() && other.exists() && !dead.exists());
    }
}
