//! The connections that listen for clients, and the way of a notification: from there to the workers whose sessions want it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cluster::listeners::{Channels, Listener, Lost, Need, Next, TICKET};
use crate::cluster::pool::Checkout;
use crate::io::net::Net;
use crate::session::Session;
use crate::session::listen::channel_of;
use crate::session::server::ServerPool;
use crate::worker::mail::{Mail, Peer};
use crate::worker::servers::Held;
use crate::worker::{Line, Worker};

impl<N: Net> Worker<N> {
    pub(super) fn listen(&mut self, token: u64, session: &Session<Line<N>>, number: u32, channels: Channels) {
        let Some(cluster) = session.cluster() else { return };
        let who = Listener { worker: self.id, token };
        for need in self.world.listen(cluster, who, number, channels) {
            self.meet(need);
        }
    }

    /// A session has ended.
    pub(super) fn stop_listening(&mut self, token: u64) {
        let need = self.world.listeners.leave(Listener { worker: self.id, token });
        need.into_iter().for_each(|need| self.meet(need));
    }

    fn meet(&mut self, need: Need<Box<crate::session::server::Server<Line<N>>>>) {
        match need {
            Need::Nothing => {}
            Need::Tell(at) => self.common.post(at.worker, Mail::Listen { token: at.token }),
            Need::Open(pool) => {
                let checkout = pool.lock().state.checkout(TICKET, self.now);
                match checkout {
                    Checkout::Wait { open: true } => self.open(pool, 1),
                    // The one before it may still be closing.
                    Checkout::Wait { open: false } => self.give_up_listening(&pool),
                    Checkout::Ready(server) => self.begin_to_listen(server),
                    Checkout::Retired => self.lose_listening(pool.id),
                }
            }
        }
    }

    /// Clients come first where a limit over several pools is reached; and those that wait for this connection may be the ones
    /// that hold all there are.
    pub(super) fn give_up_listening(&mut self, pool: &ServerPool<Line<N>>) {
        let mut shelf = pool.lock();
        if shelf.state.starves() {
            shelf.state.withdraw(TICKET);
            drop(shelf);
            self.lose_listening(pool.id);
        }
    }

    /// A connection that is to listen has logged in; it is busy.
    pub(super) fn begin_to_listen(&mut self, mut server: Held<N>) {
        server.pool.lock().state.withdraw(TICKET);
        server.listen();
        self.world.listeners.opened(server.pool.id, Listener { worker: self.id, token: server.home.token });
        self.attend(server);
    }

    /// Passes on what a listening connection has heard, and sees to what it is to be asked.
    pub(super) fn attend(&mut self, mut server: Held<N>) {
        let (pool, token) = (server.pool.id, server.home.token);
        for message in server.take_heard() {
            self.pass_on(pool, &message);
        }
        // It has refused: a standby, say.
        if server.tainted_by.is_some() {
            return self.discard(server, false);
        }
        if server.has_answered() {
            for (who, number) in self.world.listeners.answered(pool) {
                self.common.post(who.worker, Mail::Listening { token: who.token, number, works: true });
            }
        }
        match self.world.listeners.next(pool) {
            Next::Rest => self.keep(server),
            Next::Ask(query) => {
                let until = self.now + server.pool.config.connect_timeout;
                server.ask_to_listen(&query, until);
                self.keep(server);
                self.serve_server(token);
            }
            Next::Close(lost) => {
                self.tell_lost(lost);
                self.discard(server, false);
            }
        }
    }

    /// There is something new to ask.
    pub(super) fn on_listen(&mut self, token: u64) {
        if let Some(server) = self.take_server(token) {
            if server.is_listening() { self.attend(server) } else { self.keep(server) }
        }
    }

    fn pass_on(&mut self, pool: u64, message: &Arc<[u8]>) {
        let Some(channel) = channel_of(message) else { return };
        let mut listeners = self.world.listeners.hear(pool, channel);
        listeners.sort_unstable();
        for of_worker in listeners.chunk_by(|one, other| one.worker == other.worker) {
            let Some(first) = of_worker.first() else { continue };
            let tokens = of_worker.iter().map(|listener| listener.token).collect();
            let peer = &self.common.peers[usize::from(first.worker)];
            peer.notifications.fetch_add(of_worker.len(), Ordering::Relaxed);
            let mail = Mail::Notification { pool, message: message.clone(), tokens };
            self.common.post(first.worker, mail);
        }
    }

    /// Some worker has as many on their way to its sessions as it may.
    pub(super) fn are_listeners_full(&self) -> bool {
        let underway = |peer: &Peer<Line<N>>| peer.notifications.load(Ordering::Relaxed);
        self.common.peers.iter().any(|peer| underway(peer) > self.common.notifications_max)
    }

    pub(super) fn on_notification(&mut self, pool: u64, message: &Arc<[u8]>, tokens: &[u64]) {
        // Whatever becomes of them, they have arrived.
        self.common.peers[usize::from(self.id)].notifications.fetch_sub(tokens.len(), Ordering::Relaxed);
        for &token in tokens {
            let mut keeps = true;
            self.with_session(token, |session, cx| keeps = session.on_notification(message, cx));
            if !keeps && let Some(channel) = channel_of(message) {
                self.world.listeners.dropped(pool, channel);
            }
        }
    }

    /// The connection of this pool has gone, or there will be none.
    pub(super) fn lose_listening(&mut self, pool: u64) {
        let lost = self.world.listeners.lost(pool);
        self.tell_lost(lost);
    }

    fn tell_lost(&mut self, lost: Lost) {
        for (who, number) in lost.asking {
            self.common.post(who.worker, Mail::Listening { token: who.token, number, works: false });
        }
        for who in lost.listening {
            self.common.post(who.worker, Mail::Unheard { token: who.token });
        }
    }

    /// A new configuration: what listens elsewhere than it says ends.
    pub(super) fn retire_listening(&mut self) {
        let world = self.world.clone();
        for at in self.world.listeners.retire(|config| world.has_target(config)) {
            self.common.post(at.worker, Mail::Listen { token: at.token });
        }
    }
}
