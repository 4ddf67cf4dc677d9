//! Cleanup after owners that could not clean up: killed tests, a demo ended with SIGKILL.
//!
//! In: who owns a process group. Out: a small shell process that kills the group when the owner is gone. Linux could do this by
//! itself (PR_SET_PDEATHSIG), but only through unsafe code, and it goes by the owner's thread, not its process.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Kills the group when the process `owner` has ended. The guard ends with the group's leader, too.
pub(crate) fn kill_group_after(owner: u32, group: u32) -> io::Result<()> {
    const SCRIPT: &str = r#"
        while [ -d "/proc/$0" ] && [ -d "/proc/$1" ]; do sleep 1; done
        [ -d "/proc/$0" ] || kill -s KILL -- "-$1""#;
    run(SCRIPT, &[&owner.to_string(), &group.to_string()])
}

/// Runs a shell script in the background, in a process group of its own and without our files.
pub(crate) fn run(script: &str, arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).args(arguments).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
}
