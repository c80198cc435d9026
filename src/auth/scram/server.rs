//! The server's role: proves that a client knows a password without seeing it.
//!
//! ```text
//! ServerStart --client_first--> ServerChallenged --client_final--> Login
//!      |                               |
//!      +---------- ScramFault ---------+   the exchange is over; nothing can be tried again on it
//! ```
//!
//! Invariants: a state is consumed by its step, so a message cannot be replayed to it; the proof is only looked at
//! after the nonce and the channel binding were found right; an unknown user takes the same steps as a known one
//! up to and including the proof.

use std::fmt;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use subtle::ConstantTimeEq;

use super::super::digest::hmac_sha256;
use super::super::verifier::{Candidates, Challenge, Keys, decode_key};
use super::{
    Attributes, EndPoint, HEADER_BOUND, HEADER_NOT_OFFERED, HEADER_WITHOUT, Mechanism, ScramFault, checked,
    checked_nonce, encode_binding, fresh_nonce,
};
use crate::base::rng::Rng;

/// What the connection to the client can be bound to.
#[derive(Clone, Debug)]
pub enum ServerBinding {
    /// No TLS, or a certificate without a usable digest: SCRAM-SHA-256-PLUS is not offered.
    Unavailable,
    Offered(EndPoint),
}

impl ServerBinding {
    /// What to list in AuthenticationSASL, in PostgreSQL's order.
    pub fn mechanisms(&self) -> &'static [Mechanism] {
        match self {
            ServerBinding::Unavailable => &[Mechanism::Scram],
            ServerBinding::Offered(_) => &[Mechanism::ScramPlus, Mechanism::Scram],
        }
    }
}

/// Before the client's first message.
#[derive(Debug)]
pub struct ServerStart {
    candidates: Arc<Candidates>,
    rule: Rule,
}

impl ServerStart {
    /// `mechanism` is the name in the client's SASLInitialResponse; [`ScramFault::MechanismUnknown`] unless it was
    /// offered. For a user who may not log in, pass [`Candidates::unknown`] and go on as if nothing had happened.
    pub fn new(
        candidates: Arc<Candidates>,
        binding: ServerBinding,
        mechanism: &[u8],
    ) -> Result<ServerStart, ScramFault> {
        let mechanism = Mechanism::parse(mechanism).ok_or(ScramFault::MechanismUnknown)?;
        let rule = match (mechanism, binding) {
            (Mechanism::Scram, ServerBinding::Unavailable) => Rule::Unavailable,
            (Mechanism::Scram, ServerBinding::Offered(_)) => Rule::NotChosen,
            (Mechanism::ScramPlus, ServerBinding::Offered(end_point)) => Rule::Bound(end_point),
            (Mechanism::ScramPlus, ServerBinding::Unavailable) => return Err(ScramFault::MechanismUnknown),
        };
        Ok(ServerStart { candidates, rule })
    }

