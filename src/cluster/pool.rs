//! The state of one pool of server connections: who waits, who rests, how many there are.
//!
//! Owns the parked servers and the count of all slots. Does not know what a server is. Every server that exists
//! is in exactly one of: `idle` (here), `opening`, `busy`, `closing` (in the hands of a worker); their sum never
//! exceeds `size` and `reserve` together, and a slot is free again only once `closed` or `open_failed` says so.
//!
//! The reserve is opened by `retry` only, for those who have waited too long; beyond `size` no server rests.
//!
//! Where a limit holds for several pools ([`crate::cluster::quota`]), a slot is taken only if that has one too. A pool
//! that lacks only this *starves*; until it is served, servers that become free elsewhere are closed for it.
//!
//! While somebody waits, a freed server never rests: it goes to the oldest waiter of the worker that frees it,
//! unless the oldest waiter of all has been overtaken [`OVERTAKEN_MAX`] times; then to that one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::limits::OVERTAKEN_MAX;
use crate::base::time::Time;
use crate::cluster::quota::Share;

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

/// Servers beyond a pool's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    pub size: usize,
    /// How long somebody must have waited for one of them to be opened.
    pub after: Duration,
}

#[derive(Debug)]
pub struct PoolState<T> {
    size: usize,
    reserve: Reserve,
    mode: Mode,
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
    /// What this pool shares with others; none for a pool of its own.
    share: Option<Share>,
    /// Nothing but a shared limit keeps it from opening a server for those who wait.
    starves: bool,
}

impl<T> PoolState<T> {
    pub fn new(size: usize, workers: usize, share: Option<Share>) -> PoolState<T> {
        PoolState {
            size,
            reserve: Reserve::default(),
            mode: Mode::Open,
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
            share,
            starves: false,
        }
    }

