//! The core as a pure machine: what it says for what it hears. `harness` plays agents, edges and the store.

mod agents;
mod certificates;
mod edges;
mod harness;
mod histories;
mod holds;
mod peers;
mod statuses;
