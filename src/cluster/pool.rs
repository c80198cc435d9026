//! The state of one pool of server connections: who waits, who rests, how many there are.
//!
//! Owns the parked servers and the count of all slots. Does not know what a server is. Every server that exists
//! is in exactly one of: `idle` (here), `opening`, `busy`, `closing` (in the hands of a worker); their sum never
//! exceeds `size`, and a slot is free again only once `closed` or `open_failed` says so.
//!
//! While somebody waits, a freed server never rests: it goes to the oldest waiter of the worker that frees it,
//! unless the oldest waiter of all has been overtaken [`OVERTAKEN_MAX`] times; then to that one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::limits::OVERTAKEN_MAX;
use crate::base::time::Time;

pub type WorkerId = u16;

/// How many of the last grants a pool shows.
pub const GRANTS_SHOWN: usize = 8;

/// A place in a pool's queue. `session` is the waiter's name at its worker, `number` tells its checkouts apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub worker: WorkerId,
    pub session: u64,
    pub number: u32,
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    order: u64,
    since: Time,
}

#[derive(Debug)]
struct Parked<T> {
    server: T,
    id: u64,
    worker: WorkerId,
    since: Time,
}

#[derive(Debug)]
pub enum Checkout<T> {
    Ready(T),
    /// The ticket is in the queue. With `open`, the caller must open a server: a slot is taken for it.
    Wait {
        open: bool,
    },
    /// The pool has been replaced: there is another to ask.
    Retired,
}

#[derive(Debug)]
pub enum Checkin<T> {
    /// The server rests; `id` finds it again.
    Parked { id: u64 },
    /// It belongs to that waiter now.
    Granted { ticket: Ticket, server: T },
    /// The pool has no use for it: close it, then call `closed`.
    Surplus(T),
}

/// How many servers are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub idle: usize,
    pub opening: usize,
    pub busy: usize,
    pub closing: usize,
    pub waiting: usize,
}

