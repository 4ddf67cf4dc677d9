//! Exponential backoff with full jitter: edges that lost the same controller do not return at once.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{RETRY_MAX, RETRY_MIN};

/// Waits of zero to [`RETRY_MIN`], then twice that range each time, up to [`RETRY_MAX`]. The same seed gives the same
/// waits.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    random: StdRng,
}

impl Backoff {
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, random: StdRng::seed_from_u64(seed) }
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let range = RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        range.mul_f64(self.random.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_doubles_up_to_the_maximum_and_starts_over() {
        // The longest of many waits comes close to the range and never exceeds it.
        let longest = |failures: u32| {
            let waits = (0..1_000).map(|seed| {
                let mut backoff = Backoff::new(seed);
                for _ in 0..failures {
                    backoff.next_wait();
                }
                backoff.next_wait()
            });
            waits.max().unwrap()
        };
        for (failures, range_ms) in [(0, 100), (1, 200), (3, 800), (6, 5_000), (40, 5_000)] {
            let range = Duration::from_millis(range_ms);
            assert!(longest(failures) <= range && longest(failures) > range.mul_f64(0.95), "{failures} failures");
        }
        let mut backoff = Backoff::new(1);
        for _ in 0..10 {
            backoff.next_wait();
        }
        backoff.reset();
        assert!(backoff.next_wait() <= RETRY_MIN);
    }
}
