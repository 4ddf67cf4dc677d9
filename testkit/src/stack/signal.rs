//! Signals to processes and process groups, through the shell's `kill`: the system call itself would need unsafe code.
//!
//! In: a signal and a process id. Out: whether somebody got it. A process that is gone is not an error.

use std::process::{Command, Stdio};

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGQUIT.
    Quit,
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// Sends a signal to one process.
pub fn send(signal: Signal, pid: u32) -> bool {
    kill(signal, &pid.to_string())
}

/// Sends a signal to a process group.
pub fn send_to_group(signal: Signal, group: u32) -> bool {
    kill(signal, &format!("-{group}"))
}

fn kill(signal: Signal, target: &str) -> bool {
    let status = Command::new("sh")
        .args(["-c", r#"kill -s "$0" -- "$1""#, signal.name(), target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
