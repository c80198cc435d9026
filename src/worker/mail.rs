//! Letters between threads. A mailbox is a queue under a lock and a waker; a letter behind one that has woken the receiver
//! wakes it no second time, since whoever reads one reads all.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use crate::admin::{ClientRow, Command, ServerRow};
use crate::base::address::Origin;
use crate::base::limits::BUSY_INTERVAL;
use crate::base::sync::Mutex;
use crate::base::time::Time;
use crate::cluster::pool::{Ticket, WorkerId};
use crate::cluster::shared::Shared;
use crate::cluster::world::OpenFailure;
use crate::io::net::{Registrar, Wake};
use crate::io::transport::Sealer;
use crate::session::Session;
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
        peer: Origin,
    },
    /// A session of another worker, which rests between transactions.
    Session {
        session: Box<Session<S>>,
    },
    /// The session that began at this place has gone on.
    Moved {
        place: u32,
        to: WorkerId,
    },
    /// The session that began at this place has ended.
    Left {
        place: u32,
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
    /// A connection that listens has something to ask.
    Listen {
        token: u64,
    },
    /// What a session has asked to listen to is listened to, or cannot be.
    Listening {
        token: u64,
        number: u32,
        works: bool,
    },
    /// The connection that listened for a session has gone.
    Unheard {
        token: u64,
    },
    /// A NotificationResponse for these sessions.
    Notification {
        pool: u64,
        message: Arc<[u8]>,
        tokens: Vec<u64>,
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
    World(Arc<ServerWorld<S>>, Arc<dyn Sealer>),
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
    letters: Mutex<Letters<S>>,
    wake: Box<dyn Wake>,
}

struct Letters<S> {
    queue: VecDeque<Mail<S>>,
    /// The receiver has been woken and has not read yet.
    woken: bool,
}

impl<S> Mailbox<S> {
    pub fn new(wake: Box<dyn Wake>) -> Mailbox<S> {
        Mailbox { letters: Mutex::new(Letters { queue: VecDeque::new(), woken: false }), wake }
    }

    pub fn send(&self, mail: Mail<S>) {
        let woken = {
            let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            letters.queue.push_back(mail);
            std::mem::replace(&mut letters.woken, true)
        };
        if !woken {
            self.wake.wake();
        }
    }

    /// A letter that can wait until the receiver wakes for something else.
    pub fn leave(&self, mail: Mail<S>) {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).queue.push_back(mail);
    }

    /// Takes all letters; `into` is empty, and its memory serves for the next ones.
    pub fn take(&self, into: &mut VecDeque<Mail<S>>) {
        debug_assert!(into.is_empty());
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.woken = false;
        std::mem::swap(&mut letters.queue, into);
    }
}

/// What threads know of a worker.
pub struct Peer<S> {
    pub mailbox: Mailbox<S>,
    pub registrar: Box<dyn Registrar<S>>,
    /// Clients that it has, or is about to be given.
    pub clients: AtomicUsize,
    /// Notifications on their way to its sessions.
    pub notifications: AtomicUsize,
    pub busy: Busy,
}

impl<S> Peer<S> {
    pub fn count_clients(&self, change: isize) {
        if change < 0 {
            self.clients.fetch_sub(change.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.clients.fetch_add(change.unsigned_abs(), Ordering::Relaxed);
        }
    }
}

/// Percent of the last moments that a worker spent working, and when it said so: one that sleeps says nothing.
#[derive(Debug, Default)]
pub struct Busy(AtomicU64);

impl Busy {
    pub fn tell(&self, percent: u32, now: Time) {
        self.0.store(now.as_micros() << 8 | u64::from(percent.min(100)), Ordering::Relaxed);
    }

    pub fn percent(&self, now: Time) -> u32 {
        let said = self.0.load(Ordering::Relaxed);
        let is_old = now.since(Time::from_micros(said >> 8)) > 2 * BUSY_INTERVAL;
        if is_old { 0 } else { (said & 0xff) as u32 }
    }
}

/// What all workers share besides their configuration.
pub struct Common<S> {
    pub peers: Vec<Peer<S>>,
    pub shared: Shared,
    pub orders: Box<dyn Orders>,
    /// With more on their way to the sessions of a worker no more are read.
    pub notifications_max: usize,
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

