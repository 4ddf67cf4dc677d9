//! What every binary shares: logging, the health and metrics listener, private files, sealing, shutdown and the way to exit.
//! Knows no domain type.

pub mod exit;
pub mod log;
pub mod observe;
pub mod private;
pub mod ready;
pub mod seal;
pub mod stop;
