//! One connection to a PostgreSQL server: a movable value with everything that is known about the other end.
//!
//! It is owned by exactly one of: a session (bound), a worker (logging in, being cleaned, closing) or a pool
//! (parked). `S` is the socket; nothing in this layer touches it.

use std::sync::Arc;
use std::time::Duration;

use crate::base::address::Address;
use crate::base::chunk::Chunks;
use crate::base::outbox::Outbox;
use crate::base::relay::Relay;
use crate::base::rng::Rng;
use crate::base::sabotage::{self, Bug};
use crate::base::time::Time;
use crate::cluster::pool::WorkerId;
use crate::cluster::settings::Settings;
use crate::cluster::statements::Prepared;
use crate::cluster::world::{Pool, World};
use crate::session::exchange::Exchanges;
use crate::session::inbound::Inbound;
use crate::session::listen::Ear;
use crate::session::login::Login;
use crate::session::sequences::Sequences;
use crate::stats::Tally;
use crate::wire::{BackendKey, TxStatus};

pub type ServerPool<S> = Pool<Box<Server<S>>>;
pub type ServerWorld<S> = World<Box<Server<S>>>;

/// Where a socket is registered for readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    pub worker: WorkerId,
    pub token: u64,
}

/// What is known to be possible with a socket without asking it: readiness is reported once per change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub readable: bool,
    pub writable: bool,
    /// The peer will send no more, or the socket is in error: reads go on until they say so, even after one that
    /// brought less than it asked for.
    pub closing: bool,
    /// That it can be written again would be reported.
    pub watches_writes: bool,
}

impl Readiness {
    /// A connection that stands, registered for reads.
    pub const STANDING: Readiness =
        Readiness { readable: false, writable: true, closing: false, watches_writes: false };
    /// One that is being made, registered for both.
    pub const CONNECTING: Readiness =
        Readiness { readable: false, writable: false, closing: false, watches_writes: true };
}

/// Whose unnamed prepared statement a server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unnamed {
    /// None, for sure.
    #[default]
    Nobodys,
    Of {
        session: u64,
        version: u32,
    },
}

#[derive(Debug)]
pub enum Phase {
    Login(Box<Login>),
    Ready,
    /// In nobody's hands: its record layer has something to send before it may rest, until the given time.
    Sending {
        until: Time,
    },
    /// In nobody's hands, being brought back into order, until the given time.
    Cleaning {
        until: Time,
    },
    /// In nobody's hands: whatever it is told is for those who listen.
    Listening(Box<Ear>),
    /// Terminate has been sent: waits for the server to close.
    Closing {
        until: Time,
    },
}

pub struct Server<S> {
    pub socket: S,
    pub home: Home,
    pub ready: Readiness,
    /// Tells it apart in the console and in logs.
    pub number: u64,
    pub pool: Arc<ServerPool<S>>,
    /// Where it is: cancel requests go there too.
    pub address: Address,
    /// Which attempt at opening it this was.
    pub attempt: u64,
    /// Why the connection could not be made.
    pub connect_error: Option<String>,
    pub phase: Phase,
    pub inbound: Inbound,
    pub outbox: Outbox,
    pub exchanges: Exchanges,
    pub status: TxStatus,
    pub key: BackendKey,
    /// What it has now, and what it had after login.
    pub settings: Arc<Settings>,
    pub base: Arc<Settings>,
    pub prepared: Prepared,
    /// How long it keeps statements that are not used.
    pub prepared_ttl: Option<Duration>,
    pub unnamed: Unnamed,
    /// The session that may have changed what no ParameterStatus shows.
    pub tainted_by: Option<u64>,
    /// Whose calls of nextval it remembers.
    pub sequences: Sequences,
    /// It has been sent half a message, and the rest will never come: whatever else it was sent would be read as that.
    pub is_cut: bool,
    /// It may listen to channels of the session's.
    pub listens: bool,
    /// Cancel requests for it that are under way: until they have ended it must not serve anybody else.
    pub cancels: u32,
    pub born: Time,
    pub expires: Time,
    pub request_time: Time,
    /// What it did since it was last counted, and since it was born.
    pub tally: Tally,
    pub life: Tally,
    /// The timer entry that its worker has armed.
    pub armed: Time,
}

