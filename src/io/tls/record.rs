//! The record layer of TLS 1.3 (RFC 8446, section 5) and 1.2 (RFC 5246, section 6.2; RFC 5288, RFC 7905) behind a handshake that
//! rustls has made.
//!
//! rustls's own copies each record twice and allocates for it, in both directions, and cannot write while a half handshake
//! message lies in the reader's buffer. Here a record is opened where it lies and sealed where it goes. rustls still keeps the
//! secrets from which a key update derives new keys.
//!
//! Invariants: no nonce is used twice with a key (the sequence number only grows, and a key ends before it may wrap); whatever
//! cannot be opened ends the connection.

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion};

use crate::io::transport::{Opened, Pieces, RecordFault, Sink};

/// Type, version, length.
pub const HEADER: usize = 5;
/// What is sealed in one record.
pub const DATA_MAX: usize = 1 << 14;
const TAG: usize = 16;
/// What TLS 1.2 with AES-GCM sends of each nonce.
const EXPLICIT_NONCE: usize = 8;
/// A record of TLS 1.3, and of 1.2, behind its header.
const BODY_MAX_13: usize = DATA_MAX + 256;
const BODY_MAX_12: usize = DATA_MAX + 2048;
/// Records of one key of TLS 1.3 (RFC 8446, section 5.5: 2^24.5 for AES-GCM); the next ones get a new key. Tests get there.
const RECORDS_OF_KEY_MAX: u64 = if cfg!(test) { 50 } else { 1 << 24 };
/// Blocks of one key of TLS 1.2, where there is no next one: as many as those records have at most.
const BLOCKS_OF_KEY_MAX: u64 = 1 << 34;
/// Records in a row that bring no data. Each costs us work, and no honest peer sends more than a few.
const RECORDS_WITHOUT_DATA_MAX: u32 = 64;
/// A handshake message after the handshake: a session ticket is the longest.
const HANDSHAKE_MESSAGE_BYTES_MAX: usize = 1 << 16;

/// Content types.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// Handshake messages that may come after the handshake.
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Why a peer's record cannot be accepted: what it is told, and what we say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    UnexpectedRecord(u8),
    TooLong,
    /// Not sealed by whom we shook hands with.
    BadRecord,
    NoContentType,
    Alert(u8),
    BadAlert,
    UnexpectedHandshake(u8),
    BadHandshake,
    /// Keys change in the middle of a message.
    UnalignedKeyUpdate,
    WithoutData,
    /// All that one key of TLS 1.2 may seal has been sealed.
    KeyUsedUp,
    /// rustls cannot derive the next keys.
    NoNextKey,
}

impl Fault {
    /// The alert that tells the peer; none if it has told us.
    fn alert(self) -> Option<u8> {
        Some(match self {
            Fault::UnexpectedRecord(_)
            | Fault::UnexpectedHandshake(_)
            | Fault::UnalignedKeyUpdate
            | Fault::NoContentType => 10,
            Fault::TooLong => 22,
            Fault::BadRecord => 20,
            Fault::BadAlert | Fault::BadHandshake => 50,
            Fault::WithoutData | Fault::KeyUsedUp | Fault::NoNextKey => 80,
            Fault::Alert(_) => return None,
        })
    }
}

impl From<Fault> for RecordFault {
    fn from(fault: Fault) -> RecordFault {
        RecordFault(match fault {
            Fault::UnexpectedRecord(kind) => format!("TLS: a record of type {kind} has no business here"),
            Fault::TooLong => "TLS: a record is too long".to_owned(),
            Fault::BadRecord => "TLS: a record was not sealed with the connection's key".to_owned(),
            Fault::NoContentType => "TLS: a record without a type".to_owned(),
            Fault::Alert(description) => format!("TLS: the peer says alert {description}"),
            Fault::BadAlert => "TLS: a malformed alert".to_owned(),
            Fault::UnexpectedHandshake(kind) => format!("TLS: a handshake message of type {kind} afterwards"),
            Fault::BadHandshake => "TLS: a malformed handshake message".to_owned(),
            Fault::UnalignedKeyUpdate => "TLS: a key update in the middle of a record".to_owned(),
            Fault::WithoutData => "TLS: too many records without data".to_owned(),
            Fault::KeyUsedUp => "TLS: the connection's key is used up".to_owned(),
            Fault::NoNextKey => "TLS: no further keys can be derived".to_owned(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Tls12,
    Tls13,
}

/// One direction.
#[derive(Debug)]
struct Protection {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    /// Blocks sealed or opened with this key.
    blocks: u64,
    version: Version,
    /// Bytes of the nonce that go with each record.
    explicit: usize,
}

impl Protection {
    fn new(secrets: &ConnectionTrafficSecrets, sequence: u64, version: Version) -> Result<Protection, Fault> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Fault::NoNextKey),
        };
        let is_gcm = !std::ptr::eq(algorithm, &CHACHA20_POLY1305);
        let iv = <[u8; NONCE_LEN]>::try_from(iv.as_ref()).map_err(|_| Fault::NoNextKey)?;
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Fault::NoNextKey)?;
        let explicit = if is_gcm && version == Version::Tls12 { EXPLICIT_NONCE } else { 0 };
        Ok(Protection { key: LessSafeKey::new(key), iv, sequence, blocks: 0, version, explicit })
    }

