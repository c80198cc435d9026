//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) as PostgreSQL speaks them
//! (src/backend/libpq/auth-scram.c, src/interfaces/libpq/fe-auth-scram.c): [`server`] towards clients, [`client`]
//! towards servers.
//!
//! Owns the SASL payloads. Does not own their frames: AuthenticationSASL, SASLInitialResponse and the others are
//! `wire`'s.
//!
//! Where PostgreSQL is laxer than RFC 5802 this follows the RFC as long as no known client needs the laxness: the
//! reserved attribute `m=` is refused in every message, and so is a comma at the end of one.

use std::fmt;

use base64ct::{Base64, Encoding};

use super::limits::{END_POINT_LEN_MAX, MESSAGE_LEN_MAX, NONCE_LEN_MAX, NONCE_RAW_LEN};
use super::verifier::VerifierFault;
use crate::base::rng::Rng;

pub mod client;
pub mod server;

/// A SASL mechanism of this layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Scram,
    /// With channel binding.
    ScramPlus,
}

impl Mechanism {
    pub fn parse(name: &[u8]) -> Option<Mechanism> {
        match name {
            b"SCRAM-SHA-256" => Some(Mechanism::Scram),
            b"SCRAM-SHA-256-PLUS" => Some(Mechanism::ScramPlus),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Scram => "SCRAM-SHA-256",
            Mechanism::ScramPlus => "SCRAM-SHA-256-PLUS",
        }
    }
}

/// The data of `tls-server-end-point` (RFC 5929, section 4): the digest of the server's certificate, under the
/// hash of the certificate's signature (SHA-256 in place of MD5 and SHA-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndPoint(Box<[u8]>);

impl EndPoint {
    pub const NAME: &'static str = "tls-server-end-point";

    /// `None` unless `digest` has 1 to [`END_POINT_LEN_MAX`] bytes.
    pub fn new(digest: &[u8]) -> Option<EndPoint> {
        (!digest.is_empty() && digest.len() <= END_POINT_LEN_MAX).then(|| EndPoint(digest.into()))
    }
}

/// What a peer did wrong, or could not prove. No variant carries a secret, and none tells whether the user exists:
/// a wrong password and an unknown user are both [`ScramFault::ProofRejected`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScramFault {
    // Of any message.
    MessageEmpty,
    MessageTooLong,
    NulByte,
    /// The attribute with this name should have come here.
    AttributeExpected(char),
    AttributeMalformed,
    /// `m=`: an extension that the peer insists on.
    MandatoryExtension,

    // Of a client.
    MechanismUnknown,
    BindingFlag,
    /// The client chose SCRAM-SHA-256-PLUS, but its message does not bind.
    BindingMissing,
    /// The client chose SCRAM-SHA-256, but its message binds.
    BindingUnexpected,
    BindingType,
    /// The client believes that we do not support channel binding, but we offered it: somebody in between removed
    /// the offer (RFC 5802, section 6).
    BindingDowngraded,
    /// The client is at the other end of another TLS connection.
    BindingRejected,
    /// `c=` does not repeat the header of the first message.
    HeaderChanged,
    AuthorizationIdentity,
    NonceMalformed,
    NonceTooLong,
    NonceMismatch,
    ProofMalformed,
    ProofRejected,

    // Of a server.
    MechanismNotOffered,
    /// Channel binding is required, but the server does not offer it.
    BindingNotOffered,
    ChallengeMalformed(VerifierFault),
    /// We have no password for this user, only keys, and they belong to another salt or iteration count.
    KeysOfOtherChallenge,
    /// We have only an md5 hash of the user's password.
    HashForMd5Only,
    /// The server ended the exchange with this error (RFC 5802, section 7).
    ServerReported(String),
    SignatureMalformed,
    /// The server does not know the user's secret: it is not the server it claims to be.
    SignatureRejected,
    /// The server said AuthenticationOk before it proved that it knows the user's secret.
    OkBeforeSignature,
}

/// What kind of answer a fault of a client deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// The message breaks the protocol (SQLSTATE 08P01).
    Protocol,
    /// Something that the RFC allows and neither PostgreSQL nor we support (0A000).
    Unsupported,
    /// Channel binding says that somebody is in between (28000).
    Binding,
    /// The password is wrong or the user does not exist (28P01).
    Password,
}

impl ScramFault {
    /// As PostgreSQL classes it in auth-scram.c. Faults of servers are [`FaultClass::Protocol`], except for what
    /// tells that a secret is wrong.
    pub fn class(&self) -> FaultClass {
        match self {
            ScramFault::MandatoryExtension | ScramFault::AuthorizationIdentity => FaultClass::Unsupported,
            ScramFault::BindingDowngraded | ScramFault::BindingRejected | ScramFault::BindingNotOffered => {
                FaultClass::Binding
            }
            ScramFault::ProofRejected
            | ScramFault::KeysOfOtherChallenge
            | ScramFault::HashForMd5Only
            | ScramFault::SignatureRejected
            | ScramFault::ServerReported(_) => FaultClass::Password,
            ScramFault::MessageEmpty
            | ScramFault::MessageTooLong
            | ScramFault::NulByte
            | ScramFault::AttributeExpected(_)
            | ScramFault::AttributeMalformed
            | ScramFault::MechanismUnknown
            | ScramFault::BindingFlag
            | ScramFault::BindingMissing
            | ScramFault::BindingUnexpected
            | ScramFault::BindingType
            | ScramFault::HeaderChanged
            | ScramFault::NonceMalformed
            | ScramFault::NonceTooLong
            | ScramFault::NonceMismatch
            | ScramFault::ProofMalformed
            | ScramFault::MechanismNotOffered
            | ScramFault::ChallengeMalformed(_)
            | ScramFault::SignatureMalformed
            | ScramFault::OkBeforeSignature => FaultClass::Protocol,
        }
    }
}

