//! One client and the servers bound to it: what each side sends, and what becomes of it.
//!
//! ```text
//!             startup packet       password, SCRAM            base settings known, startup settings accepted
//!  Startup ──────────────► Auth ──────────────────► Login ─────────────────────────────────────► Idle
//!     │ CancelRequest        │ wrong                   │ refused                                 │ ▲
//!     ▼                      ▼                         ▼                                         │ │
//!  Cancelling ─────────► Closing ◄─────────── every fatal error                   a request      │ │ no
//!                           ▲                                                     has come whole │ │ server
//!                           │ client leaves                                                      ▼ │ owed
//!                         Running ◄────────────────────────────────────────── grant ─────────── Waiting
//!                           └───────────────► Idle: the last answer has come, no transaction is open
//!
//!  Skipping: a batch failed before it reached a server; everything up to its Sync is ignored, then Idle.
//!  Bereft: the server was lost in a transaction while nothing was owed; what comes next is refused, then Idle.
//!  Console: the client speaks to pgdog itself.
//! ```
//!
//! The session owns its sockets as values and never touches them: the worker reads into `inbound`, calls in here,
//! and writes what the outboxes hold. Invariants: a server is bound only in `Login` and `Running`; a server goes back
//! only when nothing is owed, its status is idle and no COPY is open.

mod answers;
mod auth;
mod cleanup;
mod console;
pub mod cx;
pub mod errors;
pub mod exchange;
pub mod inbound;
pub mod listen;
pub mod login;
mod lookup;
mod passthrough;
mod recovery;
mod requests;
pub mod sequences;
pub mod server;
mod shape;
mod startup;
mod state;
mod statements;

use std::sync::Arc;

pub use cleanup::{Closing, Unbound};
pub use console::PARAMETERS as CONSOLE_PARAMETERS;

use crate::base::address::Origin;
use crate::base::chunk::Chunks;
use crate::base::limits::{FAREWELL_TIMEOUT, OWN_BYTES_MAX, SMALL_OUTBOX_BYTES};
use crate::base::outbox::{Outbox, Source};
use crate::base::peer::Peer;
use crate::base::sabotage::{self, Bug};
use crate::base::time::Time;
use crate::cluster::clients::Place;
use crate::cluster::settings::{Settings, Within, difference};
use crate::cluster::world::{Cluster, Name, OpenFailure, Replication};
use crate::config::PoolerMode;
use crate::session::auth::Auth;
use crate::session::cx::{Action, Answer, Cx};
use crate::session::errors::ClientError;
use crate::session::exchange::{Exchange, Note, Order, What};
use crate::session::inbound::{Inbound, Passing};
use crate::session::listen::Listening;
use crate::session::requests::{HOME, Run};
use crate::session::server::{Readiness, Server, free_sent};
use crate::session::startup::{Asked, Entry};
use crate::session::state::{Deallocates, Touched};
use crate::session::statements::ClientStatements;
use crate::sql::effects::Effects;
use crate::wire::{TxStatus, encode};

pub type ServerCluster<S> = Cluster<Box<Server<S>>>;

pub struct Client<S> {
    pub socket: S,
    pub ready: Readiness,
    pub inbound: Inbound,
    pub outbox: Outbox,
}

/// A server in the hands of a session.
pub struct Link<S> {
    pub server: Box<Server<S>>,
    /// Parses that have no answer yet: statement, and the batch they belong to.
    parsing: Vec<(u64, u32)>,
    /// Counts Syncs.
    batch: u32,
    /// The batch of the last change of the server's unnamed statement, until an answer says that it was made: in a later
    /// batch nobody knows which statement that is, since an error may have been ahead of the change.
    unnamed_since: Option<u32>,
    /// Portals bound to a COPY FROM STDIN.
    copy_portals: Vec<Box<[u8]>>,
    /// What follows waits until the server has said what it has read of a statement.
    is_checking: bool,
    /// What it has said of that so far.
    described: Vec<u8>,
    /// The client has had the server's own FATAL error.
    has_said_why: bool,
    touched: Touched,
    /// DEALLOCATEs of the extended protocol that have been prepared, to be run.
    deallocating: Deallocates,
    /// It is about to be taken out of the session's hands: what else it says is for nobody here.
    is_parted: bool,
}

