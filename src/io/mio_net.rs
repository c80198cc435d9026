//! The network as it is: mio's sockets and poll.

use std::io;
use std::time::Duration;

use mio::event::Source;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use socket2::{SockRef, TcpKeepalive};

use crate::base::address::Address;
use crate::base::time::Time;
use crate::config::Tcp;
use crate::io::net::{Event, Net, Registrar, Wake};
use crate::io::stream::Stream;
use crate::io::sys;
use crate::io::transport::Transport;

/// Tokens of the waker and of the listening sockets. No table entry has these indices.
const WAKER: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);

pub struct MioNet {
    poll: Poll,
    events: Events,
    clock: Clock,
    has_clients: bool,
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Never zero: that is before everything.
    pub fn now(self) -> Time {
        Time::from_micros(sys::monotonic_micros() + 1)
    }
}

pub struct MioRegistrar(Registry);

impl Registrar<Transport<Stream>> for MioRegistrar {
    fn deregister(&self, line: &mut Transport<Stream>) -> io::Result<()> {
        self.0.deregister(&mut line.socket)
    }
}

pub struct MioWaker(Waker);

impl Wake for MioWaker {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            log::error!("cannot wake a worker: {error}");
        }
    }
}

impl MioNet {
    pub fn new(clock: Clock) -> io::Result<MioNet> {
        Ok(MioNet { poll: Poll::new()?, events: Events::with_capacity(256), clock, has_clients: false })
    }

    /// Waits for clients, too.
    pub fn listen(&self, listener: &mut impl Source) -> io::Result<()> {
        self.poll.registry().register(listener, LISTENER, Interest::READABLE)
    }

    /// Whether clients have come since the last call.
    pub fn has_clients(&mut self) -> bool {
        std::mem::take(&mut self.has_clients)
    }

    pub fn registrar(&self) -> io::Result<MioRegistrar> {
        Ok(MioRegistrar(self.poll.registry().try_clone()?))
    }

    pub fn waker(&self) -> io::Result<MioWaker> {
        Ok(MioWaker(Waker::new(self.poll.registry(), WAKER)?))
    }

    /// Waits for readiness until `until`, and adds what there is to `out`.
    pub fn poll(&mut self, now: Time, until: Time, out: &mut Vec<Event>) -> io::Result<()> {
        let timeout = match until {
            Time::NEVER => None,
            // The poll counts milliseconds and rounds up; waking early would only mean to wait again.
            until => Some(until.since(now).min(Duration::from_secs(3600))),
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            match event.token() {
                WAKER => {}
                LISTENER => self.has_clients = true,
                Token(token) => out.push(Event {
                    token: token as u64,
                    readable: event.is_readable(),
                    writable: event.is_writable(),
                    closing: event.is_read_closed() || event.is_write_closed() || event.is_error(),
                }),
            }
        }
        Ok(())
    }
}

impl Net for MioNet {
    type Socket = Stream;

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn register(&mut self, socket: &mut Stream, token: u64, writes: bool) -> io::Result<()> {
        let interest = if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.poll.registry().register(socket, Token(token as usize), interest)
    }

    fn watch_writes(&mut self, socket: &mut Stream, token: u64) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().reregister(socket, Token(token as usize), both)
    }

    fn connect(&mut self, address: &Address, tcp: &Tcp) -> io::Result<Stream> {
        Stream::connect(address, tcp)
    }

    fn trim_memory(&mut self) {
        crate::io::sys::trim_memory();
    }
}

/// Sets the options of a socket; those of a listening one are inherited by what it accepts. What cannot be set is no reason
/// to refuse a connection.
pub fn tune<'s>(socket: impl Into<SockRef<'s>>, tcp: &Tcp) {
    let socket = socket.into();
    let mut keepalive = TcpKeepalive::new();
    if let Some(time) = tcp.time {
        keepalive = keepalive.with_time(time);
    }
    if let Some(interval) = tcp.interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(retries) = tcp.retries {
        keepalive = keepalive.with_retries(retries);
    }
    let mut results = vec![socket.set_tcp_nodelay(true)];
    if tcp.keepalive {
        results.push(socket.set_tcp_keepalive(&keepalive));
    }
    if tcp.user_timeout.is_some() {
        results.push(socket.set_tcp_user_timeout(tcp.user_timeout));
    }
    if let Some(algorithm) = &tcp.congestion_control {
        results.push(socket.set_tcp_congestion(algorithm.as_bytes()));
    }
    for error in results.into_iter().filter_map(Result::err) {
        log::debug!("cannot set an option of a socket: {error}");
    }
}
