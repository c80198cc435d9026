//! The traits that workers need of a network, on the simulated one; and the deliberate bugs that belong there.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pgdog::base::address::Address;
use pgdog::base::rng::{Rng, SeededRng};
use pgdog::base::time::Time;
use pgdog::config::Tcp;
use pgdog::io::net::{Net, Registrar, Socket, Wake};
use pgdog::io::transport::Transport;
use pgdog::worker::mail::{Order, Orders};

use super::bug::SimBug;
use crate::net::{PollId, SimNet, SimSocket, SimWaker};

/// What the parts of a run share besides the network.
pub struct Backstage {
    pub rng: SeededRng,
    pub bug: Option<SimBug>,
    /// Chance per thousand that a socket cannot be deregistered.
    pub deregister_fails: u64,
    /// Orders of workers, with the time at which they are carried out.
    pub orders: Vec<(Time, Order)>,
    /// Longest time until an order is carried out.
    pub order_delay: Duration,
    /// Cancel requests that are sent late.
    pub late_cancels: Vec<(Time, SocketAddr, Vec<u8>)>,
    /// What is written next is a cancel request behind a record layer.
    pub seals_cancel: bool,
}

#[derive(Clone)]
pub struct Shared(Arc<Mutex<Backstage>>);

impl Shared {
    pub fn new(backstage: Backstage) -> Shared {
        Shared(Arc::new(Mutex::new(backstage)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Backstage> {
        self.0.lock().expect("one thread")
    }
}

impl Backstage {
    pub fn has(&self, bug: SimBug) -> bool {
        self.bug == Some(bug)
    }

    pub fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.rng.below(1000) < per_mille
    }
}

pub type Line = Transport<Wire>;

/// A socket in the hands of a worker.
pub struct Wire {
    socket: SimSocket,
    net: SimNet,
    shared: Shared,
    /// Where it was connected to.
    address: Option<SocketAddr>,
}

impl Wire {
    pub fn accepted(socket: SimSocket, net: &SimNet, shared: &Shared) -> Wire {
        Wire { socket, net: net.clone(), shared: shared.clone(), address: None }
    }
}

/// The code of CancelRequest, behind its length.
pub const CANCEL_CODE: [u8; 4] = 80_877_102_u32.to_be_bytes();

impl Socket for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buf)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if let (Some(address), Some(first)) = (self.address, pieces.first())
            && first.get(4..8) == Some(&CANCEL_CODE)
            && self.shared.lock().has(SimBug::LateCancel)
        {
            let mut shared = self.shared.lock();
            let delay = Duration::from_micros(shared.rng.below(5_000));
            shared.late_cancels.push((self.net.now() + delay, address, first.to_vec()));
            self.net.break_off(&self.socket);
            return Ok(first.len());
        }
        if std::mem::take(&mut self.shared.lock().seals_cancel) {
            // A cancel request whose connection breaks may arrive much later, whoever forwards it.
            self.net.spare(&self.socket);
        }
        self.socket.write_vectored(pieces)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown_write()
    }

    fn connected(&mut self) -> io::Result<()> {
        self.socket.connected()
    }
}

pub struct WorkerNet {
    pub net: SimNet,
    pub poll: PollId,
    pub shared: Shared,
}

impl Net for WorkerNet {
    type Socket = Wire;

    fn now(&self) -> Time {
        self.net.now()
    }

    fn register(&mut self, socket: &mut Wire, token: u64, writes: bool) -> io::Result<()> {
        self.net.register(&socket.socket, self.poll, token, writes)
    }

    fn watch_writes(&mut self, socket: &mut Wire, token: u64) -> io::Result<()> {
        self.net.watch_writes(&socket.socket, self.poll, token)
    }

    fn connect(&mut self, address: &Address, _: &Tcp) -> io::Result<Wire> {
        let Address::Ip(address) = *address else { return Err(io::ErrorKind::Unsupported.into()) };
        let socket = self.net.connect(address);
        Ok(Wire { socket, net: self.net.clone(), shared: self.shared.clone(), address: Some(address) })
    }

    fn trim_memory(&mut self) {}
}

/// Another worker's hand on a worker's poll.
pub struct WorkerRegistrar {
    pub net: SimNet,
    pub shared: Shared,
}

impl Registrar<Line> for WorkerRegistrar {
    fn deregister(&self, line: &mut Line) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let chance = shared.deregister_fails;
        if shared.chance(chance) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.net.deregister(&line.socket.socket, None)
    }
}

pub struct WorkerWake {
    pub waker: SimWaker,
    pub shared: Shared,
}

impl Wake for WorkerWake {
    fn wake(&self) {
        let mut shared = self.shared.lock();
        if shared.has(SimBug::LostWakeup) && shared.chance(50) {
            return;
        }
        self.waker.wake();
    }
}

/// Orders are put down, and carried out by the run some time later.
pub struct OrderBox {
    pub net: SimNet,
    pub shared: Shared,
}

impl Orders for OrderBox {
    fn send(&self, order: Order) {
        let mut shared = self.shared.lock();
        let delay = shared.order_delay.as_micros() as u64;
        let delay = Duration::from_micros(shared.rng.below(delay + 1));
        let at = self.net.now() + delay;
        shared.orders.push((at, order));
    }
}
