//! Kubernetes objects reduced to routing's own.
//!
//! Data path: JSON of any shape → [`decode`] (typed by k8s-openapi, then converted within routing's limits) →
//! [`Converted`] object with the [`Problem`]s found on the way, or one [`Problem`] if nothing can be kept.
//! [`yaml`] reads manifest files the same way.
//!
//! Nothing here talks to a cluster, and nothing here panics on bad input: whatever cannot be used becomes a
//! [`Problem`] of that object alone (rule I-9).

mod annotations;
mod decode;
mod endpoint_slice;
mod ingress;
mod ingress_class;
mod meta;
mod node;
mod problem;
pub mod resource;
mod secret;
mod service;
pub mod yaml;

pub use decode::{Converted, decode, key_of};
pub use problem::Problem;
