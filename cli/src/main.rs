//! `roadstead`: the command line for operators. Asks the admin API of a controller, or reads manifests without one; see
//! `docs/cli.md`.

use std::process::ExitCode;

use clap::Parser;

mod app;
mod client;
mod duration;
mod offline;
mod table;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    app::Cli::parse().run().await
}
