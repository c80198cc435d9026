//! Passwords that a client sends in clear, against whatever form is stored (`plain_crypt_verify` in PostgreSQL's
//! src/backend/libpq/crypt.c).
//!
//! For several passwords, or to hide whether a user exists, keep the user's secrets as
//! [`super::verifier::Candidates`] and use [`super::verifier::Candidates::matches_password`] after
//! [`checked_password`]: one PBKDF2, whoever asks.

use std::fmt;

use subtle::ConstantTimeEq;

use super::digest::sha256;
use super::limits::PASSWORD_LEN_MAX;
use super::md5::Md5Hash;
use super::secret::{Password, erase};
use super::verifier::Verifier;

/// A stored password in any of its forms: from the configuration, or `rolpassword` of `pg_authid`.
#[derive(Clone, Debug)]
pub enum StoredSecret {
    Text(Password),
    Md5(Md5Hash),
    Scram(Verifier),
}

impl StoredSecret {
    /// As `get_password_type` in crypt.c: what is neither a whole md5 hash nor a whole SCRAM verifier is a
    /// password in clear. Use it where the form is not known otherwise: `md5…` cannot be the password of anybody.
    pub fn parse(text: &str) -> StoredSecret {
        if let Some(hash) = Md5Hash::parse(text.as_bytes()) {
            return StoredSecret::Md5(hash);
        }
        match Verifier::parse(text) {
            Ok(verifier) => StoredSecret::Scram(verifier),
            Err(_) => StoredSecret::Text(Password::new(text.as_bytes())),
        }
    }

    /// Whether `given`, in clear, is this secret. **Slow** for [`StoredSecret::Scram`] (PBKDF2): for the helper
    /// thread.
    pub fn matches(&self, user: &[u8], given: &[u8]) -> Result<(), PlainFault> {
        let given = checked_password(given)?;
        let same = match self {
            StoredSecret::Text(password) => same_text(password.bytes(), given),
            StoredSecret::Md5(hash) => hash.same(&Md5Hash::of(given, user)).into(),
            StoredSecret::Scram(verifier) => verifier.matches_password(given),
        };
        if same { Ok(()) } else { Err(PlainFault::Rejected) }
    }
}

/// The bounds of a password that a client sent in clear, without the zero byte that ends it.
pub fn checked_password(given: &[u8]) -> Result<&[u8], PlainFault> {
    if given.is_empty() {
        // PostgreSQL refuses it always (auth.c, "empty password returned by client").
        return Err(PlainFault::Empty);
    }
    if given.len() > PASSWORD_LEN_MAX {
        return Err(PlainFault::TooLong);
    }
    Ok(given)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainFault {
    Empty,
    TooLong,
    Rejected,
}

impl fmt::Display for PlainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlainFault::Empty => f.write_str("empty password returned by client"),
            PlainFault::TooLong => write!(f, "password is longer than {PASSWORD_LEN_MAX} bytes"),
            PlainFault::Rejected => f.write_str("password authentication failed"),
        }
    }
}

impl std::error::Error for PlainFault {}

/// Compares digests, so that time does not tell where two passwords begin to differ, nor the length of the stored
/// one beyond the number of its 64-byte blocks.
pub(super) fn same_text(stored: &[u8], given: &[u8]) -> bool {
    let (mut stored, mut given) = (sha256(stored), sha256(given));
    let same = stored.ct_eq(&given).into();
    erase(&mut stored);
    erase(&mut given);
    same
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMS: &[&str] = &[
        "secret",
        "md54a0a68b43b6cd5cf266fa02f196e2371",
        "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$THoPhoTAuqyoQsK4dUHncUzgfD8fdmhsgKZhWVqNP5U=:7YiHMMi2OcXGRogub03Ek06JRZ9bkhTOdCzHa5iPLiQ=",
    ];

    #[test]
    fn every_stored_form() {
        for text in FORMS {
            let stored = StoredSecret::parse(text);
            assert_eq!(stored.matches(b"alice", b"secret"), Ok(()));
            assert_eq!(stored.matches(b"alice", b"Secret"), Err(PlainFault::Rejected));
            assert_eq!(stored.matches(b"alice", b"secret1"), Err(PlainFault::Rejected));
            assert_eq!(stored.matches(b"alice", b""), Err(PlainFault::Empty));
            assert_eq!(stored.matches(b"alice", &[b'x'; PASSWORD_LEN_MAX + 1]), Err(PlainFault::TooLong));
            assert!(!format!("{stored:?}").contains("secret"));
        }
        assert_eq!(
            StoredSecret::parse(FORMS[1]).matches(b"bob", b"secret"),
            Err(PlainFault::Rejected),
            "an md5 hash is of one user"
        );
    }

    #[test]
    fn forms_are_told_apart() {
        assert!(matches!(StoredSecret::parse(FORMS[0]), StoredSecret::Text(_)));
        assert!(matches!(StoredSecret::parse(FORMS[1]), StoredSecret::Md5(_)));
        assert!(matches!(StoredSecret::parse(FORMS[2]), StoredSecret::Scram(_)));
        assert!(matches!(StoredSecret::parse("md5 is old"), StoredSecret::Text(_)));
        assert!(matches!(StoredSecret::parse("SCRAM-SHA-256$oops"), StoredSecret::Text(_)));
    }

    #[test]
    fn the_stored_hash_is_not_a_password() {
        for text in &FORMS[1..] {
            assert_eq!(
                StoredSecret::parse(text).matches(b"alice", text.as_bytes()),
                Err(PlainFault::Rejected)
            );
        }
    }

    proptest! {
        #[test]
        fn only_equal_texts_match(stored in "[a-z]{1,4}", given in prop::collection::vec(any::<u8>(), 1..5)) {
            let secret = StoredSecret::Text(Password::new(stored.as_bytes()));
            prop_assert_eq!(secret.matches(b"u", &given).is_ok(), stored.as_bytes() == given);
        }
    }
}
