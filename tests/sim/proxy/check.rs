//! Checkers of pools and queues, from outside: what the code under test says of itself is compared with what the
//! simulated server sees, and with what must be so.

use std::collections::BTreeSet;
use std::sync::Arc;

use pgdog::base::limits::{CHUNK_LARGE_BYTES, INCOMPLETE_FRAMES_BYTES_MAX, OVERTAKEN_MAX, OWN_BYTES_MAX};
use pgdog::cluster::pool::{GRANTS_SHOWN, Ticket};
use pgdog::session::server::ServerPool;

use super::wire::Line;

/// One pool and who waits for it.
pub struct Watch {
    pub pool: Arc<ServerPool<Line>>,
    /// Those who wait, the oldest first.
    queue: Vec<Ticket>,
    grants: u64,
    arrivals: u64,
    /// The oldest of them, and how often it has been overtaken since it was.
    oldest: Option<Ticket>,
    overtaken: u32,
    /// Most overtaking seen.
    pub overtaken_max: u32,
}

impl Watch {
    pub fn new(pool: Arc<ServerPool<Line>>) -> Watch {
        Watch {
            pool,
            queue: Vec::new(),
            grants: 0,
            arrivals: 0,
            oldest: None,
            overtaken: 0,
            overtaken_max: 0,
        }
    }

    /// After a step: who has come, who has been served, past whom, and who has left of its own.
    pub fn look(&mut self, workers: usize) -> Result<(), String> {
        let pool = self.pool.clone();
        let shelf = pool.lock();
        let (state, counts) = (&shelf.state, shelf.state.counts());
        if counts.total() > state.size_max() {
            return Err(format!("{counts:?} in a pool of {}", state.size_max()));
        }
        if let Some(server) = state.resting().find(|server| server.inbound.relay.capacity() > 0) {
            return Err(format!("server {} rests with a buffer", server.number));
        }
        // Nobody has come, been served, or left.
        let (waiting, arrivals) = (counts.waiting, state.arrivals());
        if (waiting, state.grants, arrivals) == (self.queue.len(), self.grants, self.arrivals) {
            return Ok(());
        }
        self.arrivals = arrivals;
        let now: BTreeSet<Ticket> = state.tickets().map(|(_, ticket)| ticket).collect();
        let mut granted: Vec<Ticket> =
            (self.grants..state.grants).map(|n| state.granted[n as usize % GRANTS_SHOWN]).collect();
        if granted.len() > GRANTS_SHOWN {
            // Many logins that a first server has answered: they cannot be told apart.
            granted.clear();
            self.queue.clear();
        }
        self.grants = state.grants;
        let left = self.queue.iter().any(|ticket| !now.contains(ticket) && !granted.contains(ticket));
        for ticket in granted {
            self.see_oldest();
            // Where somebody has left of its own in the same step, it cannot be told whether that was before.
            if !left && self.oldest.is_some_and(|oldest| oldest != ticket) {
                self.overtaken += 1;
                self.overtaken_max = self.overtaken_max.max(self.overtaken);
            }
            let bound = if workers == 1 { 0 } else { OVERTAKEN_MAX };
            if self.overtaken > bound {
                return Err(format!("{:?} was overtaken {} times", self.oldest, self.overtaken));
            }
            self.queue.retain(|other| *other != ticket);
        }
        self.queue.retain(|ticket| now.contains(ticket));
        self.see_oldest();
        let known: BTreeSet<Ticket> = self.queue.iter().copied().collect();
        // Mostly of one worker; of all after too many grants at once.
        let mut come: Vec<_> = state.tickets().filter(|(_, ticket)| !known.contains(ticket)).collect();
        come.sort_unstable_by_key(|(order, _)| *order);
        self.queue.extend(come.into_iter().map(|(_, ticket)| ticket));
        Ok(())
    }

    fn see_oldest(&mut self) {
        if self.oldest != self.queue.first().copied() {
            self.oldest = self.queue.first().copied();
            self.overtaken = 0;
        }
    }
}

/// What buffers may take, in bytes.
#[derive(Debug)]
pub struct Budget {
    pub chunks: usize,
    pub own: usize,
}

impl Budget {
    /// Each session and each server may have two chunks of the largest class, and two more behind a record layer; those of all
    /// clients without a server are bounded together.
    pub fn of(workers: usize, sessions: usize, servers: usize) -> Budget {
        let waiting = (sessions * 4 * CHUNK_LARGE_BYTES).min(workers * INCOMPLETE_FRAMES_BYTES_MAX);
        Budget {
            // The client of each server, too.
            chunks: waiting + 2 * servers * 4 * CHUNK_LARGE_BYTES,
            own: (sessions + servers) * 2 * OWN_BYTES_MAX,
        }
    }
}