    /// Takes client-first-message and yields server-first-message, the payload of AuthenticationSASLContinue.
    pub fn client_first(
        self,
        message: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<(Vec<u8>, ServerChallenged), ScramFault> {
        self.challenge(message, &fresh_nonce(rng))
    }

    fn challenge(
        self,
        message: &[u8],
        server_nonce: &str,
    ) -> Result<(Vec<u8>, ServerChallenged), ScramFault> {
        let (flag, after_flag) = split_at_comma(checked(message)?)?;
        let binding = self.rule.expected_binding(flag)?;
        let (identity, bare) = split_at_comma(after_flag)?;
        match identity {
            [] => {}
            [b'a', ..] => return Err(ScramFault::AuthorizationIdentity),
            _ => return Err(ScramFault::AttributeMalformed),
        }

        let mut attributes = Attributes::of(bare);
        // PostgreSQL ignores this name too: the user is the one of the startup message.
        attributes.expect(b'n')?;
        let client_nonce = checked_nonce(attributes.expect(b'r')?)?;
        attributes.skip_extensions()?;

        let nonce = [client_nonce, server_nonce.as_bytes()].concat();
        let reply = {
            let challenge = self.candidates.challenge();
            let salt = Base64::encode_string(challenge.salt());
            let iterations = challenge.iterations().count();
            [b"r=", &nonce[..], format!(",s={salt},i={iterations}").as_bytes()].concat()
        };
        let auth_head = [bare, b",", &reply, b","].concat();
        let next = ServerChallenged { candidates: self.candidates, binding, nonce, auth_head };
        Ok((reply, next))
    }
}

/// After server-first-message, before client-final-message.
pub struct ServerChallenged {
    candidates: Arc<Candidates>,
    binding: ExpectedBinding,
    nonce: Vec<u8>,
    /// AuthMessage (RFC 5802, section 3) up to what the client's final message adds.
    auth_head: Vec<u8>,
}

impl ServerChallenged {
    /// Takes client-final-message and yields server-final-message, the payload of AuthenticationSASLFinal. A wrong
    /// password and an unknown user are the same [`ScramFault::ProofRejected`].
    pub fn client_final(self, message: &[u8]) -> Result<(Vec<u8>, Login), ScramFault> {
        let message = checked(message)?;
        // The proof is the last attribute, and everything before its comma is signed.
        let proof_at =
            message.iter().rposition(|&byte| byte == b',').ok_or(ScramFault::AttributeExpected('p'))?;
        let without_proof = &message[..proof_at];
        let proof = Attributes::of(&message[proof_at + 1..]).expect(b'p')?;

        let mut attributes = Attributes::of(without_proof);
        let binding = attributes.expect(b'c')?;
        let nonce = attributes.expect(b'r')?;
        attributes.skip_extensions()?;
        let proof = decode_key(proof).ok_or(ScramFault::ProofMalformed)?;

        self.binding.check(binding)?;
        if !bool::from(nonce.ct_eq(&self.nonce)) {
            return Err(ScramFault::NonceMismatch);
        }
        let auth_message = [&self.auth_head[..], without_proof];
        let (candidate, keys) =
            self.candidates.proven(&auth_message, &proof).ok_or(ScramFault::ProofRejected)?;

        let signature = hmac_sha256(keys.server_key(), &auth_message);
        let reply = format!("v={}", Base64::encode_string(&signature)).into_bytes();
        let challenge = self.candidates.challenge().clone();
        Ok((reply, Login { candidate, challenge, keys }))
    }
}

impl fmt::Debug for ServerChallenged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerChallenged").field("candidates", &self.candidates).finish_non_exhaustive()
    }
}

/// The client has proved a password.
#[derive(Debug)]
pub struct Login {
    /// Which of the candidates, in the order in which they were added: tells the operator whether an old password
    /// is still in use.
    pub candidate: usize,
    pub challenge: Challenge,
    /// With these one can log in, as this user, to every server whose verifier has the same challenge
    /// ([`crate::auth::keys::Credential::Keys`]).
    pub keys: Keys,
}

/// What the choice of mechanism allows the channel-binding flag to be.
#[derive(Debug)]
enum Rule {
    /// SCRAM-SHA-256, and nothing else was offered.
    Unavailable,
    /// SCRAM-SHA-256, although SCRAM-SHA-256-PLUS was offered.
    NotChosen,
    /// SCRAM-SHA-256-PLUS.
    Bound(EndPoint),
}

impl Rule {
    /// `read_client_first_message` of auth-scram.c.
    fn expected_binding(&self, flag: &[u8]) -> Result<ExpectedBinding, ScramFault> {
        match (flag, self) {
            (b"n" | b"y", Rule::Bound(_)) => Err(ScramFault::BindingMissing),
            (b"n", Rule::Unavailable | Rule::NotChosen) => Ok(ExpectedBinding::without(HEADER_WITHOUT)),
            (b"y", Rule::Unavailable) => Ok(ExpectedBinding::without(HEADER_NOT_OFFERED)),
            (b"y", Rule::NotChosen) => Err(ScramFault::BindingDowngraded),
            ([b'p', b'=', ..], Rule::Unavailable | Rule::NotChosen) => Err(ScramFault::BindingUnexpected),
            ([b'p', b'=', name @ ..], Rule::Bound(end_point)) => {
                if name != EndPoint::NAME.as_bytes() {
                    return Err(ScramFault::BindingType);
                }
                Ok(ExpectedBinding {
                    encoded: encode_binding(HEADER_BOUND, Some(end_point)),
                    fault: ScramFault::BindingRejected,
                })
            }
            _ => Err(ScramFault::BindingFlag),
        }
    }
}

/// The only value of `c=` that is right, and what it means when it is not.
struct ExpectedBinding {
    encoded: String,
    fault: ScramFault,
}

impl ExpectedBinding {
    fn without(header: &[u8]) -> ExpectedBinding {
        ExpectedBinding { encoded: encode_binding(header, None), fault: ScramFault::HeaderChanged }
    }

    fn check(self, encoded: &[u8]) -> Result<(), ScramFault> {
        if encoded == self.encoded.as_bytes() { Ok(()) } else { Err(self.fault) }
    }
}

