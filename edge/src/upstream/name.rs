//! Names that are resolved when they are connected to (rule P-6): external services and authentication servers.
//!
//! A host → its addresses, kept for a moment; also that it has none. A name is looked up by one request at a time, the
//! others wait for its answer, so a slow name server is not asked more than once in a while. Whoever may write a name must not reach through it what listens only for
//! this machine, so such addresses are left out of every answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

/// How long an answer is used.
const RESOLVED_FOR: Duration = Duration::from_secs(5);
/// How long it is used that there is none.
const UNRESOLVED_FOR: Duration = Duration::from_secs(1);
/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 8;

/// Which addresses a name may stand for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NamePolicy {
    /// Not this machine's own: loopback, link-local (where clouds answer with credentials), unspecified, multicast.
    #[default]
    Elsewhere,
    /// Also this machine. For tests.
    Anywhere,
}

/// A host name, with what it last stood for.
#[derive(Debug)]
pub struct Name {
    host: Arc<str>,
    resolved: ArcSwapOption<Resolved>,
    /// Held by who looks it up.
    looking: Mutex<()>,
    /// Counts uses, so that its addresses take turns.
    used: AtomicUsize,
}

#[derive(Debug)]
struct Resolved {
    until: Instant,
    /// Empty: there are none.
    addresses: Vec<SocketAddr>,
}

impl Name {
    pub fn new(host: &str) -> Self {
        Self {
            host: host.into(),
            resolved: ArcSwapOption::empty(),
            looking: Mutex::default(),
            used: AtomicUsize::new(0),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.host
    }

    pub(super) fn shared(&self) -> Arc<str> {
        self.host.clone()
    }

    /// Never empty. Its addresses take turns in being the first.
    ///
    /// # Errors
    /// If nobody knows the name, or it stands only for addresses that it may not.
    pub async fn resolve(&self, port: u16, policy: NamePolicy) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = match self.kept() {
            Some(addresses) => addresses,
            None => {
                let _looking = self.looking.lock().await;
                match self.kept() {
                    Some(addresses) => addresses,
                    None => self.look_up(port, policy).await?,
                }
            }
        };
        if addresses.is_empty() {
            return Err(refused(&self.host));
        }
        let first = self.used.fetch_add(1, Ordering::Relaxed) % addresses.len();
        addresses.rotate_left(first);
        Ok(addresses)
    }

    fn kept(&self) -> Option<Vec<SocketAddr>> {
        let resolved = self.resolved.load();
        let fresh = resolved.as_ref().filter(|resolved| Instant::now() < resolved.until)?;
        Some(fresh.addresses.clone())
    }

    async fn look_up(&self, port: u16, policy: NamePolicy) -> io::Result<Vec<SocketAddr>> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let found = if policy == NamePolicy::Elsewhere && is_localhost(host) {
            Ok(Vec::new())
        } else {
            tokio::net::lookup_host((host, port)).await.map(|found| {
                let may = |address: &SocketAddr| policy == NamePolicy::Anywhere || is_elsewhere(address.ip());
                found.filter(may).take(ADDRESSES_MAX).collect()
            })
        };
        let addresses: Vec<SocketAddr> = found.as_ref().map_or(Vec::new(), Vec::clone);
        let kept_for = if addresses.is_empty() { UNRESOLVED_FOR } else { RESOLVED_FOR };
        self.resolved.store(Some(Arc::new(Resolved { until: Instant::now() + kept_for, addresses })));
        found
    }
}

fn refused(host: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("`{host}` is this machine or nobody"))
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn is_elsewhere(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let is_this_network = v4.octets()[0] == 0;
            !(v4.is_loopback() || v4.is_link_local() || is_this_network || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_to_this_machine() {
        for own in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "::1", "::", "fe80::1", "::ffff:127.0.0.1"]
        {
            assert!(!is_elsewhere(own.parse().unwrap()), "{own}");
        }
        for other in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fd00::1"] {
            assert!(is_elsewhere(other.parse().unwrap()), "{other}");
        }
        assert!(is_localhost("LocalHost.") && is_localhost("a.localhost") && !is_localhost("notlocalhost"));
    }

    #[tokio::test]
    async fn what_leads_to_this_machine_is_refused_and_an_address_is_its_own_name() {
        for own in ["localhost", "127.0.0.1", "[::1]"] {
            let refused = Name::new(own).resolve(80, NamePolicy::Elsewhere).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{own}");
        }
        let own = Name::new("127.0.0.1").resolve(80, NamePolicy::Anywhere).await.unwrap();
        assert_eq!(own, ["127.0.0.1:80".parse().unwrap()]);
        let named = Name::new("unknown.invalid");
        assert!(named.resolve(80, NamePolicy::Elsewhere).await.is_err());
        let again = named.resolve(80, NamePolicy::Elsewhere).await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::PermissionDenied, "that there is none is kept");
        let other = Name::new("[2001:db8::1]").resolve(80, NamePolicy::Elsewhere).await.unwrap();
        assert_eq!(other, ["[2001:db8::1]:80".parse().unwrap()]);
    }

    #[tokio::test]
    async fn addresses_take_turns_in_being_the_first() {
        let name = Name::new("two.example.com");
        let addresses: Vec<SocketAddr> = ["10.0.0.1:80", "10.0.0.2:80"].map(|it| it.parse().unwrap()).to_vec();
        let until = Instant::now() + Duration::from_secs(60);
        name.resolved.store(Some(Arc::new(Resolved { until, addresses: addresses.clone() })));
        for n in 0..4 {
            let resolved = name.resolve(80, NamePolicy::Elsewhere).await.unwrap();
            assert_eq!((resolved[0], resolved.len()), (addresses[n % 2], 2));
        }
    }
}
