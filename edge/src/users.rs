//! Users of Basic authentication, and who may sign certificates of clients, as Secrets of the clusters hold them.
//!
//! The content of a Secret → whether somebody with this name and password is in it. What is not here is not known, and
//! nobody passes who depends on it. Passwords are kept nowhere: what is remembered of a good one is a keyed hash.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use roadstead_routing::settings::{BasicAuth, UsersForm};
use roadstead_routing::table::SecretId;
use tokio::sync::Semaphore;

mod authorities;
mod password;

pub use authorities::Authorities;

/// Passwords whose slow verification is remembered.
const VERIFIED_MAX: usize = 4_096;
/// Slow verifications at once; further ones wait.
const VERIFYING_MAX: usize = 4;

/// The keys and values of a Secret.
pub type Secret = BTreeMap<String, Vec<u8>>;

/// All Secrets with users. One for all workers of an edge; clones share it.
#[derive(Clone)]
pub struct Users(Arc<Inner>);

struct Inner {
    /// By what a Secret is named by, whatever it holds.
    secrets: ArcSwap<HashMap<SecretId, Arc<Secret>>>,
    /// Of those that hold any.
    authorities: ArcSwap<HashMap<SecretId, Arc<Authorities>>>,
    verified: Mutex<HashSet<[u8; 32]>>,
    verifying: Semaphore,
    key: [u8; 32],
}

/// Whether somebody is who they say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Known,
    Unknown,
    /// There is no such Secret, or it cannot be read.
    NoUsers,
}

impl Default for Users {
    fn default() -> Self {
        Self(Arc::new(Inner {
            secrets: ArcSwap::default(),
            authorities: ArcSwap::default(),
            verified: Mutex::default(),
            verifying: Semaphore::new(VERIFYING_MAX),
            key: rand::random(),
        }))
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users of {} Secrets", self.0.secrets.load().len())
    }
}

impl Users {
    /// Replaces a Secret; `None` removes it.
    pub fn put(&self, id: &SecretId, secret: Option<Secret>) {
        let authorities = secret.as_ref().and_then(authorities::of).map(Arc::new);
        replace(&self.0.authorities, id, authorities.as_ref());
        replace(&self.0.secrets, id, secret.map(Arc::new).as_ref());
    }

    /// Who may sign certificates of clients. `None`: there is no such Secret, or it holds none that can be read.
    pub fn authorities(&self, id: &SecretId) -> Option<Arc<Authorities>> {
        self.0.authorities.load().get(id).cloned()
    }

    /// Whether `name` with `password` is among the users that `auth` asks for.
    pub async fn verify(&self, auth: &BasicAuth, name: &str, password: &[u8]) -> Verdict {
        let id = SecretId { cluster: auth.cluster.clone(), secret: auth.secret.clone() };
        let Some(secret) = self.0.secrets.load().get(&id).cloned() else { return Verdict::NoUsers };
        let hash = match hash_of(&secret, auth.form, name) {
            Ok(Some(hash)) => hash,
            Ok(None) => return Verdict::Unknown,
            Err(Unreadable) => return Verdict::NoUsers,
        };
        if self.is_good(hash, password).await { Verdict::Known } else { Verdict::Unknown }
    }

