//! Servers in nobody's hands: opened, logged in, parked, taken over from other workers, cleaned, closed.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::address::Address;
use crate::base::limits::{NOTIFICATIONS_PAUSE, READS_PER_TURN_MAX};
use crate::base::time::Time;
use crate::cluster::pool::Checkin;
use crate::cluster::world::OpenFailure;
use crate::io::net::{Event, Net, Socket};
use crate::io::transport::{Ends, Transport};
use crate::session::cx::{Answer, Ask};
use crate::session::server::{Home, Phase, Readiness, Server, ServerPool};
use crate::session::{Closing, Unbound};
use crate::worker::lines::{self, Read};
use crate::worker::mail::{Asker, Mail, Order};
use crate::worker::relief::relieve;
use crate::worker::{Entry, Line, Worker, note};

/// A slot for a server that has no connection yet.
pub(crate) struct Opening<S> {
    pool: Arc<ServerPool<S>>,
    attempt: u64,
    /// When to go on; never, while the host's name is being looked up.
    at: Time,
}

pub(super) type Held<N> = Box<Server<Line<N>>>;

impl<N: Net> Worker<N> {
    /// Opens a server for a slot that has been taken.
    pub(super) fn open(&mut self, pool: Arc<ServerPool<Line<N>>>, attempt: u64) {
        if let Some(address) = Address::of_host(&pool.config.host, pool.config.port) {
            return self.connect(pool, address, attempt);
        }
        let (host, port) = (pool.config.host.clone(), pool.config.port);
        let token = self.table.insert(Entry::Opening(Box::new(Opening { pool, attempt, at: Time::NEVER })));
        let asker = Asker { worker: self.id, token };
        self.common.orders.send(Order::Resolve { asker, host, port });
    }

    pub(super) fn on_resolved(&mut self, token: u64, result: Result<Vec<SocketAddr>, String>) {
        let Some(Entry::Opening(opening)) = self.table.remove(token) else { return };
        let Opening { pool, attempt, .. } = *opening;
        match result {
            // Attempts go round the addresses.
            Ok(addresses) if !addresses.is_empty() => {
                let at = (attempt as usize - 1) % addresses.len();
                self.connect(pool, addresses[at].into(), attempt);
            }
            Ok(_) => self.open_failed(pool, attempt, OpenFailure::Unresolved("no address".into())),
            Err(text) => self.open_failed(pool, attempt, OpenFailure::Unresolved(text)),
        }
    }

    fn connect(&mut self, pool: Arc<ServerPool<Line<N>>>, address: Address, attempt: u64) {
        let tcp = self.world.config.tcp.clone();
        let token = self.table.insert(Entry::Away);
        let connected = self.net.connect(&address, &tcp).and_then(|mut socket| {
            self.net.register(&mut socket, token, true)?;
            Ok(Transport::plain(socket))
        });
        match connected {
            Ok(line) => {
                let number = self.common.next_server();
                let mut server =
                    Box::new(Server::new(line, number, pool, address, attempt, self.now, &mut *self.rng));
                server.home = Home { worker: self.id, token };
                self.keep(server);
            }
            Err(error) => {
                self.table.remove(token);
                self.open_failed(pool, attempt, OpenFailure::Connect(error.to_string()));
            }
        }
    }

    /// An attempt has failed and nothing is left of it. The slot is used for the next one, or freed.
    fn open_failed(&mut self, pool: Arc<ServerPool<Line<N>>>, attempt: u64, failure: OpenFailure) {
        let config = &pool.config;
        log::warn!(
            "cannot open a server connection to {}:{} for user {:?}, database {:?}: {}",
            config.host,
            config.port,
            config.server_user,
            config.server_database,
            crate::session::errors::unavailable(&Some(failure.clone())),
        );
        if self.may_try_again(&pool, attempt, &failure) {
            return self.try_again(pool, attempt + 1);
        }
        let tickets = {
            let mut shelf = pool.lock();
            shelf.last_failure = Some(failure.clone());
            shelf.state.open_failed()
        };
        self.refuse(&pool, tickets, failure);
        self.relieve();
    }

