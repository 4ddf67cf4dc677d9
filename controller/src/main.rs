//! `roadstead-controller`: see [`roadstead_controller`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    roadstead_runtime::exit::report(roadstead_controller::app::Command::parse().run())
}
