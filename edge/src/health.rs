//! Passive health of one endpoint: what requests learned by trying to connect, and how fast it answers.
//!
//! Outcomes of connection attempts → whether the next request may use the endpoint. Shared by all workers, so that
//! one failure spares everybody else the same one. It never removes an endpoint: when all have failed, all are tried.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a failed endpoint is left alone before one request tries it again.
pub const OUT_FOR: Duration = Duration::from_secs(2);

/// Milliseconds since the edge started. Never 0, which [`Health`] keeps for "has not failed".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Millis(u64);

impl Millis {
    pub fn new(since_start: Duration) -> Self {
        Self(u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1))
    }

    pub fn as_nanos(self) -> u64 {
        self.0.saturating_mul(1_000_000)
    }

    fn after(self, duration: Duration) -> u64 {
        self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The clock that all workers share; what they compare must have one origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> Millis {
        Millis::new(self.0.elapsed())
    }
}

/// The state of one endpoint: 0, or when it may be tried again.
#[derive(Debug, Default)]
pub struct Health(AtomicU64);

impl Health {
    /// Whether a request may use the endpoint; changes nothing.
    pub fn is_usable(&self, now: Millis) -> bool {
        self.0.load(Ordering::Relaxed) <= now.0
    }

    /// Like [`Health::is_usable`], but of the requests that ask after a failed endpoint's time is over only the
    /// first is told yes: it is the probe, the others stay away until its outcome is known or [`OUT_FOR`] is over.
    pub fn claim(&self, now: Millis) -> bool {
        let until = self.0.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let probe = || self.0.compare_exchange(until, now.after(OUT_FOR), Ordering::Relaxed, Ordering::Relaxed);
        until <= now.0 && probe().is_ok()
    }

    /// A connection could not be made.
    pub fn failed(&self, now: Millis) {
        self.0.store(now.after(OUT_FOR), Ordering::Relaxed);
    }

    /// The endpoint answered. Written only on a change: the cache line is shared by all workers.
    pub fn succeeded(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

/// After so long what was learned about an endpoint's speed counts half: one that was slow once is tried again.
const LATENCY_HALF_LIFE_MS: u32 = 10_000;

/// How long an endpoint lately took to answer, as a moving average that fades. The average in microseconds in the
/// high half, when it was noted in the low half.
#[derive(Debug, Default)]
pub struct Latency(AtomicU64);

impl Latency {
    /// In microseconds. An endpoint that never answered is fast, so that it is tried.
    pub fn at(&self, now: Millis) -> u32 {
        let (average, noted) = unpack(self.0.load(Ordering::Relaxed));
        let halvings = (now.0 as u32).wrapping_sub(noted) / LATENCY_HALF_LIFE_MS;
        average.checked_shr(halvings).unwrap_or(0)
    }

    /// A request was answered after so long.
    pub fn note(&self, took: Duration, now: Millis) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let before = self.at(now);
        let average = if before == 0 { took } else { before - before / 4 + took / 4 };
        self.0.store(u64::from(average) << 32 | u64::from(now.0 as u32), Ordering::Relaxed);
    }
}

/// Time wraps after 49 days, when an endpoint that was not used for so long looks recently used once.
fn unpack(packed: u64) -> (u32, u32) {
    ((packed >> 32) as u32, packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Millis {
        Millis::new(Duration::from_millis(ms))
    }

    #[test]
    fn a_failed_endpoint_rests_and_then_gets_one_probe() {
        let health = Health::default();
        assert!(health.claim(at(0)) && health.claim(at(0)));
        health.failed(at(100));
        assert!(!health.is_usable(at(2_099)) && !health.claim(at(2_099)));
        assert!(health.is_usable(at(2_100)));
        assert!(health.claim(at(2_100)), "the first to ask is the probe");
        assert!(!health.claim(at(2_100)), "everybody else waits for its outcome");
        assert!(health.claim(at(4_100)), "a probe that never reports is replaced");
    }

    #[test]
    fn success_ends_the_rest_at_once() {
        let health = Health::default();
        health.failed(at(0));
        health.succeeded();
        assert!(health.claim(at(1)) && health.claim(at(1)));
    }

    #[test]
    fn what_is_known_about_speed_follows_and_fades() {
        let latency = Latency::default();
        assert_eq!(latency.at(at(0)), 0, "unknown is fast");
        latency.note(Duration::from_millis(8), at(0));
        assert_eq!(latency.at(at(1)), 8_000);
        latency.note(Duration::from_millis(4), at(1));
        assert_eq!(latency.at(at(2)), 7_000);
        assert_eq!(latency.at(at(10_002)), 3_500);
        assert_eq!(latency.at(at(1_000_000)), 0);
    }
}
