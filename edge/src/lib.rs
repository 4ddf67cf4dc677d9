//! The edge: a fleet of these proxies stands outside the clusters and forwards requests to pods.
//!
//! In path order: [`subscribe`] follows a controller → [`last_good`] keeps what was accepted on disk → [`table`] is
//! what requests are matched against, [`certificates`] what handshakes show → [`listen`] accepts connections → [`proxy`]
//! handles one request, with the help of [`users`] where a route asks for a password → [`balance`] chooses a cluster and
//! an endpoint → [`upstream`] keeps connections to endpoints → [`health`] remembers which of them fail → [`observe`]
//! counts and reports. [`app`] wires them together; [`unsafe_off`] is for control runs of debug builds.
//!
//! Serving never waits for the control plane: without a controller, after a restart too, the last good table serves.

pub mod subscribe;

pub mod last_good;

pub mod table;

pub mod listen;

pub mod certificates;

pub mod proxy;

pub mod users;

pub mod balance;

pub mod upstream;

pub mod health;

pub mod observe;

pub mod unsafe_off;

pub mod app;
