//! Free ports on loopback.
//!
//! In: how many. Out: port numbers that were free a moment ago and that this process has not handed out before. They lie below
//! the range from which Linux takes the ports of outgoing connections, so that a busy load client cannot take one in between.
//! Another process still may: whoever binds must be able to say so.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Ports that this process may have in use at once.
pub const PORTS_MAX: usize = 4_000;
/// First port to hand out.
const FIRST: u16 = 20_000;
/// Number of ports from [`FIRST`] on; ends before 32,768, where outgoing ports begin by default.
const COUNT: u16 = 12_000;

static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Finds free ports of 127.0.0.1.
///
/// # Panics
/// There are no free ports left, or more than [`PORTS_MAX`] were asked for.
pub fn free(count: usize) -> Vec<u16> {
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(handed_out.len() + count <= PORTS_MAX, "more than {PORTS_MAX} ports in one process");
    let mut ports = Vec::with_capacity(count);
    // Test processes run side by side: a random start keeps them apart.
    let start = uuid::Uuid::new_v4().as_u128() % u128::from(COUNT);
    for step in 0..COUNT {
        if ports.len() == count {
            break;
        }
        let offset = (start + u128::from(step)) % u128::from(COUNT);
        let port = FIRST + u16::try_from(offset).expect("must fit: less than COUNT");
        if !handed_out.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            handed_out.insert(port);
            ports.push(port);
        }
    }
    assert_eq!(ports.len(), count, "not enough free ports on 127.0.0.1");
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
