//! Clients come in: the listening socket, and which worker gets the next client.
//!
//! The first worker's thread accepts, between its turns: a client that it keeps crosses no thread. Accepted by a thread of
//! its own, each client cost two wake-ups and a hand-over (bench/NOTES.md, "Connections").

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};

use crate::base::limits::{ACCEPT_RETRY, ACCEPTS_PER_TURN_MAX, CLIENTS_PACKED_MAX, PACKED_BUSY_PERCENT_MAX};
use crate::base::time::Time;
use crate::config::Tcp;
use crate::io::mio_net::{MioNet, tune};
use crate::io::sys;
use crate::io::transport::Transport;
use crate::worker::mail::{Common, Mail, Peer};

type Line = Transport<TcpStream>;

/// Connections that the kernel may hold for us to accept.
const BACKLOG: i32 = 4096;

/// The worker that accepts.
pub const WORKER: usize = 0;

pub struct Acceptor {
    listener: TcpListener,
    common: Arc<Common<Line>>,
    /// When to look again without having been told to.
    again: Time,
}

impl Acceptor {
    pub fn new(listener: StdTcpListener, net: &MioNet, common: Arc<Common<Line>>) -> io::Result<Acceptor> {
        let mut listener = TcpListener::from_std(listener);
        net.listen(&mut listener)?;
        Ok(Acceptor { listener, common, again: Time::NEVER })
    }

    pub fn next_time(&self) -> Time {
        self.again
    }

    /// Deals out the clients that have come. Readiness is reported once: everything is accepted now, or looked at again
    /// soon.
    pub fn accept(&mut self, now: Time) {
        self.again = Time::NEVER;
        for number in 0..ACCEPTS_PER_TURN_MAX {
            // Mostly there is one. The kernel makes a socket and a file before it finds nobody to accept, and looks at its
            // queue here: a third of the time.
            if number > 0 && !sys::is_readable(&self.listener) {
                return;
            }
            match self.listener.accept() {
                Ok((socket, peer)) => self.deal(socket, peer),
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

    /// The first worker that has few clients and time for more gets the next one, else the one with the fewest.
    fn deal(&self, socket: TcpStream, peer: SocketAddr) {
        let clients = |peer: &Peer<Line>| peer.clients.load(Ordering::Relaxed);
        let has_time = |peer: &Peer<Line>| {
            clients(peer) < CLIENTS_PACKED_MAX && peer.busy.load(Ordering::Relaxed) < PACKED_BUSY_PERCENT_MAX
        };
        let mut peers = self.common.peers.iter().enumerate();
        let first = peers.clone().find(|(_, peer)| has_time(peer));
        let Some((worker, to)) = first.or_else(|| peers.by_ref().min_by_key(|(_, peer)| clients(peer)))
        else {
            return;
        };
        to.clients.fetch_add(1, Ordering::Relaxed);
        let mail = Mail::Client { socket: Transport::plain(socket), peer };
        // This worker reads its mail next.
        if worker == WORKER { to.mailbox.leave(mail) } else { to.mailbox.send(mail) }
    }
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
}
