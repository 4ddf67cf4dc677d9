//! What handshakes show: certificates by the names that clients ask for.
//!
//! Hosts name certificates, certificates bring chain and key → by SNI the host's own, else that of a wildcard one label
//! above it, else the pool's, else the edge's own (rule L-1). [`crate::subscribe`] writes, handshakes read; a lock is held for a look-up only. A
//! replaced certificate is shown from the next handshake on; connections keep what they began with. Nothing here is logged.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use roadstead_routing::id::HostKey;
use roadstead_routing::lookup::{self, Bucket};
use roadstead_routing::object::Hidden;
use roadstead_routing::table::SecretId;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The name in a default certificate that was made at start. No client accepts it, and that is the point.
const DEFAULT_NAME: &str = "default.roadstead.invalid";

/// Everything that hosts show. Shared.
#[derive(Default)]
pub struct Certificates(RwLock<Shown>);

#[derive(Default)]
struct Shown {
    hosts: HashMap<HostKey, SecretId>,
    /// How many hosts show each. Never 0.
    mentions: HashMap<SecretId, usize>,
    keys: HashMap<SecretId, Arc<CertifiedKey>>,
    /// Hosts whose clients are asked for a certificate of their own.
    asking: HashSet<HostKey>,
}

/// A certificate cannot be removed: a host shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct StillShown;

/// Why a chain and key cannot be used. Never holds a part of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusable {
    #[error("its chain holds no certificate in PEM")]
    Chain,
    #[error("its key is no private key in PEM")]
    Key,
    #[error("its key does not belong to its certificate, or is of a kind that cannot be used")]
    Mismatch,
}

/// A default certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {path}: {problem}")]
pub struct DefaultError {
    flag: &'static str,
    path: String,
    problem: String,
}

impl Certificates {
    pub fn put(&self, id: SecretId, key: Arc<CertifiedKey>) {
        self.change(|shown| drop(shown.keys.insert(id, key)));
    }

    /// # Errors
    /// If a host shows it; nothing is changed then.
    pub fn remove(&self, id: &SecretId) -> Result<(), StillShown> {
        self.change(|shown| {
            if shown.mentions.contains_key(id) {
                return Err(StillShown);
            }
            shown.keys.remove(id);
            Ok(())
        })
    }

    /// From now on the host shows this. `None`: nothing of its own.
    pub fn show(&self, host: &HostKey, id: Option<SecretId>) {
        self.change(|shown| {
            if let Some(id) = &id {
                *shown.mentions.entry(id.clone()).or_default() += 1;
            }
            let before = match id {
                Some(id) => shown.hosts.insert(host.clone(), id),
                None => shown.hosts.remove(host),
            };
            if let Some(before) = before
                && let Some(count) = shown.mentions.get_mut(&before)
            {
                *count -= 1;
                if *count == 0 {
                    shown.mentions.remove(&before);
                }
            }
        });
    }

    /// Says whether clients of the host are asked for a certificate of their own.
    pub fn ask(&self, host: &HostKey, asks: bool) {
        self.change(|shown| match asks {
            true => shown.asking.insert(host.clone()),
            false => shown.asking.remove(host),
        });
    }

    /// Whether a client that names this server, or none, is asked. Rather one too many than one too few.
    pub fn asks(&self, name: Option<&str>) -> bool {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if shown.asking.is_empty() {
            return false;
        }
        let name = name.map(lookup::request_host);
        let named = name.iter().flat_map(|name| lookup::buckets(name)).map(HostKey::from);
        named.chain([HostKey::Any, HostKey::CatchAll]).any(|host| shown.asking.contains(&host))
    }

    pub fn count(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys.len()
    }

    /// What a client that names this server, or none, is shown. `None`: the edge's own.
    pub fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name.map(lookup::request_host);
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let named = name.iter().flat_map(|name| lookup::buckets(name)).filter(|bucket| !matches!(bucket, Bucket::Any));
        let hosts = named.map(HostKey::from).chain([HostKey::CatchAll]);
        // A certificate that is not here yet is like none: the next best one may do.
        hosts.filter_map(|host| shown.keys.get(shown.hosts.get(&host)?)).next().cloned()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Shown) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes a certificate ready for handshakes.
///
/// # Errors
/// If it cannot be used.
pub fn ready(chain: &[u8], key: &Hidden) -> Result<Arc<CertifiedKey>, Unusable> {
    from_pem(chain, &key.0).map(Arc::new)
}

fn from_pem(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, Unusable> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| Unusable::Chain)?;
    if chain.is_empty() {
        return Err(Unusable::Chain);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Unusable::Key)?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|_| Unusable::Mismatch)
}

/// What each handshake is shown.
pub struct Resolver {
    certificates: Arc<Certificates>,
    default: Arc<CertifiedKey>,
}

impl Resolver {
    pub fn new(certificates: Arc<Certificates>, default: Arc<CertifiedKey>) -> Self {
        Self { certificates, default }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.certificates.find(hello.server_name());
        Some(shown.unwrap_or_else(|| self.default.clone()))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolver({} certificates)", self.certificates.count())
    }
}