    fn may_try_again(&self, pool: &ServerPool<Line<N>>, attempt: u64, failure: &OpenFailure) -> bool {
        let transient = matches!(
            failure,
            OpenFailure::Connect(_) | OpenFailure::Timeout | OpenFailure::Closed | OpenFailure::Unresolved(_)
        );
        transient && attempt < pool.config.connect_attempts && !pool.lock().state.is_retired()
    }

    fn try_again(&mut self, pool: Arc<ServerPool<Line<N>>>, attempt: u64) {
        let at = self.now + pool.config.connect_attempt_delay;
        let token = self.table.insert(Entry::Opening(Box::new(Opening { pool, attempt, at })));
        self.timers.arm(token, at, Time::NEVER);
    }

    pub(super) fn on_opening_time(&mut self, token: u64) {
        if matches!(self.table.get(token), Some(Entry::Opening(opening)) if opening.at <= self.now)
            && let Some(Entry::Opening(opening)) = self.table.remove(token)
        {
            self.open(opening.pool, opening.attempt);
        }
    }

    fn refuse(
        &mut self,
        pool: &ServerPool<Line<N>>,
        tickets: Vec<crate::cluster::pool::Ticket>,
        failure: OpenFailure,
    ) {
        if pool.config.listens {
            return self.lose_listening(pool.id);
        }
        for ticket in tickets {
            self.common.post(ticket.worker, Mail::Refused { ticket, failure: Some(failure.clone()) });
        }
    }

    /// Reads and writes of an unbound server.
    pub(super) fn serve_server(&mut self, token: u64) {
        let Some(mut server) = self.take_server(token) else { return };
        if matches!(server.phase, Phase::Login(_)) && !self.is_connected(&mut server) {
            return self.keep(server);
        }
        let mut reads = 0;
        loop {
            if !self.flush_server(&mut server) {
                let step = server.on_eof();
                if !server.ready.readable {
                    return self.on_unbound(server, step);
                }
            }
            if matches!(server.phase, Phase::Sending { .. }) && !server.socket.is_sending() {
                return self.checkin(server);
            }
            if !server.ready.readable {
                let step = match server.phase {
                    Phase::Cleaning { .. } | Phase::Listening(_) => server.on_bytes(&mut self.cx()),
                    _ => Unbound::Going,
                };
                return self.on_unbound(server, step);
            }
            if server.is_listening() {
                // Whatever it has heard is passed on before more is read, and others have their turn.
                server.pause_listening(self.are_listeners_full().then(|| self.now + NOTIFICATIONS_PAUSE));
                self.counters.paused_listens += u64::from(server.is_paused());
                if server.is_paused() || reads == READS_PER_TURN_MAX {
                    return self.attend(server);
                }
                reads += 1;
            }
            let Server { socket, ready, inbound, .. } = &mut *server;
            let step = match lines::read(socket, ready, inbound, &mut self.chunks) {
                Read::Bytes(n) => {
                    server.tally.received += n as u64;
                    server.on_bytes(&mut self.cx())
                }
                // A frame longer than anything that has business here.
                Read::Full => Unbound::Close(Closing::OutOfSync),
                Read::Nothing => continue,
                Read::Secured(peer) => {
                    server.on_secured(&peer);
                    continue;
                }
                Read::End => server.on_eof(),
                Read::Failed(error) => {
                    server.note_failure(&error);
                    server.on_eof()
                }
            };
            if !matches!(step, Unbound::Going) {
                return self.on_unbound(server, step);
            }
        }
    }

