//! The client's role: logs in to a server and makes it prove that it knows the user's secret too.
//!
//! ```text
//! ClientGreeted --server_first--> NeedsKeys --resume--> AwaitsSignature --server_final--> Proven --AuthenticationOk-->
//!      |                             |  (PBKDF2 may run elsewhere meanwhile)  |
//!      +-------------------------- ScramFault -------------------------------+
//! ```
//!
//! Invariants: the slow derivation is never called here, its keys are brought ([`super::super::keys`]); nothing
//! derived from a secret is sent before the server's challenge was checked against its limits; only [`Proven`]
//! lets an AuthenticationOk pass.

use std::fmt;

use base64ct::{Base64, Encoding};
use subtle::ConstantTimeEq;

use super::super::digest::{Digest256, hmac_sha256, sha256, xor};
use super::super::limits::SERVER_ERROR_LEN_MAX;
use super::super::verifier::{Challenge, Keys, decode_key};
use super::{
    Attributes, EndPoint, HEADER_BOUND, HEADER_NOT_OFFERED, HEADER_WITHOUT, Mechanism, ScramFault, checked,
    checked_nonce, encode_binding, fresh_nonce,
};
use crate::base::rng::Rng;

/// What the connection to the server can be bound to, and whether it must be (libpq's `channel_binding`).
#[derive(Clone, Debug)]
pub enum ClientBinding {
    /// No TLS, a certificate without a usable digest, or switched off.
    Unavailable,
    Prefer(EndPoint),
    Require(EndPoint),
}

/// The payload of SASLInitialResponse.
#[derive(Debug)]
pub struct Greeting {
    pub mechanism: Mechanism,
    pub message: Vec<u8>,
}

/// After client-first-message, before server-first-message.
#[derive(Debug)]
pub struct ClientGreeted {
    /// The value of `c=` that the final message will have.
    binding: String,
    bare: Vec<u8>,
    nonce: String,
}

impl ClientGreeted {
    /// Answers AuthenticationSASL, which lists the mechanisms `offered`. The user name is left empty, as in libpq:
    /// PostgreSQL takes the one of the startup message.
    pub fn begin<'a>(
        offered: impl IntoIterator<Item = &'a [u8]>,
        binding: &ClientBinding,
        rng: &mut dyn Rng,
    ) -> Result<(Greeting, ClientGreeted), ScramFault> {
        let (mut scram, mut plus) = (None, None);
        for name in offered {
            match Mechanism::parse(name) {
                Some(Mechanism::Scram) => scram = Some(Mechanism::Scram),
                Some(Mechanism::ScramPlus) => plus = Some(Mechanism::ScramPlus),
                None => {}
            }
        }
        let (mechanism, header, end_point) = match binding {
            ClientBinding::Unavailable => (scram, HEADER_WITHOUT, None),
            ClientBinding::Prefer(end_point) | ClientBinding::Require(end_point) if plus.is_some() => {
                (plus, HEADER_BOUND, Some(end_point))
            }
            // Says that we could have bound: a server that offered it then knows that the offer was removed.
            ClientBinding::Prefer(_) => (scram, HEADER_NOT_OFFERED, None),
            ClientBinding::Require(_) => return Err(ScramFault::BindingNotOffered),
        };
        let mechanism = mechanism.ok_or(ScramFault::MechanismNotOffered)?;
        let binding = encode_binding(header, end_point);
        let (message, next) = ClientGreeted::greet(header, binding, "", fresh_nonce(rng));
        Ok((Greeting { mechanism, message }, next))
    }

    fn greet(header: &[u8], binding: String, user: &str, nonce: String) -> (Vec<u8>, ClientGreeted) {
        let bare = format!("n={user},r={nonce}").into_bytes();
        ([header, &bare].concat(), ClientGreeted { binding, bare, nonce })
    }

    /// Takes server-first-message, the payload of AuthenticationSASLContinue.
    pub fn server_first(self, message: &[u8]) -> Result<NeedsKeys, ScramFault> {
        let message = checked(message)?;
        let mut attributes = Attributes::of(message);
        let nonce = checked_nonce(attributes.expect(b'r')?)?;
        let salt = attributes.expect(b's')?;
        let iterations = attributes.expect(b'i')?;
        attributes.skip_extensions()?;

        // The server must add to our nonce, or it could replay an old exchange.
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(self.nonce.as_bytes()) {
            return Err(ScramFault::NonceMismatch);
        }
        let challenge = Challenge::parse(salt, iterations).map_err(ScramFault::ChallengeMalformed)?;
        let without_proof = [b"c=", self.binding.as_bytes(), b",r=", nonce].concat();
        let auth_message = [&self.bare[..], message, &without_proof].join(&b","[..]);
        Ok(NeedsKeys { challenge, without_proof, auth_message })
    }
}

/// After server-first-message: paused until somebody brings the keys for its challenge.
#[derive(Debug)]
pub struct NeedsKeys {
    challenge: Challenge,
    without_proof: Vec<u8>,
    auth_message: Vec<u8>,
}

