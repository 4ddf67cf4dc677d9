//! The agent of one cluster: watches its Kubernetes API, reports to a controller what routing needs, and writes
//! statuses and Events back.
//!
//! Data path: [`watch`] (I/O) → [`reduce`] → [`session`] → [`stream`] (I/O) to the controller, and from it to
//! [`status`] and [`events`]. [`core`] holds the pure parts together, [`app`] puts I/O around them. Nothing is kept on
//! disk: the cluster itself is the truth, and a reconnect costs only what differs.

pub mod app;
pub mod args;
pub mod backoff;
pub mod cluster;
pub mod complain;
pub mod core;
pub mod events;
#[cfg(test)]
mod fixture;
pub mod metrics;
pub mod reduce;
pub mod session;
pub mod status;
pub mod stream;
pub mod watch;
