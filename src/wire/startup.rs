//! The packets before the first frame: startup, requests for encryption, cancel requests. They have no type
//! byte (PostgreSQL: src/backend/tcop/backend_startup.c, ProcessStartupPacket).

use crate::base::bytes::Bytes;
use crate::base::limits::{STARTUP_PACKET_BYTES_MAX, STARTUP_PARAMETERS_MAX};
use crate::wire::BackendKey;

pub const PROTOCOL_3_0: u32 = 0x0003_0000;
pub const PROTOCOL_3_2: u32 = 0x0003_0002;
pub const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;
pub const SSL_REQUEST: u32 = (1234 << 16) | 5679;
pub const GSSENC_REQUEST: u32 = (1234 << 16) | 5680;

#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Ssl,
    Gssenc,
    Cancel(BackendKey),
    Startup(Startup<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Startup<'a> {
    pub version: u32,
    /// In the order sent, `_pq_.` options among them.
    pub parameters: Vec<(&'a str, &'a [u8])>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupFault {
    /// A length below 8 or beyond PostgreSQL's limit: perhaps another protocol altogether.
    BadLength(u32),
    /// A major version other than 3.
    UnsupportedVersion(u32),
    /// Names and values that are not pairs of strings ended by a NUL.
    Malformed,
    /// A parameter's name that is not UTF-8.
    BadName,
    TooManyParameters,
    /// A cancel request whose key has no possible length.
    BadCancel,
}

/// The packet at the front of `bytes` and its length; none if it has not arrived whole.
pub fn parse(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, StartupFault> {
    let Some(&[a, b, c, d]) = bytes.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(8..=STARTUP_PACKET_BYTES_MAX as u32).contains(&length) {
        return Err(StartupFault::BadLength(length));
    }
    let Some(packet) = bytes.get(4..length as usize) else { return Ok(None) };
    let mut packet = Bytes::new(packet);
    let code = packet.u32().map_err(|_| StartupFault::Malformed)?;
    let packet = match code {
        SSL_REQUEST => Packet::Ssl,
        GSSENC_REQUEST => Packet::Gssenc,
        CANCEL_REQUEST => Packet::Cancel(cancel(packet)?),
        version if version >> 16 == 3 => Packet::Startup(startup(version, packet)?),
        version => return Err(StartupFault::UnsupportedVersion(version)),
    };
    Ok(Some((packet, length as usize)))
}

fn cancel(mut packet: Bytes<'_>) -> Result<BackendKey, StartupFault> {
    let pid = packet.u32().map_err(|_| StartupFault::BadCancel)?;
    match packet.rest() {
        secret if (4..=256).contains(&secret.len()) => Ok(BackendKey { pid, secret: secret.into() }),
        _ => Err(StartupFault::BadCancel),
    }
}

fn startup(version: u32, mut packet: Bytes<'_>) -> Result<Startup<'_>, StartupFault> {
    let mut parameters = Vec::new();
    loop {
        let name = packet.cstr().map_err(|_| StartupFault::Malformed)?;
        if name.is_empty() {
            break;
        }
        if parameters.len() == STARTUP_PARAMETERS_MAX {
            return Err(StartupFault::TooManyParameters);
        }
        let value = packet.cstr().map_err(|_| StartupFault::Malformed)?;
        let name = std::str::from_utf8(name).map_err(|_| StartupFault::BadName)?;
        parameters.push((name, value));
    }
    if packet.is_empty() { Ok(Startup { version, parameters }) } else { Err(StartupFault::Malformed) }
}

/// Splits the startup parameter `options` into its arguments: separated by white space, a backslash takes the
/// next character as it is (PostgreSQL: pg_split_opts).
pub fn split_options(options: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut chars = options.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return arguments;
        }
        let mut argument = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_ascii_whitespace()) {
            match c {
                '\\' => argument.extend(chars.next()),
                c => argument.push(c),
            }
        }
        arguments.push(argument);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = (8 + rest.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&code.to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn packets() {
        assert_eq!(parse(&packet(SSL_REQUEST, b"")), Ok(Some((Packet::Ssl, 8))));
        let bytes = packet(PROTOCOL_3_0, b"user\0bob\0_pq_.x\0y\0\0");
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut}");
        }
        let parameters = vec![("user", &b"bob"[..]), ("_pq_.x", b"y")];
        let startup = Startup { version: PROTOCOL_3_0, parameters };
        assert_eq!(parse(&bytes), Ok(Some((Packet::Startup(startup), bytes.len()))));
    }

    #[test]
    fn faults() {
        let cases: &[(Vec<u8>, StartupFault)] = &[
            (b"GET / HTTP/1.1".to_vec(), StartupFault::BadLength(0x4745_5420)),
            (packet(PROTOCOL_3_0, b"user\0bob\0"), StartupFault::Malformed),
            (packet(PROTOCOL_3_0, b"user\0bob"), StartupFault::Malformed),
            (packet(PROTOCOL_3_0, b"\0x"), StartupFault::Malformed),
            (packet(PROTOCOL_3_0, b"\xff\0x\0\0"), StartupFault::BadName),
            (packet(0x0002_0000, b""), StartupFault::UnsupportedVersion(0x0002_0000)),
            (packet(CANCEL_REQUEST, b"\0\0\0\x01abc"), StartupFault::BadCancel),
            (
                packet(PROTOCOL_3_0, &[b"a\0b\0".repeat(129), vec![0]].concat()),
                StartupFault::TooManyParameters,
            ),
        ];
        for (bytes, fault) in cases {
            assert_eq!(parse(bytes).as_ref(), Err(fault));
        }
    }

    #[test]
    fn options() {
        assert_eq!(split_options("  -c a=b\\ c  -cd=\\\\ "), ["-c", "a=b c", "-cd=\\"]);
        assert!(split_options("  ").is_empty());
    }
}