fn split_at_comma(bytes: &[u8]) -> Result<(&[u8], &[u8]), ScramFault> {
    let at = bytes.iter().position(|&byte| byte == b',').ok_or(ScramFault::AttributeMalformed)?;
    Ok((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::super::super::verifier::{Iterations, SaltSecret, Verifier};
    use super::*;
    use crate::base::rng::SeededRng;

    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn start() -> ServerStart {
        start_with(ServerBinding::Unavailable, b"SCRAM-SHA-256").unwrap()
    }

    fn start_with(binding: ServerBinding, mechanism: &[u8]) -> Result<ServerStart, ScramFault> {
        ServerStart::new(Arc::new(Candidates::of(Verifier::parse(PENCIL).unwrap())), binding, mechanism)
    }

    fn offered() -> ServerBinding {
        ServerBinding::Offered(EndPoint::new(b"certificate").unwrap())
    }

    fn first_fault(start: ServerStart, message: &[u8]) -> ScramFault {
        start.client_first(message, &mut SeededRng::new(1)).unwrap_err()
    }

    /// RFC 7677, section 3.
    #[test]
    fn rfc_7677() {
        let (reply, challenged) =
            start().challenge(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
        assert_eq!(
            reply,
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let (reply, login) = challenged
            .client_final(
                b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            )
            .unwrap();
        assert_eq!(reply, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(login.candidate, 0);
        let keys = super::super::super::verifier::derive(b"pencil", &login.challenge);
        assert_eq!(login.keys.client_key(), keys.client_key());
        assert_eq!(login.keys.server_key(), keys.server_key());
    }

    #[test]
    fn mechanisms() {
        assert_eq!(ServerBinding::Unavailable.mechanisms(), [Mechanism::Scram]);
        assert_eq!(offered().mechanisms(), [Mechanism::ScramPlus, Mechanism::Scram]);
        for (binding, name) in [
            (ServerBinding::Unavailable, &b"SCRAM-SHA-256-PLUS"[..]),
            (ServerBinding::Unavailable, b"SCRAM-SHA-1"),
            (offered(), b""),
        ] {
            assert_eq!(start_with(binding, name).unwrap_err(), ScramFault::MechanismUnknown);
        }
    }

    #[test]
    fn faults_of_the_first_message() {
        let long_nonce = [b"n,,n=,r=", &[b'x'; 257][..]].concat();
        let long = [b"n,,n=", &[b'x'; 1024][..], b",r=abc"].concat();
        let cases: &[(&[u8], ScramFault)] = &[
            (b"", ScramFault::MessageEmpty),
            (&long, ScramFault::MessageTooLong),
            (b"n,,n=,r=abc\0", ScramFault::NulByte),
            (b"n", ScramFault::AttributeMalformed),
            (b"n,", ScramFault::AttributeMalformed),
            (b"n,,", ScramFault::AttributeMalformed),
            (b"x,,n=,r=abc", ScramFault::BindingFlag),
            (b",,n=,r=abc", ScramFault::BindingFlag),
            (b"nn,,n=,r=abc", ScramFault::BindingFlag),
            (b"p,,n=,r=abc", ScramFault::BindingFlag),
            (b"p=tls-server-end-point,,n=,r=abc", ScramFault::BindingUnexpected),
            (b"n,a=root,n=,r=abc", ScramFault::AuthorizationIdentity),
            (b"n,b=root,n=,r=abc", ScramFault::AttributeMalformed),
            (b"n,,m=x,n=,r=abc", ScramFault::MandatoryExtension),
            (b"n,,n=,r=abc,m=x", ScramFault::MandatoryExtension),
            (b"n,,r=abc", ScramFault::AttributeExpected('n')),
            (b"n,,n=", ScramFault::AttributeExpected('r')),
            (b"n,,n=,s=abc", ScramFault::AttributeExpected('r')),
            (b"n,,n=,r=", ScramFault::NonceMalformed),
            (b"n,,n=,r=a b", ScramFault::NonceMalformed),
            (b"n,,n=,r=a\x80b", ScramFault::NonceMalformed),
            (&long_nonce, ScramFault::NonceTooLong),
            (b"n,,n=,r=abc,", ScramFault::AttributeMalformed),
            (b"n,,n=,r=abc,1=x", ScramFault::AttributeMalformed),
        ];
        for (message, fault) in cases {
            assert_eq!(first_fault(start(), message), *fault, "{}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn faults_of_channel_binding() {
        let plus = || start_with(offered(), b"SCRAM-SHA-256-PLUS").unwrap();
        let plain = || start_with(offered(), b"SCRAM-SHA-256").unwrap();
        assert_eq!(first_fault(plus(), b"n,,n=,r=abc"), ScramFault::BindingMissing);
        assert_eq!(first_fault(plus(), b"y,,n=,r=abc"), ScramFault::BindingMissing);
        assert_eq!(first_fault(plus(), b"p=tls-unique,,n=,r=abc"), ScramFault::BindingType);
        assert_eq!(first_fault(plain(), b"y,,n=,r=abc"), ScramFault::BindingDowngraded);
        let bound = b"p=tls-server-end-point,,n=,r=abc";
        assert_eq!(first_fault(plain(), bound), ScramFault::BindingUnexpected);
        assert!(start().client_first(b"y,,n=,r=abc", &mut SeededRng::new(1)).is_ok());

        let (reply, challenged) = plus().client_first(bound, &mut SeededRng::new(1)).unwrap();
        let nonce = String::from_utf8(reply).unwrap();
        let (nonce, _) = nonce.split_once(',').unwrap();
        let proof = Base64::encode_string(&[0; 32]);
        let other = EndPoint::new(b"another certificate").unwrap();
        let binding = encode_binding(HEADER_BOUND, Some(&other));
        let message = format!("c={binding},{nonce},p={proof}");
        assert_eq!(challenged.client_final(message.as_bytes()).unwrap_err(), ScramFault::BindingRejected);
    }

    #[test]
    fn faults_of_the_final_message() {
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let cases = [
            (String::new(), ScramFault::MessageEmpty),
            ("c=biws".to_string(), ScramFault::AttributeExpected('p')),
            ("c=biws,r=abcxyz".to_string(), ScramFault::AttributeExpected('p')),
            (format!("c=biws,p={proof}"), ScramFault::AttributeExpected('r')),
            (format!("r=abcxyz,p={proof}"), ScramFault::AttributeExpected('c')),
            (format!("c=eSws,r=abcxyz,p={proof}"), ScramFault::HeaderChanged),
            (format!("c=,r=abcxyz,p={proof}"), ScramFault::HeaderChanged),
            (format!("c=biws,r=abc,p={proof}"), ScramFault::NonceMismatch),
            (format!("c=biws,r=abcxyzz,p={proof}"), ScramFault::NonceMismatch),
            (format!("c=biws,r=abcxyz,m=1,p={proof}"), ScramFault::MandatoryExtension),
            (format!("c=biws,r=abcxyz,p={proof},"), ScramFault::AttributeMalformed),
            (format!("c=biws,r=abcxyz,p={proof},x=1"), ScramFault::AttributeExpected('p')),
            ("c=biws,r=abcxyz,p=".to_string(), ScramFault::ProofMalformed),
            ("c=biws,r=abcxyz,p=AAAA".to_string(), ScramFault::ProofMalformed),
            (format!("c=biws,r=abcxyz,p={proof}AAAA"), ScramFault::ProofMalformed),
            (format!("c=biws,r=abcxyz,p={proof}"), ScramFault::ProofRejected),
            (format!("c=biws,r=abcxyz,x=1,p={proof}"), ScramFault::ProofRejected),
        ];
        for (message, fault) in cases {
            let (_, challenged) = start().challenge(b"n,,n=,r=abc", "xyz").unwrap();
            assert_eq!(challenged.client_final(message.as_bytes()).unwrap_err(), fault, "{message}");
        }
    }

    /// The proof that hashes to an all-zero StoredKey is unknown, but nothing rests on that: a user who does not
    /// exist has no candidate.
    #[test]
    fn unknown_user_gets_the_same_shape() {
        let secret = SaltSecret::new(&mut SeededRng::new(3));
        let shape = |user: &[u8], candidates: Candidates, seed| {
            let start =
                ServerStart::new(Arc::new(candidates), ServerBinding::Unavailable, b"SCRAM-SHA-256").unwrap();
            let (reply, _) = start.client_first(b"n,,n=,r=abc", &mut SeededRng::new(seed)).unwrap();
            let text = String::from_utf8(reply).unwrap();
            let salt = text.split(',').nth(1).unwrap().to_string();
            (user.len(), text.len(), salt)
        };
        let unknown =
            |seed| shape(b"carol", Candidates::unknown(&secret, b"carol", Iterations::DEFAULT), seed);
        let known =
            Candidates::derive(secret.challenge(b"alice", Iterations::DEFAULT), [&b"one"[..], b"two"]);
        let known = shape(b"alice", known.unwrap(), 1);
        assert_eq!(unknown(1), unknown(2), "the salt is the same at every attempt");
        assert_eq!((known.0, known.1), (unknown(1).0, unknown(1).1));
        assert_ne!(known.2, unknown(1).2);
    }
}
