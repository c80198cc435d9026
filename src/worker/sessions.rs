//! Sessions at work: their reads and writes, and the actions that they ask for.

use log::Level;

use crate::base::address::Origin;
use crate::base::limits::{INCOMPLETE_FRAMES_BYTES_MAX, INCOMPLETE_LOGINS_BYTES_MAX, READS_PER_TURN_MAX};
use crate::base::outbox::{Outbox, Piece};
use crate::cluster::pool::{Checkout, Ticket};
use crate::io::net::Net;
use crate::io::transport::Ends;
use crate::session::cx::{Action, Discard};
use crate::session::server::{Readiness, Server};
use crate::session::{Client, Session, Side};
use crate::wire::BackendKey;
use crate::worker::lines::{self, Read};
use crate::worker::mail::{Asker, Mail, Order};
use crate::worker::{Entry, Line, Worker};

impl<N: Net> Worker<N> {
    pub(super) fn on_client(&mut self, mut line: Line<N>, peer: Origin) {
        let token = self.table.insert(Entry::Away);
        if let Err(error) = self.net.register(&mut line.socket, token, false) {
            log::error!("cannot wait for a client: {error}");
            self.table.remove(token);
            return self.count_clients(-1);
        }
        let key = self.make_key(token);
        self.next_session += self.common.peers.len() as u64;
        let id = self.next_session;
        let session = Session::new(id, line, peer, key, &self.cx());
        self.sessions += 1;
        self.counters.sessions += 1;
        self.table.replace(token, Entry::Session(Box::new(session)));
        // Its first packet is usually here already.
        self.enqueue(token);
        self.arm_session(token);
    }

    /// Reads whatever can be worked on, from all sockets of a session.
    pub(super) fn serve_session(&mut self, token: u64) {
        let Some(mut session) = self.take_session(token) else { return };
        let mut reads = 0;
        loop {
            if self.has_work(&session) {
                session = match self.settle_with(token, session) {
                    Some(session) => session,
                    None => return,
                };
            }
            if reads == READS_PER_TURN_MAX {
                self.enqueue(token);
                break;
            }
            if !self.read_some(&mut session) {
                break;
            }
            reads += 1;
        }
        // A read that brought no data may have ended a handshake, which lets what waits out.
        self.settle(token, session);
    }

    /// One read from the first socket that has something to be worked on.
    fn read_some(&mut self, session: &mut Session<Line<N>>) -> bool {
        for at in 0..session.links.len() {
            if session.links[at].server.ready.readable && session.wants_read(Side::Server(at)) {
                let server = &mut session.links[at].server;
                let Server { socket, ready, inbound, .. } = &mut **server;
                match lines::read(socket, ready, inbound, &mut self.chunks) {
                    Read::Bytes(n) => {
                        self.counters.closing_reads += u64::from(ready.closing);
                        server.tally.received += n as u64;
                        server.tally.reads += 1;
                        session.who_mut().sent += n as u64;
                        session.on_bytes(Side::Server(at), &mut self.cx());
                    }
                    Read::Nothing | Read::Full | Read::Secured(_) => continue,
                    Read::End => session.on_closed(Side::Server(at), &mut self.cx()),
                    Read::Failed(error) => {
                        log::debug!("a server connection failed: {error}");
                        session.on_closed(Side::Server(at), &mut self.cx());
                    }
                }
                return true;
            }
        }
        if session.client.ready.readable && session.wants_read(Side::Client) {
            let client = &mut session.client;
            match lines::read(&mut client.socket, &mut client.ready, &mut client.inbound, &mut self.chunks) {
                Read::Bytes(n) => {
                    self.counters.closing_reads += u64::from(client.ready.closing);
                    session.who_mut().received += n as u64;
                    session.on_bytes(Side::Client, &mut self.cx());
                }
                Read::Nothing | Read::Full => return false,
                Read::Secured(peer) => session.on_secured(peer),
                Read::End => session.on_closed(Side::Client, &mut self.cx()),
                Read::Failed(error) => {
                    // Before a handshake is over it is a login that failed.
                    let tells = !client.socket.takes_data() && self.world.config.general.log_connections;
                    let level = if tells { Level::Info } else { Level::Debug };
                    log::log!(level, "the connection of client {} failed: {error}", session.who().peer);
                    session.on_client_lost(&mut self.cx());
                }
            }
            return true;
        }
        false
    }

