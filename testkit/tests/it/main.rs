//! Tests of the testkit itself: each file proves one part of it against its real clients.

mod client;
mod echo_load;
mod kube_rs;
mod postgres;
mod stack;
