//! What a worker needs of a network, so that a simulation can stand in for it.

use std::io::{self, IoSlice};

use crate::base::address::Address;
use crate::base::time::Time;
use crate::config::Tcp;

/// A non-blocking stream, as std's and mio's are: `WouldBlock` when nothing can be done, `Ok(0)` at the end.
pub trait Socket: Send {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Tells the peer that nothing more will be sent.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// After the first readiness: whether the connection stands. `WouldBlock` if that is not known yet.
    fn connected(&mut self) -> io::Result<()>;
}

/// Readiness of a registered socket; each is reported once per change (edge-triggered).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer will send no more, or the socket is in error.
    pub closing: bool,
}

/// Takes a socket out of a worker's poll, from any thread.
pub trait Registrar<S>: Send + Sync {
    fn deregister(&self, socket: &mut S) -> io::Result<()>;
}

/// Ends a worker's wait, from any thread.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

/// The network of one worker.
pub trait Net {
    type Socket: Socket + 'static;

    fn now(&self) -> Time;
    /// Reports from now on what can be read; with `writes`, also that it can be written.
    fn register(&mut self, socket: &mut Self::Socket, token: u64, writes: bool) -> io::Result<()>;
    /// Reports from now on, too, that a registered socket can be written. Few ever need that, and each that asks for it
    /// from the beginning is reported at once: a wake-up for nothing.
    fn watch_writes(&mut self, socket: &mut Self::Socket, token: u64) -> io::Result<()>;
    /// Begins to connect. The socket becomes writable once that has succeeded or failed.
    fn connect(&mut self, address: &Address, tcp: &Tcp) -> io::Result<Self::Socket>;
    /// Much has been freed: what the allocator keeps of it goes back to the system.
    fn trim_memory(&mut self);
}
