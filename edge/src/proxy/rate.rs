//! How often a client may ask: per second, per minute, and at once.
//!
//! A route, a client's address and the time → yes, or not now. All workers share one [`Limiter`]. A rate is kept as the
//! one moment at which the client would have used up what it was given (the generic cell rate algorithm), so a client
//! costs a few bytes whatever its limits are. Clients that are at rest are forgotten; when there are too many, others
//! are too, which gives them a fresh start rather than locking somebody out.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use roadstead_routing::settings::RateLimit;

use crate::health::Millis;

const SHARDS: usize = 16;
/// Pairs of route and client that one shard remembers.
const CLIENTS_PER_SHARD_MAX: usize = 8_192;
const SECOND: u64 = Duration::from_secs(1).as_nanos() as u64;
const MINUTE: u64 = Duration::from_secs(60).as_nanos() as u64;

/// What clients have used. One for all workers of an edge; clones share it.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Shards>);

#[derive(Debug)]
struct Shards {
    shards: [Mutex<HashMap<Key, Used>>; SHARDS],
    hasher: RandomState,
}

type Key = (u64, IpAddr);

/// Both rates as the moment, in nanoseconds since the start, from which on all that was given is there again.
#[derive(Clone, Copy, Default, Debug)]
struct Used {
    second: u64,
    minute: u64,
    connections: u32,
}

/// Counts a request as one of those at once while it lives.
#[derive(Debug)]
pub struct AtOnce {
    limiter: Limiter,
    key: Key,
}

/// The client has to wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Limited;

impl Default for Limiter {
    fn default() -> Self {
        Self(Arc::new(Shards { shards: Default::default(), hasher: RandomState::new() }))
    }
}

impl Limiter {
    /// Takes one request from what the client may send.
    ///
    /// # Errors
    /// If it has used it up; nothing is taken then.
    pub fn take(&self, route: u64, address: IpAddr, limit: &RateLimit, now: Millis) -> Result<Option<AtOnce>, Limited> {
        if limit.exempt.iter().any(|network| network.contains(&address)) {
            return Ok(None);
        }
        let (key, now) = ((route, address), now.as_nanos());
        let mut shard = self.shard(key);
        if shard.len() >= CLIENTS_PER_SHARD_MAX && !shard.contains_key(&key) {
            make_room(&mut shard, now);
        }
        let used = shard.entry(key).or_default();
        let second = next(used.second, limit.per_second, SECOND, limit.burst, now).ok_or(Limited)?;
        let minute = next(used.minute, limit.per_minute, MINUTE, limit.burst, now).ok_or(Limited)?;
        if limit.connections > 0 && used.connections >= limit.connections {
            return Err(Limited);
        }
        (used.second, used.minute) = (second, minute);
        if limit.connections == 0 {
            return Ok(None);
        }
        used.connections += 1;
        Ok(Some(AtOnce { limiter: self.clone(), key }))
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, HashMap<Key, Used>> {
        let index = self.0.hasher.hash_one(key) as usize % SHARDS;
        self.0.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AtOnce {
    fn drop(&mut self) {
        if let Some(used) = self.limiter.shard(self.key).get_mut(&self.key) {
            used.connections = used.connections.saturating_sub(1);
        }
    }
}

/// The moment after one more request; `None` if that is more than a burst away.
fn next(full_at: u64, rate: u32, period: u64, burst: u32, now: u64) -> Option<u64> {
    if rate == 0 {
        return Some(full_at);
    }
    let interval = period / u64::from(rate);
    let at_once = u64::from(rate) * u64::from(burst.max(1));
    let next = full_at.max(now).saturating_add(interval);
    (next <= now.saturating_add(interval.saturating_mul(at_once))).then_some(next)
}

/// Forgets who is at rest; if that is nobody, a quarter of those without a request under way.
fn make_room(clients: &mut HashMap<Key, Used>, now: u64) {
    clients.retain(|_, used| used.connections > 0 || used.second > now || used.minute > now);
    if clients.len() < CLIENTS_PER_SHARD_MAX {
        return;
    }
    let mut count = 0;
    clients.retain(|_, used| {
        count += 1;
        used.connections > 0 || count % 4 != 0
    });
    if clients.len() >= CLIENTS_PER_SHARD_MAX {
        clients.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Millis {
        Millis::new(Duration::from_millis(ms))
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn passed(limiter: &Limiter, limit: &RateLimit, now: Millis) -> usize {
        (0..1_000).take_while(|_| limiter.take(1, client(1), limit, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limit = RateLimit { per_second: 10, burst: 3, ..RateLimit::default() };
        let limiter = Limiter::default();
        assert_eq!(passed(&limiter, &limit, at(0)), 30);
        assert_eq!(passed(&limiter, &limit, at(99)), 0);
        assert_eq!(passed(&limiter, &limit, at(100)), 1);
        assert_eq!(passed(&limiter, &limit, at(600)), 5);
        assert_eq!(passed(&limiter, &limit, at(1_000_000)), 30, "no more than a burst is saved up");
    }

    #[test]
    fn both_rates_count_and_what_is_refused_costs_nothing() {
        let limit = RateLimit { per_second: 5, per_minute: 8, burst: 1, ..RateLimit::default() };
        let limiter = Limiter::default();
        assert_eq!(passed(&limiter, &limit, at(0)), 5);
        assert_eq!(passed(&limiter, &limit, at(1_000)), 3, "the minute is used up");
        assert_eq!(passed(&limiter, &limit, at(2_000)), 0);
        assert_eq!(passed(&limiter, &limit, at(7_500)), 1);
    }

    #[test]
    fn clients_and_routes_are_told_apart_and_some_are_exempt() {
        let exempt = vec!["10.0.0.0/8".parse().unwrap()];
        let limit = RateLimit { per_second: 1, burst: 1, exempt, ..RateLimit::default() };
        let limiter = Limiter::default();
        for (route, address) in [(1, client(1)), (1, client(2)), (2, client(1))] {
            assert!(limiter.take(route, address, &limit, at(0)).is_ok());
            assert_eq!(limiter.take(route, address, &limit, at(0)).unwrap_err(), Limited);
        }
        for _ in 0..3 {
            assert!(limiter.take(1, "10.1.2.3".parse().unwrap(), &limit, at(0)).is_ok());
        }
    }

    #[test]
    fn requests_at_once_count_until_they_end() {
        let limit = RateLimit { connections: 2, ..RateLimit::default() };
        let limiter = Limiter::default();
        let take = || limiter.take(1, client(1), &limit, at(0));
        let (one, two) = (take().unwrap(), take().unwrap());
        assert_eq!(take().unwrap_err(), Limited);
        drop(one);
        let three = take().unwrap();
        assert_eq!(take().unwrap_err(), Limited);
        drop((two, three));
        assert!(take().is_ok());
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let limit = RateLimit { per_minute: 1, burst: 1, ..RateLimit::default() };
        let limiter = Limiter::default();
        let remembered = || limiter.0.shards.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>();
        for number in 0..(SHARDS * CLIENTS_PER_SHARD_MAX) as u32 * 2 {
            assert!(limiter.take(1, client(number), &limit, at(0)).is_ok());
        }
        assert!(remembered() <= SHARDS * CLIENTS_PER_SHARD_MAX);
        assert!(remembered() > SHARDS * CLIENTS_PER_SHARD_MAX / 2);
    }
}
