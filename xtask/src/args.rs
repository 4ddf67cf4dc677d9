//! What the developer asked for.

use clap::{Parser, Subcommand};

use crate::{codegen, fuzz, run, test};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, try, test and measure Roadstead")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole system on this machine: three simulated clusters, Postgres, a controller, agents, edges.
    Demo {
        /// Arguments of the demo itself: --check, --json FILE, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Everything that must pass. Ends with `N passed, N failed, N skipped`.
    Test(test::Options),
    /// Measure: `bench propagation --clusters 20 --hosts 2000 --endpoints 20000 --rate 200 --json out.json`.
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Random histories of changes and faults over the real state machines: `simulate --seeds 2000`.
    Simulate {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Feed random input to everything that reads what tenants or the network write: `fuzz --seconds 60`.
    Fuzz(fuzz::Options),
    /// Rewrite generated files: protobuf code and the offline data of the SQL queries.
    Codegen,
}

pub fn dispatch() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Demo { args } => run::demo(&args),
        Command::Test(options) => test::run(&options),
        Command::Bench { args } => run::bench(&args),
        Command::Simulate { args } => run::simulate(&args),
        Command::Fuzz(options) => fuzz::fuzz(&options),
        Command::Codegen => codegen::rewrite(),
    }
}
