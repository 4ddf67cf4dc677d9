//! The agent between a simulated Kubernetes API and a small controller over mTLS: everything real but those two.

#![expect(clippy::unwrap_used, reason = "in a test, a panic with the place is the report")]

mod certificates;
mod controller;
mod documents;
mod flags;
mod permissions;
mod proxy;
mod rig;
mod watching;
mod writing;
