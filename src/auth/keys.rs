//! Where the client's role takes its keys from, and a cache so that PBKDF2 does not run twice for the same
//! password and challenge. (A role's salt stays the same until its password changes, so nearly every login is a
//! hit.)
//!
//! The cache is a plain value: who shares it between threads locks it. PBKDF2 never runs under that lock: a miss
//! gives a [`KeyJob`] to carry to the helper thread.

use std::collections::BTreeMap;
use std::fmt;

use subtle::ConstantTimeEq;

use super::digest::{Digest256, LEN, hmac_sha256};
use super::md5::Md5Hash;
use super::scram::ScramFault;
use super::secret::{Password, erase};
use super::verifier::{Challenge, Keys, derive};
use crate::base::rng::Rng;

/// What we have to log in to a server with.
#[derive(Clone, Debug)]
pub enum Credential {
    Password(Password),
    /// For the md5 method only.
    Md5(Md5Hash),
    /// Of a client that proved them to us ([`super::scram::server::Login`]), or configured. They are good for this
    /// challenge only.
    Keys {
        challenge: Challenge,
        keys: Keys,
    },
}

impl Credential {
    /// A password, or PostgreSQL's stored form of one for the md5 method.
    pub fn of(text: &[u8]) -> Credential {
        match Md5Hash::parse(text) {
            Some(hash) => Credential::Md5(hash),
            None => Credential::Password(Password::new(text)),
        }
    }

    /// The answer to the md5 method; none if there is no way to have it.
    pub fn md5_hash(&self, user: &[u8]) -> Option<Md5Hash> {
        match self {
            Credential::Password(password) => Some(Md5Hash::of(password.bytes(), user)),
            Credential::Md5(hash) => Some(hash.clone()),
            Credential::Keys { .. } => None,
        }
    }

    /// Takes the same time wherever two secrets of the same kind differ.
    pub fn same(&self, other: &Credential) -> bool {
        match (self, other) {
            (Credential::Password(one), Credential::Password(other)) => {
                super::plain::same_text(one.bytes(), other.bytes())
            }
            (Credential::Md5(one), Credential::Md5(other)) => one.same(other).into(),
            (
                Credential::Keys { challenge, keys },
                Credential::Keys { challenge: other_challenge, keys: other },
            ) => {
                let same =
                    keys.client_key.ct_eq(&other.client_key) & keys.server_key.ct_eq(&other.server_key);
                challenge == other_challenge && same.into()
            }
            _ => false,
        }
    }

    /// The keys that answer `challenge`; [`ScramFault::KeysOfOtherChallenge`] if there is no way to have them.
    pub fn keys_for(&self, asked: &Challenge, cache: &mut KeyCache) -> Result<KeySource, ScramFault> {
        match self {
            Credential::Keys { challenge, keys } if challenge == asked => Ok(KeySource::Ready(keys.clone())),
            Credential::Keys { .. } => Err(ScramFault::KeysOfOtherChallenge),
            Credential::Md5(_) => Err(ScramFault::HashForMd5Only),
            Credential::Password(password) => {
                let id = cache.id(password.bytes(), asked);
                Ok(match cache.lookup(&id) {
                    Some(keys) => KeySource::Ready(keys),
                    None => {
                        KeySource::Derive(KeyJob { id, password: password.clone(), challenge: asked.clone() })
                    }
                })
            }
        }
    }
}

#[derive(Debug)]
pub enum KeySource {
    Ready(Keys),
    /// Run it on the helper thread, [`KeyCache::insert`] what it yields, then resume the exchange.
    Derive(KeyJob),
}

/// One run of PBKDF2, to be carried to another thread.
#[derive(Debug)]
pub struct KeyJob {
    id: KeyId,
    password: Password,
    challenge: Challenge,
}

impl KeyJob {
    /// **Slow**: runs [`derive()`].
    pub fn run(self) -> DerivedKeys {
        DerivedKeys { id: self.id, keys: derive(self.password.bytes(), &self.challenge) }
    }
}

/// What a [`KeyJob`] yields: keys that know their place in the cache.
#[derive(Debug)]
pub struct DerivedKeys {
    id: KeyId,
    pub keys: Keys,
}

/// Names a password and a challenge without holding either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct KeyId(Digest256);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyId(***)")
    }
}

/// Keys by password and challenge, at most `capacity`; the one that was not used for the longest time goes first.
///
/// Entries are named by a digest under a secret of this cache: an unkeyed digest of a password in memory would be
/// easier to guess from than what PBKDF2 made of it.
pub struct KeyCache {
    secret: Digest256,
    capacity: usize,
    entries: BTreeMap<KeyId, Entry>,
    /// The same entries by last use. Ticks are unique: each use takes the next one.
    by_use: BTreeMap<u64, KeyId>,
    tick: u64,
}

impl KeyCache {
    /// A `capacity` of 0 caches nothing.
    pub fn new(capacity: usize, rng: &mut dyn Rng) -> KeyCache {
        let mut secret = [0; LEN];
        rng.fill(&mut secret);
        KeyCache { secret, capacity, entries: BTreeMap::new(), by_use: BTreeMap::new(), tick: 0 }
    }