pub struct Session<S> {
    pub id: u64,
    pub client: Client<S>,
    pub links: Vec<Link<S>>,
    /// The timer entry that the worker has armed.
    pub armed: Time,
    state: State<S>,
    cluster: Option<Arc<ServerCluster<S>>>,
    /// The configuration epoch that `cluster` was looked up in.
    epoch: u64,
    settings: Arc<Settings>,
    /// What it began with: RESET goes back to it.
    startup: Arc<Settings>,
    /// What keeps it on its server between transactions.
    pins: Effects,
    /// It has run what nobody has read, which may ask for values of sequences.
    calls_code: bool,
    /// What it hears without a server of its own.
    listening: Option<Box<Listening>>,
    statements: ClientStatements,
    key: CancelKey,
    /// Counts checkouts; tells a late grant from the one that is waited for.
    checkout: u32,
    who: Who,
    /// It counts as a client since it has proved who it is.
    place: Option<Place>,
}

/// What a client must present to have this session's statements cancelled: a process id that names a worker and a place,
/// and a secret, of which protocol 3.0 has room for four bytes.
pub struct CancelKey {
    pub pid: u32,
    secret: [u8; 32],
    length: u8,
}

impl CancelKey {
    pub fn new(pid: u32, secret: [u8; 32]) -> CancelKey {
        CancelKey { pid, secret, length: 32 }
    }

    pub fn secret(&self) -> &[u8] {
        &self.secret[..usize::from(self.length)]
    }

    fn shorten(&mut self) {
        self.length = 4;
    }
}

/// What the console shows of a client.
#[derive(Clone, Debug)]
pub struct Who {
    pub peer: Origin,
    /// Database and user; none before the startup packet.
    pub name: Option<Arc<Name>>,
    pub connected: Time,
    pub last_request: Time,
    pub queries: u64,
    pub transactions: u64,
    pub errors: u64,
    pub wait_micros: u64,
    pub query_micros: u64,
    pub transaction_micros: u64,
    pub received: u64,
    pub sent: u64,
}

enum State<S> {
    Startup {
        until: Time,
        asked: Asked,
        /// Once its connection is encrypted.
        peer: Option<Box<Peer>>,
    },
    Auth(Box<Auth<S>>),
    /// Authenticated; a server is asked for what PostgreSQL says at login.
    Login(Box<Entry>),
    Idle {
        since: Time,
        peeked: u32,
    },
    Waiting {
        since: Time,
        until: Time,
    },
    Running(Run),
    Skipping,
    Bereft,
    Console(console::Console),
    /// The client sent a cancel request and waits for us to close.
    Cancelling {
        until: Time,
    },
    Closing {
        until: Time,
    },
}

/// Which socket of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server(usize),
}

impl Who {
    fn new(peer: Origin, now: Time) -> Who {
        Who {
            peer,
            name: None,
            connected: now,
            last_request: now,
            queries: 0,
            transactions: 0,
            errors: 0,
            wait_micros: 0,
            query_micros: 0,
            transaction_micros: 0,
            received: 0,
            sent: 0,
        }
    }

    pub fn user(&self) -> &str {
        self.name.as_ref().map_or("", |name| &name.user)
    }

    pub fn database(&self) -> &str {
        self.name.as_ref().map_or("", |name| &name.database)
    }
}