    /// Whether the connection stands; the login begins with that.
    fn is_connected(&mut self, server: &mut Held<N>) -> bool {
        if !server.outbox.is_empty() || server.inbound.relay.parsed() > 0 {
            return true;
        }
        if !server.ready.writable && !server.ready.closing {
            return false;
        }
        match server.socket.socket.connected() {
            Ok(()) => {
                // As libpq: nobody is in between on a Unix socket.
                let asks_tls = self.sealer.asks() && !server.address.is_unix();
                server.on_connected(asks_tls);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => {
                server.connect_error = Some(error.to_string());
                server.ready.readable = true;
                true
            }
        }
    }

    /// False if the socket has failed.
    fn flush_server(&mut self, server: &mut Held<N>) -> bool {
        let token = server.home.token;
        let Server { socket, ready, outbox, .. } = &mut **server;
        let written = lines::write(socket, ready, outbox, &mut self.chunks, |_| None)
            .and_then(|written| lines::watch(&mut self.net, socket, token, ready).map(|()| written));
        match written {
            Ok(written) => {
                server.tally.sent += written.bytes as u64;
                if written.any && server.outbox.is_empty() && matches!(server.phase, Phase::Closing { .. }) {
                    // The server reads Terminate and the end of the stream; its own end follows.
                    server.socket.finish(&mut self.chunks);
                }
                true
            }
            Err(_) => {
                server.outbox.clear(&mut self.chunks);
                false
            }
        }
    }

    fn on_unbound(&mut self, mut server: Held<N>, step: Unbound) {
        match step {
            Unbound::Going if server.is_listening() => self.attend(server),
            Unbound::Going => self.keep(server),
            Unbound::Derive(job) => {
                let asker = Asker { worker: self.id, token: server.home.token };
                self.common.orders.send(Order::Ask { asker, ask: Ask::Keys(job) });
                self.keep(server);
            }
            Unbound::Opened if server.pool.config.listens => {
                let pool = server.pool.clone();
                {
                    let mut shelf = pool.lock();
                    shelf.last_failure = None;
                    shelf.state.opened_busy();
                }
                self.begin_to_listen(server);
            }
            Unbound::Opened => {
                let (pool, token) = (server.pool.clone(), server.home.token);
                if let Some(cluster) = self.world.cluster_of(&pool.config.name)
                    && cluster.pools.iter().any(|of| Arc::ptr_eq(of, &pool))
                {
                    // Clients that log in from now on need no server for that.
                    cluster.set_base(&server.base);
                }
                if server.ready.readable || !server.is_settled() || server.socket.is_sending() {
                    // More has come with the end of its login: a notice, or a part of one.
                    {
                        let mut shelf = pool.lock();
                        shelf.last_failure = None;
                        shelf.state.opened_busy();
                    }
                    return self.checkin(server);
                }
                self.leave_buffers(&mut server);
                let outcome = {
                    let mut shelf = pool.lock();
                    server.count_into(&mut shelf.tally);
                    shelf.last_failure = None;
                    shelf.state.opened(server, self.id, self.now)
                };
                self.after_checkin(pool, token, outcome);
            }
            Unbound::Clean => self.checkin(server),
            Unbound::Seal => self.seal_server(server),
            Unbound::Failed(failure) => self.on_login_failed(server, failure),
            Unbound::Close(why) => {
                match why {
                    Closing::OutOfSync => server.tally.out_of_sync += 1,
                    Closing::Forced => server.tally.force_closed += 1,
                    Closing::Lost => {}
                }
                if matches!(server.phase, Phase::Cleaning { .. }) && why == Closing::Forced {
                    // What runs there would go on without us.
                    self.call_cancel(&mut server);
                }
                self.discard(server, why == Closing::Lost);
            }
        }
    }

    fn on_login_failed(&mut self, mut server: Held<N>, failure: OpenFailure) {
        let failure = match server.connect_error.take() {
            Some(text) => OpenFailure::Connect(text),
            None => failure,
        };
        let (pool, attempt) = (server.pool.clone(), server.attempt);
        if matches!(failure, OpenFailure::Connect(_) | OpenFailure::Closed) {
            self.drop_server(*server);
            return self.open_failed(pool, attempt, failure);
        }
        // There is a server behind it, which has to go before its slot is free.
        log::warn!(
            "login to {}:{} as user {:?}, database {:?} failed: {}",
            pool.config.host,
            pool.config.port,
            pool.config.server_user,
            pool.config.server_database,
            crate::session::errors::unavailable(&Some(failure.clone())),
        );
        let tickets = {
            let mut shelf = pool.lock();
            server.count_into(&mut shelf.tally);
            shelf.tally.errors += 1;
            shelf.last_failure = Some(failure.clone());
            shelf.state.open_aborted()
        };
        self.refuse(&pool, tickets, failure);
        self.say_goodbye(server);
    }

    /// From here on the server's bytes go through a record layer; the login follows behind its handshake.
    fn seal_server(&mut self, mut server: Held<N>) {
        match self.sealer.connect(&server.pool.config.host) {
            Ok(records) => {
                server.socket.seal(records, Ends::AtFin, &[], &[], &mut self.chunks);
                let token = server.home.token;
                self.keep(server);
                self.serve_server(token);
            }
            Err(fault) => {
                let failure = OpenFailure::Login(format!("its connection cannot be encrypted: {fault}"));
                self.on_unbound(server, Unbound::Failed(failure));
            }
        }
    }

    /// A server that is busy comes back to its pool, or goes to whoever waits; with nothing left to be read or sent.
    pub(super) fn checkin(&mut self, mut server: Held<N>) {
        if server.cancels > 0 {
            // In quarantine: a cancel request that comes late must not hit the next client.
            server.phase = Phase::Ready;
            return self.keep(server);
        }
        if server.socket.is_sending() {
            return self.send_first(server);
        }
        server.phase = Phase::Ready;
        if !server.ready.readable && !server.inbound.is_inside_frame() {
            return self.park(server);
        }
        self.counters.unread_checkins += 1;
        self.counters.decrypted_checkins += u64::from(server.socket.holds());
        let step = self.hear(&mut server);
        self.after_hearing(server, step);
    }

    /// Something has been heard from a server that nobody has asked anything.
    fn after_hearing(&mut self, mut server: Held<N>, step: Unbound) {
        match step {
            Unbound::Going if server.socket.is_sending() => self.send_first(server),
            Unbound::Going if server.is_at_rest() => self.park(server),
            Unbound::Going => {
                let step = self.hear_out(&mut server);
                self.on_unbound(server, step);
            }
            step => self.on_unbound(server, step),
        }
    }

    /// Before it may rest, it has to send what its record layer has made.
    fn send_first(&mut self, mut server: Held<N>) {
        self.counters.unsent_checkins += 1;
        server.phase = Phase::Sending { until: self.now + server.pool.config.rollback_timeout };
        let token = server.home.token;
        self.keep(server);
        self.serve_server(token);
    }

    fn park(&mut self, mut server: Held<N>) {
        let (pool, token) = (server.pool.clone(), server.home.token);
        self.leave_buffers(&mut server);
        let outcome = {
            let mut shelf = pool.lock();
            server.count_into(&mut shelf.tally);
            if server.expires <= self.now || server.born < shelf.not_before {
                shelf.state.close();
                Checkin::Surplus(server)
            } else {
                self.counters.retired_checkins += u64::from(shelf.state.is_retired());
                shelf.state.checkin(server, self.id, self.now)
            }
        };
        self.after_checkin(pool, token, outcome);
    }

    fn after_checkin(&mut self, pool: Arc<ServerPool<Line<N>>>, token: u64, outcome: Checkin<Held<N>>) {
        match outcome {
            Checkin::Parked { id } => drop(self.table.replace(token, Entry::Parked { pool, id })),
            Checkin::Granted { ticket, server } if ticket.worker == self.id => {
                self.table.replace(server.home.token, Entry::Away);
                self.deliveries.push_back((ticket, server));
            }
            Checkin::Granted { ticket, server } => {
                self.counters.handoffs += 1;
                self.table.replace(server.home.token, Entry::Away);
                self.common.post(ticket.worker, Mail::Grant { ticket, server });
            }
            Checkin::Surplus(server) => {
                self.take_buffers(&server);
                self.say_goodbye(server);
            }
        }
    }

    /// Makes a server one of this worker's, for a session. None if that failed: it is closed then.
    pub(super) fn bind(&mut self, session: u64, mut server: Held<N>) -> Option<Held<N>> {
        self.take_buffers(&server);
        if server.home.worker == self.id {
            self.table.replace(server.home.token, Entry::Bound { session });
            return Some(server);
        }
        self.counters.steals += 1;
        let token = self.table.insert(Entry::Bound { session });
        if self.adopt(&mut server, token) {
            return Some(server);
        }
        // Nothing will be heard of it: its slot is free when it has had its time to go.
        self.discard(server, false);
        None
    }

    /// Moves a server's registration here. False: it could not be moved, and can only be closed.
    fn adopt(&mut self, server: &mut Held<N>, token: u64) -> bool {
        let old = server.home;
        let peer = &self.common.peers[usize::from(old.worker)];
        let moved = peer.registrar.deregister(&mut server.socket);
        peer.mailbox.leave(Mail::Forget { token: old.token });
        server.home = Home { worker: self.id, token };
        server.armed = Time::NEVER;
        // The new poll reports what the socket can do now; of what has been taken from it already it knows nothing.
        server.ready = Readiness { readable: server.socket.holds(), ..Readiness::STANDING };
        if let Err(error) = moved.and_then(|()| self.net.register(&mut server.socket.socket, token, false)) {
            log::error!("cannot take a server over from another worker: {error}; closing it");
            self.counters.deregister_failures += 1;
            return false;
        }
        true
    }

    /// Something has happened to a parked server. It is taken out, heard, and put back if that was of no importance.
    pub(super) fn on_parked_event(&mut self, event: Event) {
        let Some(mut server) = self.take_parked(event.token) else {
            self.counters.parked_taken += 1;
            return;
        };
        note(&mut server.ready, event);
        if !server.ready.readable {
            self.counters.parked_quiet += 1;
            return self.park(server);
        }
        let heard = server.inbound.relay.parsed();
        let step = self.hear(&mut server);
        match (&step, server.inbound.relay.parsed() == heard) {
            (Unbound::Going, true) => self.counters.parked_quiet += 1,
            (Unbound::Going, false) => self.counters.parked_heard += 1,
            _ => self.counters.parked_closed += 1,
        }
        self.after_hearing(server, step);
    }

    /// Takes a server out of its pool, if it is still there.
    fn take_parked(&mut self, token: u64) -> Option<Held<N>> {
        let Some(Entry::Parked { pool, id }) = self.table.get(token) else { return None };
        let server = pool.lock().state.take(*id)?;
        self.take_buffers(&server);
        Some(server)
    }

    /// A server leaves this worker's hands. What it still holds are parts of records that have not arrived whole.
    fn leave_buffers(&mut self, server: &mut Held<N>) {
        server.rest(&mut self.chunks);
        self.chunks.disown(server.buffer_bytes() + server.socket.buffer_bytes());
    }

    fn take_buffers(&mut self, server: &Held<N>) {
        self.chunks.adopt(server.buffer_bytes() + server.socket.buffer_bytes());
    }

    fn hear(&mut self, server: &mut Held<N>) -> Unbound {
        loop {
            let step = server.on_bytes(&mut self.cx());
            if !matches!(step, Unbound::Going) || !server.ready.readable {
                return step;
            }
            let Server { socket, ready, inbound, .. } = &mut **server;
            match lines::read(socket, ready, inbound, &mut self.chunks) {
                Read::Bytes(_) | Read::Nothing | Read::Secured(_) => {}
                Read::Full => return Unbound::Close(Closing::OutOfSync),
                Read::End | Read::Failed(_) => return server.on_eof(),
            }
        }
    }

    /// A server has begun to say something: the rest of that must come before anybody gets it.
    fn hear_out(&mut self, server: &mut Held<N>) -> Unbound {
        server.phase = Phase::Cleaning { until: self.now + server.pool.config.rollback_timeout };
        server.on_bytes(&mut self.cx())
    }

    /// A server that its client left in disorder.
    pub(super) fn clean(&mut self, mut server: Held<N>) {
        let step = server.abandon(&mut self.cx());
        if matches!(step, Unbound::Going) {
            let token = server.home.token;
            self.keep(server);
            return self.serve_server(token);
        }
        self.on_unbound(server, step);
    }

    /// Closes a busy server. With `lost`, its connection is gone already.
    pub(super) fn discard(&mut self, mut server: Held<N>, lost: bool) {
        let pool = server.pool.clone();
        if server.is_listening() {
            self.lose_listening(pool.id);
        }
        {
            let mut shelf = pool.lock();
            server.count_into(&mut shelf.tally);
            if !matches!(server.phase, Phase::Closing { .. }) {
                shelf.state.close();
            }
        }
        if lost { self.free_slot(*server) } else { self.say_goodbye(server) }
    }

    /// A parked server has been taken out of its pool to be closed.
    pub(super) fn close_parked(&mut self, mut server: Held<N>) {
        self.take_buffers(&server);
        if server.home.worker != self.id {
            let token = self.table.insert(Entry::Away);
            // If that fails nothing will be heard of it: its slot is free when it has had its time to go.
            self.adopt(&mut server, token);
        }
        self.say_goodbye(server);
    }

    fn say_goodbye(&mut self, mut server: Held<N>) {
        server.say_goodbye(self.now);
        if server.outbox.is_empty() {
            server.socket.finish(&mut self.chunks);
        }
        let token = server.home.token;
        self.keep(server);
        self.serve_server(token);
    }

    /// A closing server has gone: its slot is free, and perhaps used for the next one.
    fn free_slot(&mut self, server: Server<Line<N>>) {
        let pool = server.pool.clone();
        self.drop_server(server);
        let open = pool.lock().state.closed();
        if open {
            self.open(pool, 1);
        } else if pool.config.listens {
            self.give_up_listening(&pool);
        }
        self.relieve();
    }

    /// A slot may have become free, or a pool has begun to starve.
    pub(super) fn relieve(&self) {
        if self.world.quotas.is_pressed() {
            relieve(&self.world, &self.common, self.id);
        }
    }

    fn drop_server(&mut self, mut server: Server<Line<N>>) {
        server.release_buffers(&mut self.chunks);
        self.timers.disarm(server.home.token, server.armed);
        server.socket.close(&mut self.chunks);
        self.table.remove(server.home.token);
    }

    /// Puts an unbound server back into the table, with its timer.
    pub(super) fn keep(&mut self, mut server: Held<N>) {
        let token = server.home.token;
        server.rest(&mut self.chunks);
        if server.armed <= self.now {
            // That entry has fired while the server was bound or parked.
            server.armed = Time::NEVER;
        }
        server.armed = self.timers.arm(token, server.next_time(), server.armed);
        let ready = server.ready.readable && !matches!(server.phase, Phase::Login(_)) && !server.is_paused();
        self.table.replace(token, Entry::Server(server));
        if ready {
            self.enqueue(token);
        }
    }

    pub(super) fn take_server(&mut self, token: u64) -> Option<Held<N>> {
        match self.table.get_mut(token) {
            Some(entry @ Entry::Server(_)) => match std::mem::replace(entry, Entry::Away) {
                Entry::Server(server) => Some(server),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn on_server_time(&mut self, token: u64) {
        let Some(mut server) = self.take_server(token) else { return };
        let step = server.on_time(self.now);
        let gives_up =
            matches!(server.phase, Phase::Closing { .. }) && matches!(step, Unbound::Close(Closing::Lost));
        self.counters.impatient_closes += u64::from(gives_up);
        self.on_unbound(server, step);
    }

    pub(super) fn on_answer(&mut self, token: u64, answer: Answer) {
        match (self.take_server(token), answer) {
            (Some(mut server), Answer::Keys(derived)) => {
                let step = server.on_keys(&derived, &mut self.cx());
                let going = matches!(step, Unbound::Going);
                self.on_unbound(server, step);
                if going {
                    self.serve_server(token);
                }
            }
            (Some(server), _) => self.keep(server),
            (None, answer) => self.with_session(token, |session, cx| session.on_answer(answer, cx)),
        }
    }
}
