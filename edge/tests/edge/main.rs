//! The edge over real sockets on loopback: what clients and endpoints see.

#![allow(clippy::unwrap_used, reason = "a test that finds something missing has failed")]

mod changes;
mod controller;
mod forwarding;
mod pki;
mod process;
mod retries;
mod smuggling;
mod support;