impl NeedsKeys {
    /// What the keys must be derived with.
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// Yields client-final-message. `keys` must be those of [`NeedsKeys::challenge`], or the server will refuse.
    pub fn resume(self, keys: &Keys) -> (Vec<u8>, AwaitsSignature) {
        let stored_key = sha256(keys.client_key());
        let signature = hmac_sha256(&stored_key, &[&self.auth_message]);
        let proof = Base64::encode_string(&xor(keys.client_key(), &signature));
        let expected = hmac_sha256(keys.server_key(), &[&self.auth_message]);
        let message = [&self.without_proof[..], b",p=", proof.as_bytes()].concat();
        (message, AwaitsSignature { expected })
    }
}

/// After client-final-message, before server-final-message.
pub struct AwaitsSignature {
    expected: Digest256,
}

impl AwaitsSignature {
    /// Takes server-final-message, the payload of AuthenticationSASLFinal.
    pub fn server_final(self, message: &[u8]) -> Result<Proven, ScramFault> {
        let mut attributes = Attributes::of(checked(message)?);
        let signature = match attributes.next()? {
            Some((b'v', signature)) => signature,
            Some((b'e', error)) => return Err(ScramFault::ServerReported(printable(error))),
            _ => return Err(ScramFault::AttributeExpected('v')),
        };
        attributes.skip_extensions()?;
        let signature = decode_key(signature).ok_or(ScramFault::SignatureMalformed)?;
        if bool::from(signature.ct_eq(&self.expected)) {
            Ok(Proven(()))
        } else {
            Err(ScramFault::SignatureRejected)
        }
    }
}

impl fmt::Debug for AwaitsSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwaitsSignature(***)")
    }
}

/// The server has proved that it knows the user's secret. Cannot be made in any other way.
#[derive(Debug, PartialEq, Eq)]
pub struct Proven(());

/// The states in one place, for a session that keeps an exchange between two messages.
#[derive(Debug)]
pub enum ClientScram {
    Greeted(ClientGreeted),
    NeedsKeys(NeedsKeys),
    AwaitsSignature(AwaitsSignature),
    Proven(Proven),
}

impl ClientScram {
    /// AuthenticationOk has come: [`ScramFault::OkBeforeSignature`] unless the server has proved itself (libpq:
    /// "server returned AuthenticationOk without SCRAM authentication being completed").
    pub fn authentication_ok(self) -> Result<Proven, ScramFault> {
        match self {
            ClientScram::Proven(proven) => Ok(proven),
            ClientScram::Greeted(_) | ClientScram::NeedsKeys(_) | ClientScram::AwaitsSignature(_) => {
                Err(ScramFault::OkBeforeSignature)
            }
        }
    }
}

