//! PostgreSQL's md5 method, both roles (src/common/md5_common.c, `md5_crypt_verify` in src/backend/libpq/crypt.c).
//!
//! Stored is `md5` and the hex of MD5(password ‖ user); sent is `md5` and the hex of MD5(that hex ‖ 4 bytes of
//! salt). It is kept for servers and clients that have nothing better: who knows the stored hash can log in with
//! it.

use std::fmt;

use md5::{Digest, Md5};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::limits::CANDIDATES_MAX;
use super::secret::erase;
use crate::base::rng::Rng;

/// What AuthenticationMD5Password carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub [u8; 4]);

impl Salt {
    pub fn new(rng: &mut dyn Rng) -> Salt {
        let mut salt = [0; 4];
        rng.fill(&mut salt);
        Salt(salt)
    }
}

/// The stored form: as good as the password for this method.
#[derive(Clone)]
pub struct Md5Hash([u8; HEX_LEN]);

impl Md5Hash {
    pub fn of(password: &[u8], user: &[u8]) -> Md5Hash {
        Md5Hash(hex_md5(password, user))
    }

    /// `md5` and 32 lower-case hex digits; `None` for anything else, as in `get_password_type` of crypt.c.
    pub fn parse(text: &[u8]) -> Option<Md5Hash> {
        let hex: [u8; HEX_LEN] = text.strip_prefix(PREFIX)?.try_into().ok()?;
        hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(Md5Hash(hex))
    }

    /// The client's answer, without the zero byte that ends it in PasswordMessage.
    pub fn response(&self, salt: Salt) -> [u8; RESPONSE_LEN] {
        let mut response = [0; RESPONSE_LEN];
        response[..PREFIX.len()].copy_from_slice(PREFIX);
        response[PREFIX.len()..].copy_from_slice(&hex_md5(&self.0, &salt.0));
        response
    }

    pub(super) fn same(&self, other: &Md5Hash) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl Drop for Md5Hash {
    fn drop(&mut self) {
        erase(&mut self.0);
    }
}

impl fmt::Debug for Md5Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Hash(***)")
    }
}

/// The server's role: which of the user's hashes `response` proves. `None` for a wrong password and for a user who
/// does not exist (no `hashes`), after the same work. Hashes beyond [`CANDIDATES_MAX`] are not looked at.
pub fn verify(hashes: &[Md5Hash], salt: Salt, response: &[u8]) -> Option<usize> {
    let nobody = Md5Hash([0; HEX_LEN]);
    let (mut hit, mut found) = (Choice::from(0), 0u32);
    for slot in 0..CANDIDATES_MAX {
        let (hash, genuine) = match hashes.get(slot) {
            Some(hash) => (hash, Choice::from(1)),
            None => (&nobody, Choice::from(0)),
        };
        let same = response.ct_eq(&hash.response(salt)) & genuine;
        found.conditional_assign(&(slot as u32), same);
        hit |= same;
    }
    bool::from(hit).then_some(found as usize)
}

fn hex_md5(first: &[u8], second: &[u8]) -> [u8; HEX_LEN] {
    let digest = Md5::new_with_prefix(first).chain_update(second).finalize();
    let mut hex = [0; HEX_LEN];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
        pair.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
    }
    hex
}

/// Without a table: an index would depend on the secret.
fn hex_digit(nibble: u8) -> u8 {
    let letter = Choice::from((nibble > 9) as u8);
    u8::conditional_select(&(nibble + b'0'), &(nibble + (b'a' - 10)), letter)
}

const PREFIX: &[u8] = b"md5";
const HEX_LEN: usize = 32;
const RESPONSE_LEN: usize = PREFIX.len() + HEX_LEN;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The stored form by PostgreSQL 15.18 (`ALTER ROLE alice PASSWORD 'secret'`), the response by Python's
    /// hashlib.md5.
    #[test]
    fn vectors() {
        let hash = Md5Hash::of(b"secret", b"alice");
        assert!(bool::from(hash.same(&Md5Hash::parse(b"md54a0a68b43b6cd5cf266fa02f196e2371").unwrap())));
        assert_eq!(&hash.response(Salt([1, 2, 3, 4])), b"md598a0412b9c31436fc53776e863350083");
    }

    #[test]
    fn stored_forms() {
        for text in [
            &b""[..],
            b"md5",
            b"md54a0a68b43b6cd5cf266fa02f196e237",
            b"md54a0a68b43b6cd5cf266fa02f196e23711",
            b"md54A0A68b43b6cd5cf266fa02f196e2371",
            b"md5ga0a68b43b6cd5cf266fa02f196e2371",
            b"MD54a0a68b43b6cd5cf266fa02f196e2371",
        ] {
            assert!(Md5Hash::parse(text).is_none(), "{text:?}");
        }
        assert_eq!(format!("{:?}", Md5Hash::of(b"a", b"b")), "Md5Hash(***)");
    }

    #[test]
    fn each_password_of_a_rotation_and_no_other() {
        let hashes = [Md5Hash::of(b"old", b"alice"), Md5Hash::of(b"new", b"alice")];
        let salt = Salt([9, 8, 7, 6]);
        for (at, password) in [&b"old"[..], b"new"].into_iter().enumerate() {
            let response = Md5Hash::of(password, b"alice").response(salt);
            assert_eq!(verify(&hashes, salt, &response), Some(at));
            assert_eq!(verify(&hashes, Salt([0; 4]), &response), None);
            assert_eq!(verify(&[], salt, &response), None);
        }
        assert_eq!(verify(&hashes, salt, &Md5Hash::of(b"old", b"bob").response(salt)), None);
        let of_nobody = Md5Hash([0; HEX_LEN]).response(salt);
        assert_eq!(verify(&[], salt, &of_nobody), None);
    }

    #[test]
    fn flipped_bits_are_refused() {
        let (hashes, salt) = ([Md5Hash::of(b"secret", b"alice")], Salt([1, 2, 3, 4]));
        let good = hashes[0].response(salt);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good;
                bad[at] ^= 1 << bit;
                assert_eq!(verify(&hashes, salt, &bad), None);
            }
            assert_eq!(verify(&hashes, salt, &good[..at]), None);
        }
    }

    proptest! {
        #[test]
        fn anything_may_come(response in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(verify(&[Md5Hash::of(b"secret", b"alice")], Salt([0; 4]), &response), None);
            let _ = Md5Hash::parse(&response);
        }
    }
}
