//! The real command line against the controller of a setup.

use std::net::SocketAddr;
use std::process::{Command, Output};

use roadstead_testkit::stack::roadstead::beside_current_exe;
use serde_json::Value;

use crate::setup::Setup;

/// Runs `roadstead` against the controller of this setup.
pub fn cli(setup: &Setup, args: &[&str]) -> Output {
    cli_at(setup, setup.api, args)
}

/// Runs `roadstead` against a controller with this setup's token.
pub fn cli_at(setup: &Setup, api: SocketAddr, args: &[&str]) -> Output {
    let program = beside_current_exe().unwrap().join("roadstead");
    let token = setup.path("api.token");
    let mut command = Command::new(&program);
    command.args(["--api", &format!("http://{api}")]).arg("--token-file").arg(token).args(args);
    command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo build --workspace --bins` first", program.display()))
}

/// What a command printed that did what it should.
pub fn said(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The same as JSON. `--json` must be among its arguments.
pub fn json(output: Output) -> Value {
    serde_json::from_str(&said(output)).unwrap()
}

/// The one line of a command that the controller refused.
pub fn refused(output: Output) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "one line: {stderr}");
    stderr
}