impl<S> Session<S> {
    pub fn new(id: u64, socket: S, peer: Origin, key: CancelKey, cx: &Cx<'_, S>) -> Session<S> {
        let until = cx.now + cx.world.config.general.client_login_timeout;
        Session {
            id,
            client: Client {
                socket,
                ready: Readiness { readable: true, ..Readiness::STANDING },
                inbound: Inbound::default(),
                outbox: Outbox::default(),
            },
            links: Vec::new(),
            armed: Time::NEVER,
            state: State::Startup { until, asked: Asked::of(peer, &cx.world.config.general), peer: None },
            cluster: None,
            epoch: cx.world.epoch,
            settings: Arc::default(),
            startup: Arc::default(),
            pins: Effects::NONE,
            calls_code: false,
            listening: None,
            statements: ClientStatements::default(),
            key,
            checkout: 0,
            who: Who::new(peer, cx.now),
            place: None,
        }
    }

    /// The client's connection is encrypted from here on.
    pub fn on_secured(&mut self, new: Peer) {
        if let State::Startup { peer, .. } = &mut self.state {
            *peer = Some(Box::new(new));
        }
    }

    /// Bytes have been added to a side's inbound.
    pub fn on_bytes(&mut self, side: Side, cx: &mut Cx<'_, S>) {
        match side {
            Side::Client => self.on_client_bytes(cx),
            Side::Server(link) => self.on_server_bytes(link, cx),
        }
    }

    fn on_client_bytes(&mut self, cx: &mut Cx<'_, S>) {
        match &self.state {
            State::Startup { .. } => self.on_startup_bytes(cx),
            State::Auth(_) => self.on_password_bytes(cx),
            State::Idle { .. } => self.on_idle_bytes(cx),
            State::Running(_) => self.pump_requests(cx),
            State::Skipping => self.skip_to_sync(cx),
            State::Bereft => self.refuse_next(cx),
            State::Console(_) => self.on_console_bytes(cx),
            State::Login(_) | State::Waiting { .. } => {}
            State::Cancelling { .. } | State::Closing { .. } => self.forget_client_bytes(),
        }
    }

    /// Whether bytes of this side could be worked on now: if not, it is not read. Reading only what can be worked on is
    /// all the backpressure there is.
    pub fn wants_read(&self, side: Side) -> bool {
        match side {
            Side::Client => match &self.state {
                State::Login(_) | State::Waiting { .. } => false,
                State::Running(run) => !run.is_held() && self.client.inbound.relay.has_room(),
                State::Idle { .. } => {
                    self.client.inbound.relay.has_room() && self.client.outbox.own_bytes() < OWN_BYTES_MAX
                }
                _ => self.client.inbound.relay.has_room(),
            },
            Side::Server(link) => self.links.get(link).is_some_and(|link| {
                link.server.inbound.relay.has_room() && self.client.outbox.own_bytes() < OWN_BYTES_MAX
            }),
        }
    }

    /// Something has been written: what was held back may go on.
    pub fn on_written(&mut self, side: Side, cx: &mut Cx<'_, S>) {
        self.free_sent();
        if side == Side::Client && self.listening.is_some() {
            self.tell_notifications(cx);
        }
        if self.client.inbound.relay.unparsed().is_empty() {
            return;
        }
        match (side, &self.state) {
            // Frames may lie parsed-for in the relay that were not worked on for lack of room on the other side.
            (Side::Server(_), State::Running(_)) => self.pump_requests(cx),
            (Side::Client, State::Idle { .. }) => self.on_idle_bytes(cx),
            _ => {}
        }
    }

    /// Frees what all receivers have been sent.
    pub fn free_sent(&mut self) {
        let needed = self.links.iter().filter_map(|link| link.server.outbox.first_of(0)).min();
        free_sent(&mut self.client.inbound.relay, needed);
        for (at, link) in self.links.iter_mut().enumerate() {
            free_sent(&mut link.server.inbound.relay, self.client.outbox.first_of(source(at)));
        }
    }

    /// Gives buffers back that nobody needs now. What the next statement would need again is kept, if it is small.
    pub fn rest(&mut self, cx: &mut Cx<'_, S>) {
        match &self.state {
            State::Running(_) => self.client.inbound.relay.rest(cx.chunks),
            _ => {
                self.client.inbound.relay.shrink(cx.chunks);
                self.client.outbox.rest(SMALL_OUTBOX_BYTES);
            }
        }
        for link in &mut self.links {
            link.server.inbound.relay.rest(cx.chunks);
        }
    }

