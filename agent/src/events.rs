//! Kubernetes Events (events.k8s.io/v1) for Findings, so that `kubectl describe ingress` says what is wrong.
//!
//! Findings of the controller and of the agent in → [`Notice`]s out, which [`write`] creates. The same finding about
//! the same object is not created again within an hour; rate and memory are bounded. Only ever created, never
//! updated: an Event's name is derived from what it says, so that a restarted agent, or a second one, collides with
//! the Event that exists instead of adding another.

mod queue;
#[cfg(test)]
mod tests;
pub mod write;

pub use queue::{EventQueue, Notice};