    /// The IV with the sequence number laid over its end.
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, other) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= other;
        }
        nonce
    }

    /// Sequence number, type, version and length: what TLS 1.2 authenticates besides the data.
    fn header_12(&self, kind: u8, length: usize) -> [u8; 13] {
        let mut header = [0; 13];
        header[..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..11].copy_from_slice(&[kind, 3, 3]);
        header[11..].copy_from_slice(&(length as u16).to_be_bytes());
        header
    }

    fn count(&mut self, bytes: usize) {
        self.sequence += 1;
        self.blocks += bytes as u64 / 16 + 2;
    }

    /// Opens a whole record where it lies. Returns its type and data.
    fn open<'w>(&mut self, record: &'w mut [u8]) -> Result<(u8, &'w mut [u8]), Fault> {
        let (header, body) = record.split_at_mut(HEADER);
        let kind = header[0];
        let (kind, data) = match self.version {
            Version::Tls13 => {
                if kind != DATA {
                    return Err(Fault::UnexpectedRecord(kind));
                }
                let nonce = Nonce::assume_unique_for_key(self.nonce());
                let inner =
                    self.key.open_in_place(nonce, Aad::from(&*header), body).map_err(|_| Fault::BadRecord)?;
                // The type lies behind the data, padding of zeros behind that.
                let end = inner.iter().rposition(|&byte| byte != 0).ok_or(Fault::NoContentType)?;
                (inner[end], &mut inner[..end])
            }
            Version::Tls12 => {
                let length = body.len().checked_sub(self.explicit + TAG).ok_or(Fault::BadRecord)?;
                let (explicit, sealed) = body.split_at_mut(self.explicit);
                let mut nonce = self.nonce();
                // The sender's choice.
                nonce[NONCE_LEN - explicit.len()..].copy_from_slice(explicit);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let aad = Aad::from(self.header_12(kind, length));
                (kind, self.key.open_in_place(nonce, aad, sealed).map_err(|_| Fault::BadRecord)?)
            }
        };
        if data.len() > DATA_MAX {
            return Err(Fault::TooLong);
        }
        self.count(data.len());
        Ok((kind, data))
    }

    /// Bytes before the data, and behind it.
    fn overhead(&self) -> (usize, usize) {
        (HEADER + self.explicit, TAG + usize::from(self.version == Version::Tls13))
    }

    /// Seals the data of a record, which lie where they are to go, between room for what is added.
    fn seal(&mut self, kind: u8, record: &mut [u8]) -> Result<(), Fault> {
        let nonce = self.nonce();
        let length = (record.len() - HEADER) as u16;
        let (before, behind) = self.overhead();
        let data = record.len() - before - behind;
        let outer = if self.version == Version::Tls13 { DATA } else { kind };
        record[..3].copy_from_slice(&[outer, 3, 3]);
        record[3..HEADER].copy_from_slice(&length.to_be_bytes());
        record[HEADER..before].copy_from_slice(&nonce[NONCE_LEN - self.explicit..]);
        let (header, body) = record.split_at_mut(before);
        let (body, tag) = body.split_at_mut(data + behind - TAG);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = match self.version {
            Version::Tls13 => {
                body[data] = kind;
                self.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), body)
            }
            Version::Tls12 => {
                let aad = Aad::from(self.header_12(kind, data));
                self.key.seal_in_place_separate_tag(nonce, aad, body)
            }
        };
        tag.copy_from_slice(sealed.map_err(|_| Fault::KeyUsedUp)?.as_ref());
        self.count(data);
        Ok(())
    }

    /// A record of its own.
    fn record(&mut self, kind: u8, data: &[u8]) -> Result<Vec<u8>, Fault> {
        let (before, behind) = self.overhead();
        let mut record = vec![0; before + data.len() + behind];
        record[before..before + data.len()].copy_from_slice(data);
        self.seal(kind, &mut record)?;
        Ok(record)
    }
}

