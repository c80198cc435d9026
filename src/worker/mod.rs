//! A worker: a thread's loop over sessions and the servers bound to them. It carries out what sessions decide.
//!
//! One turn: mail, readiness, everything that is ready, timers, deliveries, closes. Nothing is freed in the middle of a
//! turn's step; sockets are read and written until nothing is left or the turn's share is used up, since readiness is
//! reported once per change and it is we who remember.
//!
//! Each step is a method of its own, so that a simulation can run other workers between any two.

mod cancels;
mod census;
mod lines;
mod listeners;
pub mod mail;
mod moves;
mod relief;
mod servers;
mod sessions;
pub mod shutdown;
pub mod table;
pub mod upkeep;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::chunk::Chunks;
use crate::base::limits::HANDSHAKES_PER_TURN_MAX;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::base::timer::Timers;
use crate::cluster::pool::{Ticket, WorkerId};
use crate::io::net::{Event, Net};
use crate::io::transport::{Sealer, Transport};
use crate::session::cx::{Action, Cx};
use crate::session::server::{Server, ServerPool, ServerWorld};
use crate::session::{CancelKey, Session};
use crate::worker::cancels::CancelCall;
use crate::worker::census::Census;
use crate::worker::mail::{Asker, Common, Mail, Order};
use crate::worker::moves::Moves;
use crate::worker::servers::Opening;
use crate::worker::table::Table;

/// A connection of a worker.
pub type Line<N> = Transport<<N as Net>::Socket>;

/// What a worker has a token for.
pub(crate) enum Entry<S> {
    Session(Box<Session<S>>),
    /// A server in the hands of that session.
    Bound {
        session: u64,
    },
    /// A server in nobody's hands: logging in, being cleaned, in quarantine, closing.
    Server(Box<Server<S>>),
    /// A server that rests in its pool, registered here.
    Parked {
        pool: Arc<ServerPool<S>>,
        id: u64,
    },
    /// No socket yet: its address is being looked up, or an attempt failed and the next one waits.
    Opening(Box<Opening<S>>),
    /// A connection that carries a cancel request to a server.
    Cancel(Box<CancelCall<S>>),
    /// It is being worked on, or on its way to another worker.
    Away,
    /// A session that began here and is at another worker.
    Moved {
        to: WorkerId,
    },
}

pub struct Worker<N: Net> {
    pub id: WorkerId,
    pub net: N,
    common: Arc<Common<Line<N>>>,
    world: Arc<ServerWorld<Line<N>>>,
    sealer: Arc<dyn Sealer>,
    table: Table<Entry<Line<N>>>,
    chunks: Chunks,
    rng: Box<dyn Rng + Send>,
    timers: Timers<u64>,
    now: Time,
    actions: Vec<Action<Line<N>>>,
    /// Empty lists whose memory is used while actions are carried out, and letters read.
    spare_actions: Vec<Action<Line<N>>>,
    letters: VecDeque<Mail<Line<N>>>,
    /// What has something to do.
    ready: VecDeque<u64>,
    /// Servers that have been handed to waiters of this worker.
    deliveries: VecDeque<(Ticket, Box<Server<Line<N>>>)>,
    sessions: usize,
    next_session: u64,
    draining: Draining,
    /// Who asked for the cancel request that is being handled.
    canceller: Option<Asker>,
    /// Cancel requests for sessions whose statement has not begun: for which session, and which client asked.
    held_cancels: Vec<(u64, Option<Asker>)>,
    censuses: Vec<Census>,
    moves: Moves,
    /// The session that is being worked on: it ends if that panics.
    current: Option<u64>,
    next_trim: Time,
    /// Reads of clients in a TLS handshake that this turn has time for.
    handshakes_left: usize,
    pub counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    Yes,
    Told,
    Stopped,
}

