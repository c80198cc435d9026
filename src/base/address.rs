//! Where the other end of a connection is: an Internet address, or a Unix socket of this machine.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    Ip(SocketAddr),
    /// A path; one that begins with `@` is a name in the abstract namespace (Linux).
    Unix(Box<str>),
}

impl Address {
    /// The address that `host` is by itself: no name is looked up. A directory stands for PostgreSQL's socket in it.
    pub fn of_host(host: &str, port: u16) -> Option<Address> {
        if is_unix(host) {
            return Some(Address::Unix(socket_name(host, port).into()));
        }
        host.parse().ok().map(|ip: IpAddr| Address::Ip(SocketAddr::new(ip, port)))
    }

    pub fn is_unix(&self) -> bool {
        matches!(self, Address::Unix(_))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

/// Whether a host is a directory with a Unix socket (libpq: the parameter `host`).
pub fn is_unix(host: &str) -> bool {
    host.starts_with(['/', '@'])
}

/// The name of the socket for a port in a directory (PostgreSQL: UNIXSOCK_PATH).
pub fn socket_name(directory: &str, port: u16) -> String {
    format!("{}/.s.PGSQL.{port}", directory.trim_end_matches('/'))
}

/// The most bytes of a socket's name that every system can bind (`sun_path`), its NUL aside.
pub const SOCKET_NAME_BYTES_MAX: usize = 107;

/// Addresses that have their first bits in common; or all Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Ip { address: IpAddr, bits: u8 },
    Unix,
}

impl Network {
    /// `10.0.0.0/8`, `::1`, `unix`.
    pub fn parse(text: &str) -> Option<Network> {
        if text == "unix" {
            return Some(Network::Unix);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Network::Ip { address, bits })
    }

    pub fn contains(self, origin: Origin) -> bool {
        match (self, origin) {
            (Network::Unix, Origin::Unix) => true,
            (Network::Ip { address, bits }, Origin::Ip(other)) => {
                match (address, other.ip().to_canonical()) {
                    (IpAddr::V4(a), IpAddr::V4(b)) => {
                        let differing = (a.to_bits() ^ b.to_bits()).leading_zeros();
                        differing >= u32::from(bits)
                    }
                    (IpAddr::V6(a), IpAddr::V6(b)) => {
                        let differing = (a.to_bits() ^ b.to_bits()).leading_zeros();
                        differing >= u32::from(bits)
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Ip { address, bits } => write!(f, "{address}/{bits}"),
            Network::Unix => f.write_str("unix"),
        }
    }
}

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Ip(SocketAddr),
    Unix,
}

impl From<SocketAddr> for Origin {
    fn from(address: SocketAddr) -> Origin {
        Origin::Ip(address)
    }
}

impl Origin {
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Origin::Ip(address) => Some(address.ip()),
            Origin::Unix => None,
        }
    }

    /// 0 where there is none.
    pub fn port(self) -> u16 {
        match self {
            Origin::Ip(address) => address.port(),
            Origin::Unix => 0,
        }
    }

    pub fn is_unix(self) -> bool {
        matches!(self, Origin::Unix)
    }
}

impl fmt::Display for Origin {
    /// Without the port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Ip(address) => address.ip().fmt(f),
            Origin::Unix => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_addresses() {
        let unix = |name: &str| Some(Address::Unix(name.into()));
        assert_eq!(Address::of_host("/run/postgresql", 5432), unix("/run/postgresql/.s.PGSQL.5432"));
        assert_eq!(Address::of_host("/tmp/", 1), unix("/tmp/.s.PGSQL.1"));
        assert_eq!(Address::of_host("@db", 7), unix("@db/.s.PGSQL.7"));
        let ip = |text: &str| Some(Address::Ip(text.parse().unwrap()));
        assert_eq!(Address::of_host("::1", 5), ip("[::1]:5"));
        assert_eq!(Address::of_host("10.0.0.1", 5), ip("10.0.0.1:5"));
        assert_eq!(Address::of_host("db.example", 5), None);
    }

    #[test]
    fn networks() {
        let contains = |network: &str, ip: &str| {
            let address = SocketAddr::new(ip.parse().unwrap(), 1);
            Network::parse(network).unwrap().contains(Origin::Ip(address))
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("10.0.0.1", "10.0.0.1") && !contains("10.0.0.1", "10.0.0.0"));
        assert!(contains("10.0.0.1", "::ffff:10.0.0.1"), "as a socket for both families reports it");
        assert!(contains("fe80::/10", "fe80::1") && !contains("fe80::/10", "::1"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "::1"));
        let unix = Network::parse("unix").unwrap();
        assert!(unix.contains(Origin::Unix) && !Network::parse("::/0").unwrap().contains(Origin::Unix));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        assert_eq!(Network::parse("::1").unwrap().to_string(), "::1/128");
    }

    #[test]
    fn origins() {
        let ip = Origin::Ip("10.0.0.1:77".parse().unwrap());
        assert_eq!((ip.to_string(), ip.port()), ("10.0.0.1".to_owned(), 77));
        assert_eq!(
            (Origin::Unix.to_string(), Origin::Unix.port(), Origin::Unix.ip()),
            ("unix".to_owned(), 0, None)
        );
    }
}
