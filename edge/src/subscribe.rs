//! Following a controller: what the edge should serve, as differences.
//!
//! Messages of a controller → the table changes, the journal grows, messages go back. [`holdings`] knows what is held
//! and applies Updates; [`guard`] keeps a controller from withdrawing too much at once; [`machine`] is the conversation,
//! without I/O, clock or randomness of its own; [`client`] is the connection; [`failing`] is what goes back about
//! backends. What is refused is refused alone, and nothing that happens here disturbs requests.

use std::time::Duration;

pub mod backoff;
pub mod client;
pub mod failing;
pub mod guard;
pub mod holdings;
pub mod machine;

/// Between two heartbeats to the controller.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// Without any message for this long a controller counts as gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(6);
/// How long reaching a controller may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at what requests have learnt about backends.
pub const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// The range of the first wait after a lost connection.
pub const RETRY_MIN: Duration = Duration::from_millis(100);
/// The range of waits at most.
pub const RETRY_MAX: Duration = Duration::from_secs(5);
