//! The pure heart of Roadstead: Kubernetes objects of many clusters plus policy in, one routing table out.
//!
//! Data path: [`object`] → [`declare`] (one Ingress into entries) → [`inputs`] (indexed objects of all clusters)
//! → [`compute`] (one host or backend at a time) → [`table`] → [`lookup`] (the matcher that edges use).
//!
//! Nothing here does I/O, reads a clock, draws a random number or can fail: bad input becomes a [`finding::Finding`].

pub mod id;
pub mod limit;
pub mod membership;
pub mod object;
pub mod policy;
pub mod reach;

pub mod class;
pub mod declare;
pub mod inputs;

pub mod compute;
pub mod endpoints;
pub mod finding;
pub mod settings;
pub mod table;

pub mod lookup;

pub mod canary;
pub mod check;
pub mod diff;
pub mod grant;
pub mod guard;

mod rules;

#[cfg(test)]
mod tests;
