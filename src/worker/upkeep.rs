//! What is done to pools now and then, by the control thread: servers that have rested or lived long enough go, the
//! minimum is kept, and attempts to open a server that failed are repeated.

use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Time;
use crate::cluster::pool::idle_since;
use crate::io::transport::Sealer;
use crate::session::server::ServerWorld;
use crate::worker::mail::{Common, Mail};
use crate::worker::relief::relieve;

/// How often.
pub const INTERVAL: Duration = Duration::from_millis(333);

/// Remembers what a round needs of the ones before.
pub struct Upkeep {
    next_worker: usize,
    period_began: Time,
}

impl Upkeep {
    pub fn new(now: Time) -> Upkeep {
        Upkeep { next_worker: 0, period_began: now }
    }

    /// One round over all pools.
    pub fn run<S>(&mut self, world: &ServerWorld<S>, common: &Common<S>, now: Time) {
        let period_over = now.since(self.period_began) >= world.config.general.stats_period;
        if period_over {
            self.period_began = now;
        }
        world.tidy(now);
        world.for_each_pool(|pool| {
            let config = &pool.config;
            let since = idle_since(now, Some(config.idle_timeout));
            let (gone, mut open) = {
                let mut shelf = pool.lock();
                let not_before = shelf.not_before;
                let gone = shelf.state.expire(since, config.min_size, |server| {
                    server.expires <= now || server.born < not_before
                });
                if period_over {
                    shelf.last_period = shelf.tally.since(&shelf.period_start);
                    shelf.period_start = shelf.tally;
                }
                (gone, shelf.state.retry(now))
            };
            while !pool.awaits_client() && pool.lock().state.open_to(config.min_size) {
                open += 1;
            }
            for server in gone {
                common.post(server.home.worker, Mail::Close { server });
            }
            for _ in 0..open {
                let worker = self.next_worker % common.peers.len();
                self.next_worker = worker + 1;
                common.post(worker as u16, Mail::Open { pool: pool.clone() });
            }
        });
        // What a panic has freed, or a reload has changed, is told here.
        if world.quotas.is_pressed() {
            relieve(world, common, (self.next_worker % common.peers.len()) as u16);
        }
    }
}

/// Puts a new configuration into force: workers are told, then pools that it does not have are ended. In this order: a worker
/// that finds a pool ended has the new configuration in its mailbox.
pub fn replace_world<S>(
    old: &ServerWorld<S>,
    new: &Arc<ServerWorld<S>>,
    sealer: &Arc<dyn Sealer>,
    common: &Common<S>,
) {
    common.post_all(|| Mail::World(new.clone(), sealer.clone()));
    for pool in old.retired(new) {
        let (servers, tickets) = pool.lock().state.retire();
        for server in servers {
            common.post(server.home.worker, Mail::Close { server });
        }
        for ticket in tickets {
            common.post(ticket.worker, Mail::Retired { ticket });
        }
    }
}
