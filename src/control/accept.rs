//! Clients come in: the listening socket, and which worker gets the next client.
//!
//! The first worker's thread accepts, between its turns: a client that it keeps crosses no thread. Accepted by a thread of
//! its own, each client cost two wake-ups and a hand-over (bench/NOTES.md, "Connections").

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::net::{TcpListener, UnixListener};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::base::address::{Origin, socket_name};
use crate::base::limits::{ACCEPT_RETRY, ACCEPTS_PER_TURN_MAX, PACKED_BUSY_PERCENT_MAX};
use crate::base::time::Time;
use crate::config::{General, Tcp};
use crate::io::mio_net::{MioNet, tune};
use crate::io::stream::{Stream, unix_address};
use crate::io::sys;
use crate::io::transport::Transport;
use crate::worker::mail::{Common, Mail, Peer};

type Line = Transport<Stream>;

/// Connections that the kernel may hold for us to accept.
const BACKLOG: i32 = 4096;

/// The worker that accepts.
pub const WORKER: usize = 0;

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub struct Acceptor {
    listeners: Vec<Listener>,
    common: Arc<Common<Line>>,
    /// When to look again without having been told to.
    again: Time,
}

impl Acceptor {
    pub fn new(
        tcp: StdTcpListener,
        unix: Option<StdUnixListener>,
        net: &MioNet,
        common: Arc<Common<Line>>,
    ) -> io::Result<Acceptor> {
        let mut tcp = TcpListener::from_std(tcp);
        net.listen(&mut tcp)?;
        let mut listeners = vec![Listener::Tcp(tcp)];
        if let Some(unix) = unix {
            let mut unix = UnixListener::from_std(unix);
            net.listen(&mut unix)?;
            listeners.push(Listener::Unix(unix));
        }
        Ok(Acceptor { listeners, common, again: Time::NEVER })
    }

    pub fn next_time(&self) -> Time {
        self.again
    }

    /// Deals out the clients that have come. Readiness is reported once: everything is accepted now, or looked at again
    /// soon.
    pub fn accept(&mut self, now: Time) {
        self.again = Time::NEVER;
        for at in 0..self.listeners.len() {
            self.accept_from(at, now);
        }
    }

    fn accept_from(&mut self, at: usize, now: Time) {
        for number in 0..ACCEPTS_PER_TURN_MAX {
            // Mostly there is one. The kernel makes a socket and a file before it finds nobody to accept, and looks at its
            // queue here: a third of the time.
            if number > 0 && !self.listeners[at].is_readable() {
                return;
            }
            match self.listeners[at].accept() {
                Ok((socket, peer)) => self.deal(socket, peer, now),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        log::error!("cannot accept a client: {error}");
                        self.again = now + ACCEPT_RETRY;
                        return;
                    }
                },
            }
        }
        self.again = now;
    }

    /// The first worker that has time for more gets the next one, else the one with the fewest.
    fn deal(&self, socket: Stream, peer: Origin, now: Time) {
        let clients = |peer: &Peer<Line>| peer.clients.load(Ordering::Relaxed);
        let has_time = |peer: &Peer<Line>| peer.busy.percent(now) < PACKED_BUSY_PERCENT_MAX;
        let mut peers = self.common.peers.iter().enumerate();
        let first = peers.clone().find(|(_, peer)| has_time(peer));
        let Some((worker, to)) = first.or_else(|| peers.by_ref().min_by_key(|(_, peer)| clients(peer)))
        else {
            return;
        };
        to.count_clients(1);
        let mail = Mail::Client { socket: Transport::plain(socket), peer };
        // This worker reads its mail next.
        if worker == WORKER { to.mailbox.leave(mail) } else { to.mailbox.send(mail) }
    }
}

impl Listener {
    fn is_readable(&self) -> bool {
        match self {
            Listener::Tcp(listener) => sys::is_readable(listener),
            Listener::Unix(listener) => sys::is_readable(listener),
        }
    }