/// The server's text, fit for a log line.
fn printable(text: &[u8]) -> String {
    text.iter()
        .take(SERVER_ERROR_LEN_MAX)
        .map(|&byte| if byte == b' ' || byte.is_ascii_graphic() { char::from(byte) } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::verifier::{VerifierFault, derive};
    use super::*;
    use crate::base::rng::SeededRng;

    const RFC_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn rfc_greeted() -> ClientGreeted {
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_string();
        let (message, greeted) =
            ClientGreeted::greet(HEADER_WITHOUT, encode_binding(HEADER_WITHOUT, None), "user", nonce);
        assert_eq!(message, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        greeted
    }

    fn rfc_awaits_signature() -> AwaitsSignature {
        let needs = rfc_greeted().server_first(RFC_FIRST).unwrap();
        let keys = derive(b"pencil", needs.challenge());
        let (message, awaits) = needs.resume(&keys);
        assert_eq!(
            message,
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        awaits
    }

    /// RFC 7677, section 3.
    #[test]
    fn rfc_7677() {
        let last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        let proven = rfc_awaits_signature().server_final(last).unwrap();
        assert!(ClientScram::Proven(proven).authentication_ok().is_ok());
    }

    #[test]
    fn choice_of_mechanism() {
        let end_point = EndPoint::new(b"certificate").unwrap();
        let both: &[&[u8]] = &[b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"];
        let scram: &[&[u8]] = &[b"OAUTHBEARER", b"SCRAM-SHA-256"];
        let plus: &[&[u8]] = &[b"SCRAM-SHA-256-PLUS"];
        let prefer = ClientBinding::Prefer(end_point.clone());
        let require = ClientBinding::Require(end_point);
        let unavailable = ClientBinding::Unavailable;
        let cases = [
            (both, &unavailable, Ok((Mechanism::Scram, &b"n,,n=,r="[..]))),
            (both, &prefer, Ok((Mechanism::ScramPlus, b"p=tls-server-end-point,,n=,r="))),
            (both, &require, Ok((Mechanism::ScramPlus, b"p=tls-server-end-point,,n=,r="))),
            (scram, &prefer, Ok((Mechanism::Scram, b"y,,n=,r="))),
            (scram, &require, Err(ScramFault::BindingNotOffered)),
            (plus, &unavailable, Err(ScramFault::MechanismNotOffered)),
            (&[], &prefer, Err(ScramFault::MechanismNotOffered)),
        ];
        for (offered, binding, expected) in cases {
            let begun = ClientGreeted::begin(offered.iter().copied(), binding, &mut SeededRng::new(1));
            match (begun, expected) {
                (Ok((greeting, _)), Ok((mechanism, start))) => {
                    assert_eq!(greeting.mechanism, mechanism);
                    assert!(greeting.message.starts_with(start));
                    assert_eq!(greeting.message.len(), start.len() + 24);
                }
                (begun, expected) => assert_eq!(begun.map(|_| ()), expected.map(|_| ())),
            }
        }
    }

    #[test]
    fn faults_of_the_first_message() {
        let challenge = |fault| ScramFault::ChallengeMalformed(fault);
        let start = "r=rOprNGfwEbeRWgbNEkqO";
        let cases = [
            (String::new(), ScramFault::MessageEmpty),
            (format!("{start}x,s=AAAA,i=1,x={}", "y".repeat(1024)), ScramFault::MessageTooLong),
            ("e=other-error".to_string(), ScramFault::AttributeExpected('r')),
            (format!("m=x,{start}x,s=AAAA,i=1"), ScramFault::MandatoryExtension),
            (format!("{start},s=AAAA,i=1"), ScramFault::NonceMismatch),
            ("r=rOprNGfwEbeRWgbNEkqPx,s=AAAA,i=1".to_string(), ScramFault::NonceMismatch),
            (format!("{start}\x7f,s=AAAA,i=1"), ScramFault::NonceMalformed),
            (format!("{start}{},s=AAAA,i=1", "x".repeat(256)), ScramFault::NonceTooLong),
            (format!("{start}x"), ScramFault::AttributeExpected('s')),
            (format!("{start}x,i=1,s=AAAA"), ScramFault::AttributeExpected('s')),
            (format!("{start}x,s=AAAA"), ScramFault::AttributeExpected('i')),
            (format!("{start}x,s=,i=1"), challenge(VerifierFault::SaltLength)),
            (format!("{start}x,s=A*AA,i=1"), challenge(VerifierFault::SaltEncoding)),
            (format!("{start}x,s={},i=1", "AAAA".repeat(43)), challenge(VerifierFault::SaltLength)),
            (format!("{start}x,s=AAAA,i="), challenge(VerifierFault::IterationsMalformed)),
            (format!("{start}x,s=AAAA,i=-1"), challenge(VerifierFault::IterationsMalformed)),
            (format!("{start}x,s=AAAA,i=0"), challenge(VerifierFault::IterationsMalformed)),
            (format!("{start}x,s=AAAA,i=1000001"), challenge(VerifierFault::IterationsOutOfBounds)),
            (format!("{start}x,s=AAAA,i=4294967297"), challenge(VerifierFault::IterationsOutOfBounds)),
            (format!("{start}x,s=AAAA,i=1,"), ScramFault::AttributeMalformed),
        ];
        for (message, fault) in cases {
            assert_eq!(rfc_greeted().server_first(message.as_bytes()).unwrap_err(), fault, "{message}");
        }
        for good in ["i=1", "i=1000000", "i=1,x=extension"] {
            let message = format!("{start}x,s=AAAA,{good}");
            assert!(rfc_greeted().server_first(message.as_bytes()).is_ok(), "{message}");
        }
    }

    #[test]
    fn faults_of_the_final_message() {
        let cases: &[(&[u8], ScramFault)] = &[
            (b"", ScramFault::MessageEmpty),
            (b"v=", ScramFault::SignatureMalformed),
            (b"v=AAAA", ScramFault::SignatureMalformed),
            (b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4", ScramFault::SignatureMalformed),
            (b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", ScramFault::SignatureRejected),
            (b"e=invalid-proof", ScramFault::ServerReported("invalid-proof".to_string())),
            (b"e=a\n\xffb", ScramFault::ServerReported("a??b".to_string())),
            (b"x=1", ScramFault::AttributeExpected('v')),
            (b"m=1,v=AAAA", ScramFault::MandatoryExtension),
        ];
        let awaits = rfc_awaits_signature();
        for (message, fault) in cases {
            let state = AwaitsSignature { expected: awaits.expected };
            assert_eq!(state.server_final(message).unwrap_err(), *fault, "{message:?}");
        }
    }

    #[test]
    fn ok_before_the_signature_is_a_fault() {
        let states = [
            ClientScram::Greeted(rfc_greeted()),
            ClientScram::NeedsKeys(rfc_greeted().server_first(RFC_FIRST).unwrap()),
            ClientScram::AwaitsSignature(rfc_awaits_signature()),
        ];
        for state in states {
            assert_eq!(state.authentication_ok(), Err(ScramFault::OkBeforeSignature));
        }
    }
}
