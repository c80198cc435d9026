//! Sessions move, from a worker that has too much to do to the one with the most time.
//!
//! A few clients cost less on one thread: more of them are served per wake-up, and no server changes hands between
//! threads. So clients are given to the first worker that has time (`control/accept.rs`), and those that turn out to need
//! more than one thread move on: between transactions, with nothing in their buffers.
//!
//! The key that a client got for its cancel requests names the worker and the place where its session began. That place
//! stays taken, and knows where the session is:
//!
//! ```text
//!  birth: Session ──► Moved { to: B }    a cancel request goes on to B; B has had the session before it
//!         B: Session ──► C               the birth is told: Moved { to: C }
//!                 C: the session ends    the birth is told: Left; the place is free
//! ```

use std::collections::BTreeMap;

use crate::base::limits::{BUSY_INTERVAL, MOVE_BUSY_PERCENT_MIN};
use crate::base::time::Time;
use crate::cluster::pool::WorkerId;
use crate::io::net::Net;
use crate::session::Session;
use crate::session::server::Readiness;
use crate::worker::mail::Mail;
use crate::worker::{Entry, Line, Worker};

#[derive(Default)]
pub(super) struct Moves {
    /// Where sessions are to go, and how many.
    wanted: Option<(WorkerId, usize)>,
    /// Sessions that began at other workers, by the process ids that their clients know: their tokens.
    adopted: BTreeMap<u32, u64>,
}

impl<N: Net> Worker<N> {
    /// Says what part of the last moments this worker has worked, in percent. If another one has worked half as much or
    /// less, clients move there until both have as much to do.
    pub fn tell_busy(&mut self, percent: u32) {
        let own = usize::from(self.id);
        self.common.peers[own].busy.tell(percent, self.now);
        self.moves.wanted = None;
        if percent < MOVE_BUSY_PERCENT_MIN || self.is_draining() {
            return;
        }
        let peers = self.common.peers.iter().enumerate().filter(|(worker, _)| *worker != own);
        let idlest = peers.map(|(worker, peer)| (peer.busy.percent(self.now), worker)).min();
        let Some((least, to)) = idlest.filter(|(least, _)| least * 2 <= percent) else { return };
        // Clients that ask nothing would take no work with them: those that have just asked count, and go.
        let number = self.active_clients() * (percent - least) as usize / (2 * percent as usize);
        self.moves.wanted = (number > 0).then_some((to as WorkerId, number));
    }

    fn active_clients(&self) -> usize {
        let is_active = |token: &u64| match self.table.get(*token) {
            Some(Entry::Session(session)) => self.now.since(session.who().last_request) <= BUSY_INTERVAL,
            _ => false,
        };
        self.table.tokens().iter().filter(|token| is_active(token)).count()
    }

    /// Gives a session away if it may go and some are to. Comes back if it stays.
    pub(super) fn give_away(
        &mut self,
        token: u64,
        mut session: Box<Session<Line<N>>>,
    ) -> Option<Box<Session<Line<N>>>> {
        let Some((to, left)) = self.moves.wanted else { return Some(session) };
        let line = &session.client.socket;
        let rests = session.may_move() && line.takes_data() && !line.is_sending() && line.buffer_bytes() == 0;
        // Who asks for a cancel has to be answered here.
        let is_asked_for = self.held_cancels.iter().any(|(of, _)| *of == token);
        if !rests || is_asked_for {
            return Some(session);
        }
        let own = usize::from(self.id);
        if let Err(error) = self.common.peers[own].registrar.deregister(&mut session.client.socket) {
            log::warn!("a client cannot move to another worker: {error}");
            self.counters.deregister_failures += 1;
            self.moves.wanted = None;
            return Some(session);
        }
        self.moves.wanted = (left > 1).then_some((to, left - 1));
        self.timers.disarm(token, session.armed);
        session.armed = Time::NEVER;
        self.sessions -= 1;
        self.count_clients(-1);
        self.common.peers[usize::from(to)].count_clients(1);
        self.counters.moves += 1;
        let pid = session.key().pid;
        let is_adopted = self.moves.adopted.remove(&pid).is_some();
        if is_adopted {
            self.table.remove(token);
            // Ahead of what the next one will tell.
            self.tell_birth(pid, |place| Mail::Moved { place, to });
        } else {
            self.table.replace(token, Entry::Moved { to });
        }
        self.common.post(to, Mail::Session { session });
        None
    }

