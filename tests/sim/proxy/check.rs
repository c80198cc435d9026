//! Checkers of pools and queues, from outside: what the code under test says of itself is compared with what the
//! simulated server sees, and with what must be so.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgdog::base::limits::{CHUNK_LARGE_BYTES, OVERTAKEN_MAX, OWN_BYTES_MAX};
use pgdog::cluster::pool::Ticket;
use pgdog::session::server::ServerPool;

use super::wire::Wire;

/// One pool and who waits for it.
pub struct Watch {
    pub pool: Arc<ServerPool<Wire>>,
    /// Waiters, with the round in which they came.
    queue: BTreeMap<Ticket, u64>,
    grants: u64,
    round: u64,
    oldest: Option<Ticket>,
    overtaken: u32,
    /// Most overtaking seen.
    pub overtaken_max: u32,
}

impl Watch {
    pub fn new(pool: Arc<ServerPool<Wire>>) -> Watch {
        Watch {
            pool,
            queue: BTreeMap::new(),
            grants: 0,
            round: 0,
            oldest: None,
            overtaken: 0,
            overtaken_max: 0,
        }
    }

    /// After a step: who has left the queue, and past whom.
    pub fn look(&mut self, workers: usize) -> Result<(), String> {
        let shelf = self.pool.lock();
        let (state, counts) = (&shelf.state, shelf.state.counts());
        if counts.total() > state.size() {
            return Err(format!("{counts:?} in a pool of {}", state.size()));
        }
        if let Some(server) = state.resting().find(|server| server.inbound.relay.capacity() > 0) {
            return Err(format!("server {} rests with a buffer", server.number));
        }
        if counts.waiting == self.queue.len() && state.grants == self.grants {
            return Ok(());
        }
        self.round += 1;
        let now: Vec<Ticket> = state.tickets().collect();
        let gone: Vec<(Ticket, u64)> = self
            .queue
            .iter()
            .filter(|(ticket, _)| !now.contains(ticket))
            .map(|(ticket, round)| (*ticket, *round))
            .collect();
        let granted = state.grants - self.grants;
        self.grants = state.grants;
        for (ticket, _) in &gone {
            self.queue.remove(ticket);
        }
        let oldest =
            self.queue.iter().min_by_key(|(_, round)| **round).map(|(ticket, round)| (*ticket, *round));
        if oldest.map(|(ticket, _)| ticket) != self.oldest {
            self.oldest = oldest.map(|(ticket, _)| ticket);
            self.overtaken = 0;
        }
        // Otherwise somebody has left of its own, and it cannot be told who was served.
        if let Some((oldest, since)) = oldest
            && gone.len() as u64 == granted
        {
            self.overtaken += gone.iter().filter(|(_, round)| *round > since).count() as u32;
            self.overtaken_max = self.overtaken_max.max(self.overtaken);
            // One who left of its own while another came and was served at once looks like one who was served.
            let bound = if workers == 1 { 2 } else { OVERTAKEN_MAX + 8 };
            if self.overtaken > bound {
                return Err(format!("{oldest:?} was overtaken {} times", self.overtaken));
            }
        }
        for ticket in now {
            self.queue.entry(ticket).or_insert(self.round);
        }
        Ok(())
    }
}

/// What the buffers of so many sessions and servers may take: two of the largest class and what waits of our own.
pub fn memory_budget(sessions: usize, servers: usize) -> usize {
    (sessions + servers) * (2 * CHUNK_LARGE_BYTES + OWN_BYTES_MAX)
}
