//! SHA-256 and HMAC-SHA-256 over parts: the only file that knows the interface of the hash crates, besides MD5 and
//! PBKDF2.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub(super) const LEN: usize = 32;

pub(super) type Digest256 = [u8; LEN];

pub(super) fn sha256(bytes: &[u8]) -> Digest256 {
    Sha256::digest(bytes).into()
}

/// HMAC of the concatenation of `parts`.
pub(super) fn hmac_sha256(key: &Digest256, parts: &[&[u8]]) -> Digest256 {
    // HMAC pads short keys with zeros to the block length (RFC 2104, section 2). Doing it here makes the key's
    // length right by its type, so that nothing can fail.
    let mut block = [0; 64];
    block[..LEN].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    super::secret::erase(&mut block);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn xor(left: &Digest256, right: &Digest256) -> Digest256 {
    std::array::from_fn(|at| left[at] ^ right[at])
}