    /// Too much memory is held by what clients have sent in part: one that holds some and has no server goes.
    /// `in_transport`: some of what it has sent has not come out of its record layer.
    pub fn on_pressure(&mut self, in_transport: bool, cx: &mut Cx<'_, S>) {
        let gathers = self.is_logging_in() || matches!(self.state, State::Idle { .. });
        if gathers && (in_transport || !self.client.inbound.relay.is_empty()) {
            self.fail(ClientError::OutOfMemory, cx);
        }
    }

    pub fn is_logging_in(&self) -> bool {
        matches!(self.state, State::Startup { .. } | State::Auth(_))
    }

    /// Gives all buffers back: the session has ended.
    pub fn release_buffers(&mut self, chunks: &mut Chunks) {
        self.client.outbox.clear(chunks);
        self.client.inbound.relay.release(chunks);
    }

    /// The cancel request that this client sent has been carried out, as far as it could be.
    pub fn on_cancelled(&mut self, cx: &mut Cx<'_, S>) {
        if let State::Cancelling { .. } = self.state {
            self.close(cx);
        }
    }

    /// A server for the checkout `number`; it comes back if it is no longer wanted.
    pub fn on_grant(
        &mut self,
        number: u32,
        server: Box<Server<S>>,
        cx: &mut Cx<'_, S>,
    ) -> Option<Box<Server<S>>> {
        let waits = match &self.state {
            State::Login(_) | State::Waiting { .. } => true,
            State::Auth(auth) => auth.awaits_server(),
            _ => false,
        };
        let wanted = number == self.checkout && waits;
        if !wanted {
            return Some(server);
        }
        let link = self.links.len();
        // Mostly there is never a second one: every client that has had a server would pay for it.
        self.links.reserve_exact(1);
        self.links.push(Link {
            server,
            parsing: Vec::new(),
            batch: 0,
            unnamed_since: None,
            copy_portals: Vec::new(),
            is_checking: false,
            described: Vec::new(),
            has_said_why: false,
            touched: Touched::default(),
            deallocating: Deallocates::new(),
            is_parted: false,
        });
        match self.state {
            State::Login(_) => self.on_login_server(link, cx),
            State::Auth(_) => self.on_auth_server(link, cx),
            _ => self.start_running(link, cx),
        }
        None
    }

    /// The checkout `number` failed: no server can be opened, or its pool has gone.
    pub fn on_refused(&mut self, number: u32, failure: Option<OpenFailure>, cx: &mut Cx<'_, S>) {
        if number != self.checkout {
            return;
        }
        match &self.state {
            State::Login(_) => self.fail(ClientError::ServerUnavailable { failure, fatal: true }, cx),
            State::Auth(_) => self.on_auth_refused(failure, cx),
            State::Waiting { .. } => {
                self.count_wait(cx.now);
                self.fail_request(&ClientError::ServerUnavailable { failure, fatal: false }, cx);
            }
            _ => {}
        }
    }

    /// The pool that is waited for has been replaced by a reload.
    pub fn on_retired(&mut self, number: u32, cx: &mut Cx<'_, S>) {
        if number != self.checkout {
            return;
        }
        match &self.state {
            State::Waiting { until, .. } => {
                let until = *until;
                self.ask_for_server(cx);
                if let State::Waiting { until: new, .. } = &mut self.state {
                    *new = until;
                }
            }
            State::Login(_) => self.ask_for_login_server(cx),
            State::Auth(_) => self.look_up(cx),
            _ => {}
        }
    }

    /// An answer of the helper thread.
    pub fn on_answer(&mut self, answer: Answer, cx: &mut Cx<'_, S>) {
        if matches!(self.state, State::Auth(_)) {
            self.on_auth_answer(answer, cx);
        }
    }

    pub fn on_closed(&mut self, side: Side, cx: &mut Cx<'_, S>) {
        match side {
            Side::Client => self.on_client_closed(cx),
            Side::Server(link) => self.on_server_closed(link, cx),
        }
    }