    /// A session comes from another worker, or back.
    pub(super) fn on_session(&mut self, mut session: Box<Session<Line<N>>>) {
        let pid = session.key().pid;
        let begun_here = self.own_place(pid).and_then(|place| self.table.token_at(place));
        let token = begun_here.unwrap_or_else(|| self.table.insert(Entry::Away));
        let line = &mut session.client.socket;
        // The new poll reports what the socket can do now.
        session.client.ready = Readiness { readable: line.holds(), ..Readiness::STANDING };
        if let Err(error) = self.net.register(&mut line.socket, token, false) {
            log::error!("cannot wait for a client that comes from another worker: {error}");
            line.close(&mut self.chunks);
            self.table.remove(token);
            self.tell_birth(pid, |place| Mail::Left { place });
            return self.count_clients(-1);
        }
        if begun_here.is_none() {
            self.moves.adopted.insert(pid, token);
        }
        self.sessions += 1;
        self.table.replace(token, Entry::Session(session));
        if self.is_draining() {
            // It has missed the letter.
            return self.with_session(token, |session, cx| session.on_drain(cx));
        }
        self.arm_session(token);
    }

    /// A session that began here has gone on to another worker.
    pub(super) fn on_moved(&mut self, place: u32, to: WorkerId) {
        if let Some(token) = self.table.token_at(place)
            && let Some(entry @ Entry::Moved { .. }) = self.table.get_mut(token)
        {
            *entry = Entry::Moved { to };
        }
    }

    /// A session that began here has ended elsewhere.
    pub(super) fn on_left(&mut self, place: u32) {
        if let Some(token) = self.table.token_at(place)
            && matches!(self.table.get(token), Some(Entry::Moved { .. }))
        {
            self.table.remove(token);
        }
    }

    /// A session has ended.
    pub(super) fn forget_birth(&mut self, pid: u32) {
        if self.moves.adopted.remove(&pid).is_some() {
            self.tell_birth(pid, |place| Mail::Left { place });
        }
    }

    /// The same, of one that nobody has any more.
    pub(super) fn forget_birth_of(&mut self, token: u64) {
        if let Some((&pid, _)) = self.moves.adopted.iter().find(|(_, of)| **of == token) {
            self.forget_birth(pid);
        }
    }

    fn tell_birth(&self, pid: u32, letter: impl FnOnce(u32) -> Mail<Line<N>>) {
        match Worker::<N>::place_of(pid) {
            Some((worker, place)) if worker != self.id => self.common.post(worker, letter(place)),
            _ => {}
        }
    }

    /// Where the session with this process id is.
    pub(super) fn whereabouts(&self, pid: u32) -> Whereabouts {
        let Some((birth, _)) = Worker::<N>::place_of(pid) else { return Whereabouts::Nowhere };
        if let Some(place) = self.own_place(pid) {
            let Some(token) = self.table.token_at(place) else { return Whereabouts::Nowhere };
            return match self.table.get(token) {
                Some(Entry::Moved { to }) => Whereabouts::There(*to),
                _ => Whereabouts::Here(token),
            };
        }
        match self.moves.adopted.get(&pid) {
            Some(token) => Whereabouts::Here(*token),
            // It has gone on, or has ended: its birth has been told, or is about to read of it.
            None => Whereabouts::There(birth),
        }
    }

    fn own_place(&self, pid: u32) -> Option<u32> {
        Worker::<N>::place_of(pid).filter(|(birth, _)| *birth == self.id).map(|(_, place)| place)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    Here(u64),
    There(WorkerId),
    Nowhere,
}