    async fn is_good(&self, hash: String, password: &[u8]) -> bool {
        if !password::is_slow(&hash) {
            return password::verify(&hash, password);
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.0.key);
        let remembered = *hasher.update(hash.as_bytes()).update(&[0]).update(password).finalize().as_bytes();
        if self.verified().contains(&remembered) {
            return true;
        }
        let Ok(_permit) = self.0.verifying.acquire().await else { return false };
        let password = password.to_vec();
        let verifying = tokio::task::spawn_blocking(move || password::verify(&hash, &password));
        let is_good = verifying.await.unwrap_or(false);
        if is_good {
            let mut verified = self.verified();
            if verified.len() >= VERIFIED_MAX {
                verified.clear();
            }
            verified.insert(remembered);
        }
        is_good
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.0.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn replace<T>(all: &ArcSwap<HashMap<SecretId, Arc<T>>>, id: &SecretId, one: Option<&Arc<T>>) {
    all.rcu(|all| {
        let mut all = HashMap::clone(all);
        match one {
            Some(one) => all.insert(id.clone(), one.clone()),
            None => all.remove(id),
        };
        all
    });
}

struct Unreadable;

/// The hash of a user's password; `None` if there is no such user.
fn hash_of(secret: &Secret, form: UsersForm, name: &str) -> Result<Option<String>, Unreadable> {
    match form {
        UsersForm::Map => {
            let hash = secret.get(name).map(|value| text(value)).transpose()?;
            Ok(hash.map(|hash| hash.trim().to_owned()))
        }
        UsersForm::File => {
            let file = text(secret.get("auth").ok_or(Unreadable)?)?;
            let mut users = file.lines().filter_map(|line| line.trim().split_once(':'));
            let found = users.find(|(user, _)| *user == name);
            // What follows a further colon is a remark.
            Ok(found.map(|(_, rest)| rest.split(':').next().unwrap_or_default().to_owned()))
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use roadstead_routing::id::ObjectName;

    use super::*;

    const SHA_OF_SECRET: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";

    fn id() -> SecretId {
        SecretId { cluster: "eu".into(), secret: ObjectName::new("shop", "users") }
    }

    fn auth(form: UsersForm) -> BasicAuth {
        BasicAuth { realm: "r".into(), cluster: "eu".into(), secret: id().secret, form }
    }

    fn secret(entries: &[(&str, &str)]) -> Secret {
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[tokio::test]
    async fn users_are_found_in_both_forms() {
        let users = Users::default();
        let file = format!("# users\nother:{{SHA}}x\nanna:{SHA_OF_SECRET}:a remark\n");
        for (form, content) in
            [(UsersForm::File, secret(&[("auth", &file)])), (UsersForm::Map, secret(&[("anna", SHA_OF_SECRET)]))]
        {
            users.put(&id(), Some(content));
            let verify = async |name: &str, password: &str| users.verify(&auth(form), name, password.as_bytes()).await;
            assert_eq!(verify("anna", "secret").await, Verdict::Known);
            assert_eq!(verify("anna", "Secret").await, Verdict::Unknown);
            assert_eq!(verify("bert", "secret").await, Verdict::Unknown);
        }
    }

    #[tokio::test]
    async fn without_readable_users_nobody_is_known() {
        let users = Users::default();
        let verify = async || users.verify(&auth(UsersForm::File), "anna", b"secret").await;
        assert_eq!(verify().await, Verdict::NoUsers);
        users.put(&id(), Some(secret(&[("users", "anna:x")])));
        assert_eq!(verify().await, Verdict::NoUsers, "there is no key `auth`");
        users.put(&id(), Some(Secret::from([("auth".to_owned(), vec![0xFF])])));
        assert_eq!(verify().await, Verdict::NoUsers);
        users.put(&id(), None);
        assert_eq!(verify().await, Verdict::NoUsers);
    }

    #[tokio::test]
    async fn a_slow_verification_is_remembered_only_for_the_same_hash_and_password() {
        let users = Users::default();
        let hash = |cost| bcrypt::hash("secret", cost).unwrap();
        users.put(&id(), Some(secret(&[("anna", &hash(4))])));
        let verify = async |password: &str| users.verify(&auth(UsersForm::Map), "anna", password.as_bytes()).await;
        for _ in 0..2 {
            assert_eq!(verify("secret").await, Verdict::Known);
            assert_eq!(verify("guess").await, Verdict::Unknown);
        }
        assert_eq!(users.verified().len(), 1);
        users.put(&id(), Some(secret(&[("anna", &bcrypt::hash("changed", 4).unwrap())])));
        assert_eq!(verify("secret").await, Verdict::Unknown);
    }
}