    fn accept(&self) -> io::Result<(Stream, Origin)> {
        match self {
            Listener::Tcp(listener) => {
                listener.accept().map(|(socket, peer)| (Stream::Tcp(socket), Origin::Ip(peer)))
            }
            Listener::Unix(listener) => {
                listener.accept().map(|(socket, _)| (Stream::Unix(socket), Origin::Unix))
            }
        }
    }
}

/// The Unix socket that clients can connect to; its file goes with it.
#[derive(Debug)]
pub struct UnixSocket {
    name: String,
    listener: Option<StdUnixListener>,
}

impl UnixSocket {
    /// None if none is configured.
    pub fn listen(general: &General) -> io::Result<Option<UnixSocket>> {
        let Some(directory) = &general.unix_socket_dir else { return Ok(None) };
        let name = socket_name(directory, general.port);
        let bound = bind_unix(&name, general.unix_socket_mode.0);
        let listener = bound
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {name:?}: {error}")))?;
        Ok(Some(UnixSocket { name, listener: Some(listener) }))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The socket itself; it can be taken once.
    pub fn take(&mut self) -> Option<StdUnixListener> {
        self.listener.take()
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if !self.name.starts_with('@')
            && let Err(error) = fs::remove_file(&self.name)
        {
            log::warn!("cannot remove {:?}: {error}", self.name);
        }
    }
}

/// Nobody can connect before the permissions are right. A file that a process which has gone left behind is replaced.
fn bind_unix(name: &str, mode: u32) -> io::Result<StdUnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let is_file = !name.starts_with('@');
    let address = match name.strip_prefix('@') {
        Some(name) => SockAddr::unix(format!("\0{name}"))?,
        None => SockAddr::unix(name)?,
    };
    match socket.bind(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_file && is_left_behind(name) => {
            fs::remove_file(name)?;
            socket.bind(&address)?;
        }
        result => result?,
    }
    if is_file {
        fs::set_permissions(name, Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether a socket's file is there and nobody listens.
fn is_left_behind(name: &str) -> bool {
    // A connection to anything else is refused, too.
    if !fs::symlink_metadata(name).is_ok_and(|file| file.file_type().is_socket()) {
        return false;
    }
    let connected = unix_address(name).and_then(|address| UnixStream::connect_addr(&address));
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Binds the first of the host's addresses that can be bound. Accepted sockets have the options of the listening one.
pub fn listen(host: &str, port: u16, tcp: &Tcp) -> io::Result<StdTcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("host {host:?} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match bind(address) {
            Ok(listener) => {
                tune(&listener, tcp);
                return Ok(listener);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")),
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as StdTcpStream;
    use std::time::Duration;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn accepted_sockets_have_the_options_of_the_listener() {
        let tcp = Tcp { time: Some(Duration::from_secs(77)), ..Tcp::default() };
        let listener = listen("127.0.0.1", 0, &tcp).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(accepted.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
    }

    #[test]
    fn a_unix_socket_is_as_permitted_as_configured_and_goes_with_its_process() {
        let directory = std::env::temp_dir().join(format!("pgdog-accept-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut general = General { port: 77, ..General::default() };
        assert!(UnixSocket::listen(&general).unwrap().is_none());
        general.unix_socket_dir = Some(directory.to_str().unwrap().to_owned());
        general.unix_socket_mode.0 = 0o750;
        let file = directory.join(".s.PGSQL.77");

        // What is left of a process that was killed is in nobody's way.
        drop(StdUnixListener::bind(&file).unwrap());
        assert!(file.exists());
        let socket = UnixSocket::listen(&general).unwrap().unwrap();
        let metadata = fs::metadata(&file).unwrap();
        assert!(metadata.file_type().is_socket() && metadata.permissions().mode() & 0o7777 == 0o750);
        assert_eq!(UnixSocket::listen(&general).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert!(file.exists(), "whoever listens there keeps it");
        drop(socket);
        assert!(!file.exists());

        // Anything else is left alone.
        fs::write(&file, "x").unwrap();
        assert!(UnixSocket::listen(&general).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"x");
        fs::remove_dir_all(&directory).unwrap();
    }
}