/// Derives the keys of a connection's next updates.
pub enum NextKeys {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
    /// TLS 1.2 has none.
    None,
}

impl NextKeys {
    fn protection(&mut self, of_peer: bool) -> Result<Protection, Fault> {
        let secrets = match (self, of_peer) {
            (NextKeys::Client(kernel), true) => kernel.update_rx_secret(),
            (NextKeys::Client(kernel), false) => kernel.update_tx_secret(),
            (NextKeys::Server(kernel), true) => kernel.update_rx_secret(),
            (NextKeys::Server(kernel), false) => kernel.update_tx_secret(),
            (NextKeys::None, _) => return Err(Fault::NoNextKey),
        };
        let (sequence, secrets) = secrets.map_err(|_| Fault::NoNextKey)?;
        Protection::new(&secrets, sequence, Version::Tls13)
    }
}

/// A connection whose handshake is over.
pub struct RecordLayer {
    ours: Protection,
    theirs: Protection,
    next: NextKeys,
    /// The peer has asked for new keys of ours: they come before our next data.
    owes_update: bool,
    without_data: u32,
    /// A part of a handshake message.
    message: Vec<u8>,
    words: Vec<u8>,
}

impl RecordLayer {
    /// # Errors
    /// rustls speaks a version or cipher that this does not know: they were not offered.
    pub fn new(
        secrets: &ExtractedSecrets,
        version: ProtocolVersion,
        next: NextKeys,
    ) -> Result<RecordLayer, Fault> {
        let (version, next) = match version {
            ProtocolVersion::TLSv1_3 => (Version::Tls13, next),
            ProtocolVersion::TLSv1_2 => (Version::Tls12, NextKeys::None),
            _ => return Err(Fault::NoNextKey),
        };
        let ((ours_at, ours), (theirs_at, theirs)) = (&secrets.tx, &secrets.rx);
        Ok(RecordLayer {
            ours: Protection::new(ours, *ours_at, version)?,
            theirs: Protection::new(theirs, *theirs_at, version)?,
            next,
            owes_update: false,
            without_data: 0,
            message: Vec::new(),
            words: Vec::new(),
        })
    }

    /// As [`crate::io::transport::Records::open`].
    pub fn open(&mut self, wire: &mut [u8], sink: &mut Sink<'_>) -> Result<Opened, RecordFault> {
        self.open_record(wire, sink).map_err(|fault| {
            if let Some(alert) = fault.alert() {
                self.alert(2, alert);
            }
            fault.into()
        })
    }

    pub(super) fn open_record(&mut self, wire: &mut [u8], sink: &mut Sink<'_>) -> Result<Opened, Fault> {
        let Some(used) = whole_record(wire)? else { return Ok(Opened::Starved { used: 0 }) };
        if self.theirs.version == Version::Tls13 && used - HEADER > BODY_MAX_13 {
            return Err(Fault::TooLong);
        }
        let (kind, data) = self.theirs.open(&mut wire[..used])?;
        if kind == DATA {
            if !self.message.is_empty() {
                return Err(Fault::UnexpectedRecord(kind));
            }
            sink.put(data);
            if !data.is_empty() {
                self.without_data = 0;
                return Ok(Opened::Record { used });
            }
        }
        self.without_data += 1;
        if self.without_data > RECORDS_WITHOUT_DATA_MAX {
            return Err(Fault::WithoutData);
        }
        match kind {
            DATA => {}
            ALERT => {
                return match *data {
                    [_, 0] => Ok(Opened::End),
                    // user_canceled: a close_notify follows.
                    [1, 90] => Ok(Opened::Record { used }),
                    [_, description] => Err(Fault::Alert(description)),
                    _ => Err(Fault::BadAlert),
                };
            }
            HANDSHAKE if self.theirs.version == Version::Tls13 => {
                self.message.extend_from_slice(data);
                self.on_messages()?;
            }
            kind => return Err(Fault::UnexpectedRecord(kind)),
        }
        Ok(Opened::Record { used })
    }

