//! What people and machines can see: metrics and the `/status` page.

pub mod metrics;
pub mod status;