    pub fn with_reserve(self, reserve: Reserve) -> PoolState<T> {
        PoolState { reserve, ..self }
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

    /// What it shares with other pools.
    pub fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Most servers, the reserve among them.
    pub fn size_max(&self) -> usize {
        self.size + self.reserve.size
    }

    /// Nothing but a limit over several pools keeps it from opening a server for those who wait; for tests.
    pub fn starves(&self) -> bool {
        self.starves
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
        self.settle();
        true
    }

    /// A server that was busy comes back, freed by `worker`.
    pub fn checkin(&mut self, server: T, worker: WorkerId, now: Time) -> Checkin<T> {
        if self.mode == Mode::Retired || self.has_surplus() || self.yields(now) {
            self.close();
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
        self.settle();
    }

    /// A server that was busy is being closed; `closed` follows.
    pub fn close(&mut self) {
        self.busy -= 1;
        self.leave(1);
    }

    /// A closing server has gone. True: open another for those who wait; a slot is taken for it.
    pub fn closed(&mut self) -> bool {
        self.closed_quietly();
        self.open_if_needed()
    }

    /// A server could not be opened, and nothing of it is left. No other is opened before `retry` says so. If no server
    /// exists that could serve those who wait, they are returned: they are to be told why.
    pub fn open_failed(&mut self) -> Vec<Ticket> {
        self.opening -= 1;
        self.share.iter().for_each(|share| share.release(false));
        self.after_failure()
    }

    /// The same, but the connection is still being closed; `closed` follows.
    pub fn open_aborted(&mut self) -> Vec<Ticket> {
        self.opening -= 1;
        self.leave(1);
        self.after_failure()
    }

    /// Time has passed since a server could not be opened: how many are to be opened now for those who wait. Slots are
    /// taken for them. Those who have waited too long get the reserve.
    pub fn retry(&mut self, now: Time) -> usize {
        let open = self.open_needed();
        open + self.open_reserve(now)
    }

    fn open_reserve(&mut self, now: Time) -> usize {
        if self.mode != Mode::Open || self.reserve.size == 0 || self.waiters <= self.opening {
            return 0;
        }
        let since = self.waiting.iter().flatten().map(|waiter| waiter.since);
        let overdue = since.filter(|since| *since + self.reserve.after <= now).count();
        let room = self.size_max().saturating_sub(self.counts().total());
        let wanted = overdue.saturating_sub(self.opening).min(room);
        let since = self.waiting_since().unwrap_or(Time::NEVER);
        let open =
            (0..wanted).take_while(|_| self.share.as_ref().is_none_or(|share| share.take(since))).count();
        self.opening += open;
        open
    }

    /// Slots may have become free for a pool that starves: how many servers are to be opened. Slots are taken for them.
    pub fn relieve(&mut self) -> usize {
        if self.starves { self.open_needed() } else { 0 }
    }

    /// When the server that has rested longest was parked.
    pub fn resting_since(&self) -> Option<Time> {
        self.idle.iter().map(|parked| parked.since).min()
    }

    /// Takes out, as closing, the server that has rested longest: another pool needs its slot.
    pub fn evict(&mut self) -> Option<T> {
        let (at, _) = self.idle.iter().enumerate().min_by_key(|(_, parked)| parked.since)?;
        let server = self.idle.remove(at).server;
        self.leave(1);
        Some(server)
    }

    fn after_failure(&mut self) -> Vec<Ticket> {
        self.settle();
        if self.idle.len() + self.busy + self.opening > 0 { Vec::new() } else { self.dismiss() }
    }

    /// A closing server has gone; those who wait are seen to by `retry`.
    pub fn closed_quietly(&mut self) {
        self.closing -= 1;
        self.share.iter().for_each(|share| share.release(true));
        self.settle();
    }

    /// Takes everybody out of the queue.
    pub fn dismiss(&mut self) -> Vec<Ticket> {
        self.waiters = 0;
        let mut all: Vec<_> = self.waiting.iter_mut().flat_map(|queue| queue.drain(..)).collect();
        self.settle();
        all.sort_by_key(|waiter| waiter.order);
        all.into_iter().map(|waiter| waiter.ticket).collect()
    }

    /// A slot for one more server, if fewer than `min` exist.
    pub fn open_to(&mut self, min: usize) -> bool {
        let total = self.counts().total();
        let open = self.mode == Mode::Open
            && total - self.closing < min
            && total < self.size
            && self.share.as_ref().is_none_or(|share| share.take(Time::NEVER));
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
        self.leave(gone.len());
        gone
    }

    /// Holds all checkouts from now on.
    pub fn pause(&mut self) {
        if self.mode == Mode::Open {
            self.mode = Mode::Paused;
            self.settle();
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
        (grants, self.open_needed())
    }

    /// It has no server and nobody waits for one, and is not to be remembered as paused.
    pub fn is_unused(&self) -> bool {
        self.mode == Mode::Open && self.waiters == 0 && self.counts().total() == 0
    }

    /// Ends the pool: takes out, as closing, all parked servers, and everybody who waits.
    pub fn retire(&mut self) -> (Vec<T>, Vec<Ticket>) {
        self.mode = Mode::Retired;
        self.leave(self.idle.len());
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

    fn leave(&mut self, servers: usize) {
        self.closing += servers;
        self.share.iter().for_each(|share| share.leave(servers));
    }

    /// Servers that could be opened for those who wait.
    fn wanted(&self) -> usize {
        match self.mode {
            Mode::Open => {
                self.waiters.saturating_sub(self.opening).min(self.size.saturating_sub(self.counts().total()))
            }
            Mode::Paused | Mode::Retired => 0,
        }
    }

    fn open_needed(&mut self) -> usize {
        let mut open = 0;
        while self.open_if_needed() {
            open += 1;
        }
        open
    }

    fn open_if_needed(&mut self) -> bool {
        let mut open = self.wanted() > 0;
        if let Some(share) = self.share.as_ref().filter(|_| open || self.starves) {
            let since = self.waiting_since().unwrap_or(Time::NEVER);
            open = open && share.take(since);
            self.opening += usize::from(open);
            let wanted = self.wanted();
            // Where slots were to be had, the next attempt takes the next one.
            let starves = wanted > 0 && (!open || self.starves);
            if starves || self.starves {
                share.starve(if starves { wanted } else { 0 }, since);
            }
            self.starves = starves;
        } else {
            self.opening += usize::from(open);
        }
        open
    }

    /// Those who wait, or servers that could serve them, have become fewer or more: what others know of a pool that starves
    /// is brought up to date.
    fn settle(&mut self) {
        if let Some(share) = self.share.as_ref().filter(|_| self.starves) {
            let wanted = self.wanted();
            share.starve(wanted, self.waiting_since().unwrap_or(Time::NEVER));
            self.starves = wanted > 0;
        }
    }

    /// A server that becomes free is one of the reserve's, and nobody waits for it.
    fn has_surplus(&self) -> bool {
        // Those that are going already count no more, or one too many would follow them.
        let staying = self.counts().total() - self.closing;
        staying > self.size && (self.waiters == 0 || self.mode != Mode::Open)
    }

    /// Whether a server that becomes free is to make room for one of another pool.
    fn yields(&self, now: Time) -> bool {
        self.share.as_ref().is_some_and(|share| {
            let waiting = self.waiting_since().filter(|_| self.mode == Mode::Open);
            share.is_pressed() && share.yields(waiting, now)
        })
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
        self.settle();
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
        let mut pool = PoolState::new(size, workers, None);
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
    fn the_reserve_is_for_those_who_have_waited_too_long() {
        let reserve = Reserve { size: 2, after: Duration::from_micros(100) };
        let mut pool = busy(1, 2).with_reserve(reserve);
        for (session, since) in [(1, 10), (2, 20), (3, 900), (4, 900)] {
            let ticket = ticket(session as u16 % 2, session);
            assert!(matches!(pool.checkout(ticket, at(since)), Checkout::Wait { open: false }));
        }
        assert_eq!(pool.retry(at(109)), 0);
        assert_eq!(pool.retry(at(110)), 1);
        assert_eq!(pool.retry(at(119)), 0, "one is on its way");
        assert_eq!(pool.retry(at(120)), 1);
        assert_eq!(pool.retry(at(2_000)), 0, "that is all there is");
        assert_eq!(pool.counts().total(), pool.size_max());
        for server in 1..=2 {
            assert!(matches!(pool.opened(server, 0, at(130)), Checkin::Granted { .. }));
        }
        for server in 1..=2 {
            assert!(matches!(pool.checkin(server, 0, at(140)), Checkin::Granted { .. }), "somebody waits");
        }
        for server in 1..=2 {
            assert!(matches!(pool.checkin(server, 0, at(150)), Checkin::Surplus(_)));
        }
        assert!(matches!(pool.checkin(0, 0, at(150)), Checkin::Parked { .. }));
        assert_eq!(pool.counts(), Counts { idle: 1, closing: 2, ..Counts::default() });
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
