//! Proofs of identity on the server's side: MD5 and SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding.

use std::cell::RefCell;
use std::collections::HashMap;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};

pub fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

type Salted = HashMap<(String, Vec<u8>, u32), [u8; 32]>;

thread_local! {
    /// Clients that prove the same password to the same salt are many, and that would be a third of all the work.
    static SALTED: RefCell<Salted> = RefCell::default();
}

const SALTED_MAX: usize = 1_000;

/// `Hi` of RFC 5802.
pub fn salted(password: &str, salt: &[u8], iterations: u32) -> [u8; 32] {
    let what = (password.to_owned(), salt.to_vec(), iterations);
    SALTED.with_borrow_mut(|known| {
        if known.len() >= SALTED_MAX {
            known.clear();
        }
        *known.entry(what).or_insert_with(|| salt_anew(password, salt, iterations))
    })
}

fn salt_anew(password: &str, salt: &[u8], iterations: u32) -> [u8; 32] {
    let keyed = Hmac::<Sha256>::new_from_slice(password.as_bytes()).expect("HMAC takes keys of any length");
    let hash =
        |bytes: &[u8]| -> [u8; 32] { keyed.clone().chain_update(bytes).finalize().into_bytes().into() };
    let mut block = hash(&[salt, &1_u32.to_be_bytes()].concat());
    let mut out = block;
    for _ in 1..iterations {
        block = hash(&block);
        out.iter_mut().zip(block).for_each(|(byte, other)| *byte ^= other);
    }
    out
}

pub fn md5_hex(parts: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The answer to AuthenticationMD5Password.
pub fn md5_answer(user: &str, password: &str, salt: &[u8]) -> String {
    let inner = md5_hex(&[password.as_bytes(), user.as_bytes()]);
    format!("md5{}", md5_hex(&[inner.as_bytes(), salt]))
}

/// The server's side after its first message.
pub struct ScramServer {
    salted: [u8; 32],
    /// Everything the proofs are over, up to the client's last message.
    transcript: String,
    nonce: String,
    gs2: String,
}

impl ScramServer {
    /// Takes the client's first message; answers the server's first.
    pub fn start(
        first: &str,
        password: &str,
        salt: &[u8],
        iterations: u32,
        nonce: &str,
    ) -> Option<(ScramServer, String)> {
        let gs2_end = first.match_indices(',').nth(1)?.0 + 1;
        let (gs2, bare) = first.split_at(gs2_end);
        let client_nonce = bare.split(',').find_map(|part| part.strip_prefix("r="))?;
        let nonce = format!("{client_nonce}{nonce}");
        let answer = format!("r={nonce},s={},i={iterations}", Base64::encode_string(salt));
        let server = ScramServer {
            salted: salted(password, salt, iterations),
            transcript: format!("{bare},{answer},"),
            nonce,
            gs2: Base64::encode_string(gs2.as_bytes()),
        };
        Some((server, answer))
    }

    /// Takes the client's last message; answers the server's last, if the proof is right.
    pub fn finish(&self, last: &str) -> Option<String> {
        let (without, proof) = last.rsplit_once(",p=")?;
        if without != format!("c={},r={}", self.gs2, self.nonce) {
            return None;
        }
        let transcript = format!("{}{without}", self.transcript);
        let client_key = hmac(&self.salted, &[b"Client Key"]);
        let signature = hmac(&sha256(&client_key), &[transcript.as_bytes()]);
        let expected: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        if Base64::decode_vec(proof).ok()? != expected {
            return None;
        }
        let server_key = hmac(&self.salted, &[b"Server Key"]);
        Some(format!("v={}", Base64::encode_string(&hmac(&server_key, &[transcript.as_bytes()]))))
    }
}

/// The client's side, for scripts and simulated clients.
pub struct ScramClient {
    password: String,
    bare: String,
}

impl ScramClient {
    /// The body of SASLInitialResponse.
    pub fn start(password: &str, nonce: &str) -> (ScramClient, Vec<u8>) {
        let bare = format!("n=,r={nonce}");
        let first = format!("n,,{bare}");
        let body = crate::frame::body().text("SCRAM-SHA-256").value(Some(first.as_bytes())).0;
        (ScramClient { password: password.to_string(), bare }, body)
    }

    /// The body of SASLResponse, from the server's first message.
    pub fn proof(&self, server_first: &str) -> Option<Vec<u8>> {
        let part = |prefix: &str| server_first.split(',').find_map(|part| part.strip_prefix(prefix));
        let salt = Base64::decode_vec(part("s=")?).ok()?;
        let salted = salted(&self.password, &salt, part("i=")?.parse().ok()?);
        let without = format!("c=biws,r={}", part("r=")?);
        let transcript = format!("{},{server_first},{without}", self.bare);
        let client_key = hmac(&salted, &[b"Client Key"]);
        let signature = hmac(&sha256(&client_key), &[transcript.as_bytes()]);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        Some(format!("{without},p={}", Base64::encode_string(&proof)).into_bytes())
    }
}
