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
    fn origins() {
        let ip = Origin::Ip("10.0.0.1:77".parse().unwrap());
        assert_eq!((ip.to_string(), ip.port()), ("10.0.0.1".to_owned(), 77));
        assert_eq!(
            (Origin::Unix.to_string(), Origin::Unix.port(), Origin::Unix.ip()),
            ("unix".to_owned(), 0, None)
        );
    }
}
