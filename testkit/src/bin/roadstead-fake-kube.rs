//! The simulated Kubernetes API server as a process of its own; see `roadstead_testkit::kube_api`.

use std::process::ExitCode;

use clap::Parser as _;
use roadstead_testkit::exit;
use roadstead_testkit::kube_api::command::{Args, run};

fn main() -> ExitCode {
    exit::init_logs();
    exit::block_on(run(Args::parse()))
}
