//! What a SCRAM exchange is checked against: challenges, keys and stored verifiers, and the set of them that one
//! user has at a time.
//!
//! # Several passwords at once
//!
//! A SCRAM server names one salt and one iteration count before it knows which password the client has, so
//! everything that one exchange accepts must have been derived with the same challenge:
//!
//! | the user's secrets | works | how |
//! |---|---|---|
//! | one or more plaintext passwords | yes | [`SaltSecret::challenge`], then [`Candidates::derive`] |
//! | one stored verifier | yes | [`Candidates::of`] |
//! | one stored verifier and plaintext passwords | yes | [`Candidates::of`], then [`Candidates::add_password`]: the verifier's challenge serves all |
//! | several stored verifiers | only if salt and iterations are equal | [`Candidates::add`], else [`VerifierFault::ChallengeDiffers`] |
//! | md5 hashes | no | SCRAM needs the password or a verifier; PostgreSQL refuses too |
//!
//! # SASLprep
//!
//! RFC 5802 asks for passwords to be normalised with SASLprep (NFKC and forbidden characters). ASCII passes
//! through unchanged, as in PostgreSQL's saslprep.c. Other passwords are used as the raw bytes: **NFKC is not
//! applied**. PostgreSQL does the same for what is not valid UTF-8 or contains forbidden characters, so those
//! agree. A password that normalisation would change (say, one with a no-break space, a ligature or decomposed
//! accents) does not match at a PostgreSQL that normalised it, in either role. The error is always a refused
//! login, never a wrong acceptance.

use std::fmt;

use base64ct::{Base64, Encoding};
use hmac::Hmac;
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::digest::{Digest256, LEN, hmac_sha256, sha256, xor};
use super::limits::{CANDIDATES_MAX, ITERATIONS_DEFAULT, ITERATIONS_MAX, SALT_LEN_DEFAULT, SALT_LEN_MAX};
use super::secret::erase;
use crate::base::rng::Rng;

/// What a SCRAM server asks: the salt and the cost of the key derivation. Both are public.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Challenge {
    salt: Box<[u8]>,
    iterations: Iterations,
}

impl Challenge {
    /// Fails with [`VerifierFault::SaltLength`] unless the salt has 1 to [`SALT_LEN_MAX`] bytes.
    pub fn new(salt: &[u8], iterations: Iterations) -> Result<Challenge, VerifierFault> {
        if salt.is_empty() || salt.len() > SALT_LEN_MAX {
            return Err(VerifierFault::SaltLength);
        }
        Ok(Challenge { salt: salt.into(), iterations })
    }

    /// Both as they appear in a message or a verifier: base64 and decimal.
    pub(super) fn parse(salt: &[u8], iterations: &[u8]) -> Result<Challenge, VerifierFault> {
        let mut decoded = [0; SALT_LEN_MAX];
        let salt = match Base64::decode(salt, &mut decoded) {
            Ok(salt) => salt,
            Err(base64ct::Error::InvalidLength) if salt.len() > SALT_LEN_MAX => {
                return Err(VerifierFault::SaltLength);
            }
            Err(_) => return Err(VerifierFault::SaltEncoding),
        };
        Challenge::new(salt, Iterations::parse(iterations)?)
    }

    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub fn iterations(&self) -> Iterations {
        self.iterations
    }
}

/// A count of PBKDF2 iterations within `1..=ITERATIONS_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iterations(u32);

impl Iterations {
    pub const DEFAULT: Iterations = Iterations(ITERATIONS_DEFAULT);

    pub fn new(count: u32) -> Result<Iterations, VerifierFault> {
        if count == 0 || count > ITERATIONS_MAX {
            return Err(VerifierFault::IterationsOutOfBounds);
        }
        Ok(Iterations(count))
    }

    /// `posit-number` of RFC 5802: digits without sign or leading zero.
    fn parse(text: &[u8]) -> Result<Iterations, VerifierFault> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) || text[0] == b'0' {
            return Err(VerifierFault::IterationsMalformed);
        }
        let count = text
            .iter()
            .fold(0u32, |count, digit| count.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
        Iterations::new(count)
    }

    pub fn count(self) -> u32 {
        self.0
    }
}

