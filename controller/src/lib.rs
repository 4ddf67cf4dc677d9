//! The controller: reads what agents report, works out one routing table, and programs the edges.
//!
//! Stages in path order, one module each: [`ingest`] (agent streams) → [`store`] (Postgres, written behind) → [`world`]
//! (last known objects) → [`compute`] (calls the pure routing crate) → [`guard`] (what may go out) → [`publish`] (edge streams) → [`status`] (back to
//! the clusters). [`core`] is all of these but the store as one synchronous state machine; [`serve`] connects it to
//! gRPC, [`admin`] to people, [`app`] wires everything.

pub mod clerk;
pub mod core;
pub mod held;

pub mod ingest;
pub mod peers;
pub mod policy;
pub mod store;
pub mod world;

pub mod compute;
pub mod guard;
pub mod publish;
pub mod status;

pub mod admin;
pub mod app;
pub mod ca;
pub mod observe;
pub mod serve;