impl Counts {
    /// Slots in use.
    pub fn total(self) -> usize {
        self.idle + self.opening + self.busy + self.closing
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Checkouts wait.
    Paused,
    /// Servers are closed as they come back; nobody is served.
    Retired,
}

#[derive(Debug)]
pub struct PoolState<T> {
    size: usize,
    mode: Mode,
    /// The last attempt to open a server failed: no further ones for now.
    failing: bool,
    idle: Vec<Parked<T>>,
    opening: usize,
    busy: usize,
    closing: usize,
    /// One queue per worker, so that its oldest waiter is found at once.
    waiting: Vec<VecDeque<Waiter>>,
    waiters: usize,
    next_order: u64,
    next_id: u64,
    /// The oldest waiter of all, by its order, and how often it has been overtaken.
    overtaken: (u64, u32),
    /// Servers given to waiters, and the last of those: number `n` is at `n % GRANTS_SHOWN`; for tests.
    pub grants: u64,
    pub granted: [Ticket; GRANTS_SHOWN],
    /// Grants to a waiter of another worker than the one that freed the server.
    pub handoffs: u64,
    /// Parked servers that another worker took.
    pub steals: u64,
}

impl<T> PoolState<T> {
    pub fn new(size: usize, workers: usize) -> PoolState<T> {
        PoolState {
            size,
            mode: Mode::Open,
            failing: false,
            idle: Vec::new(),
            opening: 0,
            busy: 0,
            closing: 0,
            waiting: (0..workers.max(1)).map(|_| VecDeque::new()).collect(),
            waiters: 0,
            next_order: 0,
            next_id: 0,
            overtaken: (0, 0),
            grants: 0,
            granted: [Ticket::default(); GRANTS_SHOWN],
            handoffs: 0,
            steals: 0,
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            idle: self.idle.len(),
            opening: self.opening,
            busy: self.busy,
            closing: self.closing,
            waiting: self.waiters,
        }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn is_paused(&self) -> bool {
        self.mode == Mode::Paused
    }

    pub fn is_retired(&self) -> bool {
        self.mode == Mode::Retired
    }

    /// How many have ever begun to wait; for tests.
    pub fn arrivals(&self) -> u64 {
        self.next_order
    }

    /// Everybody who waits, in no order, with the place in the queue of all; for tests.
    pub fn tickets(&self) -> impl Iterator<Item = (u64, Ticket)> {
        self.waiting.iter().flatten().map(|waiter| (waiter.order, waiter.ticket))
    }

    /// The servers that rest; for tests.
    pub fn resting(&self) -> impl Iterator<Item = &T> {
        self.idle.iter().map(|parked| &parked.server)
    }

    /// When the oldest waiter came.
    pub fn waiting_since(&self) -> Option<Time> {
        self.oldest().map(|(_, waiter)| waiter.since)
    }

    /// A server for `ticket`: the one its worker used last, else the one that another worker has not used for
    /// the longest time, else a place in the queue.
    pub fn checkout(&mut self, ticket: Ticket, now: Time) -> Checkout<T> {
        if self.mode == Mode::Open && self.waiters == 0 && !self.idle.is_empty() {
            let own = self.idle.iter().rposition(|parked| parked.worker == ticket.worker);
            self.steals += u64::from(own.is_none());
            let parked = self.idle.remove(own.unwrap_or(0));
            self.busy += 1;
            return Checkout::Ready(parked.server);
        }
        if self.mode == Mode::Retired {
            // Nobody would ever come for it.
            return Checkout::Retired;
        }
        let order = self.next_order;
        self.next_order += 1;
        self.queue(ticket.worker).push_back(Waiter { ticket, order, since: now });
        self.waiters += 1;
        Checkout::Wait { open: self.open_if_needed() }
    }

    /// Takes a ticket out of the queue. False if it is not there: a server is on its way to it.
    pub fn withdraw(&mut self, ticket: Ticket) -> bool {
        let queue = self.queue(ticket.worker);
        let Some(at) = queue.iter().position(|waiter| waiter.ticket == ticket) else { return false };
        queue.remove(at);
        self.waiters -= 1;
        true
    }

    /// A server that was busy comes back, freed by `worker`.
    pub fn checkin(&mut self, server: T, worker: WorkerId, now: Time) -> Checkin<T> {
        if self.mode == Mode::Retired || self.counts().total() > self.size {
            self.busy -= 1;
            self.closing += 1;
            return Checkin::Surplus(server);
        }
        if self.mode == Mode::Open
            && let Some(ticket) = self.next_waiter(worker)
        {
            return Checkin::Granted { ticket, server };
        }
        self.busy -= 1;
        Checkin::Parked { id: self.park(server, worker, now) }
    }

    /// Takes the parked server `id` out, as busy; none if it has been taken since.
    pub fn take(&mut self, id: u64) -> Option<T> {
        let at = self.idle.iter().position(|parked| parked.id == id)?;
        self.busy += 1;
        Some(self.idle.remove(at).server)
    }

    /// The parked server `id`, to look at.
    pub fn parked(&self, id: u64) -> Option<&T> {
        self.idle.iter().find(|parked| parked.id == id).map(|parked| &parked.server)
    }

    /// A server that was opening is ready.
    pub fn opened(&mut self, server: T, worker: WorkerId, now: Time) -> Checkin<T> {
        self.opened_busy();
        self.checkin(server, worker, now)
    }

    /// A server that was opening has logged in, and has to be heard before anybody gets it: it is busy from here on.
    pub fn opened_busy(&mut self) {
        self.opening -= 1;
        self.busy += 1;
        self.failing = false;
    }

    /// A server that was busy is being closed; `closed` follows.
    pub fn close(&mut self) {
        self.busy -= 1;
        self.closing += 1;
    }

    /// A closing server has gone. True: open another for those who wait; a slot is taken for it.
    pub fn closed(&mut self) -> bool {
        self.closing -= 1;
        self.open_if_needed()
    }

    /// A server could not be opened, and nothing of it is left. No other is opened before `retry` says so. If no server
    /// exists that could serve those who wait, they are returned: they are to be told why.
    pub fn open_failed(&mut self) -> Vec<Ticket> {
        self.opening -= 1;
        self.after_failure()
    }

    /// The same, but the connection is still being closed; `closed` follows.
    pub fn open_aborted(&mut self) -> Vec<Ticket> {
        self.opening -= 1;
        self.closing += 1;
        self.after_failure()
    }

    /// Time has passed since a server could not be opened: how many are to be opened now for those who wait. Slots are
    /// taken for them.
    pub fn retry(&mut self) -> usize {
        self.failing = false;
        let mut open = 0;
        while self.open_if_needed() {
            open += 1;
        }
        open
    }

    fn after_failure(&mut self) -> Vec<Ticket> {
        self.failing = true;
        if self.idle.len() + self.busy + self.opening > 0 { Vec::new() } else { self.dismiss() }
    }

    /// A closing server has gone; those who wait are seen to by `retry`.
    pub fn closed_quietly(&mut self) {
        self.closing -= 1;
    }

    /// Takes everybody out of the queue.
    pub fn dismiss(&mut self) -> Vec<Ticket> {
        self.waiters = 0;
        let mut all: Vec<_> = self.waiting.iter_mut().flat_map(|queue| queue.drain(..)).collect();
        all.sort_by_key(|waiter| waiter.order);
        all.into_iter().map(|waiter| waiter.ticket).collect()
    }

    /// A slot for one more server, if fewer than `min` exist.
    pub fn open_to(&mut self, min: usize) -> bool {
        let total = self.counts().total();
        let open = self.mode == Mode::Open && total - self.closing < min && total < self.size;
        self.opening += usize::from(open);
        open
    }

    /// Takes out, as closing, the parked servers that `expired` names, or that have rested since before
    /// `idle_since` while more than `min` servers exist.
    pub fn expire(&mut self, idle_since: Time, min: usize, expired: impl Fn(&T) -> bool) -> Vec<T> {
        let mut spare = (self.idle.len() + self.busy + self.opening).saturating_sub(min);
        let mut gone = Vec::new();
        let mut at = 0;
        while at < self.idle.len() {
            let surplus = spare > 0 && self.idle[at].since < idle_since;
            if surplus || expired(&self.idle[at].server) {
                spare = spare.saturating_sub(1);
                gone.push(self.idle.remove(at).server);
            } else {
                at += 1;
            }
        }
        self.closing += gone.len();
        gone
    }

    /// Holds all checkouts from now on.
    pub fn pause(&mut self) {
        if self.mode == Mode::Open {
            self.mode = Mode::Paused;
        }
    }

    /// Lets checkouts go on: parked servers are matched with those who wait. The second value says how many
    /// servers are to be opened for the others; slots are taken for them.
    pub fn resume(&mut self) -> (Vec<(Ticket, T)>, usize) {
        if self.mode != Mode::Paused {
            return (Vec::new(), 0);
        }
        self.mode = Mode::Open;
        let mut grants = Vec::new();
        while let Some(parked) = self.idle.pop() {
            let Some(ticket) = self.next_waiter(parked.worker) else {
                self.idle.push(parked);
                break;
            };
            self.busy += 1;
            grants.push((ticket, parked.server));
        }
        let mut open = 0;
        while self.open_if_needed() {
            open += 1;
        }
        (grants, open)
    }

    /// It has no server and nobody waits for one, and is not to be remembered as paused.
    pub fn is_unused(&self) -> bool {
        self.mode == Mode::Open && self.waiters == 0 && self.counts().total() == 0
    }

    /// Ends the pool: takes out, as closing, all parked servers, and everybody who waits.
    pub fn retire(&mut self) -> (Vec<T>, Vec<Ticket>) {
        self.mode = Mode::Retired;
        self.closing += self.idle.len();
        (self.idle.drain(..).map(|parked| parked.server).collect(), self.dismiss())
    }

    fn queue(&mut self, worker: WorkerId) -> &mut VecDeque<Waiter> {
        let last = self.waiting.len() - 1;
        &mut self.waiting[usize::from(worker).min(last)]
    }

    fn park(&mut self, server: T, worker: WorkerId, now: Time) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.idle.push(Parked { server, id, worker, since: now });
        id
    }

