//! The whole system on this machine: three simulated clusters, a private Postgres, a controller, edges and agents, all
//! real processes on loopback. [`check`] runs the scenario that breaks it on purpose while requests flow.

pub mod app;
pub mod check;
pub mod cluster;
pub mod fleet;
pub mod say;
pub mod traffic;
