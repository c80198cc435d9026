//! The header that a load balancer sends ahead of what its client sends: PROXY protocol, version 2 only
//! (haproxy.org, "The PROXY protocol", section 2.2).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::base::limits::PROXY_HEADER_BYTES_MAX;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;

/// For whom the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// For the load balancer itself, or for somebody whose address it does not say.
    Sender,
    Ip(SocketAddr),
    Unix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// Something else comes first; perhaps a header of version 1.
    NoHeader,
    /// A version or command that does not exist.
    UnknownCommand(u8),
    /// A family or transport that no client of ours can have.
    UnknownFamily(u8),
    /// The addresses are cut short.
    TooShort,
    TooLong(usize),
}

/// The header at the front of `bytes` and its length; none if it has not arrived whole.
pub fn parse(bytes: &[u8]) -> Result<Option<(Source, usize)>, ProxyFault> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(ProxyFault::NoHeader);
    }
    let Some(&[command, family, high, low]) =
        bytes.get(SIGNATURE.len()..).and_then(|rest| rest.first_chunk())
    else {
        return Ok(None);
    };
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(ProxyFault::TooLong(length));
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        other => return Err(ProxyFault::UnknownCommand(other)),
    };
    let Some(addresses) = bytes.get(FIXED_BYTES..length) else { return Ok(None) };
    // With LOCAL the addresses are to be ignored, whatever they are.
    let source = if is_local { Source::Sender } else { source(family, addresses)? };
    Ok(Some((source, length)))
}

/// What follows the addresses (TLVs) is of no interest.
fn source(family: u8, addresses: &[u8]) -> Result<Source, ProxyFault> {
    match family {
        // Unspecified.
        0x00 => Ok(Source::Sender),
        // Source and destination, then the two ports.
        0x11 => {
            let &[a, b, c, d, _, _, _, _, high, low, _, _] =
                addresses.first_chunk::<12>().ok_or(ProxyFault::TooShort)?;
            let port = u16::from_be_bytes([high, low]);
            Ok(Source::Ip(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port))))
        }
        0x21 => {
            let all = addresses.first_chunk::<36>().ok_or(ProxyFault::TooShort)?;
            let ip = all.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip)).ok_or(ProxyFault::TooShort)?;
            let port = u16::from_be_bytes([all[32], all[33]]);
            Ok(Source::Ip(SocketAddr::new(ip.to_canonical(), port)))
        }
        // Two paths.
        0x31 if addresses.len() >= 216 => Ok(Source::Unix),
        0x31 => Err(ProxyFault::TooShort),
        other => Err(ProxyFault::UnknownFamily(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, addresses].concat()
    }

    fn ip(text: &str) -> Source {
        Source::Ip(text.parse().unwrap())
    }

    const V4: &[u8] = &[10, 1, 2, 3, 10, 9, 9, 9, 0x30, 0x39, 0x15, 0x38];

    #[test]
    fn headers() {
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 80;
        let mut mapped = v6;
        mapped[..16].copy_from_slice(&Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets());
        for (bytes, source) in [
            (header(0x21, 0x11, V4), ip("10.1.2.3:12345")),
            (header(0x21, 0x11, &[V4, &[4, 0, 1, 0]].concat()), ip("10.1.2.3:12345")),
            (header(0x21, 0x21, &v6), ip("[::1]:80")),
            (header(0x21, 0x21, &mapped), ip("10.0.0.1:80")),
            (header(0x21, 0x31, &[0; 216]), Source::Unix),
            (header(0x21, 0x00, &[]), Source::Sender),
            (header(0x20, 0x11, V4), Source::Sender),
            (header(0x20, 0x00, &[]), Source::Sender),
        ] {
            let more = [&bytes[..], b"what follows"].concat();
            assert_eq!(parse(&more), Ok(Some((source, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut} of {bytes:?}");
            }
        }
    }

    #[test]
    fn faults() {
        assert_eq!(parse(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"), Err(ProxyFault::NoHeader));
        assert_eq!(parse(&[0, 0, 0, 8]), Err(ProxyFault::NoHeader));
        assert_eq!(parse(&header(0x11, 0x11, V4)), Err(ProxyFault::UnknownCommand(0x11)));
        assert_eq!(parse(&header(0x22, 0x11, V4)), Err(ProxyFault::UnknownCommand(0x22)));
        assert_eq!(parse(&header(0x21, 0x12, V4)), Err(ProxyFault::UnknownFamily(0x12)));
        assert_eq!(parse(&header(0x21, 0x11, &V4[..11])), Err(ProxyFault::TooShort));
        assert_eq!(parse(&header(0x21, 0x21, V4)), Err(ProxyFault::TooShort));
        assert_eq!(parse(&header(0x21, 0x31, V4)), Err(ProxyFault::TooShort));
        let long = header(0x21, 0x11, &[0; PROXY_HEADER_BYTES_MAX]);
        assert_eq!(parse(&long[..16]), Err(ProxyFault::TooLong(long.len())), "before it has been gathered");
    }
}