    pub fn post_all(&self, mail: impl Fn() -> Mail<S>) {
        for worker in 0..self.peers.len() {
            self.post(worker as WorkerId, mail());
        }
    }

    pub fn next_server(&self) -> u64 {
        self.servers.fetch_add(1, Ordering::Relaxed) as u64 + 1
    }
}

/// Every interleaving of a few threads, by loom.
#[cfg(test)]
#[cfg(pgdog_loom)]
mod loom_tests {
    use loom::sync::{Mutex, Notify};
    use loom::thread;

    use super::*;
    use crate::base::time::Time;
    use crate::cluster::pool::{Checkin, Checkout, PoolState};

    /// As a poll's waker: a wake that comes while nobody waits is not forgotten.
    struct Bell(loom::sync::Arc<Notify>);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.notify();
        }
    }

    fn mailbox() -> (loom::sync::Arc<Mailbox<()>>, loom::sync::Arc<Notify>) {
        let bell = loom::sync::Arc::new(Notify::new());
        (loom::sync::Arc::new(Mailbox::new(Box::new(Bell(bell.clone())))), bell)
    }

    fn taken(mailbox: &Mailbox<()>) -> VecDeque<Mail<()>> {
        let mut letters = VecDeque::new();
        mailbox.take(&mut letters);
        letters
    }

    /// A worker that waits only for wakes gets every letter, in each sender's order; a lost wake-up is a deadlock, which
    /// loom reports.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let (mailbox, bell) = mailbox();
            let senders: Vec<_> = [1, 2]
                .into_iter()
                .map(|letters| {
                    let mailbox = mailbox.clone();
                    thread::spawn(move || {
                        for number in 0..letters {
                            mailbox.send(Mail::Cancelled { token: letters * 10 + number });
                        }
                    })
                })
                .collect();
            let mut read = Vec::new();
            while read.len() < 3 {
                bell.wait();
                read.extend(taken(&mailbox).into_iter().map(|mail| match mail {
                    Mail::Cancelled { token } => token,
                    _ => unreachable!("nobody sends anything else"),
                }));
            }
            let at = |token| read.iter().position(|of| *of == token);
            assert!(at(20) < at(21) && at(10).is_some(), "{read:?}");
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            assert!(taken(&mailbox).is_empty());
        });
    }

    /// A waiter gives up while another worker frees a server: exactly one of the two wins, and the server is in one
    /// place afterwards.
    #[test]
    fn grant_or_withdraw() {
        loom::model(|| {
            let ticket = Ticket { worker: 0, session: 1, number: 1 };
            let mut state = PoolState::new(1, 2, None);
            let first = Ticket { worker: 1, session: 2, number: 1 };
            assert!(matches!(state.checkout(first, Time::ZERO), Checkout::Wait { open: true }));
            assert!(matches!(state.opened('s', 1, Time::ZERO), Checkin::Granted { .. }));
            assert!(matches!(state.checkout(ticket, Time::ZERO), Checkout::Wait { open: false }));
            let pool = loom::sync::Arc::new(Mutex::new(state));
            let (mailbox, bell) = mailbox();
            let freeing = {
                let (pool, mailbox) = (pool.clone(), mailbox.clone());
                thread::spawn(move || {
                    let outcome = pool.lock().unwrap().checkin('s', 1, Time::ZERO);
                    match outcome {
                        Checkin::Granted { ticket: to, server: 's' } => {
                            assert_eq!(to, ticket);
                            mailbox.send(Mail::Cancelled { token: to.session });
                            true
                        }
                        Checkin::Parked { .. } => false,
                        _ => panic!("the pool is neither retired nor too large"),
                    }
                })
            };
            let withdrawn = pool.lock().unwrap().withdraw(ticket);
            if !withdrawn {
                // A server is on its way: the wake for it comes.
                bell.wait();
                assert_eq!(taken(&mailbox).len(), 1);
                // It is no longer wanted.
                assert!(matches!(pool.lock().unwrap().checkin('s', 0, Time::ZERO), Checkin::Parked { .. }));
            }
            let granted = freeing.join().unwrap();
            assert!(granted != withdrawn, "granted: {granted}, withdrawn: {withdrawn}");
            let counts = pool.lock().unwrap().counts();
            assert_eq!((counts.idle, counts.busy, counts.waiting), (1, 0, 0));
        });
    }
}
