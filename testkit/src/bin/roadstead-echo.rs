//! Echo backends as a process of their own; see `roadstead_testkit::echo`.

use std::process::ExitCode;

use clap::Parser as _;
use roadstead_testkit::echo::command::{Args, run};
use roadstead_testkit::exit;

fn main() -> ExitCode {
    exit::init_logs();
    exit::block_on(run(Args::parse()))
}