impl fmt::Display for ScramFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScramFault::MessageEmpty => "SCRAM message is empty",
            ScramFault::MessageTooLong => {
                return write!(f, "SCRAM message is longer than {MESSAGE_LEN_MAX} bytes");
            }
            ScramFault::NulByte => "SCRAM message contains a zero byte",
            ScramFault::AttributeExpected(name) => return write!(f, "SCRAM attribute \"{name}\" expected"),
            ScramFault::AttributeMalformed => "SCRAM attribute is malformed",
            ScramFault::MandatoryExtension => "peer requires an unsupported SCRAM extension",
            ScramFault::MechanismUnknown => "client selected a SASL mechanism that was not offered",
            ScramFault::BindingFlag => "unexpected SCRAM channel-binding flag",
            ScramFault::BindingMissing => {
                "client selected SCRAM-SHA-256-PLUS, but its message has no channel binding"
            }
            ScramFault::BindingUnexpected => {
                "client selected SCRAM-SHA-256, but its message has channel binding"
            }
            ScramFault::BindingType => "unsupported SCRAM channel-binding type",
            ScramFault::BindingDowngraded => {
                "client believes that channel binding was not offered, but it was offered"
            }
            ScramFault::BindingRejected => "SCRAM channel binding check failed",
            ScramFault::HeaderChanged => "SCRAM channel-binding attribute differs from the first message",
            ScramFault::AuthorizationIdentity => "SCRAM authorization identity is not supported",
            ScramFault::NonceMalformed => "SCRAM nonce is empty or not printable",
            ScramFault::NonceTooLong => {
                return write!(f, "SCRAM nonce is longer than {NONCE_LEN_MAX} bytes");
            }
            ScramFault::NonceMismatch => "SCRAM nonce does not match",
            ScramFault::ProofMalformed => "SCRAM proof is malformed",
            ScramFault::ProofRejected => "password authentication failed",
            ScramFault::MechanismNotOffered => "server does not offer SCRAM-SHA-256",
            ScramFault::BindingNotOffered => "channel binding is required, but the server does not offer it",
            ScramFault::ChallengeMalformed(fault) => return write!(f, "SCRAM challenge: {fault}"),
            ScramFault::KeysOfOtherChallenge => {
                "server's SCRAM salt or iteration count is not the one of the known keys"
            }
            ScramFault::HashForMd5Only => {
                "SCRAM needs the password or its keys, and only an md5 hash is known"
            }
            ScramFault::ServerReported(text) => return write!(f, "server refused SCRAM: {text}"),
            ScramFault::SignatureMalformed => "SCRAM server signature is malformed",
            ScramFault::SignatureRejected => "SCRAM server signature is wrong",
            ScramFault::OkBeforeSignature => "server skipped its part of the SCRAM proof",
        })
    }
}

impl std::error::Error for ScramFault {}

/// Bounds and text form of any message.
fn checked(message: &[u8]) -> Result<&[u8], ScramFault> {
    if message.is_empty() {
        return Err(ScramFault::MessageEmpty);
    }
    if message.len() > MESSAGE_LEN_MAX {
        return Err(ScramFault::MessageTooLong);
    }
    if message.contains(&0) {
        return Err(ScramFault::NulByte);
    }
    Ok(message)
}

/// Reads `name=value` parts between commas, in order.
struct Attributes<'a>(Option<&'a [u8]>);

impl<'a> Attributes<'a> {
    fn of(message: &'a [u8]) -> Attributes<'a> {
        Attributes(Some(message))
    }

    /// The value of the next attribute, which must be called `name`.
    fn expect(&mut self, name: u8) -> Result<&'a [u8], ScramFault> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(ScramFault::AttributeExpected(char::from(name))),
        }
    }

    /// Optional extensions up to the end: ignored, as in PostgreSQL. They are part of what both sides sign.
    fn skip_extensions(mut self) -> Result<(), ScramFault> {
        while self.next()?.is_some() {}
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, ScramFault> {
        let Some(rest) = self.0 else { return Ok(None) };
        let (attribute, rest) = match rest.iter().position(|&byte| byte == b',') {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        self.0 = rest;
        match attribute {
            [b'm', b'=', ..] => Err(ScramFault::MandatoryExtension),
            [name, b'=', value @ ..] if name.is_ascii_alphabetic() => Ok(Some((*name, value))),
            _ => Err(ScramFault::AttributeMalformed),
        }
    }
}

/// A nonce is printable ASCII without comma (`printable` of RFC 5802, section 7).
fn checked_nonce(nonce: &[u8]) -> Result<&[u8], ScramFault> {
    if nonce.len() > NONCE_LEN_MAX {
        return Err(ScramFault::NonceTooLong);
    }
    if nonce.is_empty() || !nonce.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',') {
        return Err(ScramFault::NonceMalformed);
    }
    Ok(nonce)
}

fn fresh_nonce(rng: &mut dyn Rng) -> String {
    let mut raw = [0; NONCE_RAW_LEN];
    rng.fill(&mut raw);
    Base64::encode_string(&raw)
}

/// The value of `c=`: the header of the first message and, when it binds, the data of the channel.
fn encode_binding(header: &[u8], end_point: Option<&EndPoint>) -> String {
    let data = end_point.map_or(&[][..], |end_point| &end_point.0);
    Base64::encode_string(&[header, data].concat())
}

const HEADER_WITHOUT: &[u8] = b"n,,";
const HEADER_NOT_OFFERED: &[u8] = b"y,,";
const HEADER_BOUND: &[u8] = b"p=tls-server-end-point,,";

#[cfg(test)]
mod tests;
