//! `demo`, `bench` and `simulate`: built here with visible progress, run as binaries of their own.

use crate::setup;
use crate::step::{cargo, run};

pub fn demo(arguments: &[String]) -> anyhow::Result<()> {
    setup::for_running()?;
    run("build", &mut cargo(&["build", "--workspace", "--bins"]))?;
    exec(&setup::binaries().join("roadstead-demo"), arguments)
}

pub fn bench(arguments: &[String]) -> anyhow::Result<()> {
    setup::for_running()?;
    run("build", &mut cargo(&["build", "--workspace", "--bins", "--release"]))?;
    exec(&setup::binaries().with_file_name("release").join("roadstead-bench"), arguments)
}

pub fn simulate(arguments: &[String]) -> anyhow::Result<()> {
    run("build", &mut cargo(&["build", "--workspace", "--bins"]))?;
    exec(&setup::binaries().join("roadstead-sim"), arguments)
}

/// Replaces this process, so that Ctrl-C reaches the program and nothing else.
fn exec(program: &std::path::Path, arguments: &[String]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(anyhow::Error::new(error).context(format!("start {}", program.display())))
}
