//! The edge over real sockets on loopback: what clients and endpoints see.

#![allow(clippy::unwrap_used, reason = "a test that finds something missing has failed")]

mod authentication;
mod changes;
mod choices;
mod controller;
mod failing;
mod forwarding;
mod frozen;
mod pki;
mod process;
mod protocols;
mod retries;
mod rules;
mod smuggling;
mod support;
mod tls;
mod travel;
mod unsafe_off;
mod upstream_settings;
mod withdrawals;
