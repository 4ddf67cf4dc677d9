//! `roadstead-bench`: macro benchmarks of the whole system, as real processes on this machine.

use std::process::ExitCode;

mod app;
mod applied;
mod args;
mod clock;
mod cluster;
mod compute;
mod confirm;
mod manifest;
mod report;
mod schedule;
mod system;
mod tracker;
mod usage;
mod world;

fn main() -> ExitCode {
    app::main()
}
