//! Deterministic simulation of the control plane: agents, controllers and edges as they are, everything else as models.
//!
//! A seed → [`history`] → [`simulation`], which owns the clock ([`agenda`]) and drives [`agent`], [`replica`] and
//! [`edge`] over a model [`network`], against model clusters ([`cluster`]) and a model [`database`] → the first violated
//! invariant, or none. Invariants are looked at where things happen ([`mirror`], [`acks`]); at the end everybody is
//! compared with the [`oracle`]. The same seed gives the same history, always: no socket, no thread, no clock.
//!
//! A rule can be [`broken`] on purpose, to prove that breaking it would be noticed.

pub mod app;
pub mod run;

pub mod history;
pub mod simulation;

pub mod agent;
pub mod edge;
pub mod peers;
pub mod replica;

pub mod cluster;
pub mod database;
pub mod network;
pub mod objects;
pub mod orphans;
pub mod writer;

pub mod acks;
pub mod mirror;
pub mod oracle;

pub mod agenda;
pub mod broken;
pub mod dice;
pub mod trace;
pub mod words;