/// The two keys that a password yields under one challenge (RFC 5802, section 3). Whoever has both can log in to
/// any server whose verifier has the same challenge: they are worth as much as the password there.
#[derive(Clone)]
pub struct Keys {
    pub(super) client_key: Digest256,
    pub(super) server_key: Digest256,
}

impl Keys {
    pub fn new(client_key: [u8; 32], server_key: [u8; 32]) -> Keys {
        Keys { client_key, server_key }
    }

    pub fn client_key(&self) -> &[u8; 32] {
        &self.client_key
    }

    pub fn server_key(&self) -> &[u8; 32] {
        &self.server_key
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        erase(&mut self.client_key);
        erase(&mut self.server_key);
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

/// PBKDF2 and the two keys of RFC 5802, section 3. **Slow** (0.5 ms at 4096 iterations, up to 0.12 s at the
/// limit): for the helper thread.
pub fn derive(password: &[u8], challenge: &Challenge) -> Keys {
    let mut salted: Digest256 = [0; LEN];
    pbkdf2::pbkdf2::<Hmac<Sha256>>(password, &challenge.salt, challenge.iterations.0, &mut salted)
        .expect("HMAC takes a key of any length");
    let client_key = hmac_sha256(&salted, &[b"Client Key"]);
    let server_key = hmac_sha256(&salted, &[b"Server Key"]);
    erase(&mut salted);
    Keys { client_key, server_key }
}

/// What PostgreSQL stores for a user: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`
/// (`pg_authid.rolpassword`, parsed by `parse_scram_secret` in auth-scram.c).
///
/// It does not let its holder log in, but it allows guessing offline and posing as the server, so it is masked
/// too.
#[derive(Clone)]
pub struct Verifier {
    challenge: Challenge,
    stored: StoredKeys,
}

impl Verifier {
    /// The text form that every stored verifier begins with.
    pub const PREFIX: &'static str = "SCRAM-SHA-256$";

    pub fn new(challenge: Challenge, keys: &Keys) -> Verifier {
        Verifier { challenge, stored: StoredKeys::of(keys) }
    }

    /// Stricter than PostgreSQL where that is sloppy: no spaces or signs in the number, canonical base64 only.
    pub fn parse(text: &str) -> Result<Verifier, VerifierFault> {
        let rest = text.strip_prefix(Verifier::PREFIX).ok_or(VerifierFault::Shape)?;
        let (challenge, keys) = rest.split_once('$').ok_or(VerifierFault::Shape)?;
        let (iterations, salt) = challenge.split_once(':').ok_or(VerifierFault::Shape)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(VerifierFault::Shape)?;
        Ok(Verifier {
            challenge: Challenge::parse(salt.as_bytes(), iterations.as_bytes())?,
            stored: StoredKeys {
                stored_key: decode_key(stored_key.as_bytes()).ok_or(VerifierFault::StoredKey)?,
                server_key: decode_key(server_key.as_bytes()).ok_or(VerifierFault::ServerKey)?,
            },
        })
    }

    /// The text form, as PostgreSQL stores it. Not `Display`, so that no log line gets it by accident.
    pub fn reveal(&self) -> String {
        format!(
            "{}{}:{}${}:{}",
            Verifier::PREFIX,
            self.challenge.iterations.0,
            Base64::encode_string(&self.challenge.salt),
            Base64::encode_string(&self.stored.stored_key),
            Base64::encode_string(&self.stored.server_key),
        )
    }

    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// Whether a cleartext password is the one behind this verifier (`scram_verify_plain_password` in
    /// auth-scram.c). **Slow**: runs [`derive()`].
    pub fn matches_password(&self, password: &[u8]) -> bool {
        let given = StoredKeys::of(&derive(password, &self.challenge));
        given.same(&self.stored).into()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

/// All that one user may prove in one exchange: one challenge, and a verifier for each password that is valid now.
/// Empty for a user who does not exist. Built when the configuration is loaded and shared by the user's logins.
#[derive(Clone)]
pub struct Candidates {
    challenge: Challenge,
    stored: Vec<StoredKeys>,
}

impl Candidates {
    pub fn of(verifier: Verifier) -> Candidates {
        Candidates { challenge: verifier.challenge, stored: vec![verifier.stored] }
    }

    /// One or more passwords under one challenge. **Slow**: runs [`derive()`] for each.
    pub fn derive<'a>(
        challenge: Challenge,
        passwords: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Candidates, VerifierFault> {
        Candidates { challenge, stored: Vec::new() }.with_passwords(passwords)
    }

    /// These passwords too. **Slow**: runs [`derive()`] for each.
    pub fn with_passwords<'a>(
        mut self,
        passwords: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Candidates, VerifierFault> {
        for password in passwords {
            self.add_password(password)?;
        }
        Ok(self)
    }

    /// For a user without a usable secret: every proof fails, and the peer sees nothing that it would not see for
    /// an existing user (`mock_scram_secret` in auth-scram.c). What it cannot hide: an existing user with a stored
    /// verifier whose iterations or length of salt differ from ours.
    pub fn unknown(secret: &SaltSecret, user: &[u8], iterations: Iterations) -> Candidates {
        Candidates { challenge: secret.challenge(user, iterations), stored: Vec::new() }
    }

    pub fn add(&mut self, verifier: Verifier) -> Result<(), VerifierFault> {
        if verifier.challenge != self.challenge {
            return Err(VerifierFault::ChallengeDiffers);
        }
        self.push(verifier.stored)
    }

    /// **Slow**: runs [`derive()`].
    pub fn add_password(&mut self, password: &[u8]) -> Result<(), VerifierFault> {
        if password.is_empty() {
            // PostgreSQL stores no empty password either: it would be no password at all.
            return Err(VerifierFault::PasswordEmpty);
        }
        self.push(StoredKeys::of(&derive(password, &self.challenge)))
    }

    fn push(&mut self, stored: StoredKeys) -> Result<(), VerifierFault> {
        if self.stored.len() == CANDIDATES_MAX {
            return Err(VerifierFault::TooMany);
        }
        self.stored.push(stored);
        Ok(())
    }

    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// The candidate whose password is `password`, which came in clear. **Slow**: runs [`derive()`] once, also for
    /// a user who does not exist.
    pub fn matches_password(&self, password: &[u8]) -> Option<usize> {
        let given = StoredKeys::of(&derive(password, &self.challenge));
        let (mut hit, mut found) = (Choice::from(0), 0u32);
        for (slot, stored, genuine) in self.slots() {
            let same = given.same(stored) & genuine;
            found.conditional_assign(&slot, same);
            hit |= same;
        }
        bool::from(hit).then_some(found as usize)
    }

    /// The candidate that `proof` proves, and its keys (RFC 5802, section 3: the ClientKey is the proof without
    /// the ClientSignature, and its hash must be the StoredKey). Takes the same steps whatever it finds.
    pub(super) fn proven(&self, auth_message: &[&[u8]], proof: &Digest256) -> Option<(usize, Keys)> {
        let (mut hit, mut found) = (Choice::from(0), 0u32);
        let mut keys = Keys { client_key: [0; LEN], server_key: [0; LEN] };
        for (slot, stored, genuine) in self.slots() {
            let signature = hmac_sha256(&stored.stored_key, auth_message);
            let mut client_key = xor(proof, &signature);
            let same = sha256(&client_key).ct_eq(&stored.stored_key) & genuine;
            found.conditional_assign(&slot, same);
            assign(&mut keys.client_key, &client_key, same);
            assign(&mut keys.server_key, &stored.server_key, same);
            erase(&mut client_key);
            hit |= same;
        }
        bool::from(hit).then_some((found as usize, keys))
    }

    /// Always [`CANDIDATES_MAX`] slots: those without a candidate are not genuine and match nothing.
    fn slots(&self) -> impl Iterator<Item = (u32, &StoredKeys, Choice)> {
        assert!(self.stored.len() <= CANDIDATES_MAX, "push holds the limit");
        (0..CANDIDATES_MAX).map(|slot| match self.stored.get(slot) {
            Some(stored) => (slot as u32, stored, Choice::from(1)),
            None => (slot as u32, &NOBODY, Choice::from(0)),
        })
    }
}

impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the number of candidates: it would tell whether the user exists.
        f.debug_struct("Candidates").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

/// Salts from user names. One function serves users with plaintext passwords and users who do not exist, so a
/// name's salt stays the same when the user appears, changes the password or goes.
pub struct SaltSecret(Digest256);

impl SaltSecret {
    /// A new secret: salts change with it, so make one per process.
    pub fn new(rng: &mut dyn Rng) -> SaltSecret {
        let mut bytes = [0; LEN];
        rng.fill(&mut bytes);
        SaltSecret(bytes)
    }

    /// A secret that survives restarts or is shared by several proxies behind one address.
    pub fn from_bytes(bytes: [u8; 32]) -> SaltSecret {
        SaltSecret(bytes)
    }

    pub fn challenge(&self, user: &[u8], iterations: Iterations) -> Challenge {
        let digest = hmac_sha256(&self.0, &[user]);
        Challenge { salt: digest[..SALT_LEN_DEFAULT].into(), iterations }
    }
}

impl Drop for SaltSecret {
    fn drop(&mut self) {
        erase(&mut self.0);
    }
}

impl fmt::Debug for SaltSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltSecret(***)")
    }
}

/// Why a verifier, a challenge or a set of candidates cannot be used. Names the part, never its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifierFault {
    Shape,
    IterationsMalformed,
    IterationsOutOfBounds,
    SaltEncoding,
    SaltLength,
    StoredKey,
    ServerKey,
    ChallengeDiffers,
    PasswordEmpty,
    TooMany,
}

impl fmt::Display for VerifierFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifierFault::Shape => {
                f.write_str("not of the form SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")
            }
            VerifierFault::IterationsMalformed => f.write_str("iteration count is not a positive number"),
            VerifierFault::IterationsOutOfBounds => {
                write!(f, "iteration count is not within 1 to {ITERATIONS_MAX}")
            }
            VerifierFault::SaltEncoding => f.write_str("salt is not base64"),
            VerifierFault::SaltLength => write!(f, "salt does not have 1 to {SALT_LEN_MAX} bytes"),
            VerifierFault::StoredKey => f.write_str("StoredKey is not base64 of 32 bytes"),
            VerifierFault::ServerKey => f.write_str("ServerKey is not base64 of 32 bytes"),
            VerifierFault::ChallengeDiffers => {
                f.write_str("verifiers of one user must have the same salt and iteration count")
            }
            VerifierFault::PasswordEmpty => f.write_str("password is empty"),
            VerifierFault::TooMany => write!(f, "more than {CANDIDATES_MAX} passwords for one user"),
        }
    }
}