    /// Writes what a session has to say and does what it asks for, until both are done; then puts it back.
    pub(super) fn settle(&mut self, token: u64, session: Box<Session<Line<N>>>) {
        let Some(session) = self.settle_with(token, session) else { return };
        self.put_back(token, session);
    }

    /// A session with nothing left to do for now goes back into the table.
    fn put_back(&mut self, token: u64, mut session: Box<Session<Line<N>>>) {
        session.rest(&mut self.cx());
        session = match self.give_away(token, session) {
            Some(session) => session,
            None => return,
        };
        let bytes_max =
            if session.is_logging_in() { INCOMPLETE_LOGINS_BYTES_MAX } else { INCOMPLETE_FRAMES_BYTES_MAX };
        if self.chunks.out_bytes() > bytes_max && !session.is_closing() {
            // Parts of records lie in the transport.
            let holds = session.client.socket.buffer_bytes() > 0;
            session.on_pressure(holds, &mut self.cx());
            session = match self.settle_with(token, session) {
                Some(session) => session,
                None => return,
            };
        }
        // What is ready and was not wanted may be wanted now.
        let ready = (session.client.ready.readable && session.wants_read(Side::Client))
            || (0..session.links.len())
                .any(|at| session.links[at].server.ready.readable && session.wants_read(Side::Server(at)));
        self.table.replace(token, Entry::Session(session));
        if ready {
            self.enqueue(token);
        }
        self.arm_session(token);
    }

    /// There are actions to carry out, or some socket may take what waits for it.
    fn has_work(&self, session: &Session<Line<N>>) -> bool {
        let may_write = |ready: &Readiness, outbox: &Outbox, line: &Line<N>| {
            ready.writable && (line.is_sending() || (!outbox.is_empty() && line.takes_data()))
        };
        let Session { client, links, .. } = session;
        !self.actions.is_empty()
            || may_write(&client.ready, &client.outbox, &client.socket)
            || links
                .iter()
                .any(|link| may_write(&link.server.ready, &link.server.outbox, &link.server.socket))
    }

    /// The same, but the session comes back; none if it has ended.
    fn settle_with(
        &mut self,
        token: u64,
        mut session: Box<Session<Line<N>>>,
    ) -> Option<Box<Session<Line<N>>>> {
        while self.has_work(&session) {
            self.flush(token, &mut session);
            let mut actions = std::mem::replace(&mut self.actions, std::mem::take(&mut self.spare_actions));
            for action in actions.drain(..) {
                self.run_action(token, &mut session, action);
            }
            self.spare_actions = actions;
            // Whether it closes now or has only now been sent its last bytes.
            if session.is_closing() && self.actions.is_empty() && self.may_close(&mut session) {
                self.end_session(token, *session);
                return None;
            }
        }
        Some(session)
    }

