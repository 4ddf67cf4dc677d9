//! Client connections: from the port to requests.
//!
//! An address → one listener and one thread per worker, each with a runtime, an upstream pool and connections of its
//! own → every request goes to [`crate::proxy`]. Limits apply here: connections, heads, and how long a client may take.
//! A change of the table never closes a connection.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

mod client;
mod tls;
mod worker;

pub use client::{Client, ClientIo, Framing, HeadWatch, Scheme, Shown};
pub use tls::{HANDSHAKE_TIMEOUT, Tls};
pub use worker::{Shared, Workers};

/// Connections waiting to be accepted, per worker.
const BACKLOG: i32 = 4_096;
/// Connections of one worker. Further ones wait in the backlog.
pub const CONNECTIONS_PER_WORKER_MAX: usize = 16_384;
/// Bytes of a request's head; more is answered with 431.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of a request; more is answered with 431.
pub const HEADERS_MAX: usize = 128;
/// How long a client may take to send a request's head, from its first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle between requests. Longer than what load balancers in front use (60 s), so that
/// they close first and never send into a closing connection.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long requests may take to finish when the edge is told to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Threads, at most.
pub const WORKERS_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
#[error("{flag} {address}: cannot listen: {reason}; choose another address with {flag}")]
pub struct ListenError {
    flag: &'static str,
    address: SocketAddr,
    reason: io::Error,
}

/// One listener per worker, all on the same port, between which the kernel spreads new connections. With port 0 the
/// kernel chooses one port for all.
///
/// # Errors
/// If the port is in use, by another edge too, or the address is not ours.
pub fn bind(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, ListenError> {
    bind_for("--http-listen", address, workers)
}

/// [`bind`], for the flag that gave the address.
///
/// # Errors
/// As [`bind`].
pub fn bind_for(flag: &'static str, address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, ListenError> {
    let failed = |reason| ListenError { flag, address, reason };
    if address.port() != 0 {
        probe(address).map_err(failed)?;
    }
    let first = listener(address).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?;
    let others = (1..workers).map(|_| listener(bound).map_err(failed));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Fails if anybody listens there. Listeners that share a port would let a second edge take half of the connections
/// of a first one without either noticing; a socket that does not share is refused by the kernel.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = socket(address)?;
    socket.bind(&address.into())
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart would have to wait for connections of the previous process to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_port_and_nobody_else_does() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        let error = bind(address, 1).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--http-listen {address}: cannot listen:")), "{error}");
        drop(listeners);
        bind(address, 2).unwrap();
    }
}