    /// The process stops: clients outside transactions are told at once, others when their transaction ends.
    pub fn on_drain(&mut self, cx: &mut Cx<'_, S>) {
        match &self.state {
            State::Startup { .. } | State::Auth(_) | State::Idle { .. } | State::Login(_) | State::Bereft => {
                self.fail(ClientError::ShuttingDown, cx);
            }
            State::Running(_) if self.keeps_server() && self.is_at_rest() => {
                self.fail(ClientError::ShuttingDown, cx);
            }
            State::Console(_) => self.fail(ClientError::ShuttingDown, cx),
            _ => {}
        }
    }

    /// The time for finishing is over.
    pub fn on_terminate(&mut self, cx: &mut Cx<'_, S>) {
        if !matches!(self.state, State::Closing { .. } | State::Console(_)) {
            self.fail(ClientError::ShuttingDown, cx);
        }
    }

    /// Another client asks to cancel what this one runs.
    pub fn on_cancel(&mut self, cx: &mut Cx<'_, S>) {
        match &self.state {
            State::Waiting { .. } => {
                self.withdraw(cx);
                self.count_wait(cx.now);
                self.fail_request(&ClientError::Cancelled, cx);
            }
            State::Running(_) => {
                for link in 0..self.links.len() {
                    if !self.links[link].server.exchanges.is_empty() {
                        cx.actions.push(Action::Cancel { link });
                    }
                }
            }
            _ => {}
        }
    }

    /// A server is busy with a query of ours, about this session's settings: what the client has asked for has not begun.
    pub fn is_being_prepared(&self) -> bool {
        let prepares = |link: &Link<S>| {
            link.server.exchanges.iter().any(|exchange| {
                matches!(
                    exchange.note,
                    Note::Settings
                        | Note::Discard
                        | Note::Forgotten
                        | Note::Census(_)
                        | Note::Restores
                        | Note::Listens
                )
            })
        };
        self.links.iter().any(prepares)
    }

    /// What the client must present to have this session's statements cancelled.
    pub fn key(&self) -> &CancelKey {
        &self.key
    }

    pub fn on_time(&mut self, cx: &mut Cx<'_, S>) {
        if self.next_time() > cx.now {
            return;
        }
        match &self.state {
            State::Startup { .. } => self.fail(ClientError::LoginTimeout, cx),
            State::Auth(_) => self.on_auth_time(cx),
            State::Login(_) if self.links.is_empty() => {
                self.fail(ClientError::CheckoutTimeout { fatal: true }, cx);
            }
            State::Login(_) => {
                let failure = Some(OpenFailure::Timeout);
                self.fail(ClientError::ServerUnavailable { failure, fatal: true }, cx);
            }
            State::Idle { .. } => self.fail(ClientError::IdleTimeout, cx),
            State::Waiting { .. } => {
                self.withdraw(cx);
                self.count_wait(cx.now);
                self.fail_request(&ClientError::CheckoutTimeout { fatal: false }, cx);
            }
            State::Running(_) => self.on_running_time(cx),
            State::Cancelling { .. } => self.close(cx),
            State::Closing { .. } => cx.actions.push(Action::Close),
            State::Skipping | State::Bereft | State::Console(_) => {}
        }
    }

    pub fn next_time(&self) -> Time {
        let idle = self.cluster.as_ref().and_then(|cluster| cluster.timeouts.client_idle);
        match &self.state {
            State::Startup { until, .. } | State::Cancelling { until } | State::Closing { until } => *until,
            State::Auth(auth) => auth.next_time(),
            State::Login(entry) => entry.until,
            State::Idle { since, .. } => since.after(idle),
            State::Waiting { until, .. } => *until,
            State::Running(run) => self.running_deadline(run),
            State::Skipping | State::Bereft | State::Console(_) => Time::NEVER,
        }
    }