impl<S> Server<S> {
    /// A server whose connection is being made, as the pool's slot `opening`.
    pub fn new(
        socket: S,
        number: u64,
        pool: Arc<ServerPool<S>>,
        address: Address,
        attempt: u64,
        now: Time,
        rng: &mut dyn Rng,
    ) -> Self {
        let config = &pool.config;
        let jitter = Duration::from_millis(rng.below(config.lifetime_jitter.as_millis() as u64 + 1));
        let expires = now + config.lifetime.saturating_sub(config.lifetime_jitter / 2) + jitter;
        let prepared_ttl = config.prepared_ttl.map(|ttl| {
            let jitter = config.prepared_ttl_jitter.min(ttl);
            ttl - jitter / 2 + Duration::from_millis(rng.below(jitter.as_millis() as u64 + 1))
        });
        let login = Login::new(config, now);
        Server {
            socket,
            home: Home { worker: 0, token: 0 },
            address,
            attempt,
            connect_error: None,
            ready: Readiness::CONNECTING,
            number,
            phase: Phase::Login(Box::new(login)),
            inbound: Inbound::default(),
            outbox: Outbox::default(),
            exchanges: Exchanges::default(),
            status: TxStatus::Idle,
            key: BackendKey::default(),
            settings: Arc::default(),
            base: Arc::default(),
            prepared: Prepared::default(),
            prepared_ttl,
            unnamed: Unnamed::Nobodys,
            tainted_by: None,
            sequences: Sequences::Nobodys,
            is_cut: false,
            listens: false,
            cancels: 0,
            born: now,
            expires,
            request_time: now,
            tally: Tally::default(),
            life: Tally::default(),
            armed: Time::NEVER,
            pool,
        }
    }

    /// Nothing is under way in either direction: it could serve another client.
    pub fn is_settled(&self) -> bool {
        !self.is_cut
            && self.exchanges.is_quiet()
            && self.status == TxStatus::Idle
            && !self.inbound.is_inside_frame()
            && self.outbox.is_empty()
    }

    /// Moves what it counted into `tally`.
    pub fn count_into(&mut self, tally: &mut Tally) {
        *tally += &self.tally;
        self.life += &self.tally;
        self.tally = Tally::default();
    }

    /// Gives all buffers back: the server has gone.
    pub fn release_buffers(&mut self, chunks: &mut Chunks) {
        self.outbox.clear(chunks);
        if sabotage::is_on(Bug::LostBuffer) {
            return;
        }
        self.inbound.relay.release(chunks);
    }

    /// Bytes of its buffers, beside the transport's.
    pub fn buffer_bytes(&self) -> usize {
        self.inbound.relay.capacity() + self.outbox.chunk_bytes()
    }

    /// Gives memory back while it rests.
    pub fn rest(&mut self, chunks: &mut Chunks) {
        free_sent(&mut self.inbound.relay, None);
        self.inbound.relay.rest(chunks);
        self.outbox.rest(4096);
    }
}

impl<S> Drop for Server<S> {
    /// While a panic unwinds, nobody else will say that the slot is free.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Some(mut shelf) = self.pool.try_lock() else {
            // The state of the pool is unknown: a pool that is never whole again would be worse than a restart.
            log::error!("a panic lost a slot of a pool; stopping");
            std::process::abort();
        };
        match self.phase {
            Phase::Login(_) => drop(shelf.state.open_failed()),
            Phase::Ready | Phase::Sending { .. } | Phase::Cleaning { .. } | Phase::Listening(_) => {
                shelf.state.close();
                shelf.state.closed_quietly();
            }
            Phase::Closing { .. } => shelf.state.closed_quietly(),
        }
    }
}

/// Frees a relay up to the first byte that some receiver still needs.
pub fn free_sent(relay: &mut Relay, needed: Option<u64>) {
    let parsed = relay.parsed();
    relay.free_to(needed.unwrap_or(parsed).min(parsed));
}
