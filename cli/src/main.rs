//! `roadstead`: the command line for operators. Asks the admin API of a controller; see `docs/cli.md`.

use std::process::ExitCode;

use clap::Parser;

mod app;
mod client;
mod duration;
mod table;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    app::Cli::parse().run().await
}
