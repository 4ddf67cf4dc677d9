//! Free ports on loopback.
//!
//! In: how many. Out: port numbers that were free a moment ago and that this process has not handed out before. Another
//! process may still take one: whoever binds must be able to say so.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Ports that this process may have in use at once.
pub const PORTS_MAX: usize = 10_000;

static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Finds free ports of 127.0.0.1.
///
/// # Panics
/// The machine has no free ports left, or more than [`PORTS_MAX`] were asked for.
pub fn free(count: usize) -> Vec<u16> {
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(handed_out.len() + count <= PORTS_MAX, "more than {PORTS_MAX} ports in one process");
    // Held until all are found, so that the system does not offer the same port twice.
    let mut listeners = Vec::with_capacity(count);
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("must bind: a free loopback port");
        let port = listener.local_addr().expect("must have an address: it is bound").port();
        if handed_out.insert(port) {
            ports.push(port);
        }
        listeners.push(listener);
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_can_be_bound() {
        let ports: Vec<u16> = (0..4).flat_map(|_| free(5)).collect();
        let distinct: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), 20);
        let bound: Vec<TcpListener> =
            ports.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).expect("free")).collect();
        assert_eq!(bound.len(), 20);
    }
}
