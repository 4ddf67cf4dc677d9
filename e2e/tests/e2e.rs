//! Whole-system tests: real binaries, real Postgres, real HTTP. One file per behaviour.
//!
//! The binaries are those that `cargo build --workspace --bins` made; tests refuse to run with binaries that are older
//! than the sources, because they would prove nothing.

mod bad_input;
mod error_lines;
mod scenario;
