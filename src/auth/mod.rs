//! Authentication: SCRAM-SHA-256 in both roles, MD5 in both roles, cleartext comparison, secrets and the key
//! cache.
//!
//! Owns: what bytes go into and come out of an authentication exchange, and what counts as proof.
//! Does not own: framing (`wire`), which method a user must use, the SQLSTATE and text that a client sees
//! (`session`), where passwords come from (`config`), certificates (`io` computes the channel-binding digest).
//!
//! Invariants:
//! - No clock, no thread, no randomness of its own: random bytes come through [`crate::base::rng::Rng`].
//! - Every length that a peer chooses has a bound in [`limits`]; no input panics.
//! - Whatever is compared against a secret is compared in constant time, and an exchange costs the same for a user
//!   who does not exist ([`verifier::Candidates::unknown`]).
//! - No `Debug` or `Display` here shows a secret, and secrets are overwritten when dropped ([`secret`]).
//!
//! The only slow function is PBKDF2: [`verifier::derive`] and what calls it. Its callers run on the helper thread.

mod digest;

pub mod attempts;
pub mod keys;
pub mod limits;
pub mod md5;
pub mod plain;
pub mod scram;
pub mod secret;
pub mod verifier;
