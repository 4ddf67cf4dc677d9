//! `status.loadBalancer` of our Ingresses (rules I-6 to I-8).
//!
//! The addresses the controller wishes and the status the watch shows in → [`StatusWrite`]s out, which [`write`] sends
//! by server-side apply under our own field manager. Written only if something differs; an Ingress that is not ours is
//! touched only to withdraw what `managedFields` says we wrote ourselves; nothing is cleared when the agent stops.
//! Where somebody else keeps writing the same field, we repeat ourselves ever more slowly.

mod address;
mod planner;
mod seen;
#[cfg(test)]
mod tests;
pub mod write;

pub use address::Address;
pub use planner::{StatusPlanner, StatusWrite};
pub use seen::StatusSeen;

/// Our field manager on `ingresses/status`.
pub const FIELD_MANAGER: &str = "roadstead-agent";