    /// Puts in what a job of this cache yielded. Two sessions may have run the same job: the second changes
    /// nothing but the time of last use. What comes from a job of another cache is never found here.
    pub fn insert(&mut self, derived: &DerivedKeys) {
        if self.capacity == 0 || self.lookup(&derived.id).is_some() {
            return;
        }
        if self.entries.len() == self.capacity
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let tick = self.next_tick();
        self.entries.insert(derived.id, Entry { keys: derived.keys.clone(), last_use: tick });
        self.by_use.insert(tick, derived.id);
        assert!(self.entries.len() <= self.capacity, "the cache is bounded");
        assert_eq!(self.entries.len(), self.by_use.len(), "each entry has one time of last use");
    }

    /// Forgets everything: after a reload of the configuration, keys of passwords that are gone should not stay.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.by_use.clear();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn id(&self, password: &[u8], challenge: &Challenge) -> KeyId {
        // Each part has its length in front or a fixed length, so no two inputs run together.
        let password_len = (password.len() as u64).to_be_bytes();
        let iterations = challenge.iterations().count().to_be_bytes();
        KeyId(hmac_sha256(&self.secret, &[&password_len, password, &iterations, challenge.salt()]))
    }

    fn lookup(&mut self, id: &KeyId) -> Option<Keys> {
        let tick = self.next_tick();
        let entry = self.entries.get_mut(id)?;
        self.by_use.remove(&entry.last_use);
        entry.last_use = tick;
        self.by_use.insert(tick, *id);
        Some(entry.keys.clone())
    }

    fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }
}

impl Drop for KeyCache {
    fn drop(&mut self) {
        erase(&mut self.secret);
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache")
            .field("capacity", &self.capacity)
            .field("len", &self.entries.len())
            .finish_non_exhaustive()
    }
}

struct Entry {
    keys: Keys,
    last_use: u64,
}

#[cfg(test)]
mod tests {
    use super::super::verifier::Iterations;
    use super::*;
    use crate::base::rng::SeededRng;

    fn challenge(salt: &[u8]) -> Challenge {
        Challenge::new(salt, Iterations::new(1).unwrap()).unwrap()
    }

    fn password(text: &str) -> Credential {
        Credential::Password(Password::new(text.as_bytes()))
    }

    /// Whether the cache had the keys; puts them in if not.
    fn hits(cache: &mut KeyCache, credential: &Credential, asked: &Challenge) -> bool {
        match credential.keys_for(asked, cache).unwrap() {
            KeySource::Ready(_) => true,
            KeySource::Derive(job) => {
                cache.insert(&job.run());
                false
            }
        }
    }

    #[test]
    fn derives_once_per_password_and_challenge() {
        let mut cache = KeyCache::new(8, &mut SeededRng::new(1));
        let (one, two) = (challenge(b"one"), challenge(b"two"));
        for (text, asked) in [("a", &one), ("a", &two), ("b", &one)] {
            assert!(!hits(&mut cache, &password(text), asked));
            assert!(hits(&mut cache, &password(text), asked));
        }
        let KeySource::Ready(keys) = password("b").keys_for(&one, &mut cache).unwrap() else {
            panic!("a hit")
        };
        assert_eq!(keys.client_key(), derive(b"b", &one).client_key());
        cache.clear();
        assert!(!hits(&mut cache, &password("a"), &one));
    }

    #[test]
    fn the_least_recently_used_goes() {
        let mut cache = KeyCache::new(2, &mut SeededRng::new(1));
        let asked = challenge(b"salt");
        assert!(!hits(&mut cache, &password("a"), &asked));
        assert!(!hits(&mut cache, &password("b"), &asked));
        assert!(hits(&mut cache, &password("a"), &asked));
        assert!(!hits(&mut cache, &password("c"), &asked));
        assert_eq!(cache.len(), 2);
        assert!(hits(&mut cache, &password("a"), &asked));
        assert!(!hits(&mut cache, &password("b"), &asked));
    }

    #[test]
    fn a_cache_of_none() {
        let mut cache = KeyCache::new(0, &mut SeededRng::new(1));
        assert!(!hits(&mut cache, &password("a"), &challenge(b"salt")));
        assert!(cache.is_empty());
    }

    #[test]
    fn the_same_job_twice_is_one_entry() {
        let mut cache = KeyCache::new(1, &mut SeededRng::new(1));
        let asked = challenge(b"salt");
        let job = |cache: &mut KeyCache| match password("a").keys_for(&asked, cache).unwrap() {
            KeySource::Derive(job) => job.run(),
            KeySource::Ready(_) => panic!("nothing was put in"),
        };
        let (first, second) = (job(&mut cache), job(&mut cache));
        cache.insert(&first);
        cache.insert(&second);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn known_keys_are_for_their_challenge_only() {
        let mut cache = KeyCache::new(1, &mut SeededRng::new(1));
        let asked = challenge(b"salt");
        let known = Credential::Keys { challenge: asked.clone(), keys: derive(b"a", &asked) };
        assert!(hits(&mut cache, &known, &asked));
        assert_eq!(
            known.keys_for(&challenge(b"other"), &mut cache).unwrap_err(),
            ScramFault::KeysOfOtherChallenge
        );
    }

    #[test]
    fn nothing_secret_in_debug() {
        let mut cache = KeyCache::new(1, &mut SeededRng::new(1));
        let source = password("hunter2").keys_for(&challenge(b"salt"), &mut cache).unwrap();
        for text in [format!("{source:?}"), format!("{cache:?}"), format!("{:?}", password("hunter2"))] {
            assert!(!text.contains("hunter2") && !text.contains("secret"), "{text}");
        }
    }
}
