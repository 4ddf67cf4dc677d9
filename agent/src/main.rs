//! Connects one Kubernetes cluster to Roadstead. All the work is in the library.

use std::process::ExitCode;

use clap::Parser;
use roadstead_agent::{app, args::Args};

#[tokio::main]
async fn main() -> ExitCode {
    roadstead_runtime::exit::report(app::run(Args::parse()).await)
}