/// The default certificate of `--default-certificate` and `--default-key`.
///
/// # Errors
/// If the files cannot be read or used.
pub fn default_from(chain: &Path, key: &Path) -> Result<Arc<CertifiedKey>, DefaultError> {
    let failed = |flag, path: &Path, problem: String| DefaultError { flag, path: path.display().to_string(), problem };
    let read =
        |flag, path: &Path| std::fs::read(path).map_err(|error| failed(flag, path, format!("cannot read it: {error}")));
    let (chain_pem, key_pem) = (read("--default-certificate", chain)?, read("--default-key", key)?);
    from_pem(&chain_pem, &key_pem).map(Arc::new).map_err(|problem| match problem {
        Unusable::Chain => failed("--default-certificate", chain, "it holds no certificate in PEM".to_owned()),
        Unusable::Key | Unusable::Mismatch => failed(
            "--default-key",
            key,
            "it holds no private key in PEM that belongs to --default-certificate".to_owned(),
        ),
    })
}

/// A default certificate of this process's own, for names that nobody has a certificate for.
///
/// # Errors
/// If the system gives no random bytes.
pub fn self_signed() -> anyhow::Result<Arc<CertifiedKey>> {
    let made = rcgen::generate_simple_self_signed([DEFAULT_NAME.to_owned()])?;
    let key = made.signing_key.serialize_pem();
    Ok(Arc::new(from_pem(made.cert.pem().as_bytes(), key.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use roadstead_routing::id::ObjectName;
    use roadstead_routing::object::Hidden;

    use super::*;

    fn id(name: &str) -> SecretId {
        SecretId { cluster: "eu".into(), secret: ObjectName::new("shop", name) }
    }

    fn made() -> Arc<CertifiedKey> {
        self_signed().unwrap()
    }

    #[test]
    fn a_host_shows_its_own_certificate_before_that_of_a_wildcard() {
        let (certificates, own, wildcard) = (Certificates::default(), made(), made());
        certificates.put(id("own"), own.clone());
        certificates.put(id("wildcard"), wildcard.clone());
        certificates.show(&HostKey::Exact("a.example.com".into()), Some(id("own")));
        certificates.show(&HostKey::Exact("late.example.com".into()), Some(id("not here yet")));
        certificates.show(&HostKey::Wildcard("example.com".into()), Some(id("wildcard")));
        let is =
            |name: &str, key: &Arc<CertifiedKey>| certificates.find(Some(name)).is_some_and(|it| Arc::ptr_eq(&it, key));
        assert!(is("a.example.com", &own) && is("A.Example.com", &own));
        assert!(is("b.example.com", &wildcard) && is("late.example.com", &wildcard));
        for name in ["x.a.example.com", "example.com", "other.test"] {
            assert!(certificates.find(Some(name)).is_none(), "{name}");
        }
        certificates.show(&HostKey::Exact("a.example.com".into()), None);
        assert!(is("a.example.com", &wildcard));
    }

    #[test]
    fn who_names_no_host_with_a_certificate_is_shown_that_of_the_pool() {
        let (certificates, own, of_pool) = (Certificates::default(), made(), made());
        certificates.put(id("own"), own.clone());
        certificates.show(&HostKey::Exact("a.example.com".into()), Some(id("own")));
        certificates.show(&HostKey::CatchAll, Some(id("fallback")));
        assert!(certificates.find(None).is_none(), "it is not here yet");
        certificates.put(id("fallback"), of_pool.clone());
        let is = |name: Option<&str>, key| certificates.find(name).is_some_and(|it| Arc::ptr_eq(&it, key));
        assert!(is(Some("a.example.com"), &own));
        assert!(is(Some("b.example.com"), &of_pool) && is(None, &of_pool));
    }

    #[test]
    fn what_a_host_shows_stays_until_it_shows_another() {
        let (certificates, host) = (Certificates::default(), HostKey::Exact("a.example.com".into()));
        certificates.put(id("one"), made());
        certificates.show(&host, Some(id("one")));
        certificates.show(&host, Some(id("one")));
        assert_eq!(certificates.remove(&id("one")), Err(StillShown));
        certificates.show(&host, Some(id("two")));
        assert_eq!((certificates.remove(&id("one")), certificates.count()), (Ok(()), 0));
    }

    #[test]
    fn what_cannot_be_used_says_why_and_shows_nothing() {
        let pair = || rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
        let (one, other) = (pair(), pair());
        let pem = |text: String| text.into_bytes();
        let (chain, key) = (pem(one.cert.pem()), pem(one.signing_key.serialize_pem()));
        let check = |chain: &[u8], key: &[u8]| ready(chain, &Hidden(key.into())).err();
        assert_eq!(check(&chain, &key), None);
        assert_eq!(check(b"rubbish", &key), Some(Unusable::Chain));
        assert_eq!(check(&chain, b"rubbish"), Some(Unusable::Key));
        assert_eq!(check(&chain, other.signing_key.serialize_pem().as_bytes()), Some(Unusable::Mismatch));
    }
}
