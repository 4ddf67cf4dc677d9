//! What tests, the demo and the benchmarks share: simulated Kubernetes API servers, echo backends, a private Postgres,
//! a load client, an HTTPS client, and a stack of real processes.
//!
//! In: options. Out: running things that clean up after themselves. Everything listens on loopback only. This crate knows
//! no other crate of the workspace, so that any of them can use it in tests.

pub mod echo;
pub mod exit;
pub mod https;
pub mod kube_api;
pub mod load;
pub mod postgres;
pub mod stack;
