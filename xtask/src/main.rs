//! `cargo xtask …`: the developer's commands. Needs nothing installed but Rust; fetches what is missing.

use std::process::ExitCode;

mod args;
mod codegen;
mod fuzz;
mod postgres;
mod run;
mod setup;
mod step;
mod test;
mod tidy;

fn main() -> ExitCode {
    match args::dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            step::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
