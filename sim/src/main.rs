//! `roadstead-sim`: random histories of the whole control plane, without sockets and in virtual time.

use std::process::ExitCode;

fn main() -> ExitCode {
    roadstead_sim::app::main()
}
