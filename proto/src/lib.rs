//! The wire contract: generated messages and services ([`wire`]), their conversion to and from routing's types,
//! and what both ends must compute alike: digests, buckets, certificate identities.
//!
//! Conversions into wire types cannot fail; conversions out of them check every limit and say which field is wrong.

pub mod wire {
    //! Generated from `proto/*.proto`; a test fails when it is stale.
    #![allow(clippy::all, clippy::pedantic, unreachable_pub, missing_docs)]
    include!("generated/roadstead.v1.rs");
}

pub mod digest;
pub mod finding;
pub mod identity;
pub mod object;
pub mod position;
pub mod resource;
pub mod settings;
pub mod tls;