    /// Writes all outboxes of a session as far as their sockets take it.
    fn flush(&mut self, token: u64, session: &mut Session<Line<N>>) {
        for at in 0..session.links.len() {
            let Session { client, links, .. } = session;
            let server = &mut *links[at].server;
            let has_nothing = server.outbox.is_empty() && !server.socket.is_sending();
            if has_nothing || !server.ready.writable {
                continue;
            }
            let relay = |source| (source == 0).then_some(&client.inbound.relay);
            let token = server.home.token;
            let Server { socket, ready, outbox, tally, .. } = server;
            let written = lines::write(socket, ready, outbox, &mut self.chunks, relay)
                .and_then(|written| lines::watch(&mut self.net, socket, token, ready).map(|()| written));
            match written {
                Ok(written) => {
                    tally.sent += written.bytes as u64;
                    tally.writes += 1;
                    session.on_written(Side::Server(at), &mut self.cx());
                }
                Err(_) => {
                    // What it said before it closed is still worth reading; the read finds the end.
                    server.ready.writable = false;
                    server.ready.readable = true;
                    server.ready.closing = true;
                    server.outbox.clear(&mut self.chunks);
                }
            }
        }
        let Session { client, links, .. } = session;
        let has_something = !client.outbox.is_empty() || client.socket.is_sending();
        if has_something && client.ready.writable {
            let relay = |source: u8| {
                links.get(usize::from(source).wrapping_sub(1)).map(|link| &link.server.inbound.relay)
            };
            let Client { socket, ready, outbox, .. } = client;
            let written = lines::write(socket, ready, outbox, &mut self.chunks, relay)
                .and_then(|_| lines::watch(&mut self.net, socket, token, ready));
            match written {
                Ok(()) => session.on_written(Side::Client, &mut self.cx()),
                Err(_) => session.on_client_lost(&mut self.cx()),
            }
        }
    }

    fn run_action(&mut self, token: u64, session: &mut Session<Line<N>>, action: Action<Line<N>>) {
        match action {
            Action::Checkout { pool, number } => {
                let ticket = Ticket { worker: self.id, session: token, number };
                let checkout = pool.lock().state.checkout(ticket, self.now);
                match checkout {
                    Checkout::Ready(server) => match self.bind(token, server) {
                        Some(server) => self.hand_over(session, number, server),
                        None => self.common.post(self.id, Mail::Retired { ticket }),
                    },
                    Checkout::Wait { open: true } => self.open(pool, 1),
                    Checkout::Wait { open: false } => self.relieve(),
                    Checkout::Retired => {
                        // The letter with the world that has replaced it was posted before it was retired: it lies in the
                        // mailbox ahead of this one.
                        self.counters.retired_checkouts += 1;
                        self.common.post(self.id, Mail::Retired { ticket });
                    }
                }
            }
            Action::Withdraw { pool, number } => {
                let ticket = Ticket { worker: self.id, session: token, number };
                // False: a server is on its way, and will find that nobody waits.
                let withdrawn = pool.lock().state.withdraw(ticket);
                self.relieve();
                self.counters.late_withdrawals += u64::from(!withdrawn);
            }
            Action::Checkin { link } => {
                if session.links.get(link).is_some() {
                    let server = session.unlink(link, &mut self.cx());
                    self.checkin(server);
                }
            }
            Action::Abandon { link } => {
                if session.links.get(link).is_some() {
                    let server = session.unlink(link, &mut self.cx());
                    self.clean(server);
                }
            }
            Action::Discard { link, why } => {
                if session.links.get(link).is_some() {
                    session.links[link].server.outbox.clear(&mut self.chunks);
                    let mut server = session.unlink(link, &mut self.cx());
                    match why {
                        Discard::OutOfSync => server.tally.out_of_sync += 1,
                        Discard::Forced => server.tally.force_closed += 1,
                        Discard::Lost => {}
                    }
                    self.discard(server, why == Discard::Lost);
                }
            }
            Action::Cancel { link } => {
                if let Some(link) = session.links.get_mut(link) {
                    self.call_cancel(&mut link.server);
                }
            }
            Action::CancelKey(key) => self.forward_cancel(token, key),
            Action::Ask(ask) => {
                let asker = Asker { worker: self.id, token };
                self.common.orders.send(Order::Ask { asker, ask });
            }
            Action::Console(command) => self.run_command(token, command),
            Action::Seal { direct } => self.seal_client(session, direct),
            Action::Retire { pool } => {
                let (servers, _) = pool.lock().state.retire();
                for server in servers {
                    self.common.post(server.home.worker, Mail::Close { server });
                }
            }
            Action::Listen { channels, number } => self.listen(token, session, number, channels),
            Action::Close => {}
        }
    }