/// What a worker did; for tests, benchmarks and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub turns: u64,
    pub sessions: u64,
    pub handoffs: u64,
    /// Sessions given to another worker, and cancel requests sent after them.
    pub moves: u64,
    pub followed_cancels: u64,
    pub steals: u64,
    /// Events for what is no longer there.
    pub late_events: u64,
    /// Events of parked servers: taken by somebody else since, nothing to read, something of no importance, the end.
    pub parked_taken: u64,
    pub parked_quiet: u64,
    pub parked_heard: u64,
    pub parked_closed: u64,
    /// Servers that had something to read when they came back; among them those whose record layer held it, which no event
    /// would announce; and those that had ciphertext to send.
    pub unread_checkins: u64,
    pub decrypted_checkins: u64,
    pub unsent_checkins: u64,
    /// Reads that were not the last because the end had been announced with them.
    pub closing_reads: u64,
    /// Waiters that left when a server was on its way to them already.
    pub late_withdrawals: u64,
    /// Servers that came to a session that did not want them any more, or had ended.
    pub late_grants: u64,
    pub lost_grants: u64,
    /// Servers that came back to a pool that had been replaced.
    pub retired_checkins: u64,
    /// Checkouts of a pool that had been replaced, by workers that had not read of it.
    pub retired_checkouts: u64,
    pub deregister_failures: u64,
    /// Sessions that the connection of their database listens for from then on, that it could not listen for, and that lost
    /// it.
    pub listens: u64,
    pub refused_listens: u64,
    pub lost_listens: u64,
    /// Times that a connection that listens was not read, because those it listens for were behind.
    pub paused_listens: u64,
    /// Servers that did not close in the time that they had for it: their slots were freed without their word.
    pub impatient_closes: u64,
}

/// After how long chunks that were not needed are freed.
const TRIM_INTERVAL: std::time::Duration = std::time::Duration::from_secs(2);

impl<N: Net> Worker<N> {
    pub fn new(
        id: WorkerId,
        net: N,
        common: Arc<Common<Line<N>>>,
        world: Arc<ServerWorld<Line<N>>>,
        sealer: Arc<dyn Sealer>,
        rng: Box<dyn Rng + Send>,
    ) -> Worker<N> {
        let now = net.now();
        Worker {
            id,
            net,
            common,
            world,
            sealer,
            table: Table::default(),
            chunks: Chunks::new(),
            rng,
            timers: Timers::default(),
            now,
            actions: Vec::new(),
            spare_actions: Vec::new(),
            letters: VecDeque::new(),
            ready: VecDeque::new(),
            deliveries: VecDeque::new(),
            sessions: 0,
            next_session: u64::from(id),
            draining: Draining::No,
            canceller: None,
            held_cancels: Vec::new(),
            censuses: Vec::new(),
            moves: Moves::default(),
            current: None,
            next_trim: Time::NEVER,
            handshakes_left: 0,
            counters: Counters::default(),
        }
    }

