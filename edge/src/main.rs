//! The binary `roadstead-edge`: reads the flags and runs the edge until it is told to stop.

use std::process::ExitCode;

use clap::Parser;
use roadstead_edge::app;

fn main() -> ExitCode {
    roadstead_runtime::exit::report(app::run(app::Args::parse()))
}
