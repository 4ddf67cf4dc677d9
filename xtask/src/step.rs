//! One command, shown before it runs, with its time and its exit code.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// `cargo` as this process was started by, run from the workspace's root.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    // Set by the `cargo run` that started us; an inner cargo must find its own.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    if std::env::var_os("CI").is_some() {
        // A build that nobody repeats: half of the target folder would be notes for the next one.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// Runs to the end; the output goes where ours goes.
pub fn run(title: &str, command: &mut Command) -> anyhow::Result<()> {
    say(&format!("── {title}"));
    let start = Instant::now();
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("{title}: start {:?}", command.get_program()))?;
    let seconds = start.elapsed().as_secs_f32();
    if !status.success() {
        bail!("{title}: {status} after {seconds:.0} s");
    }
    say(&format!("── {title}: ok, {seconds:.0} s"));
    Ok(())
}

/// Whether `program` can be found in PATH.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

pub fn say(line: &str) {
    #[expect(clippy::print_stderr, reason = "progress for the person who runs it")]
    {
        eprintln!("{line}");
    }
}
