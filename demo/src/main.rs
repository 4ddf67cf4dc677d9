//! `roadstead-demo`: run by `cargo xtask demo`.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match roadstead_demo::app::run(roadstead_demo::app::Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            roadstead_demo::say::line(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