    /// The client is only being said goodbye to: once its outbox is empty, its socket may be closed.
    /// It rests between transactions, with nothing in its buffers and nobody who knows where it is: another worker can take it
    /// over.
    pub fn may_move(&self) -> bool {
        let Client { ready, inbound, outbox, .. } = &self.client;
        let is_idle = matches!(self.state, State::Idle { peeked: 0, .. }) && self.links.is_empty();
        let is_known = self.listening.is_some() || self.replication().is_some();
        let holds =
            inbound.passing != Passing::Nothing || inbound.relay.capacity() > 0 || outbox.chunk_bytes() > 0;
        is_idle && !is_known && !holds && outbox.is_empty() && !ready.closing
    }

    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    pub fn is_console(&self) -> bool {
        matches!(self.state, State::Console(_))
    }

    pub fn cluster(&self) -> Option<&ServerCluster<S>> {
        self.cluster.as_deref()
    }

    pub fn who(&self) -> &Who {
        &self.who
    }

    pub fn who_mut(&mut self) -> &mut Who {
        &mut self.who
    }

    /// The client replicates: its server is its own.
    fn replication(&self) -> Option<Replication> {
        self.cluster.as_ref()?.replication
    }

    fn mode(&self) -> PoolerMode {
        self.cluster.as_ref().map_or(PoolerMode::Transaction, |cluster| cluster.mode)
    }

    /// Whether its server stays with it between transactions.
    pub fn keeps_server(&self) -> bool {
        self.mode() == PoolerMode::Session || !self.pins.is_empty()
    }

    fn is_at_rest(&self) -> bool {
        self.links.iter().all(|link| link.server.is_settled())
    }

    /// Asks for a server for what the client has sent.
    fn ask_for_server(&mut self, cx: &mut Cx<'_, S>) {
        self.look_up_cluster(cx);
        let Some(cluster) = self.cluster.as_ref().filter(|_| !cx.draining) else {
            let error = if cx.draining { ClientError::ShuttingDown } else { ClientError::Unconfigured };
            return self.fail(error, cx);
        };
        self.checkout += 1;
        let until = cx.now + cluster.timeouts.checkout;
        if let Some(pool) = cluster.pools.first() {
            cx.actions.push(Action::Checkout { pool: pool.clone(), number: self.checkout });
        }
        self.state = State::Waiting { since: cx.now, until };
    }

    /// After a reload the client is served by what is configured now.
    fn look_up_cluster(&mut self, cx: &Cx<'_, S>) {
        if self.epoch != cx.world.epoch && self.replication().is_none() {
            self.epoch = cx.world.epoch;
            self.cluster = self.who.name.as_ref().and_then(|name| cx.world.cluster_of(name));
        }
    }

    fn withdraw(&mut self, cx: &mut Cx<'_, S>) {
        if let Some(pool) = self.cluster.as_ref().and_then(|cluster| cluster.pools.first()) {
            cx.actions.push(Action::Withdraw { pool: pool.clone(), number: self.checkout });
        }
        // A grant that is on its way finds another number.
        self.checkout += 1;
    }

    fn count_wait(&mut self, now: Time) -> u64 {
        let State::Waiting { since, .. } = self.state else { return 0 };
        let waited = now.since(since).as_micros() as u64;
        self.who.wait_micros += waited;
        waited
    }

    fn start_running(&mut self, link: usize, cx: &mut Cx<'_, S>) {
        let waited = self.count_wait(cx.now);
        let tally = &mut self.links[link].server.tally;
        tally.assignments += 1;
        tally.wait_micros += waited;
        self.state = State::Running(Run::new(cx.now));
        self.bring_settings(link);
        self.links[link].expire_statements(cx.now);
        self.bring_listens(link);
        self.pump_requests(cx);
    }

