//! Whole-system tests: real binaries, real Postgres, real HTTP. One file per behaviour.
//!
//! The binaries are those that `cargo build --workspace --bins` made; tests refuse to run with binaries that are older
//! than the sources, because they would prove nothing.

#![expect(clippy::unwrap_used, reason = "a step that cannot be carried out is a failed test")]

mod agents;
mod bad_input;
mod canary;
mod conformance;
mod database;
mod decisions;
mod error_lines;
mod holds;
mod identity;
mod incomplete_lists;
mod lifecycle;
mod pods;
mod reach;
mod replicas;
mod restart;
mod scenario;
mod settings;
mod tls;
mod worlds;
