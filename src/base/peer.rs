//! Who is at the other end of an encrypted connection, as its handshake has shown.

use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// It has shown a certificate that is trusted.
    pub is_certified: bool,
    /// What that calls it: its common name and its alternative names.
    pub names: Vec<Box<str>>,
    /// What SCRAM can be bound to: the digest of the server's certificate (RFC 5929, tls-server-end-point); none where its
    /// signature has no single hash.
    pub end_point: Option<Arc<[u8]>>,
}