    /// Brings a server to this session's settings, ahead of whatever the client wants of it.
    fn bring_settings(&mut self, link: usize) {
        let server = &mut self.links[link].server;
        if server.tainted_by.is_some_and(|session| session != self.id) {
            discard_all(server);
        }
        self.bring_sequences(link);
        let server = &mut self.links[link].server;
        if Arc::ptr_eq(&server.settings, &self.settings) || sabotage::is_on(Bug::MissedReset) {
            return;
        }
        match difference(&server.settings, &self.settings, Within::Nothing) {
            None => server.settings = self.settings.clone(),
            Some(queries) => send_queries(server, &queries, Note::Settings),
        }
    }

    /// Ends the session with a FATAL error.
    fn fail(&mut self, error: ClientError, cx: &mut Cx<'_, S>) {
        self.who.errors += 1;
        // In the middle of a message to the client nothing more can be said.
        if !self.is_inside_answer() {
            error.write(&mut self.client.outbox);
        }
        self.close(cx);
    }

    /// The client goes, or is sent away: its servers are taken care of, then it may read what is left for it.
    fn close(&mut self, cx: &mut Cx<'_, S>) {
        if matches!(self.state, State::Closing { .. }) {
            return;
        }
        let waits = match &self.state {
            State::Waiting { .. } | State::Login(_) => true,
            State::Auth(auth) => auth.awaits_server(),
            _ => false,
        };
        self.end_trial();
        if waits && self.links.is_empty() {
            self.withdraw(cx);
        }
        self.checkout += 1;
        for link in (0..self.links.len()).rev() {
            self.part_with(link, cx);
        }
        if self.replication().is_some()
            && let Some(pool) = self.cluster.as_ref().and_then(|cluster| cluster.pools.first())
        {
            cx.actions.push(Action::Retire { pool: pool.clone() });
        }
        self.state = State::Closing { until: cx.now + FAREWELL_TIMEOUT };
        self.forget_client_bytes();
        cx.actions.push(Action::Close);
    }

    fn forget_client_bytes(&mut self) {
        let relay = &mut self.client.inbound.relay;
        relay.advance(relay.unparsed().len());
        self.free_sent();
    }

    /// Takes a server out of the session's hands. What the client has not been sent of its last answer stays here.
    pub fn unlink(&mut self, link: usize, cx: &mut Cx<'_, S>) -> Box<Server<S>> {
        let Link { mut server, .. } = self.links.remove(link);
        server.is_cut = link == HOME && matches!(self.client.inbound.passing, Passing::Send { .. });
        self.pins = Effects::NONE;
        if self.client.outbox.first_of(source(link)).is_some() {
            self.client.outbox.adopt(source(link), &mut server.inbound.relay, cx.chunks);
        }
        // What the server has not been sent yet goes with it.
        if server.outbox.first_of(0).is_some() {
            server.outbox.adopt(0, &mut self.client.inbound.relay, cx.chunks);
        }
        free_sent(&mut server.inbound.relay, None);
        // Nobody waits any more for what this server was not sent.
        self.free_sent();
        server
    }
}

/// The relay of server `link`, as outboxes name it.
pub fn source(link: usize) -> Source {
    link as Source + 1
}

/// Sends queries of our own; the note is on the last.
fn send_queries<S>(server: &mut Server<S>, queries: &[impl AsRef<[u8]>], note: Note) {
    let last = queries.len().saturating_sub(1);
    for (at, query) in queries.iter().enumerate() {
        let note = if at == last { note.clone() } else { Note::Nothing };
        server.outbox.own(|buf| encode::query(buf, query));
        server.exchanges.push(Exchange::noting(What::Query, Order::Swallow, note));
    }
    server.unnamed = server::Unnamed::Nobodys;
}

/// Resets a server completely. From here on it has no prepared statements and the settings of its login.
fn discard_all<S>(server: &mut Server<S>) {
    send_queries(server, &["DISCARD ALL"], Note::Discard);
    server.prepared.clear();
    server.tainted_by = None;
    server.sequences = sequences::Sequences::Nobodys;
    server.listens = false;
    server.settings = server.base.clone();
}

/// Whether a server's status and queue say that its client's transaction is over.
fn is_over<S>(server: &Server<S>) -> bool {
    server.exchanges.is_quiet() && server.status == TxStatus::Idle
}