impl std::error::Error for VerifierFault {}

/// Base64 of exactly 32 bytes: a key, a proof or a signature.
pub(super) fn decode_key(text: &[u8]) -> Option<Digest256> {
    let mut key = [0; LEN];
    let decoded_len = Base64::decode(text, &mut key).ok()?.len();
    (decoded_len == LEN).then_some(key)
}

#[derive(Clone)]
struct StoredKeys {
    stored_key: Digest256,
    server_key: Digest256,
}

impl StoredKeys {
    fn of(keys: &Keys) -> StoredKeys {
        StoredKeys { stored_key: sha256(&keys.client_key), server_key: keys.server_key }
    }

    fn same(&self, other: &StoredKeys) -> Choice {
        self.stored_key.ct_eq(&other.stored_key) & self.server_key.ct_eq(&other.server_key)
    }
}

impl Drop for StoredKeys {
    fn drop(&mut self) {
        erase(&mut self.stored_key);
        erase(&mut self.server_key);
    }
}

/// Copies `from` if `choice`, in constant time.
fn assign(to: &mut Digest256, from: &Digest256, choice: Choice) {
    for (to, from) in to.iter_mut().zip(from) {
        to.conditional_assign(from, choice);
    }
}

static NOBODY: StoredKeys = StoredKeys { stored_key: [0; LEN], server_key: [0; LEN] };

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::rng::SeededRng;

    /// Made with Python's hashlib.pbkdf2_hmac and hmac: password, salt, iterations, verifier. The first has the
    /// password, salt and iterations of RFC 7677, section 3.
    const VECTORS: &[(&[u8], &[u8], u32, &str)] = &[
        (
            b"pencil",
            b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81",
            4096,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        ),
        (
            b"secret",
            b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
            4096,
            "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$THoPhoTAuqyoQsK4dUHncUzgfD8fdmhsgKZhWVqNP5U=:7YiHMMi2OcXGRogub03Ek06JRZ9bkhTOdCzHa5iPLiQ=",
        ),
        (
            "pässwörd".as_bytes(),
            &[0xff; 16],
            1000,
            "SCRAM-SHA-256$1000://///////////////////w==$T1TDQTdeFLjpMTpAwFvgTBaTtZoafn8pGIwlSW/6Gb8=:zlg33vjv0UwXqLh8MjTm7TFDqmOod4A/08nU0h9ByXg=",
        ),
        (
            b"",
            b"salt",
            1,
            "SCRAM-SHA-256$1:c2FsdA==$ZLuasIkXZj0o2fqXcPLYzzpuBYpt3tJtvx/2hUNTwXo=:F4IbwS68ORUj5EQrkiAz/2EVcQ4SbxB346aV8BbbDbk=",
        ),
        (
            &[b'x'; 200],
            b"0123456789abcdef",
            10,
            "SCRAM-SHA-256$10:MDEyMzQ1Njc4OWFiY2RlZg==$XWZQfDIv2Fu99IrV5ViGS5JGCKJI2KhIzLY9fysJUsE=:Cqr5d5qlKzjTJvIKa/2A88DyOE+5HxWuFzuHvedTgqw=",
        ),
    ];

    fn challenge(salt: &[u8], count: u32) -> Challenge {
        Challenge::new(salt, Iterations::new(count).unwrap()).unwrap()
    }

    #[test]
    fn vectors() {
        for (password, salt, count, text) in VECTORS {
            let made = Verifier::new(challenge(salt, *count), &derive(password, &challenge(salt, *count)));
            assert_eq!(made.reveal(), *text);
            let parsed = Verifier::parse(text).unwrap();
            assert_eq!(parsed.reveal(), *text);
            assert!(parsed.matches_password(password));
            assert!(!parsed.matches_password(b"other"));
        }
    }

    /// Made by PostgreSQL 15.18 itself: `initdb --pwfile` and `SELECT rolpassword FROM pg_authid`.
    #[test]
    fn verifier_of_postgresql() {
        let text = "SCRAM-SHA-256$4096:lo16nAIJNO24B5yJSWVSNA==$xt2ScLok4ROa+fzxw6NakE2xVAPbop8XrZQrd/fYGdE=:8A+XTwqDsuyXXC3fxjlu32mxvehZVMPteNY+36fedj8=";
        let verifier = Verifier::parse(text).unwrap();
        assert!(verifier.matches_password("pencil & Stift é".as_bytes()));
        assert!(!verifier.matches_password("pencil & Stift e".as_bytes()));
        assert_eq!(verifier.reveal(), text);
    }

    #[test]
    fn faults_of_verifiers() {
        let key = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
        let long_salt = Base64::encode_string(&[1; SALT_LEN_MAX + 1]);
        let cases = [
            (String::new(), VerifierFault::Shape),
            ("SCRAM-SHA-1$1:c2FsdA==$a:b".to_string(), VerifierFault::Shape),
            ("SCRAM-SHA-256$4096:c2FsdA==".to_string(), VerifierFault::Shape),
            (format!("SCRAM-SHA-256$4096:c2FsdA==${key}"), VerifierFault::Shape),
            (format!("SCRAM-SHA-256$:c2FsdA==${key}:{key}"), VerifierFault::IterationsMalformed),
            (format!("SCRAM-SHA-256$+1:c2FsdA==${key}:{key}"), VerifierFault::IterationsMalformed),
            (format!("SCRAM-SHA-256$0:c2FsdA==${key}:{key}"), VerifierFault::IterationsMalformed),
            (format!("SCRAM-SHA-256$1000001:c2FsdA==${key}:{key}"), VerifierFault::IterationsOutOfBounds),
            (
                format!("SCRAM-SHA-256$99999999999999999999:c2FsdA==${key}:{key}"),
                VerifierFault::IterationsOutOfBounds,
            ),
            (format!("SCRAM-SHA-256$1:c2F*dA==${key}:{key}"), VerifierFault::SaltEncoding),
            (format!("SCRAM-SHA-256$1:${key}:{key}"), VerifierFault::SaltLength),
            (format!("SCRAM-SHA-256$1:{long_salt}${key}:{key}"), VerifierFault::SaltLength),
            (format!("SCRAM-SHA-256$1:c2FsdA==$c2FsdA==:{key}"), VerifierFault::StoredKey),
            (format!("SCRAM-SHA-256$1:c2FsdA==${key}:{key}:"), VerifierFault::ServerKey),
            (format!("SCRAM-SHA-256$1:c2FsdA==${key}:{key}AAAA"), VerifierFault::ServerKey),
        ];
        for (text, fault) in cases {
            assert_eq!(Verifier::parse(&text).unwrap_err(), fault, "{text}");
        }
    }

    #[test]
    fn longest_salt_is_taken() {
        let longest = challenge(&[7; SALT_LEN_MAX], ITERATIONS_MAX);
        let text = Base64::encode_string(longest.salt());
        assert_eq!(Challenge::parse(text.as_bytes(), b"1000000").unwrap(), longest);
    }

    #[test]
    fn candidates_share_one_challenge() {
        let verifier = Verifier::parse(VECTORS[1].3).unwrap();
        let mut candidates = Candidates::of(verifier.clone());
        candidates.add_password(b"next").unwrap();
        candidates.add(verifier).unwrap();
        let other = Verifier::parse(VECTORS[0].3).unwrap();
        assert_eq!(candidates.add(other), Err(VerifierFault::ChallengeDiffers));
        assert_eq!(candidates.matches_password(b"next"), Some(1));
        assert_eq!(candidates.matches_password(b"nobody"), None);
        assert_eq!(candidates.add_password(b""), Err(VerifierFault::PasswordEmpty));
    }

    #[test]
    fn candidates_are_bounded() {
        let verifier = Verifier::parse(VECTORS[3].3).unwrap();
        let mut candidates = Candidates::of(verifier.clone());
        for _ in 1..CANDIDATES_MAX {
            candidates.add(verifier.clone()).unwrap();
        }
        assert_eq!(candidates.add(verifier), Err(VerifierFault::TooMany));
    }

    #[test]
    fn unknown_users_look_like_known_ones() {
        let secret = SaltSecret::new(&mut SeededRng::new(7));
        let unknown = Candidates::unknown(&secret, b"alice", Iterations::DEFAULT);
        let known = secret.challenge(b"alice", Iterations::DEFAULT);
        assert_eq!(unknown.challenge(), &known, "a name keeps its salt when its user appears");
        assert_eq!(known.salt().len(), SALT_LEN_DEFAULT);
        assert_ne!(known, secret.challenge(b"bob", Iterations::DEFAULT));
        assert_eq!(unknown.matches_password(b"anything"), None);
        let elsewhere = SaltSecret::new(&mut SeededRng::new(8));
        assert_ne!(known, elsewhere.challenge(b"alice", Iterations::DEFAULT));
    }

    #[test]
    fn nothing_secret_in_debug() {
        let verifier = Verifier::parse(VECTORS[0].3).unwrap();
        let keys = derive(b"pencil", verifier.challenge());
        for text in [
            format!("{verifier:?}"),
            format!("{:?}", Candidates::of(verifier)),
            format!("{keys:?}"),
            format!("{:?}", SaltSecret::from_bytes([65; 32])),
        ] {
            assert!(!text.contains("65, 65") && !text.contains("key"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_takes_anything(text in "(SCRAM-SHA-256\\$)?[0-9]{0,8}:?[A-Za-z0-9+/=]{0,30}\\$?.{0,90}") {
            if let Ok(verifier) = Verifier::parse(&text) {
                prop_assert_eq!(verifier.reveal(), text);
            }
        }
    }
}