    /// When the next turn has something to do even without an event; the present if it has already.
    pub fn wait_until(&self) -> Time {
        if self.ready.is_empty() && self.deliveries.is_empty() {
            self.timers.next().min(self.next_trim)
        } else {
            Time::ZERO
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.draining == Draining::Stopped
    }

    /// New clients are not wanted any more.
    pub fn is_draining(&self) -> bool {
        self.draining != Draining::No
    }

    /// When this turn began.
    pub fn now(&self) -> Time {
        self.now
    }

    /// One turn of the loop, after readiness has been collected and `begin_turn`.
    ///
    /// A panic is a bug of ours: it ends the session that was being worked on, with its servers, and no other.
    pub fn turn(&mut self, events: &[Event]) {
        self.common.peers[usize::from(self.id)].mailbox.take(&mut self.letters);
        while let Some(mail) = self.letters.pop_front() {
            self.guard(|worker| worker.on_mail(mail));
        }
        for event in events {
            self.guard(|worker| worker.on_event(*event));
        }
        // What becomes ready meanwhile has its turn in the next round, after another look at the sockets.
        for _ in 0..self.ready.len() {
            self.guard(Worker::serve_next);
        }
        self.guard(Worker::run_timers);
        self.guard(Worker::end_turn);
    }

    fn guard(&mut self, step: impl FnOnce(&mut Self)) {
        self.current = None;
        if catch_unwind(AssertUnwindSafe(|| step(self))).is_ok() {
            return;
        }
        self.common.bugs.fetch_add(1, Ordering::Relaxed);
        self.actions.clear();
        let Some(token) = self.current.take() else {
            log::error!("a step of worker {} panicked; going on", self.id);
            return;
        };
        log::error!("a session of worker {} panicked; it has been ended, with its servers", self.id);
        if matches!(self.table.get(token), Some(Entry::Away)) {
            self.table.remove(token);
            self.sessions -= 1;
            self.count_clients(-1);
            self.stop_listening(token);
            self.forget_birth_of(token);
        }
        for bound in self.table.tokens() {
            if matches!(self.table.get(bound), Some(Entry::Bound { session }) if *session == token) {
                self.table.remove(bound);
            }
        }
    }

    /// What has something to do, in words; for tests.
    pub fn describe_ready(&self) -> Vec<String> {
        let describe = |token: &u64| match self.table.get(*token) {
            Some(Entry::Session(session)) => {
                let servers = session.links.iter().map(|link| link.server.ready).collect::<Vec<_>>();
                format!(
                    "session, {}, client {:?}, servers {servers:?}",
                    session.row(self.now).state,
                    session.client.ready,
                )
            }
            Some(Entry::Server(server)) => {
                format!("server, {:?}, {:?}", server.phase, server.ready)
            }
            _ => "other".to_owned(),
        };
        self.ready.iter().map(describe).collect()
    }

    /// What it has, in words; for tests.
    pub fn describe(&self) -> String {
        let describe = |token: u64| match self.table.get(token) {
            Some(Entry::Session(session)) => {
                format!("session {}, {}", session.id, session.row(self.now).state)
            }
            Some(Entry::Bound { session }) => format!("a server of {session:x}"),
            Some(Entry::Server(server)) => {
                let (exchanges, cancels) = (&server.exchanges, server.cancels);
                format!("server {}, {:?}, {exchanges:?}, {cancels} cancels", server.number, server.phase)
            }
            Some(Entry::Parked { id, .. }) => format!("parked {id}"),
            Some(Entry::Opening(_)) => "a server to be opened".to_owned(),
            Some(Entry::Cancel(_)) => "a cancel request".to_owned(),
            Some(Entry::Away) => "something on its way".to_owned(),
            Some(Entry::Moved { to }) => format!("a session at worker {to}"),
            None => "nothing".to_owned(),
        };
        let all = self.table.tokens().into_iter().map(|token| format!("{token:x}: {}", describe(token)));
        all.collect::<Vec<_>>().join("\n")
    }

    /// How many things have something to do now.
    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    pub fn begin_turn(&mut self) {
        self.now = self.net.now();
        self.counters.turns += 1;
        self.handshakes_left = HANDSHAKES_PER_TURN_MAX;
    }

    pub fn take_mail(&mut self, into: &mut VecDeque<Mail<Line<N>>>) {
        self.common.peers[usize::from(self.id)].mailbox.take(into);
    }

    pub fn on_mail(&mut self, mail: Mail<Line<N>>) {
        match mail {
            Mail::Client { socket, peer } => self.on_client(socket, peer),
            Mail::Session { session } => self.on_session(session),
            Mail::Moved { place, to } => self.on_moved(place, to),
            Mail::Left { place } => self.on_left(place),
            Mail::Grant { ticket, server } => self.deliveries.push_back((ticket, server)),
            Mail::Refused { ticket, failure } => {
                self.with_session(ticket.session, |session, cx| {
                    session.on_refused(ticket.number, failure, cx)
                });
            }
            Mail::Retired { ticket } => {
                self.with_session(ticket.session, |session, cx| session.on_retired(ticket.number, cx));
            }
            Mail::Forget { token } => drop(self.table.remove(token)),
            Mail::Open { pool } => self.open(pool, 1),
            Mail::Close { server } => self.close_parked(server),
            Mail::Resolved { token, result } => self.on_resolved(token, result),
            Mail::Answer { token, answer } => self.on_answer(token, answer),
            Mail::Cancel { key, asker } => self.on_cancel(key, asker),
            Mail::Cancelled { token } => self.with_session(token, |session, cx| session.on_cancelled(cx)),
            Mail::Census { asker } => self.answer_census(asker),
            Mail::Counted { token, clients, servers } => self.on_counted(token, clients, servers),
            Mail::Console { token, answer } => {
                self.with_session(token, |session, cx| session.on_console(answer, cx));
            }
            Mail::Listen { token } => self.on_listen(token),
            Mail::Listening { token, number, works } => {
                let counters = &mut self.counters;
                *(if works { &mut counters.listens } else { &mut counters.refused_listens }) += 1;
                self.with_session(token, |session, cx| session.on_listening(number, works, cx));
            }
            Mail::Unheard { token } => {
                self.counters.lost_listens += 1;
                self.with_session(token, |session, cx| session.on_listening_lost(cx));
            }
            Mail::Notification { pool, message, tokens } => self.on_notification(pool, &message, &tokens),
            Mail::World(world, sealer) => {
                (self.world, self.sealer) = (world, sealer);
                self.retire_listening();
            }
            Mail::Drain => self.on_drain(),
            Mail::Terminate { cancel } => self.on_terminate(cancel),
            Mail::Stop => self.draining = Draining::Stopped,
        }
        self.deliver();
    }

    /// Notes what a socket can do now.
    pub fn on_event(&mut self, event: Event) {
        let mut token = event.token;
        let ready = match self.table.get_mut(token) {
            Some(Entry::Session(session)) => &mut session.client.ready,
            Some(Entry::Server(server)) => &mut server.ready,
            Some(Entry::Cancel(call)) => &mut call.ready,
            Some(Entry::Bound { session }) => {
                let session = *session;
                match self.bound_ready(session, token) {
                    Some(ready) => {
                        note(ready, event);
                        token = session;
                    }
                    None => self.counters.late_events += 1,
                }
                return self.enqueue(token);
            }
            Some(Entry::Parked { .. }) => return self.on_parked_event(event),
            Some(Entry::Opening(_) | Entry::Away | Entry::Moved { .. }) | None => {
                self.counters.late_events += 1;
                return;
            }
        };
        note(ready, event);
        self.enqueue(token);
    }

    fn bound_ready(&mut self, session: u64, token: u64) -> Option<&mut crate::session::server::Readiness> {
        let Some(Entry::Session(session)) = self.table.get_mut(session) else { return None };
        let link = session.links.iter_mut().find(|link| link.server.home.token == token)?;
        Some(&mut link.server.ready)
    }

    fn enqueue(&mut self, token: u64) {
        if self.table.enqueue(token) {
            self.ready.push_back(token);
        }
    }

    /// Serves what has waited longest.
    pub fn serve_next(&mut self) {
        let Some(token) = self.ready.pop_front() else { return };
        self.table.dequeue(token);
        match self.table.get(token) {
            Some(Entry::Session(session)) if !session.client.socket.takes_data() => {
                // A handshake may take a millisecond: the others have to get their turn.
                match self.handshakes_left.checked_sub(1) {
                    Some(left) => {
                        self.handshakes_left = left;
                        self.serve_session(token);
                    }
                    None => self.enqueue(token),
                }
            }
            Some(Entry::Session(_)) => self.serve_session(token),
            Some(Entry::Server(_)) => self.serve_server(token),
            Some(Entry::Cancel(_)) => self.serve_cancel(token),
            _ => {}
        }
        self.deliver();
    }

    pub fn run_timers(&mut self) {
        while let Some((at, token)) = self.timers.due(self.now) {
            match self.table.get_mut(token) {
                Some(Entry::Session(session)) => {
                    if session.armed == at {
                        session.armed = Time::NEVER;
                    }
                    self.with_session(token, |session, cx| session.on_time(cx));
                }
                Some(Entry::Server(server)) => {
                    if server.armed == at {
                        server.armed = Time::NEVER;
                    }
                    self.on_server_time(token);
                }
                Some(Entry::Opening(_)) => self.on_opening_time(token),
                Some(Entry::Cancel(_)) => self.on_cancel_time(token),
                _ => {}
            }
            self.deliver();
        }
    }

    pub fn end_turn(&mut self) {
        self.deliver();
        if !self.held_cancels.is_empty() {
            self.release_cancels();
        }
        if self.now >= self.next_trim {
            self.next_trim = Time::NEVER;
            if self.chunks.trim() {
                self.net.trim_memory();
                self.next_trim = self.now + TRIM_INTERVAL;
            }
        } else if self.next_trim == Time::NEVER && self.chunks.has_spare() {
            self.next_trim = self.now + TRIM_INTERVAL;
        }
        if self.draining == Draining::Yes && self.sessions == 0 {
            self.draining = Draining::Told;
            self.common.orders.send(Order::Drained);
        }
    }

    /// Hands servers to those who waited for them. A hand-over can free another server: until none is left.
    fn deliver(&mut self) {
        while let Some((ticket, server)) = self.deliveries.pop_front() {
            self.grant(ticket, server);
        }
    }

    /// Runs `f` on a session, then everything that follows from it.
    pub(crate) fn with_session(
        &mut self,
        token: u64,
        f: impl FnOnce(&mut Session<Line<N>>, &mut Cx<'_, Line<N>>),
    ) {
        let Some(mut session) = self.take_session(token) else { return };
        f(&mut session, &mut self.cx());
        self.settle(token, session);
    }

    /// Takes a session out of the table while it is worked on.
    fn take_session(&mut self, token: u64) -> Option<Box<Session<Line<N>>>> {
        self.current = Some(token);
        match self.table.get_mut(token) {
            Some(entry @ Entry::Session(_)) => match std::mem::replace(entry, Entry::Away) {
                Entry::Session(session) => Some(session),
                _ => None,
            },
            _ => None,
        }
    }

    fn cx(&mut self) -> Cx<'_, Line<N>> {
        Cx {
            now: self.now,
            rng: &mut *self.rng,
            chunks: &mut self.chunks,
            world: &self.world,
            shared: &self.common.shared,
            actions: &mut self.actions,
            draining: self.draining != Draining::No,
            offers_tls: self.sealer.offers(),
        }
    }

    fn on_drain(&mut self) {
        if self.draining == Draining::No {
            self.draining = Draining::Yes;
        }
        for token in self.table.tokens() {
            self.with_session(token, |session, cx| session.on_drain(cx));
        }
    }

    fn on_terminate(&mut self, cancel: bool) {
        for token in self.table.tokens() {
            if cancel {
                self.cancel_session(token, None);
            } else {
                self.with_session(token, |session, cx| session.on_terminate(cx));
            }
        }
    }

    /// Clients of this worker, for tests and metrics.
    pub fn session_count(&self) -> usize {
        self.sessions
    }

    /// Everything that this worker has a token for.
    pub fn entry_count(&self) -> usize {
        self.table.len()
    }

    /// Bytes of all buffers in use.
    pub fn buffer_bytes(&self) -> usize {
        self.chunks.out_bytes()
    }

    /// The same, counted where they are: what differs has been lost, or given back twice; for tests.
    pub fn held_bytes(&self) -> usize {
        let server = |server: &Server<Line<N>>| server.buffer_bytes() + server.socket.buffer_bytes();
        let entry = |token| match self.table.get(token) {
            Some(Entry::Session(session)) => {
                let client = &session.client;
                let servers: usize = session.links.iter().map(|link| server(&link.server)).sum();
                let own = client.inbound.relay.capacity() + client.outbox.chunk_bytes();
                own + client.socket.buffer_bytes() + servers
            }
            Some(Entry::Server(unbound)) => server(unbound),
            Some(Entry::Cancel(call)) => call.line.buffer_bytes(),
            _ => 0,
        };
        self.table.tokens().into_iter().map(entry).sum()
    }

    /// Memory for bytes of our own making that wait to be written; for tests.
    pub fn own_bytes(&self) -> usize {
        let entry = |token| match self.table.get(token) {
            Some(Entry::Session(session)) => {
                let servers = session.links.iter().map(|link| link.server.outbox.own_capacity());
                session.client.outbox.own_capacity() + servers.sum::<usize>()
            }
            Some(Entry::Server(server)) => server.outbox.own_capacity(),
            _ => 0,
        };
        self.table.tokens().into_iter().map(entry).sum()
    }

    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// A key for a new session: its process id names this worker and the session's place.
    fn make_key(&mut self, token: u64) -> CancelKey {
        let place = (token & 0x00ff_ffff) as u32;
        let pid = (u32::from(self.id) + 1) << 24 | place;
        let mut secret = [0; 32];
        self.rng.fill(&mut secret);
        CancelKey::new(pid, secret)
    }

    /// Undoes `make_key`: the worker and the place.
    pub fn place_of(pid: u32) -> Option<(WorkerId, u32)> {
        let worker = (pid >> 24).checked_sub(1)?;
        Some((worker as WorkerId, pid & 0x00ff_ffff))
    }

    fn count_clients(&self, change: isize) {
        self.common.peers[usize::from(self.id)].count_clients(change);
    }
}

fn note(ready: &mut crate::session::server::Readiness, event: Event) {
    ready.readable |= event.readable || event.closing;
    ready.writable |= event.writable;
    ready.closing |= event.closing;
}
