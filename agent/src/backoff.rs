//! Exponential backoff with full jitter: many agents that lost the same server do not return at once.

use std::time::Duration;

/// The first wait after a success is zero to `first`, then twice that range each time, up to `max`.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, failures: 0 }
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait now. `share` is a random number from 0 to 1.
    pub fn next(&mut self, share: f64) -> Duration {
        let range = self.first.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        range.mul_f64(share.clamp(0.0, 1.0))
    }

    /// Waits as long as [`Backoff::next`] says.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next(rand::random())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_doubles_up_to_the_maximum_and_starts_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let waits: Vec<u128> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.next(0.0), Duration::ZERO, "full jitter may mean no wait at all");
        for _ in 0..100 {
            assert!(backoff.next(1.0) <= Duration::from_secs(5));
        }
        backoff.reset();
        assert_eq!(backoff.next(1.0), Duration::from_millis(100));
    }
}