    /// A server that has been granted goes to its session, or back.
    fn hand_over(&mut self, session: &mut Session<Line<N>>, number: u32, server: Box<Server<Line<N>>>) {
        if let Some(server) = session.on_grant(number, server, &mut self.cx()) {
            self.counters.late_grants += 1;
            self.checkin(server);
        }
    }

    /// A server for a waiter of this worker.
    pub(super) fn grant(&mut self, ticket: Ticket, server: Box<Server<Line<N>>>) {
        let Some(server) = self.bind(ticket.session, server) else {
            return self.common.post(self.id, Mail::Retired { ticket });
        };
        let Some(mut session) = self.take_session(ticket.session) else {
            self.counters.lost_grants += 1;
            return self.checkin(server);
        };
        self.hand_over(&mut session, ticket.number, server);
        self.settle(ticket.session, session);
    }

    /// The client's socket may be closed: everything has been written, or never will be.
    fn may_close(&mut self, session: &mut Session<Line<N>>) -> bool {
        let Client { socket, outbox, .. } = &session.client;
        let has_all = (outbox.is_empty() || !socket.takes_data()) && !socket.is_sending();
        has_all || session.next_time() <= self.now
    }

    /// From here on the client's bytes go through a record layer. What it has sent already belongs to that.
    fn seal_client(&mut self, session: &mut Session<Line<N>>, direct: bool) {
        let records = match self.sealer.accept(direct) {
            Ok(records) => records,
            Err(fault) => {
                log::error!("cannot encrypt the connection of a client: {fault}");
                return session.on_client_lost(&mut self.cx());
            }
        };
        let client = &mut session.client;
        let unsent: Vec<u8> = client
            .outbox
            .pieces()
            .flat_map(|piece| if let Piece::Bytes(bytes) = piece { bytes } else { &[] })
            .copied()
            .collect();
        client.outbox.clear(&mut self.chunks);
        let arrived = client.inbound.relay.unparsed();
        client.socket.seal(records, Ends::AtClose, arrived, &unsent, &mut self.chunks);
        client.inbound.relay.consume(arrived.len());
        client.ready.readable = true;
    }

    fn end_session(&mut self, token: u64, mut session: Session<Line<N>>) {
        debug_assert!(session.links.is_empty(), "a session ended with servers in its hands");
        let general = &self.world.config.general;
        let who = session.who();
        if general.log_disconnections && who.name.is_some() {
            log::info!(
                "client {} of user {:?}, database {:?} disconnected",
                who.peer,
                who.user(),
                who.database()
            );
        }
        session.release_buffers(&mut self.chunks);
        if session.listens() {
            self.stop_listening(token);
        }
        self.timers.disarm(token, session.armed);
        session.client.socket.close(&mut self.chunks);
        self.table.remove(token);
        self.forget_birth(session.key().pid);
        self.sessions -= 1;
        self.count_clients(-1);
    }

    pub(super) fn arm_session(&mut self, token: u64) {
        if let Some(Entry::Session(session)) = self.table.get_mut(token) {
            session.armed = self.timers.arm(token, session.next_time(), session.armed);
        }
    }

    /// The session that a cancel request is for lives here, or at another worker.
    fn forward_cancel(&mut self, token: u64, key: BackendKey) {
        let asker = Asker { worker: self.id, token };
        match Worker::<N>::place_of(key.pid) {
            Some((worker, _)) if usize::from(worker) < self.common.peers.len() => {
                self.common.post(worker, Mail::Cancel { key, asker });
            }
            _ => self.common.post(self.id, Mail::Cancelled { token }),
        }
    }
}