    fn open_if_needed(&mut self) -> bool {
        let open =
            self.mode == Mode::Open && self.opening < self.waiters && self.counts().total() < self.size;
        self.opening += usize::from(open);
        open
    }

    fn oldest(&self) -> Option<(usize, &Waiter)> {
        self.waiting
            .iter()
            .enumerate()
            .filter_map(|(worker, queue)| Some((worker, queue.front()?)))
            .min_by_key(|(_, waiter)| waiter.order)
    }

    fn next_waiter(&mut self, worker: WorkerId) -> Option<Ticket> {
        if self.waiters == 0 {
            return None;
        }
        let (oldest_worker, oldest) = self.oldest().map(|(worker, waiter)| (worker, waiter.order))?;
        if self.overtaken.0 != oldest {
            self.overtaken = (oldest, 0);
        }
        let own = usize::from(worker).min(self.waiting.len() - 1);
        let own_waits = !self.waiting[own].is_empty();
        let from = if own_waits && self.overtaken.1 < OVERTAKEN_MAX { own } else { oldest_worker };
        self.overtaken.1 += u32::from(from != oldest_worker);
        self.handoffs += u64::from(from != own);
        self.waiters -= 1;
        let ticket = self.waiting[from].pop_front()?.ticket;
        self.granted[self.grants as usize % GRANTS_SHOWN] = ticket;
        self.grants += 1;
        Some(ticket)
    }
}

/// The moment before which a server must have been parked to have rested for `limit`.
pub fn idle_since(now: Time, limit: Option<Duration>) -> Time {
    limit.map_or(Time::ZERO, |limit| {
        Time::from_micros(now.as_micros().saturating_sub(limit.as_micros() as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(worker: WorkerId, session: u64) -> Ticket {
        Ticket { worker, session, number: 0 }
    }

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    /// A pool of `size` whose servers 0.. are all busy.
    fn busy(size: usize, workers: usize) -> PoolState<usize> {
        let mut pool = PoolState::new(size, workers);
        for server in 0..size {
            assert!(matches!(pool.checkout(ticket(0, server as u64), at(0)), Checkout::Wait { open: true }));
            assert!(
                matches!(pool.opened(server, 0, at(0)), Checkin::Granted { server: s, .. } if s == server)
            );
        }
        pool
    }

    #[test]
    fn never_more_than_size() {
        let mut pool = busy(2, 1);
        assert!(matches!(pool.checkout(ticket(0, 9), at(1)), Checkout::Wait { open: false }));
        pool.close();
        assert_eq!(pool.counts().total(), 2, "a closing server keeps its slot");
        assert!(pool.closed(), "its slot is free now, and somebody waits");
        assert_eq!(pool.counts(), Counts { opening: 1, busy: 1, waiting: 1, ..Counts::default() });
    }

    #[test]
    fn one_worker_is_first_in_first_out() {
        let mut pool = busy(1, 1);
        for session in 10..20 {
            assert!(matches!(pool.checkout(ticket(0, session), at(1)), Checkout::Wait { open: false }));
        }
        assert!(pool.withdraw(ticket(0, 13)));
        assert!(!pool.withdraw(ticket(0, 13)));
        for session in (10..20).filter(|&s| s != 13) {
            match pool.checkin(0, 0, at(2)) {
                Checkin::Granted { ticket, server: 0 } => assert_eq!(ticket.session, session),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(pool.checkin(0, 0, at(2)), Checkin::Parked { .. }));
    }

    #[test]
    fn overtaking_is_bounded() {
        let mut pool = busy(1, 2);
        pool.checkout(ticket(1, 100), at(1));
        for session in 0..50 {
            pool.checkout(ticket(0, session), at(2));
        }
        for session in 0..u64::from(OVERTAKEN_MAX) {
            match pool.checkin(0, 0, at(3)) {
                Checkin::Granted { ticket, .. } => assert_eq!(ticket, self::ticket(0, session)),
                other => panic!("{other:?}"),
            }
        }
        match pool.checkin(0, 0, at(3)) {
            Checkin::Granted { ticket, .. } => assert_eq!(ticket, self::ticket(1, 100)),
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.handoffs, 1);
    }

    #[test]
    fn own_server_first_then_the_coldest() {
        let mut pool = busy(3, 2);
        pool.checkin(0, 0, at(1));
        pool.checkin(1, 1, at(2));
        pool.checkin(2, 0, at(3));
        assert!(matches!(pool.checkout(ticket(1, 0), at(4)), Checkout::Ready(1)));
        assert!(matches!(pool.checkout(ticket(1, 0), at(4)), Checkout::Ready(0)));
        assert_eq!(pool.steals, 1);
        assert!(matches!(pool.checkout(ticket(0, 0), at(4)), Checkout::Ready(2)));
    }

    #[test]
    fn pause_holds_and_resume_matches() {
        let mut pool = busy(2, 1);
        pool.pause();
        assert!(matches!(pool.checkin(0, 0, at(1)), Checkin::Parked { .. }));
        for session in 0..3 {
            assert!(matches!(pool.checkout(ticket(0, session), at(2)), Checkout::Wait { open: false }));
        }
        let (grants, open) = pool.resume();
        assert_eq!(grants, [(ticket(0, 0), 0)]);
        assert_eq!(open, 0);
    }

    #[test]
    fn retired_pools_empty_themselves() {
        let mut pool = busy(2, 1);
        pool.checkin(0, 0, at(1));
        pool.checkout(ticket(0, 0), at(1));
        let (servers, tickets) = pool.retire();
        assert_eq!((servers, tickets.len()), (vec![], 0));
        assert!(matches!(pool.checkin(0, 0, at(1)), Checkin::Surplus(0)));
        assert!(!pool.closed());
        assert!(matches!(pool.checkout(ticket(0, 1), at(2)), Checkout::Retired));
        assert_eq!(pool.counts().waiting, 0);
    }

    #[test]
    fn expiry_keeps_the_minimum() {
        let mut pool = busy(4, 1);
        for server in 0..4 {
            pool.checkin(server, 0, at(server as u64));
        }
        assert_eq!(pool.expire(at(3), 2, |_| false), [0, 1]);
        assert_eq!(pool.expire(at(0), 2, |&server| server == 2), [2]);
        assert_eq!(pool.counts().closing, 3);
        assert!(!pool.open_to(2), "closing servers keep their slots");
        assert!(!pool.closed());
        assert!(pool.open_to(2));
        assert!(!pool.open_to(2));
    }
}
