//! Letters between threads. A mailbox is a queue under a lock and a waker; a letter into a non-empty queue wakes nobody,
//! since whoever reads it reads everything.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::admin::{ClientRow, Command, ServerRow};
use crate::cluster::pool::{Ticket, WorkerId};
use crate::cluster::shared::Shared;
use crate::cluster::world::OpenFailure;
use crate::io::net::{Registrar, Wake};
use crate::session::cx::{Answer, Ask};
use crate::session::errors::ClientError;
use crate::session::server::{Server, ServerPool, ServerWorld};
use crate::wire::BackendKey;

/// Who waits for an answer: an entry of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub worker: WorkerId,
    pub token: u64,
}

pub enum Mail<S> {
    /// A client has connected.
    Client {
        socket: S,
        peer: SocketAddr,
    },
    /// A server for a waiter of this worker.
    Grant {
        ticket: Ticket,
        server: Box<Server<S>>,
    },
    /// No server could be opened for a waiter.
    Refused {
        ticket: Ticket,
        failure: Option<OpenFailure>,
    },
    /// The waiter has to ask again: its pool has been replaced, or its server could not be taken over.
    Retired {
        ticket: Ticket,
    },
    /// The server behind this token has been taken over by another worker.
    Forget {
        token: u64,
    },
    /// A slot has been taken for a new server: open it.
    Open {
        pool: Arc<ServerPool<S>>,
    },
    /// A parked server has been taken out of its pool, as closing.
    Close {
        server: Box<Server<S>>,
    },
    /// A name has been looked up.
    Resolved {
        token: u64,
        result: Result<Vec<SocketAddr>, String>,
    },
    /// The helper thread has done its work.
    Answer {
        token: u64,
        answer: Answer,
    },
    /// A client asks to cancel what the session with this key runs.
    Cancel {
        key: BackendKey,
        asker: Asker,
    },
    /// What a cancel request asked for has been done, as far as it can be.
    Cancelled {
        token: u64,
    },
    /// Tell about clients and servers.
    Census {
        asker: Asker,
    },
    Counted {
        token: u64,
        clients: Vec<ClientRow>,
        servers: Vec<ServerRow>,
    },
    /// A console's command has been carried out.
    Console {
        token: u64,
        answer: Result<Vec<u8>, ClientError>,
    },
    /// A new configuration is in force.
    World(Arc<ServerWorld<S>>),
    /// No new transactions.
    Drain,
    /// The time for finishing is over; with `cancel`, what runs is to be cancelled.
    Terminate {
        cancel: bool,
    },
    /// The process ends.
    Stop,
}

/// What workers ask of the other threads.
pub enum Order {
    Resolve {
        asker: Asker,
        host: Box<str>,
        port: u16,
    },
    Ask {
        asker: Asker,
        ask: Ask,
    },
    /// A command of the console that only the control thread can carry out.
    Control {
        asker: Asker,
        command: Command,
    },
    /// A worker has nothing left to do after Drain.
    Drained,
}

/// Where orders go.
pub trait Orders: Send + Sync {
    fn send(&self, order: Order);
}

pub struct Mailbox<S> {
    queue: Mutex<VecDeque<Mail<S>>>,
    wake: Box<dyn Wake>,
}

impl<S> Mailbox<S> {
    pub fn new(wake: Box<dyn Wake>) -> Mailbox<S> {
        Mailbox { queue: Mutex::default(), wake }
    }

    pub fn send(&self, mail: Mail<S>) {
        let was_empty = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push_back(mail);
            queue.len() == 1
        };
        if was_empty {
            self.wake.wake();
        }
    }

    pub fn take(&self) -> VecDeque<Mail<S>> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What threads know of a worker.
pub struct Peer<S> {
    pub mailbox: Mailbox<S>,
    pub registrar: Box<dyn Registrar<S>>,
    /// Clients that it has, or is about to be given.
    pub clients: AtomicUsize,
}

/// What all workers share besides their configuration.
pub struct Common<S> {
    pub peers: Vec<Peer<S>>,
    pub shared: Shared,
    pub orders: Box<dyn Orders>,
    /// Server connections ever made: their numbers.
    pub servers: AtomicUsize,
    /// Things that must not happen and did.
    pub bugs: AtomicUsize,
}

impl<S> Common<S> {
    pub fn post(&self, worker: WorkerId, mail: Mail<S>) {
        if let Some(peer) = self.peers.get(usize::from(worker)) {
            peer.mailbox.send(mail);
        }
    }

    pub fn next_server(&self) -> u64 {
        self.servers.fetch_add(1, Ordering::Relaxed) as u64 + 1
    }
}