    /// Handshake messages after the handshake, as far as they have arrived.
    fn on_messages(&mut self) -> Result<(), Fault> {
        while let Some(&[kind, a, b, c]) = self.message.first_chunk() {
            let length = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            if length > HANDSHAKE_MESSAGE_BYTES_MAX {
                return Err(Fault::BadHandshake);
            }
            let Some(body) = self.message.get(4..length) else { return Ok(()) };
            match (kind, body) {
                // Connections are not resumed.
                (NEW_SESSION_TICKET, _) if matches!(self.next, NextKeys::Client(_)) => {}
                (KEY_UPDATE, &[request @ (0 | 1)]) => {
                    if self.message.len() > length {
                        return Err(Fault::UnalignedKeyUpdate);
                    }
                    self.theirs = self.next.protection(true)?;
                    self.owes_update |= request == 1;
                }
                (KEY_UPDATE, _) => return Err(Fault::BadHandshake),
                (kind, _) => return Err(Fault::UnexpectedHandshake(kind)),
            }
            self.message.drain(..length);
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    /// As [`crate::io::transport::Records::seal`].
    pub fn seal(&mut self, data: &mut Pieces<'_>, wire: &mut [u8]) -> Result<usize, RecordFault> {
        let mut used = 0;
        let (before, behind) = self.ours.overhead();
        while !data.is_empty() {
            if self.owes_update || self.ours.sequence >= RECORDS_OF_KEY_MAX {
                used += match self.ours.version {
                    Version::Tls13 => match self.update(&mut wire[used..])? {
                        0 => break,
                        length => length,
                    },
                    Version::Tls12 if self.ours.blocks < BLOCKS_OF_KEY_MAX => 0,
                    Version::Tls12 => return Err(Fault::KeyUsedUp.into()),
                };
            }
            let Some(room) = (wire.len() - used).checked_sub(before + behind).filter(|&room| room > 0) else {
                break;
            };
            let record = &mut wire[used..];
            let count = data.gather(&mut record[before..before + room.min(DATA_MAX)]);
            let length = before + count + behind;
            self.ours.seal(DATA, &mut record[..length])?;
            used += length;
        }
        Ok(used)
    }

    /// Announces new keys of ours and takes them into use. Returns the bytes of the announcement; none if there is no room.
    fn update(&mut self, wire: &mut [u8]) -> Result<usize, Fault> {
        const MESSAGE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];
        let (before, behind) = self.ours.overhead();
        let length = before + MESSAGE.len() + behind;
        let Some(record) = wire.get_mut(..length) else { return Ok(0) };
        record[before..before + MESSAGE.len()].copy_from_slice(&MESSAGE);
        self.ours.seal(HANDSHAKE, record)?;
        self.ours = self.next.protection(false)?;
        self.owes_update = false;
        Ok(length)
    }

    pub fn words(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.words)
    }

    /// Says close_notify.
    pub fn close(&mut self) {
        self.alert(1, 0);
    }

    fn alert(&mut self, level: u8, description: u8) {
        if let Ok(record) = self.ours.record(ALERT, &[level, description]) {
            self.words.extend(record);
        }
    }
}

#[cfg(test)]
impl RecordLayer {
    /// A record of any kind.
    pub(super) fn record(&mut self, kind: u8, data: &[u8]) -> Result<Vec<u8>, Fault> {
        self.ours.record(kind, data)
    }

    /// Goes on with the next key, after an announcement of its own.
    pub(super) fn update_for_test(&mut self) {
        self.ours = self.next.protection(false).unwrap();
    }
}

/// The length of the record at the front, if it has arrived whole.
pub fn whole_record(wire: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(&[kind, major, _, a, b]) = wire.first_chunk() else { return Ok(None) };
    if !(CHANGE_CIPHER_SPEC..=DATA).contains(&kind) || major != 3 {
        return Err(Fault::UnexpectedRecord(kind));
    }
    let length = usize::from(u16::from_be_bytes([a, b]));
    if length > BODY_MAX_12 {
        return Err(Fault::TooLong);
    }
    Ok((wire.len() >= HEADER + length).then_some(HEADER + length))
}
