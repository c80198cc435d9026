//! A socket of either family: TCP or Unix.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddress;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use crate::base::address::Address;
use crate::config::Tcp;
use crate::io::mio_net::tune;
use crate::io::net::Socket;

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Begins to connect.
    pub fn connect(address: &Address, tcp: &Tcp) -> io::Result<Stream> {
        match address {
            Address::Ip(address) => {
                let stream = TcpStream::connect(*address)?;
                tune(&stream, tcp);
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(name) => Ok(Stream::Unix(UnixStream::connect_addr(&unix_address(name)?)?)),
        }
    }
}

/// The address of a Unix socket by its path, or by `@` and its abstract name.
pub fn unix_address(name: &str) -> io::Result<UnixAddress> {
    match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => UnixAddress::from_abstract_name(name),
        #[cfg(not(target_os = "linux"))]
        Some(_) => Err(io::ErrorKind::Unsupported.into()),
        None => UnixAddress::from_pathname(name),
    }
}

/// Both kinds have the same methods.
macro_rules! either {
    ($stream:expr, $of:ident => $value:expr) => {
        match $stream {
            Stream::Tcp($of) => $value,
            Stream::Unix($of) => $value,
        }
    };
}

impl Socket for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        either!(self, of => Read::read(of, buf))
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, of => match pieces {
            [one] => Write::write(of, one),
            pieces => of.write_vectored(pieces),
        })
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        either!(self, of => of.shutdown(Shutdown::Write))
    }

    fn connected(&mut self) -> io::Result<()> {
        if let Some(error) = either!(self, of => of.take_error())? {
            return Err(error);
        }
        match either!(self, of => of.peer_addr().map(drop)) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result,
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        either!(self, of => registry.register(of, token, interests))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        either!(self, of => registry.reregister(of, token, interests))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        either!(self, of => registry.deregister(of))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_an_error() {
        assert!(unix_address(&"/x".repeat(100)).is_err());
        assert!(unix_address(&format!("@{}", "x".repeat(200))).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn abstract_names_connect() {
        let name = format!("@pgdog-test-{}/.s.PGSQL.1", std::process::id());
        let listener = UnixListener::bind_addr(&unix_address(&name).unwrap()).unwrap();
        let mut stream = Stream::connect(&Address::Unix(name.into()), &Tcp::default()).unwrap();
        let (_peer, _) = listener.accept().unwrap();
        stream.connected().unwrap();
        stream.write(&[IoSlice::new(b"x")]).unwrap();
        stream.shutdown_write().unwrap();
    }
}
