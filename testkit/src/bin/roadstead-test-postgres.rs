//! A private Postgres for a whole test run, as a process of its own; see `roadstead_testkit::postgres`.

use std::process::ExitCode;

use clap::Parser as _;
use roadstead_testkit::exit;
use roadstead_testkit::postgres::command::{Args, run};

fn main() -> ExitCode {
    exit::init_logs();
    exit::block_on(run(Args::parse()))
}
