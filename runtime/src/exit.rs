//! How a binary ends: success, or one line on stderr and a non-zero exit code.

use std::process::ExitCode;

/// Prints an error with its causes on one line, so that it reads the same in a terminal, in `kubectl logs` and in a
/// unit's status.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last words of the process")]
            {
                eprintln!("error: {}", one_line(&error));
            }
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes. A cause that the text before already ends with is not repeated.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().replace('\n', "; ");
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn causes_are_on_one_line_and_not_repeated() {
        let error = Err::<(), _>(anyhow!("connection\nrefused")).context("connect to the database").unwrap_err();
        assert_eq!(one_line(&error), "connect to the database: connection; refused");
        let repeated = Err::<(), _>(anyhow!("refused")).context("connect: refused").unwrap_err();
        assert_eq!(one_line(&repeated), "connect: refused");
    }
}
