//! Time that can be compared across the processes of one machine: nanoseconds since the Unix epoch.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Relates this process's monotonic clock to the system clock, once, so that a step of the system clock during the
/// measurement cannot move what was scheduled.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    at: Instant,
    unix: Duration,
}

impl Clock {
    pub fn new() -> Self {
        // A clock set before 1970 would only shift all stamps of this process alike.
        Self { at: Instant::now(), unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    pub fn nanos_at(&self, instant: Instant) -> u64 {
        let since_epoch = self.unix + instant.saturating_duration_since(self.at);
        u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn now_nanos(&self) -> u64 {
        self.nanos_at(Instant::now())
    }
}
