//! Tests of the testkit itself: each file proves one part of it against its real clients.

mod client;
mod echo_load;
mod faults;
mod http_api;
mod kube_rs;
mod kubectl;
mod postgres;
mod stack;
