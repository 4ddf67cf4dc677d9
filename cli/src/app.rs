//! The commands: arguments → requests → tables for people, or JSON as the API gives it.
//!
//! What needs no controller is [`crate::offline`]'s.
//!
//! Exit codes: 0 done; 1 the controller refused or its answer makes no sense; 2 the command line is wrong; 3 the
//! controller cannot be reached. An error is one line on stderr that says what to do.

use std::io::Write;
use std::process::ExitCode;

pub use crate::app::args::Cli;
use crate::app::args::{Command, Task};
use crate::client::{Client, ClientError};
use crate::offline;

mod args;
mod ask;
mod show;

impl Cli {
    pub async fn run(self) -> ExitCode {
        let Self { api, token_file, json, task } = self;
        match task {
            Task::Ask(command) => {
                let answered = async { ask(command, &Client::new(&api, token_file.as_deref())?, json).await };
                finish(answered.await)
            }
            Task::Explain(args) => offline::exit(offline::explain::run(args, json)),
            Task::Migrate(args) => offline::exit(offline::migrate::run(args, json).await),
        }
    }
}

async fn ask(command: Command, client: &Client, json: bool) -> Result<String, ClientError> {
    let (answer, show) = command.ask(client).await?;
    if json {
        return Ok(format!("{answer:#}\n"));
    }
    show(answer)
}

fn finish(answered: Result<String, ClientError>) -> ExitCode {
    let failed = match answered {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => return ExitCode::SUCCESS,
            // Nobody reads it, such as `head` that has enough.
            Err(_) => return ExitCode::FAILURE,
        },
        Err(error) => error,
    };
    // If stderr is closed nobody is told.
    let _ = writeln!(std::io::stderr(), "error: {}", failed.to_string().replace('\n', "; "));
    match failed {
        ClientError::Address(_) | ClientError::NoToken | ClientError::Token { .. } | ClientError::Usage(_) => {
            ExitCode::from(2)
        }
        ClientError::Unreachable { .. } => ExitCode::from(3),
        ClientError::Refused(_) | ClientError::Answer(_) => ExitCode::FAILURE,
    }
}
